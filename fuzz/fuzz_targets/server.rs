//! Fuzzes what reads PostgreSQL's own files, and what a server or a bucket says: control file, labels, histories, WAL and its
//! summaries (as they are, and behind a checksum that is right), pages, relations' names, connection strings, lifecycle rules.
//!
//! ```text
//! cargo +nightly fuzz run server -- -malloc_limit_mb=256
//! ```

#![no_main]

use libfuzzer_sys::fuzz_target;
use strongroom_model::entry::EntryPath;
use strongroom_model::history::TimelineHistory;
use strongroom_model::page::PAGE_SIZE;
use strongroom_model::{SystemId, Timeline, WalFile, WalSegment};
use strongroom_postgres::conninfo::Conninfo;
use strongroom_postgres::control::{Control, poisoned};
use strongroom_postgres::label::BackupLabel;
use strongroom_postgres::page::judge;
use strongroom_postgres::relation::RelationFile;
use strongroom_postgres::wal_summary::{ChangedBlocks, SummaryName};
use strongroom_postgres::wal::{check_segment, commit_times, read_header};
use strongroom_store::lifecycle::take_apart;

fuzz_target!(|data: &[u8]| {
    let Some((choice, data)) = data.split_first() else { return };
    let text = String::from_utf8_lossy(data);
    match choice % 12 {
        0 => drop((Control::parse(data), poisoned(data))),
        1 => drop(BackupLabel::parse(&text)),
        2 => drop(TimelineHistory::parse(Timeline::FIRST, &text)),
        3 => drop((read_header(data), WalFile::parse(&text), WalSegment::parse(&text))),
        4 => {
            if let Some(segment) = WalSegment::parse("000000010000000000000001") {
                drop(check_segment(data, segment, SystemId(1)));
            }
        }
        5 => drop(commit_times(data)),
        6 => {
            if let Some(page) = data.first_chunk::<PAGE_SIZE>() {
                judge(page, 7);
            }
        }
        7 => {
            if let Ok(path) = EntryPath::new(text.as_ref()) {
                RelationFile::at(&path);
            }
        }
        8 => drop((ChangedBlocks::default().add(data), SummaryName::parse(data))),
        9 => {
            let front = 0x652b_137b_u32.to_le_bytes();
            let content = [&front[..], data].concat();
            let sum = crc32c::crc32c(&content).to_le_bytes();
            let _ = ChangedBlocks::default().add(&[&content[..], &sum].concat());
        }
        10 => drop(Conninfo::read(&text, &|_| None)),
        _ => drop(take_apart(Some(&text), "prod")),
    }
});
