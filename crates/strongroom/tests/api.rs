//! A real agent's API over HTTP and HTTPS: who is let in, what they may have done, what becomes of it, and what does not get through.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;
mod asking;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use asking::{Agent, Answer, ask_privately, free_port, signed_in};
use live::{Site, until, versions};
use serde_json::{Value, json};
use strongroom_postgres::cluster::InitOptions;

const PASSWORD: &str = "correct horse battery";

/// A site with people: ada and bob are admins, grace is an operator, vic a viewer.
fn site(http: &str) -> Option<(Site, Tokens)> {
    let binaries = versions().into_iter().next()?;
    let site = Site::new(&binaries, InitOptions { segment_mib: 1, ..InitOptions::default() });
    let restores = site.path("restores");
    std::fs::create_dir(&restores).unwrap();
    site.binaries.give(&restores).unwrap();
    let mut text = std::fs::read_to_string(site.path("strongroom.toml")).unwrap();
    text.push_str("[source.other]\nkind = \"postgres\"\nconnection = \"host=/nowhere\"\n");
    text.push_str(&format!(
        "[agent]\nsocket = \"{}\"\n[watch]\nevery = \"1s\"\n[catalog]\nurl = \"{}\"\n{http}",
        site.inside("agent.sock"),
        site.inside("catalog.db")
    ));
    std::fs::write(site.path("strongroom.toml"), &text).unwrap();
    for (name, role) in [("ada", "admin"), ("bob", "admin"), ("grace", "operator"), ("vic", "viewer")] {
        text.push_str(&format!("\n{}\n", password(&site, name, role)));
    }
    let mut token = |words: &[&str]| {
        let all = [&["access", "token"], words, &["--output", "json"]].concat();
        let made: Value = serde_json::from_str(&site.ok(&all)).unwrap();
        text.push_str(&format!("\n{}\n", made["lines"].as_str().unwrap()));
        made["token"].as_str().unwrap().to_owned()
    };
    let tokens = Tokens {
        main: token(&["ci", "--role", "operator", "--expires", "90d", "--source", "main"]),
        other: token(&["other", "--role", "admin", "--expires", "90d", "--source", "other"]),
        all: token(&["fuzz", "--role", "operator", "--expires", "90d"]),
        expired: token(&["old", "--role", "admin", "--expires", "1s"]),
    };
    std::fs::write(site.path("strongroom.toml"), &text).unwrap();
    Some((site, tokens))
}

/// What `access token` printed.
struct Tokens {
    main: String,
    other: String,
    all: String,
    expired: String,
}

/// What `access password` prints.
fn password(site: &Site, name: &str, role: &str) -> String {
    let mut command = site.command(&["access", "password", name, "--role", role]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{PASSWORD}").unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

fn http(port: u16, site_restores: &str) -> String {
    format!("[http]\nlisten = \"127.0.0.1:{port}\"\nsecond_person = true\nrestore_to = \"{site_restores}\"\n")
}

/// A site and its agent, which has looked once.
fn running() -> Option<(Site, Tokens, u16)> {
    let port = free_port();
    let (site, tokens) = site(&http(port, "/RESTORES"))?;
    let path = site.path("strongroom.toml");
    let text = std::fs::read_to_string(&path).unwrap().replace("/RESTORES", &site.inside("restores"));
    std::fs::write(path, text).unwrap();
    Some((site, tokens, port))
}

fn done(agent: &Agent, headers: &[(&str, &str)], answer: &Answer) -> Value {
    assert_eq!(answer.status, 202, "{answer:?}");
    let path = format!("/api/v1/jobs/{}", answer.json()["job"]["id"]);
    let state = || agent.get(&path, headers).json();
    until("the job to end", || matches!(state()["state"].as_str(), Some("done" | "failed")));
    let job = state();
    assert_eq!(job["state"], "done", "{job}");
    job
}

fn problem(answer: &Answer, status: u16, code: &str) {
    let json = answer.json();
    assert_eq!((answer.status, json["code"].as_str()), (status, Some(code)), "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(json["type"], format!("urn:strongroom:problem:{code}"));
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert!(answer.header("content-security-policy").contains("frame-ancestors 'none'"));
    assert!(!answer.body.contains(PASSWORD));
}

fn tokens_know_their_sources(agent: &Agent, tokens: &Tokens, job: &Value) {
    // A token of one source knows no other.
    let main = format!("Bearer {}", tokens.main);
    let other = format!("Bearer {}", tokens.other);
    assert_eq!(
        agent.get("/api/v1/jobs", &[("authorization", &main)]).json()["jobs"].as_array().unwrap().len(),
        1
    );
    assert_eq!(agent.get("/api/v1/jobs", &[("authorization", &other)]).json()["jobs"], json!([]));
    problem(&agent.get("/api/v1/sources/main", &[("authorization", &other)]), 404, "not-found");
    problem(
        &agent.get(&format!("/api/v1/jobs/{}", job["id"]), &[("authorization", &other)]),
        404,
        "not-found",
    );
    let backup = json!({ "what": { "act": "backup", "source": "main" } });
    problem(&agent.post("/api/v1/acts", &[("authorization", &other)], &backup), 404, "not-found");
    let expired = format!("Bearer {}", tokens.expired);
    problem(&agent.get("/api/v1/me", &[("authorization", &expired)]), 401, "not-signed-in");
    let shown = |token: &str| agent.get("/", &[("authorization", token)]).body;
    assert!(shown(&main).contains("/sources/main") && !shown(&other).contains("/sources/main"));
}

fn a_hold_ends_by_two(
    (site, agent): (&Site, &Agent),
    grace: &[(&str, &str)],
    ada: &[(&str, &str)],
    others: [&[(&str, &str)]; 2],
) {
    // A hold, and its end, which takes two.
    let list: Value = serde_json::from_str(&site.ok(&["list", "main", "--output", "json"])).unwrap();
    let point = list[0]["points"][0]["point"].as_str().unwrap().to_owned();
    let hold = json!({ "what": { "act": "hold", "source": "main", "point": point, "reason": "--case 1" } });
    done(agent, grace, &agent.post("/api/v1/acts", grace, &hold));
    let not_its = json!({ "what": { "act": "hold", "source": "main", "point": "20200101T000000Z-00000000", "reason": "x" } });
    problem(&agent.post("/api/v1/acts", grace, &not_its), 404, "not-found");
    let held = || site.ok(&["hold", "list", "main", "--output", "json"]);
    let before = held();
    let mut release =
        json!({ "what": { "act": "release", "source": "main", "point": point, "reason": "over" } });
    problem(&agent.post("/api/v1/acts", grace, &release), 403, "not-allowed");
    problem(&agent.post("/api/v1/acts", ada, &release), 409, "not-confirmed");
    release["confirm"] = json!("main");
    let asked = agent.post("/api/v1/acts", ada, &release);
    assert_eq!((asked.status, &asked.json()["request"]["state"]), (202, &json!("waiting")));
    let approve = format!("/api/v1/requests/{}/approve", asked.json()["request"]["id"]);
    problem(&agent.post(&approve, ada, &json!(null)), 409, "conflict");
    for other in others {
        problem(&agent.post(&approve, other, &json!(null)), 403, "not-allowed");
    }
    assert_eq!(held(), before);
    let job = done(agent, grace, &agent.post(&approve, grace, &json!(null)));
    assert_eq!(job["person"], "ada, with grace");
    assert_ne!(held(), before);
    problem(&agent.post(&approve, grace, &json!(null)), 409, "conflict");
}

fn a_restore_has_a_plan_and_a_place((site, agent): (&Site, &Agent), grace: &[(&str, &str)]) {
    // A restore: its plan, its confirmation, and its only place.
    let mut restore = json!({ "what": { "act": "restore", "source": "main", "folder": "again" } });
    let plan = agent.post("/api/v1/restore-plan", grace, &restore["what"]);
    assert_eq!(plan.status, 200, "{plan:?}");
    assert!(!site.path("restores/again").exists());
    problem(&agent.post("/api/v1/acts", grace, &restore), 409, "not-confirmed");
    for folder in ["../again", "/etc", "", "a/b", "--delta"] {
        let astray =
            json!({ "what": { "act": "restore", "source": "main", "folder": folder }, "confirm": "main" });
        problem(&agent.post("/api/v1/acts", grace, &astray), 400, "unreadable");
    }
    restore["confirm"] = json!("main");
    done(agent, grace, &agent.post("/api/v1/acts", grace, &restore));
    assert!(site.path("restores/again/PG_VERSION").exists());
}

#[test]
fn people_have_done_what_they_may_and_nothing_else() {
    let Some((site, tokens, port)) = running() else { return };
    let agent = Agent::start(&site, port);
    let host = format!("http://127.0.0.1:{port}");
    let grace = signed_in(&agent, "grace", PASSWORD);
    let grace = [("cookie", grace.0.as_str()), ("x-csrf-token", grace.1.as_str())];
    let backup = json!({ "what": { "act": "backup", "source": "main" } });

    // Who may not, and where it does not come from.
    let vic = signed_in(&agent, "vic", PASSWORD);
    let vic = [("cookie", vic.0.as_str()), ("x-csrf-token", vic.1.as_str())];
    problem(&agent.post("/api/v1/acts", &vic, &backup), 403, "not-allowed");
    problem(&agent.post("/api/v1/acts", &grace[..1], &backup), 403, "wrong-origin");
    let elsewhere = [grace[0], grace[1], ("origin", "https://evil.example")];
    problem(&agent.post("/api/v1/acts", &elsewhere, &backup), 403, "wrong-origin");
    problem(&agent.post("/api/v1/acts", &[], &backup), 401, "not-signed-in");

    // A backup, once.
    let keyed = [grace[0], ("origin", host.as_str()), ("idempotency-key", "k1")];
    let first = agent.post("/api/v1/acts", &keyed, &backup);
    let again = agent.post("/api/v1/acts", &keyed, &backup);
    assert_eq!((again.status, &again.json()["job"]["id"]), (200, &first.json()["job"]["id"]));
    let verify = json!({ "what": { "act": "verify", "source": "main" } });
    problem(&agent.post("/api/v1/acts", &keyed, &verify), 409, "conflict");
    let job = done(&agent, &grace, &first);
    assert_eq!((job["person"].as_str(), job["kind"].as_str()), (Some("grace"), Some("backup")));
    let listed: Value = serde_json::from_str(&site.ok(&["jobs", "list", "--output", "json"])).unwrap();
    assert_eq!(listed["jobs"].as_array().unwrap().len(), 1);

    tokens_know_their_sources(&agent, &tokens, &job);
    let ada = signed_in(&agent, "ada", PASSWORD);
    let ada = [("cookie", ada.0.as_str()), ("x-csrf-token", ada.1.as_str())];
    let bearer = format!("Bearer {}", tokens.main);
    let others = [&vic[..], &[("authorization", bearer.as_str())]];
    a_hold_ends_by_two((&site, &agent), &grace, &ada, others);
    a_restore_has_a_plan_and_a_place((&site, &agent), &grace);

    // Whom the settings no longer know is out at once.
    let path = site.path("strongroom.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("[user.grace]", "[user.hopper]")).unwrap();
    until("grace to be out", || agent.get("/api/v1/me", &grace).status == 401);
    assert_eq!(agent.get("/api/v1/me", &ada).json()["name"], "ada");
    agent.send("DELETE", "/api/v1/session", &ada, None);
    assert_eq!(agent.get("/api/v1/me", &ada).status, 401);
    agent.stop();
}

/// What the audit log has, oldest first.
fn log(site: &Site) -> Vec<Value> {
    serde_json::from_str(&site.ok(&["audit", "list", "--newest", "1000", "--output", "json"])).unwrap()
}

/// Those of one actor and verb that came to this.
fn found<'a>(log: &'a [Value], [kind, name, verb, outcome]: [&str; 4]) -> Vec<&'a Value> {
    let is = |line: &Value| {
        [&line["actor"]["kind"], &line["actor"]["name"], &line["act"]["verb"], &line["outcome"]]
            == [kind, name, verb, outcome]
    };
    log.iter().filter(|line| is(line)).collect()
}

fn the_log_is_shown_to_admins(agent: &Agent, ada: &[(&str, &str)], others: [&[(&str, &str)]; 2]) {
    let shown = |query: &str| agent.get(&format!("/api/v1/audit{query}"), ada).json();
    let is_there = || shown("")["entries"].to_string().contains("\"verb\":\"restore\"");
    until("the restore to be shown", is_there);
    let (first, all) = (shown("?limit=2"), shown("?limit=1000"));
    assert_eq!(first["entries"].as_array().unwrap().len(), 2);
    let behind = shown(&format!("?limit=1&cursor={}", first["next"]));
    assert!(behind["entries"][0]["number"].as_u64() < first["entries"][1]["number"].as_u64());
    assert_eq!((&all["knowledge"], &all["next"]), (&json!("read"), &Value::Null));
    problem(&agent.get("/api/v1/audit?cursor=0", ada), 400, "unreadable");
    assert!(agent.get("/", ada).body.contains("href=\"/audit\""));
    assert!(agent.get("/audit", ada).body.contains("Who did what"));
    for other in others {
        problem(&agent.get("/api/v1/audit", other), 403, "not-allowed");
        assert_eq!(agent.get("/audit", other).status, 403);
        assert!(!agent.get("/", other).body.contains("href=\"/audit\""));
    }
}

#[test]
fn what_people_did_and_were_refused_is_in_the_audit_log() {
    let Some((site, tokens, port)) = running() else { return };
    let agent = Agent::start(&site, port);
    let try_in = |name: &str| {
        agent.post("/api/v1/session", &[], &json!({ "name": name, "password": "not the password" }))
    };
    (0..3).for_each(|_| problem(&try_in("grace"), 401, "wrong-password"));
    // A password in the wrong field.
    problem(&try_in("hunter2secret"), 401, "wrong-password");
    let [grace, vic, ada] = ["grace", "vic", "ada"].map(|name| signed_in(&agent, name, PASSWORD));
    let grace = [("cookie", grace.0.as_str()), ("x-csrf-token", grace.1.as_str())];
    let vic = [("cookie", vic.0.as_str()), ("x-csrf-token", vic.1.as_str())];
    let ada = [("cookie", ada.0.as_str())];
    let backup = json!({ "what": { "act": "backup", "source": "main" } });
    done(&agent, &grace, &agent.post("/api/v1/acts", &grace, &backup));
    a_restore_has_a_plan_and_a_place((&site, &agent), &grace);
    problem(&agent.post("/api/v1/acts", &vic, &backup), 403, "not-allowed");
    problem(&agent.post("/api/v1/acts", &grace[..1], &backup), 403, "wrong-origin");
    let other = format!("Bearer {}", tokens.other);
    let other = [("authorization", other.as_str())];
    problem(&agent.post("/api/v1/acts", &other, &backup), 404, "not-found");
    the_log_is_shown_to_admins(&agent, &ada, [&vic, &other]);

    // A vault that is away for a while.
    std::fs::rename(site.path("vault"), site.path("away")).unwrap();
    signed_in(&agent, "bob", PASSWORD);
    agent.send("DELETE", "/api/v1/session", &grace, None);
    agent.says("are not yet in the audit log");
    std::fs::rename(site.path("away"), site.path("vault")).unwrap();
    until("what was done meanwhile", || found(&log(&site), ["web", "grace", "sign-out", "ok"]).len() == 1);
    // What was counted is written when the agent leaves.
    agent.stop();

    let log = log(&site);
    let (web, stranger) = ("web", "nobody known");
    for (who, verb, outcome, entries) in [
        ([web, stranger], "sign-in", "wrong-password", 3),
        ([web, "grace"], "sign-in", "ok", 1),
        ([web, "vic"], "sign-in", "ok", 1),
        ([web, "bob"], "sign-in", "ok", 1),
        ([web, "grace"], "order", "ok", 2),
        ([web, "grace"], "backup", "ok", 1),
        ([web, "grace"], "restore", "ok", 1),
        ([web, "grace"], "order", "not-confirmed", 1),
        ([web, "grace"], "order", "unreadable", 2),
        ([web, "grace"], "request", "wrong-origin", 1),
        ([web, "vic"], "order", "not-allowed", 1),
        ([web, "vic"], "look", "not-allowed", 2),
        (["token", "other"], "order", "not-found", 1),
        ([web, "grace"], "sign-out", "ok", 1),
    ] {
        let found = found(&log, [who[0], who[1], verb, outcome]);
        assert_eq!(found.len(), entries, "{who:?} {verb} {outcome}: {log:#?}");
        assert!(found.iter().all(|line| (line["exit_code"] == 0) == (outcome == "ok")));
    }
    let guesses = found(&log, [web, stranger, "sign-in", "wrong-password"]);
    assert_eq!(
        (&guesses[0]["texts"]["name"], &guesses[0]["texts"]["from"]),
        (&json!("grace"), &json!("127.0.0.1"))
    );
    assert!(guesses[1]["texts"]["name"].is_null());
    assert_eq!(guesses[2]["texts"]["again"], "2 times within a minute");
    assert_eq!(found(&log, [web, "vic", "order", "not-allowed"])[0]["act"]["source"], "main");
    let said = serde_json::to_string(&log).unwrap();
    assert!(!said.contains("hunter2secret") && !said.contains(PASSWORD) && !said.contains(&tokens.other));
    site.ok(&["audit", "verify"]);
}

fn what_is_malformed_is_said(agent: &Agent, known: &[(&str, &str)]) {
    for path in [
        "/api/v1/sources/..%2f..%2fetc%2fpasswd",
        "/api/v1/sources/%2e%2e",
        "/api/v1/sources/main%00",
        "/api/v1/sources/%ff%fe",
        "/api/v1/jobs/abc",
        "/api/v1/jobs/99999999999999999999",
        "/api/v2/me",
    ] {
        problem(&agent.get(path, known), 404, "not-found");
    }
    assert_eq!(agent.get("/api/v1/sources/%6dain", known).json()["line"]["source"], "main");
    for query in ["limit=0", "limit=x", "state=dnoe", "cursor=x", "what=x", "source=A%20B"] {
        problem(&agent.get(&format!("/api/v1/jobs?{query}"), known), 400, "unreadable");
    }
    problem(&agent.send("PUT", "/api/v1/me", known, None), 405, "no-such-method");
    let huge = format!("{{\"what\": \"{}\"}}", "x".repeat(1 << 20));
    problem(&agent.send("POST", "/api/v1/acts", known, Some(&huge)), 413, "too-large");
    problem(&agent.send("POST", "/api/v1/acts", known, Some("{")), 400, "unreadable");
    let deep = "[".repeat(60_000);
    problem(&agent.send("POST", "/api/v1/acts", known, Some(&deep)), 400, "unreadable");
}

fn who_guesses_waits(agent: &Agent) {
    // An unknown name and a wrong password are answered alike, and then not at all.
    let try_in = |name: &str| {
        agent.post("/api/v1/session", &[], &json!({ "name": name, "password": "not the password" }))
    };
    let (wrong, unknown) = (try_in("ada"), try_in("nobody"));
    problem(&wrong, 401, "wrong-password");
    assert_eq!(wrong.body, unknown.body);
    (0..4).for_each(|_| drop(try_in("ada")));
    until("the wait", || try_in("ada").status == 429);
    assert!(!try_in("ada").header("retry-after").is_empty());
}

#[test]
fn what_is_malformed_too_much_or_too_slow_does_not_get_through() {
    let Some((site, tokens, port)) = running() else { return };
    let agent = Agent::start(&site, port);
    // Headers drop by drop.
    let mut loris = TcpStream::connect(("127.0.0.1", port)).unwrap();
    loris.write_all(b"GET /api/v1/me HTTP/1.1\r\nhost: loc").unwrap();
    let began = Instant::now();

    let bearer = format!("Bearer {}", tokens.all);
    let known = [("authorization", bearer.as_str())];
    what_is_malformed_is_said(&agent, &known);
    who_guesses_waits(&agent);

    // Many at once, and how long they take.
    let took: Vec<Duration> = std::thread::scope(|scope| {
        let one = || {
            let began = Instant::now();
            let answer = agent.get("/api/v1/overview", &known);
            assert_eq!(answer.status, 200, "{answer:?}");
            began.elapsed()
        };
        let all: Vec<_> = (0..200).map(|_| scope.spawn(one)).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    println!("200 at once: the slowest took {:?}", took.iter().max().unwrap());
    let mut took: Vec<Duration> = (0..300)
        .map(|_| {
            let began = Instant::now();
            // A bucket that is empty fills again.
            agent.get("/api/v1/overview", &known);
            began.elapsed()
        })
        .collect();
    took.sort();
    println!("one after the other: p50 {:?}, p99 {:?}", took[150], took[297]);

    // A vault that went away: what was seen last, and how old it is.
    std::fs::rename(site.path("vault"), site.path("away")).unwrap();
    until("the overview to say that it is old", || {
        let answer = agent.get("/api/v1/overview", &known);
        answer.status == 200 && answer.json()["stale"].is_string()
    });
    std::fs::rename(site.path("away"), site.path("vault")).unwrap();

    let mut left = Vec::new();
    loris.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    loris.read_to_end(&mut left).unwrap();
    assert!(began.elapsed() < Duration::from_secs(30));
    agent.stop();
}

#[test]
fn a_catalog_that_is_away_is_said_and_nobody_needs_it_to_look() {
    let Some((site, tokens, port)) = running() else { return };
    let path = site.path("strongroom.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let away = format!("postgres://nobody@127.0.0.1:{}/none", free_port());
    std::fs::write(&path, text.replace(&site.inside("catalog.db"), &away)).unwrap();
    let agent = Agent::start(&site, port);
    let bearer = format!("Bearer {}", tokens.all);
    let known = [("authorization", bearer.as_str())];
    problem(&agent.get("/api/v1/jobs", &known), 503, "catalog-away");
    let backup = json!({ "what": { "act": "backup", "source": "main" } });
    problem(&agent.post("/api/v1/acts", &known, &backup), 503, "catalog-away");
    assert_eq!(agent.get("/api/v1/overview", &known).status, 200);
    assert_eq!(agent.get("/api/v1/sources", &known).json()["sources"], json!(["main", "other"]));
    agent.stop();
}

#[test]
fn over_tls_a_renewed_certificate_is_shown_after_a_hangup() {
    let port = free_port();
    let tls =
        format!("[http]\nlisten = \"127.0.0.1:{port}\"\ncertificate = \"one.crt\"\nkey = \"one.key\"\n");
    let Some((site, tokens)) = site(&tls) else { return };
    let certificate = |name: &str| {
        let words = format!(
            "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout {name}.key -out {name}.crt -subj /CN=localhost \
             -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE"
        );
        let mut openssl = Command::new("openssl");
        let made = openssl.args(words.split_whitespace()).current_dir(site.path("")).output().unwrap();
        assert!(made.status.success(), "{}", live::said(&made));
        for file in [format!("{name}.key"), format!("{name}.crt")] {
            site.binaries.give(&site.path(&file)).unwrap();
        }
    };
    certificate("one");
    let agent = Agent::start_privately(&site, port);
    let bearer = format!("Bearer {}", tokens.main);
    let ask =
        |trusted: &str| ask_privately(port, &site.path(trusted), "/api/v1/me", &[("authorization", &bearer)]);
    until("the agent to answer", || ask("one.crt").is_ok());
    assert_eq!(ask("one.crt").unwrap().json()["name"], "token:ci");
    certificate("two");
    assert!(ask("two.crt").is_err());
    for end in ["key", "crt"] {
        std::fs::rename(site.path(&format!("two.{end}")), site.path(&format!("one.{end}"))).unwrap();
    }
    agent.hang_up();
    until("the new certificate", || ask("one.crt").is_ok());
    // Files that do not read change nothing.
    std::fs::copy(site.path("one.crt"), site.path("kept.crt")).unwrap();
    std::fs::write(site.path("one.crt"), "nothing").unwrap();
    agent.hang_up();
    agent.says("going on with the settings as they were");
    assert_eq!(ask("kept.crt").unwrap().status, 200);
    agent.stop();
}

/// Where `./test` puts it.
fn schemathesis() -> Option<String> {
    let usual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/schemathesis/bin/schemathesis");
    let found = std::env::var("STRONGROOM_SCHEMATHESIS").unwrap_or_else(|_| usual.display().to_string());
    if Path::new(&found).exists() {
        return Some(found);
    }
    println!("skipped: there is no schemathesis ({found}; ./test installs it)");
    None
}

#[test]
fn the_api_does_what_its_document_says() {
    let Some(schemathesis) = schemathesis() else { return };
    let Some((site, tokens, port)) = running() else { return };
    let agent = Agent::start(&site, port);
    let document = agent.get("/api/v1/openapi.json", &[]).json();
    assert_eq!(document["openapi"], "3.1.0");
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let path = path.replace("{source}", "main").replace("{id}", "1");
            let answer = agent.send(&method.to_uppercase(), &path, &[], None);
            assert!(![200, 202, 404, 405].contains(&answer.status), "{method} {path}: {answer:?}");
        }
    }
    let mut command = Command::new(schemathesis);
    command.args(["run", &format!("http://127.0.0.1:{port}/api/v1/openapi.json")]);
    command.args(["--header", &format!("Authorization: Bearer {}", tokens.all)]);
    command.args(["--checks", "all", "--phases", "examples,coverage,fuzzing", "--max-examples", "15"]);
    command.args(["--seed", "1", "--no-color", "--generation-database", "none", "--rate-limit", "90/s"]);
    let output = command.current_dir(site.path("")).output().unwrap();
    let said = live::said(&output);
    println!("{said}");
    assert!(output.status.success(), "{said}");
    agent.stop();
}
