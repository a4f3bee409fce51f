//! `strongroom checklist`: answered by what is there, signed off for good, and overdue when nobody did.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use live::{Site, said, versions};
use serde_json::Value;
use strongroom_postgres::cluster::InitOptions;

/// What it says in JSON, after this exit code.
fn checklist(site: &Site, code: i32, words: &[&str]) -> Value {
    let output = site.run(&[&["checklist"], words, &["--output", "json"]].concat());
    assert_eq!(output.status.code(), Some(code), "{words:?}: {}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn reply<'a>(checklist: &'a Value, question: &str) -> &'a str {
    let answers = checklist["answers"].as_array().unwrap();
    answers.iter().find(|answer| answer["question"] == question).unwrap()["reply"].as_str().unwrap()
}

#[test]
fn what_is_measured_is_answered_and_who_signs_is_remembered() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = Site::new(&binaries, InitOptions::default());
    let settings = std::fs::read_to_string(site.path("strongroom.toml")).unwrap();
    let more = "rpo = \"1h\"\nretention = { keep_days = 7 }\n[catalog]\nurl = \"catalog.db\"\n[watch]\nexpected_storage = \"1 GB\"\n\
                [plan.gold]\nselect = { sources = [\"*\"] }\n[[plan.gold.rule]]\nname = \"rarely\"\nschedule = \"0 0 1 1 *\"\n";
    std::fs::write(site.path("strongroom.toml"), settings + more).unwrap();
    site.backup();
    site.ship(&site.cluster);

    let daily = checklist(&site, 0, &["daily"]);
    let replies = ["jobs", "sizes", "uploaded", "journal"].map(|question| reply(&daily, question));
    assert_eq!(replies, ["person", "person", "person", "yes"], "{daily}");
    let weekly = checklist(&site, 0, &["weekly"]);
    let replies = ["logs", "retention", "space"].map(|question| reply(&weekly, question));
    assert_eq!(replies, ["person", "yes", "yes"], "{weekly}");
    let monthly = checklist(&site, 4, &["monthly"]);
    assert_eq!((reply(&monthly, "restored"), reply(&monthly, "cost")), ("no", "person"), "{monthly}");
    let scratch = site.path("scratch");
    std::fs::create_dir(&scratch).unwrap();
    binaries.give(&scratch).unwrap();
    site.ok(&["drill", "--scratch", scratch.to_str().unwrap()]);

    let by = "Ada <b>Lovelace</b>";
    let signed = checklist(&site, 0, &["monthly", "--sign", by, "--note", "read, and right"]);
    assert_eq!(reply(&signed, "restored"), "yes", "{signed}");
    let id = signed["evidence"].as_str().unwrap();
    let record = site.path(&format!("vault/evidence/{}-{}/{id}.checklist.monthly", &id[..4], &id[4..6]));
    assert!(record.exists(), "{}", record.display());
    let page = site.ok(&["checklist", "monthly", "--format", "html"]);
    assert!(page.contains("a person must answer") && !page.contains("<b>"), "{page}");

    let list = checklist(&site, 4, &["list"]);
    let is_overdue: Vec<bool> = list.as_array().unwrap().iter().map(|of| of["overdue"].is_string()).collect();
    assert_eq!(is_overdue, [true, true, false], "{list}");
    let kept = &list[2]["records"][0]["sign_off"];
    assert_eq!((&kept["by"], &kept["note"]), (&by.into(), &"read, and right".into()));
    for period in ["daily", "weekly"] {
        checklist(&site, 0, &[period, "--sign", "Ada"]);
    }
    checklist(&site, 0, &["list"]);
    // It is evidence like any other, and no verification.
    assert!(site.ok(&["verify", "--records"]).contains("nothing was verified"));
    assert!(site.ok(&["verify"]).contains("sound"));

    // Under another name it speaks of another checklist; damaged it says nothing.
    let moved = record.with_file_name(format!("{id}.checklist.daily"));
    std::fs::copy(&record, &moved).unwrap();
    binaries.give(&moved).unwrap();
    let list = checklist(&site, 4, &["list"]);
    assert!(
        list[0]["records"].as_array().unwrap().iter().any(|record| record["wrong"].is_string()),
        "{list}"
    );
}

#[test]
fn who_may_only_ask_wrongly_is_told_how() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let site = Site::new(&binaries, InitOptions::default());
    for words in [
        &["checklist", "daily", "--note", "x"][..],
        &["checklist", "daily", "--sign", ""],
        &["checklist", "yearly"],
    ] {
        site.fails(2, words);
    }
}
