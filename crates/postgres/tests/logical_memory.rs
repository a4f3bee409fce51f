//! A dump and its restore within the memory they may have, whatever a row has; and a table that is read in ranges.
//!
//! On its own: what is measured is this process.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod driver;
mod harness;

use std::collections::BTreeMap;
use std::io::{Read, Write};

use driver::Server;
use harness::{cx, servers};
use strongroom_engine::{DumpEngine, DumpTarget};
use strongroom_postgres::logical::facts::LogicalFacts;
use strongroom_postgres::logical::options::Scope;

/// What the process may have at most, with two workers and everything else that it does.
const CEILING: u64 = 256 << 20;

/// The most memory that this process ever had.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_larger_than_the_memory_there_is_and_tables_of_several_ranges() {
    let Some(binaries) = servers().into_iter().next() else { return };
    let server = Server::start(&binaries, "max_wal_size = 8GB");
    server.sql("postgres", "create database large");
    server.sql(
        "large",
        // Rows of 500 MB as text. One row a page, so that few rows are more pages than a part has.
        "create table wide (id int, t text, b bytea); alter table wide alter t set storage external, alter b set storage external; \
         insert into wide values (1, repeat('0123456789abcdef', 31250000), null), (2, null, decode(repeat('00ff10', 83000000), 'hex')); \
         create table long (id int, v text) with (fillfactor = 10); \
         insert into long select n, repeat('x', 700) from generate_series(1, 40000) n",
    );
    let before = peak();
    let (cx, engine) = (cx(), server.logical("large"));
    let folder = tempfile::tempdir().unwrap();
    let session = engine.start(&cx).await.unwrap();
    let mut files = BTreeMap::new();
    let mut long = 0;
    for (at, part) in session.parts().iter().enumerate() {
        let path = folder.path().join(at.to_string());
        let mut file = std::fs::File::create(&path).unwrap();
        let mut reader = session.open(&cx, at).await.unwrap();
        while let Some(piece) = reader.next(&cx).await.unwrap() {
            file.write_all(&piece).unwrap();
        }
        long += u64::from(part.path.to_string().starts_with("data/public.long/"));
        files.insert(part.path.clone(), path);
    }
    let dumped = session.stop(&cx).await.unwrap();
    let facts = LogicalFacts::read(&dumped.facts).unwrap();
    let table = facts.tables.iter().find(|table| table.name == "long").unwrap();
    let cut = if facts.version_num >= 140_000 { 3 } else { 1 };
    assert_eq!((long, table.parts, table.rows), (cut, cut as u32, 40_000));
    let first = std::fs::metadata(&files[&session_path("data/public.long/0000")]).unwrap().len();
    assert!(cut == 1 || (first > 0 && first < table.bytes), "{first} of {}", table.bytes);
    let mut options = server.options(Scope::NewDatabase(Some("again".to_owned())));
    options.jobs = 2;
    let target = server.target(options);
    let plan = target.plan(&cx, &dumped).await.unwrap();
    for part in plan.first.iter().chain(&plan.rest) {
        let mut writer = target.open(&cx, part).await.unwrap();
        let mut file = std::fs::File::open(&files[part]).unwrap();
        let mut piece = vec![0; 1 << 20];
        loop {
            let read = file.read(&mut piece).unwrap();
            if read == 0 {
                break;
            }
            writer.write(&cx, bytes::Bytes::copy_from_slice(&piece[..read])).await.unwrap();
        }
        writer.close(&cx).await.unwrap();
    }
    let loaded = target.finish(&cx).await.unwrap();
    assert_eq!(loaded.report["rows"], 40_002);
    assert!(before < CEILING && peak() < CEILING, "{} MiB", peak() >> 20);
    println!("peak: {} MiB", peak() >> 20);
}

fn session_path(path: &str) -> strongroom_model::entry::EntryPath {
    strongroom_model::entry::EntryPath::new(path).unwrap()
}
