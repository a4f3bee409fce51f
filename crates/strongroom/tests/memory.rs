//! Memory that does not grow with the database: a backup, the one after it, and restores of it within one ceiling, over far more
//! than fits into memory. And what a vault spends on saying where pages are.
//!
//! The data is a relation of many segments, nearly all of it holes, in a tablespace in memory: it takes no room, and is read like
//! any other. `STRONGROOM_SPARSE_GIB` says how much of it (48; `./test --long`: 1024).

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use live::small::Small;
use live::{Site, versions};
use serde_json::Value;
use strongroom_postgres::cluster::InitOptions;

/// The ceiling that ARCHITECTURE.md states: (2 workers + 4 uploads) × 33 MiB of packs, and 50 MiB for everything else.
const CEILING_MIB: u64 = 256;

const GIB: u64 = 1 << 30;

/// Pages with something in them in each segment, apart from each other, so that each is a run of its own.
const PAGES: u64 = 16;

/// The data, in segments of 1 GiB.
fn gibibytes() -> u64 {
    std::env::var("STRONGROOM_SPARSE_GIB").map_or(48, |number| number.parse().unwrap())
}

/// The segments of a relation that the server does not know, in a tablespace.
fn segments(spot: &Path) -> impl Iterator<Item = PathBuf> {
    let version = std::fs::read_dir(spot).unwrap().next().unwrap().unwrap().path();
    let name = |number| match number {
        0 => "1/99999".to_owned(),
        _ => format!("1/99999.{number}"),
    };
    (0..gibibytes()).map(move |number| version.join(name(number)))
}

/// What is in a page that was written in this round: nothing that compresses.
fn content(segment: u64, page: u64, round: u64) -> Vec<u8> {
    let mut state = (segment << 32 | page << 8 | round) | 1 << 63;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..1024).flat_map(|_| next()).collect()
}

/// Where a page of a segment begins.
fn place(page: u64) -> u64 {
    page * (GIB / PAGES / 8192) * 8192
}

/// Writes every `every`th of the pages.
fn write(spot: &Path, every: usize, round: u64) {
    for (number, path) in (0..).zip(segments(spot)) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let file = File::options().write(true).create(true).truncate(false).open(path).unwrap();
        file.set_len(GIB).unwrap();
        for page in (0..PAGES).step_by(every) {
            file.write_all_at(&content(number, page, round), place(page)).unwrap();
        }
    }
}

/// Runs the binary to its end; what it printed, and the most memory it had.
fn measured(site: &Site, words: &[&str]) -> Value {
    measured_with(site, "strongroom.toml", words)
}

/// The same with other settings.
fn measured_with(site: &Site, settings: &str, words: &[&str]) -> Value {
    let mut command = site.command_with(settings, &[words, &["--output", "json"]].concat());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut peak_kib = 0u64;
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next()?.parse().ok());
        peak_kib = peak_kib.max(peak.unwrap_or(0));
        // The peak is the kernel's own: this only has to see it before the end.
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", live::said(&output));
    println!("{}: {} MiB", words[0], peak_kib >> 10);
    assert!((10..=CEILING_MIB).contains(&(peak_kib >> 10)), "{words:?}: {} MiB", peak_kib >> 10);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Whether the restored segments are those of the server.
fn compare(spot: &Path, restored: &Path) {
    for (theirs, ours) in segments(spot).zip(segments(restored)) {
        let (theirs, ours) = (File::open(theirs).unwrap(), File::open(&ours).unwrap());
        assert_eq!(ours.metadata().unwrap().len(), GIB);
        for page in 0..PAGES {
            let mut pages = [[0; 8192 * 3]; 2];
            for (file, page_there) in [&theirs, &ours].into_iter().zip(&mut pages) {
                file.read_exact_at(page_there, place(page)).unwrap();
            }
            assert!(pages[0] == pages[1], "page {page} differs");
        }
    }
}

#[test]
fn memory_stays_below_its_ceiling_however_large_the_database_is() {
    let Some(binaries) = versions().into_iter().next() else { return };
    // Without checksums: the pages are none of the server's.
    let site = Site::new(&binaries, InitOptions { checksums: false, ..InitOptions::default() });
    let mib = 64 + gibibytes() * PAGES * 2 / 128;
    let Some(_small) = Small::mount(&site, "small", mib as u32) else { return };
    let (spot, there) = (site.path("small/spot"), site.path("small/there"));
    std::fs::create_dir(&spot).unwrap();
    site.binaries.give(&spot).unwrap();
    site.cluster.sql(&format!("create tablespace spot location '{}'", site.inside("small/spot"))).unwrap();
    write(&spot, 1, 1);
    let first = measured(&site, &["backup", "--workers", "2"]);
    let (bytes, stored) = (first["bytes"].as_u64().unwrap(), first["stored"].as_u64().unwrap());
    assert!(bytes > gibibytes() * GIB && stored < bytes / 500, "{stored} of {bytes} bytes are stored");
    write(&spot, 7, 2);
    let second = measured(&site, &["backup", "--workers", "2"]);
    assert_eq!(second["parent"], first["point"]);
    assert!(second["stored"].as_u64().unwrap() < stored / 2, "{second}");
    let (to, map) = (site.inside("restored"), format!("spot={}", site.inside("small/there")));
    let restore =
        ["restore", "--workers", "2", "--yes", "--immediate", "--to", &to, "--tablespace-map", &map];
    measured(&site, &restore);
    compare(&spot, &there);
    write(&there, 5, 3);
    measured(&site, &[&restore[..], &["--delta"]].concat());
    compare(&spot, &there);
}

/// Rows of 500 MB, text and bytes kept outside of the table, through a dump, the next one, and back: what is in memory does not
/// depend on what a row has.
#[test]
fn memory_stays_below_its_ceiling_however_large_a_row_is() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = Site::new(&binaries, InitOptions::default());
    site.cluster.sql("create database wide").unwrap();
    let rows = "create table wide (id int primary key, t text, b bytea); \
                alter table wide alter t set storage external, alter b set storage external; \
                insert into wide values (1, repeat('0123456789abcdef', 31250000), null), \
                (2, null, decode(repeat('00ff10', 83000000), 'hex'))";
    site.cluster.sql_in("wide", rows).unwrap();
    let text = std::fs::read_to_string(site.path("strongroom.toml")).unwrap();
    let text = text
        .replace("[source.main]", "[source.wide]")
        .replace("kind = \"postgres\"", "kind = \"postgres-logical\"")
        .replace("user=postgres\"", "user=postgres dbname=wide\"");
    std::fs::write(site.path("wide.toml"), text).unwrap();
    site.binaries.give(&site.path("wide.toml")).unwrap();
    let first = measured_with(&site, "wide.toml", &["backup", "--workers", "2"]);
    assert!(first["bytes"].as_u64().unwrap() > 998_000_000, "{first}");
    site.cluster.sql_in("wide", "insert into wide values (3, 'short', null)").unwrap();
    let second = measured_with(&site, "wide.toml", &["backup", "--workers", "2"]);
    assert_eq!(second["parent"], first["point"]);
    let restore = ["restore", "--workers", "2", "--yes", "--to-database", "again"];
    let restored = measured_with(&site, "wide.toml", &restore);
    assert_eq!(restored["restored"]["report"]["rows"], 3, "{restored}");
}

fn find(folder: &Path, name: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| match path.is_dir() {
        true => find(&path, name),
        false if path.ends_with(name) => vec![path],
        false => Vec::new(),
    };
    entries.flat_map(below).collect()
}

/// docs/format.md §6: what it takes to say where every page is, after eight points that each changed a page in fifty.
#[test]
fn manifests_take_no_more_than_their_share_of_the_data() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = Site::new(&binaries, InitOptions::default());
    site.cluster
        .sql("create table t with (fillfactor = 90) as select n as id, gen_random_uuid()::text as v, repeat('x', 150) as w from generate_series(1, 600000) n")
        .unwrap();
    site.cluster.sql("create index on t (id); vacuum t").unwrap();
    let mut share = Vec::new();
    for round in 0..8 {
        let before = find(&site.path("vault"), "manifest");
        let point: Value = serde_json::from_str(&site.ok(&["backup", "--output", "json"])).unwrap();
        let mut made = find(&site.path("vault"), "manifest");
        made.retain(|path| !before.contains(path));
        let size = std::fs::metadata(&made[0]).unwrap().len();
        share.push(size as f64 * 100.0 / point["bytes"].as_u64().unwrap() as f64);
        println!("{size} bytes of manifest, {:.4} % of {}", share[round], point["bytes"]);
        site.cluster
            .sql("update t set w = repeat('y', 150) where id in (select (random() * 600000)::int from generate_series(1, 450))")
            .unwrap();
    }
    assert!(share.iter().all(|share| *share <= 0.15), "{share:?} %");
}
