//! `strongroom report`: every kind, of a vault with points, a drill, a hold and a gap; as text, CSV, JSON and pages.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::path::Path;

use live::{Site, said, versions};
use serde_json::Value;
use strongroom_postgres::cluster::InitOptions;

const KINDS: [&str; 7] = ["status", "coverage", "rto-rpo", "compliance", "cost", "jobs", "architecture"];

/// Settings behind those of the site: a plan, a source that is left out by a hostile reason, one that is forgotten, a second vault.
const MORE: &str = r#"
rpo = "1h"
rto = "1h"
retention = { keep_days = 7 }
[catalog]
url = "catalog.db"
[source.scratch]
kind = "postgres"
[source.forgotten]
kind = "postgres-logical"
[plan.gold]
select = { sources = ["main", "scratch"] }
[[plan.gold.rule]]
name = "rarely"
schedule = "0 0 1 1 *"
copies = ["dr"]
[[plan.gold.exclude]]
source = "scratch"
reason = "<script>alert('x')</script> & =cmd|x"
owner = "ops"
review = 2099-01-01
"#;

const SECOND: &str = "[[also]]\nname = \"dr\"\nurl = \"replica\"\nidentity_file = \"identity.txt\"\n";

/// What a kind says in JSON, after this exit code.
fn report(site: &Site, code: i32, words: &[&str]) -> Value {
    let output = site.run(&[&["report"], words, &["--output", "json"]].concat());
    assert_eq!(output.status.code(), Some(code), "{words:?}: {}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// How a control of a source came out.
fn verdict<'a>(compliance: &'a Value, source: &str, control: &str) -> &'a Value {
    let sources = compliance["sources"].as_array().unwrap();
    let of = sources.iter().find(|of| of["source"] == source).unwrap();
    of["findings"].as_array().unwrap().iter().find(|finding| finding["control"] == control).unwrap()
}

#[test]
fn every_kind_says_what_is_there_and_what_nobody_knows() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = Site::new(&binaries, InitOptions::default());
    let settings = std::fs::read_to_string(site.path("strongroom.toml")).unwrap();
    let one_vault = settings + MORE;
    std::fs::write(site.path("strongroom.toml"), &one_vault).unwrap();
    let taken: Value = serde_json::from_str(&site.ok(&["backup", "main", "--output", "json"])).unwrap();
    let point = taken["point"].as_str().unwrap().to_owned();
    site.ship(&site.cluster);
    site.ok(&["hold", "place", &point, "--reason", "case <4711>", "--owner", "legal"]);

    // Nothing was drilled or copied yet.
    let before = report(&site, 4, &["compliance"]);
    assert_eq!(verdict(&before, "main", "drilled")["found"], "never drilled");
    assert_eq!(verdict(&before, "main", "copied")["found"], "there is no second vault");
    assert_eq!(verdict(&before, "scratch", "in-plan")["verdict"], "passed");
    let scratch = site.path("scratch");
    std::fs::create_dir(&scratch).unwrap();
    binaries.give(&scratch).unwrap();
    site.ok(&["drill", "main", "--scratch", scratch.to_str().unwrap()]);
    site.ok(&[
        "--vault",
        &site.inside("replica"),
        "init",
        "--copy-of",
        &site.inside("vault"),
        "--identity-file",
        &site.inside("identity.txt"),
    ]);
    std::fs::write(site.path("strongroom.toml"), one_vault + SECOND).unwrap();
    site.ok(&["copy", "--to", "dr"]);

    controls(&site);
    figures(&site, &point);
    pages(&site);
    runbook(&site, &point);
    of_a_gap_and_a_deletion(&site, &point);
}

/// How each control of the source comes out, and that its evidence is there.
fn controls(site: &Site) {
    let compliance = report(site, 4, &["compliance", "main"]);
    let expected = [
        ("in-plan", "passed", "in gold"),
        ("frequency", "not-known", "none was due"),
        ("retention", "passed", "none was let go"),
        ("encrypted", "passed", "aes-256-gcm-x25519"),
        ("immutable", "failed", "in a folder, and [vault.lock] is not set"),
        ("copied", "passed", "in dr"),
        ("drilled", "passed", "a drill passed"),
        ("no-manual-delete", "passed", "are there"),
        ("objectives", "passed", "RTO 1 h 0 min: measured"),
    ];
    for (control, outcome, found) in expected {
        let finding = verdict(&compliance, "main", control);
        assert_eq!(finding["verdict"], outcome, "{finding}");
        assert!(finding["found"].as_str().unwrap().contains(found), "{finding}");
    }
    let drill = verdict(&compliance, "main", "drilled")["evidence"][0].as_str().unwrap().to_owned();
    assert!(site.path("vault").join(&drill).exists(), "{drill}");
}

/// What the other kinds say of it.
fn figures(site: &Site, point: &str) {
    let coverage = report(site, 4, &["coverage"]);
    let covers: Vec<(&str, &str)> = coverage["sources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|of| (of["source"].as_str().unwrap(), of["cover"].as_str().unwrap()))
        .collect();
    assert_eq!(covers, [("forgotten", "forgotten"), ("scratch", "left-out"), ("main", "covered")]);

    let status = report(site, 4, &["status"]);
    assert_eq!(status[0]["source"], "forgotten", "who needs attention stands first: {status}");
    assert_eq!(
        status.as_array().unwrap().len(),
        2,
        "who is left out for a reason does not stand here: {status}"
    );
    assert_eq!((&status[1]["last_point"], &status[1]["problems"]), (&point.into(), &Value::Array(vec![])));
    assert_eq!(report(site, 0, &["status", "main"])[0]["points"], 1);

    let cost = report(site, 0, &["cost", "--keep-days", "30"]);
    let listed = bytes_below(&site.path("vault"));
    assert_eq!(cost["holdings"]["classes"]["STANDARD"]["bytes"], listed);
    assert!(cost["month"]["keeping"].as_f64().unwrap() > 0.0 && cost["prices"]["date"].is_string(), "{cost}");
    assert_eq!(cost["what_if"][0]["what"], "kept for 30 days");

    assert_eq!(report(site, 0, &["jobs"])["kinds"], serde_json::json!({}));
    let architecture = report(site, 0, &["architecture"]);
    assert_eq!(architecture["vaults"][1]["name"], "dr");
    assert_eq!(architecture["sources"][1]["copies"], serde_json::json!(["dr"]));
}

/// Every kind as a page, a table and text: whatever stands in the settings stays text.
fn pages(site: &Site) {
    for kind in KINDS {
        let page = site.run(&["report", kind, "--format", "html"]);
        let page = String::from_utf8(page.stdout).unwrap();
        assert!(
            page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"),
            "{kind}: {page}"
        );
        assert!(
            !page.contains("<script") && !page.contains("http://") || kind == "architecture",
            "{kind}: {page}"
        );
        let table = site.run(&["report", kind, "--format", "csv"]);
        let head = String::from_utf8(table.stdout).unwrap();
        assert!(head.lines().next().unwrap().contains(','), "{kind}: {head}");
        assert!(said(&site.run(&["report", kind])).contains("made by strongroom"), "{kind}");
    }
    let coverage = String::from_utf8(site.run(&["report", "coverage", "--format", "html"]).stdout).unwrap();
    assert!(
        coverage.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/<wbr>script&gt; &amp; =cmd|x"),
        "{coverage}"
    );
}

/// A runbook names what is there, with the time that the drill took.
fn runbook(site: &Site, point: &str) {
    let text = site.ok(&["generate", "runbook"]);
    for expected in [
        "## Source main",
        "The last drill took",
        "Never drilled",
        &format!("strongroom hold place {point} --reason ransomware"),
        "strongroom verify --in dr --data",
        "strongroom restore forgotten --to-database forgotten_again",
    ] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let page = site.inside("disaster.html");
    site.ok(&["generate", "runbook", "--format", "html", "--to", &page]);
    assert!(std::fs::read_to_string(site.path("disaster.html")).unwrap().starts_with("<!doctype html>"));
    site.fails(20, &["generate", "runbook", "--to", &page]);
}

/// What is missing is found, and by whom it was deleted does not matter.
fn of_a_gap_and_a_deletion(site: &Site, point: &str) {
    let packs = site.path(&format!("vault/sources/main/points/{point}/packs"));
    let pack = std::fs::read_dir(&packs).unwrap().flatten().next().unwrap().path();
    std::fs::rename(&pack, site.path("pack")).unwrap();
    let compliance = report(site, 4, &["compliance", "main"]);
    let finding = verdict(&compliance, "main", "no-manual-delete");
    assert_eq!(finding["verdict"], "failed", "{finding}");
    assert!(finding["found"].as_str().unwrap().contains("packs/"), "{finding}");
    std::fs::rename(site.path("pack"), &pack).unwrap();

    // A segment that a point needs.
    let shown: Value = serde_json::from_str(&site.ok(&["show", point, "--output", "json"])).unwrap();
    let first = shown["wal"][0].as_str().unwrap();
    let segment = found_below(&site.path("vault/sources/main/wal"), first).unwrap();
    std::fs::remove_file(segment).unwrap();
    let status = report(site, 4, &["status", "main"]);
    assert!(!status[0]["problems"].as_array().unwrap().is_empty(), "{status}");
}

#[test]
fn a_pdf_is_printed_where_there_is_a_browser_and_says_the_way_out_where_there_is_none() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = Site::new(&binaries, InitOptions::default());
    site.backup();
    let path = site.inside("cost.pdf");
    let words = ["report", "cost", "--pdf", &path];
    let without = site.command(&words).env("STRONGROOM_BROWSER", "/nowhere/chromium").output().unwrap();
    assert_eq!(without.status.code(), Some(20), "{}", said(&without));
    assert!(said(&without).contains("hint:") && said(&without).contains("print a PDF"), "{}", said(&without));
    let browser = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|folder| folder.join(name).is_file())
    });
    let Some(browser) = browser else {
        println!("skipped: there is no Chromium on this host");
        return;
    };
    let printed = site.command(&words).env("STRONGROOM_BROWSER", browser).output().unwrap();
    assert_eq!(printed.status.code(), Some(0), "{}", said(&printed));
    assert!(std::fs::read(site.path("cost.pdf")).unwrap().starts_with(b"%PDF-"));
    // Nothing is overwritten.
    let again = site.command(&words).env("STRONGROOM_BROWSER", browser).output().unwrap();
    assert_eq!(again.status.code(), Some(20), "{}", said(&again));
}

fn bytes_below(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => bytes_below(&entry.path()),
            false => entry.metadata().unwrap().len(),
        })
        .sum()
}

fn found_below(folder: &Path, name: &str) -> Option<std::path::PathBuf> {
    std::fs::read_dir(folder).unwrap().flatten().find_map(|entry| match entry.file_type().unwrap().is_dir() {
        true => found_below(&entry.path(), name),
        false => (entry.file_name().to_str() == Some(name)).then(|| entry.path()),
    })
}
