//! Catalogs for tests, in a file and on a throw-away PostgreSQL, and a clock that tests move.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use strongroom_catalog::job::Standing;
use strongroom_catalog::{Catalog, Kind, Place};
use strongroom_model::{Clock, Cx, Entropy, Timestamp};
use strongroom_postgres::cluster::{Binaries, Cluster, InitOptions};
use strongroom_postgres::conninfo::Conninfo;

/// Where the tests' time begins: 2026-11-20 12:00:00 UTC.
pub const NOON: i64 = 1_795_176_000;

/// So many seconds after noon.
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(NOON + seconds).unwrap()
}

/// A clock that stands where it was put, or goes on from there.
pub struct Hands {
    micros: AtomicI64,
    running_since: Option<std::time::Instant>,
}

impl Hands {
    pub fn still() -> Arc<Hands> {
        Arc::new(Hands { micros: AtomicI64::new(NOON * 1_000_000), running_since: None })
    }

    pub fn running() -> Arc<Hands> {
        let running_since = Some(std::time::Instant::now());
        Arc::new(Hands { micros: AtomicI64::new(NOON * 1_000_000), running_since })
    }

    pub fn put(&self, seconds: i64) {
        self.micros.store((NOON + seconds) * 1_000_000, Ordering::SeqCst);
    }
}

impl Clock for Hands {
    fn now(&self) -> Timestamp {
        let gone = self.running_since.map_or(0, |since| since.elapsed().as_micros() as i64);
        Timestamp::from_unix_micros(self.micros.load(Ordering::SeqCst) + gone).unwrap()
    }
}

/// Chance that repeats: splitmix64.
pub struct Dice(AtomicU64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(AtomicU64::new(seed))
    }

    pub fn roll(&self, below: u64) -> u64 {
        let mut z = self.0.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % below
    }
}

impl Entropy for Dice {
    fn fill(&self, out: &mut [u8]) {
        out.fill_with(|| self.roll(256) as u8);
    }
}

pub fn cx(clock: &Arc<Hands>, seed: u64) -> Cx {
    Cx::new(Arc::clone(clock) as Arc<dyn Clock>, Arc::new(Dice::new(seed)))
}

/// Where a test's catalog is; it goes with this.
pub enum Site {
    File(tempfile::TempDir),
    Server(Box<Cluster>),
}

impl Site {
    /// One of each kind that can be had here.
    pub fn all() -> Vec<Site> {
        let mut sites = vec![Site::File(tempfile::tempdir().unwrap())];
        match Binaries::newest() {
            Ok(binaries) => {
                let mut cluster = Cluster::init(&binaries, &InitOptions::default()).unwrap();
                cluster.start().unwrap();
                sites.push(Site::Server(Box::new(cluster)));
            }
            Err(_) => {
                assert!(std::env::var_os("CI").is_none(), "there is no PostgreSQL on this host");
                println!("skipped for PostgreSQL: there is none on this host");
            }
        }
        sites
    }

    pub fn path(&self) -> PathBuf {
        let Site::File(folder) = self else { panic!("it is on a server") };
        folder.path().join("catalog.db")
    }

    pub fn server(&mut self) -> Option<&mut Cluster> {
        match self {
            Site::File(_) => None,
            Site::Server(cluster) => Some(cluster),
        }
    }

    pub fn place(&self) -> Place {
        match self {
            Site::File(_) => Place::File(self.path()),
            Site::Server(cluster) => {
                Place::Server(Box::new(Conninfo::read(&cluster.conninfo(), &|_| None).unwrap()))
            }
        }
    }

    pub async fn catalog(&self) -> Arc<Catalog> {
        Arc::new(Catalog::open(self.place()).await.unwrap())
    }
}

/// A rule that backs up `source`, with an hour to begin and two to end.
pub fn standing(source: &str) -> Standing {
    Standing {
        kind: Kind::Backup,
        source: Some(source.parse().unwrap()),
        vault: String::new(),
        plan: "gold".into(),
        rule: "often".into(),
        start_window: Duration::from_secs(3600),
        completion_window: Duration::from_secs(7200),
    }
}
