//! `restore --delta`: whatever lies in the folder, the end is what a restore into an empty one gives, and what is fetched
//! is in proportion to what differs.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use live::{Site, sound, until, versions};
use serde_json::Value;
use strongroom_postgres::cluster::{Binaries, Cluster, InitOptions};

const PAGE: usize = 8192;

/// What reading the footers of a point of two packs takes, whatever differs.
const FOOTERS: u64 = 2 * (512 << 10) + 4096;

/// A cluster with a tablespace, its point, and the folder that a plain restore makes of it.
struct Scene {
    site: Site,
    point: String,
}

/// Every file, folder and link below a folder: kind and mode, and content or target.
fn tree(root: &Path) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let stat = std::fs::symlink_metadata(&path).unwrap();
            let content = match stat.file_type() {
                kind if kind.is_symlink() => Vec::new(),
                kind if kind.is_dir() => {
                    folders.push(path.clone());
                    Vec::new()
                }
                _ => std::fs::read(&path).unwrap(),
            };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), (stat.mode(), content));
        }
    }
    found
}

impl Scene {
    fn new(binaries: &Binaries) -> Scene {
        let site = Site::new(binaries, InitOptions::default());
        std::fs::create_dir(site.path("space")).unwrap();
        binaries.give(&site.path("space")).unwrap();
        let sql = |statements: &str| site.cluster.sql(statements).unwrap();
        sql(&format!("create tablespace space location '{}'", site.inside("space")));
        sql("create table big as select n, gen_random_uuid()::text || gen_random_uuid() as v from generate_series(1, 200000) n;
             create table apart tablespace space as select n, md5(n::text) as v from generate_series(1, 20000) n;
             create index on apart (v); checkpoint");
        let point = site.backup();
        let scene = Scene { site, point };
        scene.ok("fresh", &[]);
        scene
    }

    /// The command that restores the point's own state into `name`, its tablespace beside it.
    fn words(&self, name: &str, more: &[&str]) -> Vec<String> {
        let (to, space) =
            (self.site.inside(name), format!("space={}", self.site.inside(&format!("{name}-space"))));
        let words = ["restore", "--yes", "--immediate", "--no-archiving", "--output", "json"];
        let place = ["--point", &self.point, "--to", &to, "--tablespace-map", &space];
        [&words[..], &place, more].concat().into_iter().map(str::to_owned).collect()
    }

    fn ok(&self, name: &str, more: &[&str]) -> Value {
        let words = self.words(name, more);
        serde_json::from_str(&self.site.ok(&words.iter().map(String::as_str).collect::<Vec<_>>())).unwrap()
    }

    fn fails(&self, code: i32, name: &str, more: &[&str]) -> String {
        let words = self.words(name, more);
        self.site.fails(code, &words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Restores over `name`; afterwards it is what `fresh` is.
    fn over(&self, name: &str, case: &str) -> Value {
        let said = self.ok(name, &["--delta"]);
        self.compare(name, case);
        said
    }

    fn compare(&self, name: &str, case: &str) {
        for (one, other) in [("fresh", name.to_owned()), ("fresh-space", format!("{name}-space"))] {
            let (expected, found) = (tree(&self.site.path(one)), tree(&self.site.path(&other)));
            let names = |tree: &BTreeMap<PathBuf, _>| tree.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&expected), names(&found), "{case}");
            for (path, (mode, content)) in &expected {
                let (found_mode, found_content) = &found[path];
                assert!(mode == found_mode && content == found_content, "{case}: {} differs", path.display());
            }
        }
    }

    /// The file of `big`, in `name`.
    fn big(&self, name: &str) -> PathBuf {
        self.site.path(name).join(self.site.cluster.sql("select pg_relation_filepath('big')").unwrap())
    }
}

fn number(json: &Value, path: &str) -> u64 {
    json.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path} in {json}"))
}

fn damage(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// What a case does to a folder, and what share of the point's bytes the restore may fetch then.
type Case<'a> = (&'a str, f64, Box<dyn Fn(&Path) + 'a>);

/// What can have become of content. `big` is a file of many pages.
fn other_content(big: &Path) -> Vec<Case<'_>> {
    let at = move |root: &Path| root.join(big);
    vec![
        ("unchanged", 0.0, Box::new(|_| ())),
        (
            "one page in a hundred differs",
            0.6,
            Box::new(move |root| {
                damage(&at(root), |bytes| {
                    bytes.chunks_mut(PAGE).step_by(100).for_each(|page| page[20..60].fill(7));
                });
            }),
        ),
        ("one bit", 0.05, Box::new(move |root| damage(&at(root), |bytes| bytes[123 * PAGE + 9] ^= 1))),
        (
            "zeros where content was, and content where zeros were",
            0.05,
            Box::new(move |root| {
                damage(&at(root), |bytes| bytes[..PAGE].fill(0));
                damage(&root.join("global/pg_filenode.map"), |bytes| bytes.fill(0));
                damage(&root.join("pg_xact/0000"), |bytes| bytes.fill(0x55));
                damage(&root.join("pg_multixact/members/0000"), |bytes| bytes.fill(0x55));
            }),
        ),
        (
            "truncated",
            0.8,
            Box::new(move |root| damage(&at(root), |bytes| bytes.truncate(bytes.len() / 2 + 77))),
        ),
        (
            "grown",
            0.0,
            Box::new(move |root| damage(&at(root), |bytes| bytes.resize(bytes.len() + 100_000, 9))),
        ),
        (
            "other modes, and a damaged control file",
            0.02,
            Box::new(move |root| {
                std::fs::set_permissions(root.join("PG_VERSION"), PermissionsExt::from_mode(0o666)).unwrap();
                std::fs::set_permissions(root.join("base"), PermissionsExt::from_mode(0o755)).unwrap();
                damage(&root.join("global/pg_control"), |bytes| bytes[100..200].fill(1));
            }),
        ),
    ]
}

/// What can have become of names. `outside` is a folder that nothing may be done to.
fn other_names<'a>(big: &'a Path, outside: &'a Path, give: &'a dyn Fn(&Path)) -> Vec<Case<'a>> {
    vec![
        (
            "deleted",
            1.0,
            Box::new(move |root| {
                std::fs::remove_file(root.join(big)).unwrap();
                std::fs::remove_file(root.join("PG_VERSION")).unwrap();
                std::fs::remove_dir_all(root.join("pg_xact")).unwrap();
            }),
        ),
        (
            "extra files, folders and links",
            0.02,
            Box::new(move |root| {
                std::fs::create_dir_all(root.join("base/77/deep/er")).unwrap();
                for folder in ["base/77", "base/77/deep", "base/77/deep/er"] {
                    give(&root.join(folder));
                }
                let wal = "pg_wal/000000010000000000000001";
                for file in ["base/77/1", "base/77/deep/er/2", "standby.signal", wal, "postmaster.pid"] {
                    std::fs::write(root.join(file), "").unwrap();
                }
                symlink(outside, root.join("base/78")).unwrap();
                symlink(outside.join("theirs"), root.join("global/9999")).unwrap();
            }),
        ),
        (
            "a file is a folder, a folder is a file, and both are links",
            1.0,
            Box::new(move |root| {
                std::fs::remove_file(root.join(big)).unwrap();
                std::fs::create_dir(root.join(big)).unwrap();
                give(&root.join(big));
                std::fs::write(root.join(big).join("x"), "x").unwrap();
                std::fs::remove_dir_all(root.join("pg_xact")).unwrap();
                std::fs::write(root.join("pg_xact"), "x").unwrap();
                std::fs::remove_dir_all(root.join("pg_wal")).unwrap();
                symlink(outside, root.join("pg_wal")).unwrap();
                std::fs::remove_file(root.join("pg_hba.conf")).unwrap();
                symlink(outside.join("theirs"), root.join("pg_hba.conf")).unwrap();
            }),
        ),
        (
            "a file with a second name outside",
            1.0,
            Box::new(move |root| {
                std::fs::hard_link(root.join(big), outside.join("second")).unwrap();
                damage(&outside.join("second"), |bytes| bytes[5] ^= 1);
            }),
        ),
    ]
}

#[test]
fn whatever_was_there_it_ends_as_a_fresh_restore_does() {
    for binaries in versions() {
        let scene = Scene::new(&binaries);
        let (site, big) = (&scene.site, scene.big(""));
        let big = big.strip_prefix(site.path("")).unwrap();
        let fresh = scene.ok("there", &[]);
        let (bytes, all) = (number(&fresh, "/restored/bytes"), number(&fresh, "/restored/fetched"));
        assert!(all > bytes / 10, "{all} of {bytes} were fetched");
        let outside = site.path("outside");
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("theirs"), "theirs").unwrap();
        let give = |path: &Path| binaries.give(path).unwrap();
        let names = other_names(big, &outside, &give);
        for (case, share, change) in other_content(big).into_iter().chain(names) {
            change(&site.path("there"));
            let before = tree(&outside);
            let said = scene.over("there", case);
            let fetched = number(&said, "/restored/fetched");
            let allowed = FOOTERS + (share * all as f64) as u64;
            assert!(fetched <= allowed, "{case}: {fetched} of {all} were fetched");
            assert!(tree(&outside) == before, "{case}: what is outside changed");
        }
        let started = site.start("there");
        assert_eq!(
            started.sql("select count(*) from big; select count(*) from apart").unwrap(),
            "200000\n20000"
        );
        sound(started);
    }
}

/// A cluster that went on by itself: promoted, changed, its tablespace too, and shut down or killed.
#[test]
fn a_cluster_that_went_on_is_brought_back() {
    for binaries in versions() {
        let scene = Scene::new(&binaries);
        let site = &scene.site;
        scene.ok("there", &[]);
        let server = site.start("there");
        let running = scene.fails(10, "there", &["--delta"]);
        assert!(running.contains("a server runs in it"), "{running}");
        server
            .sql(&format!(
                "create table more tablespace space as select n from generate_series(1, 30000) n; create database other;
                 update big set v = '' where n % 1000 = 0; delete from apart; vacuum apart; {}",
                "checkpoint;"
            ))
            .unwrap();
        server.kill().unwrap();
        let plan = scene.ok("there", &["--delta", "--dry-run"]);
        let removed = plan["delta"]["removed"].as_array().unwrap().clone();
        assert!(removed.iter().any(|path| path.as_str().unwrap().starts_with("pg_wal/0")), "{plan}");
        assert!(removed.iter().any(|path| path.as_str().unwrap().starts_with("pg_tblspc/")), "{plan}");
        assert!(site.path("there/global/pg_control").exists(), "a plan changes nothing");
        let said = scene.over("there", "a killed server");
        let (unchanged, bytes) = (number(&said, "/restored/unchanged"), number(&said, "/restored/bytes"));
        // What the server looked at it marked (hint bits), which is a difference.
        assert!(unchanged > bytes / 4 && unchanged < bytes, "{unchanged} of {bytes}");
        assert_eq!(
            said["plan"]["delta"]["removed"].as_array().unwrap(),
            &removed,
            "what was planned is what was done"
        );
        let again = site.start("there");
        let gone = again.sql("select count(*) from big where v = ''; select to_regclass('more') is null");
        assert_eq!(gone.unwrap(), "0\nt");
        sound(again);
    }
}

#[test]
fn behaviour_29_what_a_delta_restore_refuses() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let scene = Scene::new(&binaries);
    let site = &scene.site;
    let running = binaries.inside(site.cluster.data()).display().to_string();
    let said = site.fails(10, &["restore", "--yes", "--delta", "--to", &running]);
    assert!(said.contains("a server runs in it"), "{said}");
    assert_eq!(site.cluster.sql("select count(*) from big").unwrap(), "200000");

    // Another cluster, and a folder that is none.
    let foreign = Cluster::init(&binaries, &InitOptions::default()).unwrap();
    let (before, place) = (tree(foreign.data()), binaries.inside(foreign.data()).display().to_string());
    let said = site.fails(10, &["restore", "--yes", "--delta", "--to", &place]);
    assert!(said.contains("holds the cluster with system identifier"), "{said}");
    assert!(tree(foreign.data()) == before);
    std::fs::create_dir(site.path("mine")).unwrap();
    std::fs::write(site.path("mine/precious"), "mine").unwrap();
    binaries.give(&site.path("mine")).unwrap();
    let said = scene.fails(10, "mine", &["--delta"]);
    assert!(said.contains("precious") && said.contains("no control file"), "{said}");
    assert_eq!(tree(&site.path("mine")).len(), 1);

    // A tablespace's folder that the link there does not lead to, and that is not empty.
    scene.ok("there", &[]);
    std::fs::remove_file(
        std::fs::read_dir(site.path("there/pg_tblspc")).unwrap().next().unwrap().unwrap().path(),
    )
    .unwrap();
    let before = tree(&site.path("there"));
    let said = scene.fails(10, "there", &["--delta"]);
    assert!(said.contains("not empty"), "{said}");
    assert!(tree(&site.path("there")) == before && site.path("there/global/pg_control").exists());

    // An empty folder, and none at all, are as good as any.
    scene.over("none", "no folder");
}

/// Behaviour 25, of restores: killed at ten moments, a folder that no server starts in, and that `--delta` finishes.
#[test]
fn behaviour_25_a_killed_restore_is_gone_on_with() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let scene = Scene::new(&binaries);
    let site = &scene.site;
    let whole = scene.ok("measured", &["--rate-limit", "4MiB/s"]);
    let (all, seconds) =
        (number(&whole, "/restored/fetched"), whole["restored"]["seconds"].as_f64().unwrap());
    assert!(seconds >= (all as f64 / (4 << 20) as f64) - 1.1, "{all} bytes in {seconds} s");
    let begin = |name: &str, more: &[&str]| {
        let words = scene.words(name, more);
        let words: Vec<&str> = words.iter().map(String::as_str).chain(["--rate-limit", "4MiB/s"]).collect();
        site.command(&words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let kill = |name: &str, mut restore: Child| {
        restore.kill().unwrap();
        let killed = !restore.wait().unwrap().success();
        assert!(!killed || !site.path(name).join("global/pg_control").exists(), "{name} could be started");
        killed
    };
    let run = |name: &str, more: &[&str], after: f64| {
        let restore = begin(name, more);
        // The moment is the point of the test, so here time itself is what is waited for.
        std::thread::sleep(Duration::from_secs_f64(after));
        kill(name, restore)
    };
    // The first once half of the big table is there.
    let (big, there) = (std::fs::read(scene.big("measured")).unwrap(), scene.big("there"));
    let restore = begin("there", &[]);
    until("half of the big table", || {
        let written = std::fs::read(&there).unwrap_or_default();
        big.chunks(PAGE).zip(written.chunks(PAGE)).filter(|(one, other)| one == other).count() * 2
            >= big.len() / PAGE
    });
    assert!(kill("there", restore), "the restore ended too early");
    let said = scene.fails(10, "there", &[]);
    assert!(said.contains("not finished") && said.contains("--delta"), "{said}");
    assert!(run("there", &["--delta"], seconds * 0.2), "the second one ended too early");
    let said = scene.over("there", "killed twice");
    let fetched = number(&said, "/restored/fetched");
    assert!(fetched < all * 3 / 4, "{fetched} of {all} were fetched again");
    // A guess of how long one takes that has only the big table to fetch: one that outruns its kill makes it shorter.
    let mut guess = seconds;
    for moment in 1..=8 {
        loop {
            damage(&scene.big("there"), |bytes| bytes.fill(moment));
            if run("there", &["--delta"], guess * f64::from(moment) / 9.0) {
                break;
            }
            guess *= 0.75;
        }
    }
    scene.over("there", "killed often");
    let started = site.start("there");
    assert_eq!(started.sql("select count(*) from big").unwrap(), "200000");
    sound(started);
}
