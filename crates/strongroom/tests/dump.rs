//! A database that is dumped, end to end on every PostgreSQL there is here: taken twice, shown, restored whole and in part, and
//! all that a dump cannot do refused by name.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::process::Stdio;

use live::{Site, said, until, versions};
use serde_json::Value;
use strongroom_postgres::cluster::{Cluster, InitOptions};

const SCHEMA: &str = "\
create table customers (id int primary key, name text not null);
create table orders (id int primary key, customer int references customers, note text);
create index on orders (customer);
create sequence numbers start 7;
insert into customers select n, 'customer ' || n from generate_series(1, 500) n;
insert into orders select n, 1 + n % 500, md5(n::text) || md5((n * 7)::text) from generate_series(1, 60000) n;
select nextval('numbers'), nextval('numbers');";

/// Every row, and where the sequence is.
fn digest(cluster: &Cluster, database: &str) -> String {
    let of =
        |table: &str| format!("select count(*), md5(string_agg(t::text, '|' order by id)) from {table} t;");
    let text = [of("customers"), of("orders"), "select last_value from numbers".into()].concat();
    cluster.sql_in(database, &text).unwrap()
}

/// The site's binary with a source that is dumped.
struct Shop(Site);

impl Shop {
    fn run(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.0.command_with("shop.toml", arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
        if code == 0 { String::from_utf8(output.stdout).unwrap() } else { said(&output) }
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.run(0, &[arguments, &["--output", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

fn shop(site: Site) -> Shop {
    site.cluster.sql("create database shop").unwrap();
    site.cluster.sql_in("shop", SCHEMA).unwrap();
    let text = std::fs::read_to_string(site.path("strongroom.toml")).unwrap();
    let text = text
        .replace("[source.main]", "[source.shop]")
        .replace("kind = \"postgres\"", "kind = \"postgres-logical\"");
    std::fs::write(site.path("shop.toml"), text.replace("user=postgres\"", "user=postgres dbname=shop\""))
        .unwrap();
    site.binaries.give(&site.path("shop.toml")).unwrap();
    Shop(site)
}

#[test]
fn a_database_is_dumped_and_comes_back_whole_and_in_part() {
    for binaries in versions() {
        let shop = shop(Site::new(&binaries, InitOptions::default()));
        let cluster = &shop.0.cluster;
        let first = shop.json(&["backup"]);
        assert_eq!((&first["access"], first.get("journal")), (&Value::from("dump"), None));
        let before = digest(cluster, "shop");
        cluster
            .sql_in(
                "shop",
                "update orders set note = md5(note) || md5(id::text) where id between 100 and 300",
            )
            .unwrap();
        let second = shop.json(&["backup"]);
        assert_eq!(second["parent"], first["point"]);
        let stored = |point: &Value| point["stored"].as_u64().unwrap();
        assert!(stored(&second) * 5 < stored(&first), "{} after {}", stored(&second), stored(&first));

        let listed = shop.run(0, &["list"]);
        assert_eq!(listed.matches(" ok").count(), 2, "{listed}");
        let shown = shop.run(0, &["show", first["point"].as_str().unwrap()]);
        assert!(shown.contains("postgres-logical") && !shown.contains("needs WAL"), "{shown}");
        let status = shop.json(&["status", "shop"]);
        assert_eq!((&status[0]["dumped"], &status[0]["problems"]), (&true.into(), &Value::Array(vec![])));

        let at = first["stopped_at"].as_str().unwrap();
        let plan = shop.run(0, &["restore", "--to-database", "then", "--at", at, "--dry-run"]);
        assert!(plan.contains(first["point"].as_str().unwrap()), "{plan}");
        let restored = shop.json(&["restore", "--to-database", "then", "--at", at, "--yes"]);
        assert_eq!(digest(cluster, "then"), before, "{restored}");
        shop.run(0, &["restore", "--to-database", "now", "--yes"]);
        assert_eq!(digest(cluster, "now"), digest(cluster, "shop"));
        assert_eq!(
            cluster.sql_in("now", "select count(*) from pg_indexes where schemaname = 'public'").unwrap(),
            "3"
        );
        // One table beside the one that is there, as it was.
        let point = first["point"].as_str().unwrap();
        shop.run(0, &["restore", "--point", point, "--table", "public.orders=public.orders_then", "--yes"]);
        let differ =
            "select count(*) from orders_then old join orders new using (id) where old.note <> new.note";
        assert_eq!(cluster.sql_in("shop", differ).unwrap(), "201");
        shop.run(0, &["verify", "--pages"]);
    }
}

/// What an application does all the time, with tables that nobody drops.
const APPLICATION: &str = "\
insert into visits (customer) values (1 + (random() * 499)::int);
update customers set name = 'customer ' || id || '!' where id = 1 + (random() * 499)::int;
select count(*) from visits where customer = 7;
";

#[test]
fn a_dropped_table_is_brought_back_while_the_application_runs() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let shop = shop(Site::new(&binaries, InitOptions::default()));
    let cluster = &shop.0.cluster;
    let sql = |sql: &str| cluster.sql_in("shop", sql).unwrap();
    sql(
        "create table visits (id bigserial primary key, customer int references customers, at timestamptz default now())",
    );
    let script = shop.0.path("application.sql");
    std::fs::write(&script, APPLICATION).unwrap();
    shop.0.binaries.give(&script).unwrap();
    let mut application = cluster.client("pgbench");
    application.args(["-n", "-c", "3", "-T", "600", "-f"]).arg(shop.0.binaries.inside(&script)).arg("shop");
    let mut application = application.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let visits = || sql("select count(*) from visits").parse::<u64>().unwrap();
    until("the application to run", || visits() > 0);

    let orders = "select count(*), md5(string_agg(o::text, '|' order by id)) from orders o";
    let keys = "select conname, conrelid::regclass from pg_constraint where confrelid = 'customers'::regclass order by 1";
    let (rows, keys_before) = (sql(orders), sql(keys));
    shop.run(0, &["backup"]);
    sql("drop table orders");
    let before = visits();
    let restored = shop.json(&["restore", "--table", "public.orders", "--yes"]);
    assert_eq!(restored["restored"]["report"]["rows"], 60_000);
    assert_eq!((sql(orders), sql(keys)), (rows, keys_before));
    until("the application to go on", || visits() > before);
    // What it wrote since stays, and none of it failed.
    shop.run(0, &["restore", "--table", "public.visits=public.visits_then", "--yes"]);
    assert_eq!(
        sql("select count(*) from visits_then t left join visits v using (id) where v.id is null"),
        "0"
    );
    assert!(sql("select count(*) from visits_then").parse::<u64>().unwrap() <= before);
    assert_eq!(application.try_wait().unwrap(), None, "the application ended");
    application.kill().unwrap();
    let heard = said(&application.wait_with_output().unwrap());
    assert!(!heard.contains("ERROR") && !heard.contains("aborted"), "{heard}");
}

#[test]
fn what_a_dump_cannot_do_is_refused_and_nothing_is_touched() {
    for binaries in versions() {
        let shop = shop(Site::new(&binaries, InitOptions::default()));
        shop.run(0, &["backup"]);
        for (arguments, why) in [
            (&["backup", "--spread"][..], "--spread concerns files"),
            (&["restore", "--lsn", "0/1", "--to-database", "x", "--yes"], "a dump has no WAL"),
            (&["restore", "--xid", "7", "--to-database", "x", "--yes"], "a dump has no WAL"),
            (&["restore", "--to", "/tmp/nowhere", "--yes"], "is a dump"),
            (&["restore", "--standby", "--to-database", "x", "--yes"], "--standby concerns a folder"),
            (&["restore", "--to-database", "shop", "--yes"], "shop"),
            (
                &["restore", "--to-database", "x", "--map-role", "a=b", "--map-role", "a=c", "--yes"],
                "--map-role names role a twice",
            ),
            (
                &["restore", "--to-database", "x", "--map-role", "nobody=postgres", "--yes"],
                "the dump names no role nobody",
            ),
            (
                &["restore", "--to-database", "x", "--map-role", "postgres=nobody", "--yes"],
                "the server has no role nobody",
            ),
            (&["restore", "--to", "/tmp/nowhere", "--map-role", "a=b"], "--map-role concerns a dump"),
            (
                &["restore", "--at", "2020-01-01 00:00:00+00", "--to-database", "x", "--yes"],
                "before every recovery point",
            ),
            (&["export", "--to", "/tmp/nowhere"], "is a dump"),
            (&["wal", "status"], "no WAL leads on from it"),
            (&["wal", "receive"], "no WAL leads on from it"),
            (&["wal", "push", "/tmp/000000010000000000000001"], "no WAL leads on from it"),
        ] {
            let output = shop.0.command_with("shop.toml", arguments).output().unwrap();
            assert!(
                !output.status.success() && said(&output).contains(why),
                "{arguments:?}: {}",
                said(&output)
            );
        }
        let text = std::fs::read_to_string(shop.0.path("shop.toml")).unwrap();
        std::fs::write(shop.0.path("shop.toml"), text.clone() + "access = \"stream\"\n").unwrap();
        assert!(shop.run(3, &["backup"]).contains("access of source shop concerns files"));
        // PostgreSQL's programs are looked for where the settings say, or else where the flag does.
        std::fs::write(shop.0.path("shop.toml"), text.clone() + "[postgres]\nprograms = \"nowhere\"\n")
            .unwrap();
        let nowhere = format!("there is none in {}", shop.0.inside("nowhere"));
        assert!(
            shop.run(5, &["backup"]).contains(&format!("find pg_dump of PostgreSQL {}", binaries.major()))
        );
        let restore = ["restore", "--to-database", "x", "--dry-run"];
        assert!(shop.run(10, &restore).contains(&nowhere));
        let programs = format!("--programs=/usr/lib/postgresql/{}/bin", binaries.major());
        shop.run(0, &[&restore[..], &[&programs]].concat());
        std::fs::write(shop.0.path("shop.toml"), text).unwrap();
        // Absent is an answer that recovery believes: this is none.
        let fetched = shop
            .0
            .command_with("shop.toml", &["wal", "fetch", "000000010000000000000001", "/tmp/x"])
            .output();
        assert_eq!(fetched.unwrap().status.code(), Some(200));
        assert_eq!(shop.0.cluster.sql("select count(*) from pg_database where datname = 'x'").unwrap(), "0");
    }
}
