//! The page, in a real browser, against a real agent: with points, a gap, a hold, drills, a job that fails, and words that mean harm.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use live::answering::Agent;
use live::{Site, said, until, versions};
use strongroom_postgres::cluster::InitOptions;

/// As long as a name may be.
const LONG: &str = "shop-catalogue-of-the-north-west-european-region-production-002";

/// What somebody could write who wants more than to be read: markup, and a line that runs the other way.
const HOSTILE: &str = "<script>alert('x')</script>\u{202e}shalom <img src=x onerror=alert(1)>";

/// Of who signs in.
const PASSWORD: &str = "a long enough password";

/// A source with a past, one whose server is away, one that nobody ever backed up.
fn site(port: u16) -> Option<Site> {
    let binaries = versions().into_iter().next()?;
    let site = Site::new(&binaries, InitOptions { segment_mib: 1, ..InitOptions::default() });
    let settings = format!(
        "rpo = \"1d\"\nrto = \"30m\"\n[source.away]\nkind = \"postgres\"\nconnection = \"host={0} port=1 user=postgres\"\nrpo = \"5m\"\n\
         [source.{LONG}]\nkind = \"postgres\"\nconnection = \"host={0} port=1 user=postgres\"\n\
         [agent]\nsocket = \"{1}\"\n[catalog]\nurl = \"{2}\"\n[watch]\nevery = \"2s\"\n[http]\nlisten = \"127.0.0.1:{port}\"\nrestore_to = \"{4}\"\n\
         [alert.hook]\nkind = \"exec\"\ncommand = \"echo '{3}' >&2; exit 1\"\n\
         [plan.gold]\nselect = {{ sources = [\"away\"] }}\n[[plan.gold.rule]]\nname = \"each-minute\"\nschedule = \"* * * * *\"\n\
         [plan.silver]\nselect = {{ sources = [\"main\"] }}\ndrill = {{ schedule = \"0 4 1 * *\" }}\ntimezone = \"Europe/Berlin\"\n\
         [[plan.silver.rule]]\nname = \"yearly\"\nschedule = \"@yearly\"\n",
        site.inside("none"),
        site.inside("agent.sock"),
        site.inside("catalog.db"),
        HOSTILE.replace('\'', "’"),
        site.inside("restores"),
    );
    append(&site, &settings);
    std::fs::create_dir(site.path("restores")).unwrap();
    binaries.give(&site.path("restores")).unwrap();
    Some(site)
}

/// Three points, WAL that somebody took away between two of them, a hold, two drills.
fn past(site: &Site) {
    site.cluster
        .sql("create table notes as select g as id, md5(g::text) as note from generate_series(1, 5000) g")
        .unwrap();
    let first = backup(site);
    site.ship(&site.cluster);
    let before = segments(site);
    for _ in 0..3 {
        site.cluster.sql("insert into notes select g, md5(g::text) from generate_series(1, 500) g").unwrap();
        site.ship(&site.cluster);
    }
    let lost = segments(site).into_iter().find(|segment| !before.contains(segment)).unwrap();
    std::fs::remove_file(lost).unwrap();
    backup(site);
    site.cluster.sql("insert into notes values (0, 'kept')").unwrap();
    site.ship(&site.cluster);
    site.ok(&["hold", "place", &first, "--reason", HOSTILE, "--owner", "Finance שלום"]);
    let scratch = site.inside("");
    site.ok(&["drill", "main", "--scratch", &scratch]);
    site.fails(16, &["drill", "main", "--scratch", &scratch, "--rto", "1ms"]);
    site.ok(&["drill", "main", "--scratch", &scratch]);
}

/// Takes a recovery point and gives its id.
fn backup(site: &Site) -> String {
    let text = site.ok(&["backup", "main", "--output", "json"]);
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    report["point"].as_str().unwrap().to_owned()
}

/// Segments of WAL in the vault, oldest first.
fn segments(site: &Site) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![site.path("vault/sources/main/wal")]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false => found.push(entry.path()),
            }
        }
    }
    found.retain(|path| path.file_name().is_some_and(|name| name.len() == 24));
    found.sort();
    found
}

/// What drives the browser, and the browser; says what is missing.
fn browser() -> Option<(PathBuf, PathBuf)> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/node/node_modules");
    let modules = std::env::var_os("STRONGROOM_NODE_MODULES").map_or(target, PathBuf::from);
    let places = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    let browser = places.into_iter().map(PathBuf::from).find(|path| path.exists());
    let has_node = Command::new("node").arg("--version").output().is_ok();
    if !has_node || !modules.join("playwright-core").exists() || !modules.join("axe-core").exists() {
        println!(
            "skipped in a browser: there is no node with playwright-core and axe-core ({}): ./test installs them",
            modules.display()
        );
        return None;
    }
    if browser.is_none() {
        println!("skipped in a browser: there is no chromium: ./test installs it");
    }
    Some((modules, browser?))
}

#[test]
fn people_see_what_can_be_recovered_and_how_that_is_known() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let Some(site) = site(port) else { return };
    let agent = Agent::start(&site, port);
    past(&site);
    until("the job to fail", || agent.says("/jobs", "waits for attempt 2"));
    until("the alert", || agent.says("/alerts", "channel-fails"));
    until("the drill", || agent.says("/", "drill passed"));
    until("the band", || agent.says("/sources/main", "gap of"));
    reads_well(&agent);
    hostile_words_are_only_words(&agent);
    if let Some(browser) = browser() {
        drive(&agent, &browser, "walk.cjs", &["main"]);
        let_in(&agent, "ada", PASSWORD);
        drive(&agent, &browser, "act.cjs", &["main", "ada", PASSWORD]);
        assert!(site.path("restores/copy/PG_VERSION").exists());
    }
    agent.stop();
}

/// Runs a script against the agent; it says what is wrong.
fn drive(agent: &Agent<'_>, (modules, browser): &(PathBuf, PathBuf), script: &str, more: &[&str]) {
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join("page");
    let mut walk = Command::new("node");
    walk.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page").join(script)).arg(modules).arg(browser);
    walk.arg(format!("http://127.0.0.1:{}", agent.port)).arg(&pictures).args(more);
    let output = walk.output().unwrap();
    assert!(output.status.success(), "{script}: {}\n(pictures are in {})", said(&output), pictures.display());
}

/// From now on people sign in.
fn let_in(agent: &Agent<'_>, name: &str, password: &str) {
    let mut access = agent.site.command(&["access", "password", name, "--role", "admin"]);
    let mut access = access.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    writeln!(access.stdin.take().unwrap(), "{password}").unwrap();
    let output = access.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    append(agent.site, &String::from_utf8(output.stdout).unwrap());
    until("the settings to be taken up", || agent.says("/", "/sign-in"));
}

fn append(site: &Site, settings: &str) {
    let path = site.path("strongroom.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text + settings).unwrap();
}

/// Each source says to which second, and none that is not known to be well looks well.
fn reads_well(agent: &Agent<'_>) {
    let page = agent.get("/").unwrap();
    assert!(page.contains("1 of 3 sources can be recovered: main to"), "{page}");
    let row = |name: &str| {
        let from = page.find(&format!("href=\"/sources/{name}\"")).unwrap();
        page[from..].split("</tr>").next().unwrap().to_owned()
    };
    assert!(row("main").contains("drill passed") && row("main").contains("UTC"), "{}", row("main"));
    for name in ["away", LONG] {
        assert!(row(name).contains("to no moment") && row(name).contains("never drilled"), "{}", row(name));
        assert!(row(name).contains("mark bad"), "{}", row(name));
    }
    // The worst first.
    assert!(page.find("/sources/away") < page.find("/sources/main\""), "{page}");
    let source = agent.get("/sources/main").unwrap();
    for words in
        ["is missing", "What is held", "Finance שלום", "2 of 3 passed", "silver/yearly", "Europe/Berlin"]
    {
        assert!(source.contains(words), "{words}: {source}");
    }
    assert!(agent.says("/sources/away", "cannot be recovered"));
    assert!(agent.says("/sources/none-such", " 404 ") && agent.says("/jobs/999999999", " 404 "));
    assert!(agent.says("/?page=99999999999999999999&standing=nonsense", " 200 "));
    let style = page.split("href=\"/assets/style-").nth(1).unwrap().split('"').next().unwrap();
    let style = agent.get(&format!("/assets/style-{style}")).unwrap();
    assert!(style.contains("immutable") && style.contains("text/css"), "{style}");
    assert!(agent.says("/assets/style-0000000000000000.css", " 404 "));
}

/// Words from outside come in as words: the reason of a hold, what a channel said, what somebody searches for.
fn hostile_words_are_only_words(agent: &Agent<'_>) {
    for path in ["/", "/sources/main", "/alerts", "/jobs", "/?q=%3Cscript%3Ealert(1)%3C/script%3E"] {
        let page = agent.get(path).unwrap();
        assert_eq!(page.matches("<script").count(), 1, "{path}: {page}");
        assert!(!page.contains("<img") && !page.contains("style=\""), "{path}: {page}");
    }
    assert!(agent.says("/sources/main", "&lt;script&gt;"));
    assert!(agent.says("/alerts", "&lt;script&gt;"));
}
