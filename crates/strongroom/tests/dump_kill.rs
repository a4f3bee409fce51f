//! Dumps and their restores, with the server, the store or the process itself killed midway: nothing half done counts, what is
//! left is named, and the next run works.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

mod chaos {
    pub mod way;
}

use std::process::{Child, Output, Stdio};

use chaos::way::Way;
use live::cloud::envs;
use live::{Site, said, until, versions};
use serde_json::Value;
use strongroom_postgres::cluster::InitOptions;
use strongroom_store::conformance::moto::MotoServer;

const SETTINGS: &str = "shop.toml";

const SCHEMA: &str = "\
create table customers (id int primary key, name text);
insert into customers select n, 'customer ' || n from generate_series(1, 5000) n";

/// What does not compress well: several packs of it.
const NOISE: &str = "create table noise as select n, gen_random_uuid()::text || gen_random_uuid()::text as v \
                     from generate_series(1, 2000000) n";

/// Less than what is still to come when something is killed, so that it is always midway.
const SLOWLY: &str = "--rate-limit=16MiB/s";

/// A database whose dumps are kept in a bucket that can be taken away.
struct Shop {
    site: Site,
    way: Way,
}

impl Shop {
    fn new() -> Option<Shop> {
        let (binaries, server) = (versions().into_iter().next()?, MotoServer::start()?);
        server.make_bucket("vaults");
        let way = Way::to(server);
        let site = Site::new(&binaries, InitOptions::default());
        site.cluster.sql("create database shop").unwrap();
        site.cluster.sql_in("shop", SCHEMA).unwrap();
        let settings = format!(
            "[vault]\nurl = \"s3://vaults/shop\"\nendpoint = \"{}\"\npath_style = true\nallow_http = true\nidentity_file = \"{}\"\n\
             [source.shop]\nkind = \"postgres-logical\"\nconnection = \"host={} port={} user=postgres dbname=shop\"\n",
            way.endpoint(),
            site.inside("shop.txt"),
            site.cluster.socket_folder().display(),
            site.cluster.port(),
        );
        std::fs::write(site.path(SETTINGS), settings).unwrap();
        site.binaries.give(&site.path(SETTINGS)).unwrap();
        let shop = Shop { site, way };
        shop.ok(&["init", "--generate-identity", &shop.site.inside("shop.txt")]);
        Some(shop)
    }

    fn sql(&self, database: &str, sql: &str) -> String {
        self.site.cluster.sql_in(database, sql).unwrap()
    }

    fn begin(&self, arguments: &[&str]) -> Child {
        let mut command = self.site.command_with(SETTINGS, arguments);
        command.envs(envs()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.begin(arguments).wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.ok(&[arguments, &["--output", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// Points that count.
    fn committed(&self) -> Vec<Value> {
        let listed = self.json(&["list"]);
        let points = listed[0]["points"].as_array().unwrap();
        points
            .iter()
            .filter(|point| point["state"] == "committed")
            .map(|point| point["point"].clone())
            .collect()
    }

    /// Waits until so many bytes of a table have been copied, and it is still at it.
    fn midway(&self, child: &mut Child, command: &str, bytes: u64) {
        let copied = format!(
            "select coalesce(max(bytes_processed), 0) >= {bytes} from pg_stat_progress_copy where command = 'COPY {command}'"
        );
        until("a copy to be midway", || {
            assert_eq!(child.try_wait().unwrap(), None, "it ended before it could be killed");
            self.sql("postgres", &copied) == "t"
        });
    }

    /// Waits until nobody works in this database any more.
    fn deserted(&self, database: &str) {
        let sessions = format!(
            "select count(*) from pg_stat_activity where datname ~ '^{database}' and application_name ~ 'strongroom|pg_restore'"
        );
        until("the sessions to end", || self.sql("postgres", &sessions) == "0");
    }

    fn databases(&self) -> Vec<String> {
        let names =
            self.sql("postgres", "select datname from pg_database where datname ~ '^live' order by 1");
        names.lines().map(str::to_owned).collect()
    }
}

fn ended(child: Child, code: Option<i32>) -> Output {
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), code, "{}", said(&output));
    output
}

#[test]
fn whatever_is_killed_midway_leaves_no_point_and_the_next_dump_works() {
    let Some(mut shop) = Shop::new() else { return };
    let first = shop.json(&["backup"]);
    shop.sql("shop", NOISE);
    let dump = ["backup", "--workers", "1", SLOWLY];
    let only_first = |shop: &Shop| assert_eq!(shop.committed(), [first["point"].clone()]);

    let mut dumper = shop.begin(&dump);
    shop.midway(&mut dumper, "TO", 80 << 20);
    dumper.kill().unwrap();
    ended(dumper, None);
    shop.deserted("shop");
    only_first(&shop);

    let mut dumper = shop.begin(&dump);
    shop.midway(&mut dumper, "TO", 80 << 20);
    shop.site.cluster.kill().unwrap();
    let failed = said(&ended(dumper, Some(5)));
    assert!(failed.contains("public.noise") || failed.contains("the snapshot was lost"), "{failed}");
    let port = shop.site.cluster.port();
    shop.site.cluster.start_at(port).unwrap();
    only_first(&shop);

    let mut dumper = shop.begin(&dump);
    shop.midway(&mut dumper, "TO", 80 << 20);
    shop.way.close();
    let failed = said(&ended(dumper, Some(6)));
    assert!(failed.contains("s3://vaults/shop"), "{failed}");
    shop.way.open();
    shop.deserted("shop");
    only_first(&shop);

    // A connection that breaks is no reason to give up.
    let mut dumper = shop.begin(&[&dump[..], &["--output", "json"]].concat());
    shop.midway(&mut dumper, "TO", 80 << 20);
    shop.way.cut();
    let whole: Value = serde_json::from_slice(&ended(dumper, Some(0)).stdout).unwrap();
    assert_eq!(whole["parent"], first["point"]);
    let again = shop.json(&["backup"]);
    assert_eq!(again["parent"], whole["point"]);
    let stored = |point: &Value| point["stored"].as_u64().unwrap();
    assert!(stored(&again) * 20 < stored(&whole), "{} after {}", stored(&again), stored(&whole));
    shop.ok(&["verify", "--data"]);
    shop.ok(&["sweep", "--stale-after", "0s"]);
    shop.ok(&["restore", "--to-database", "again", "--yes"]);
    let sum = "select count(*), sum(hashtext(v)) from noise";
    assert_eq!(shop.sql("again", sum), shop.sql("shop", sum));
}

#[test]
fn a_restore_that_is_killed_midway_replaces_nothing_and_is_named_by_the_next() {
    let Some(mut shop) = Shop::new() else { return };
    shop.sql("shop", NOISE);
    shop.ok(&["backup"]);
    shop.sql("postgres", "create database live");
    shop.sql("live", "create table mine as select 1 as a");
    let whole = ["restore", "--to-database", "live", "--replace", "--yes"];
    let slow = [&whole[..], &[SLOWLY]].concat();

    let mut restore = shop.begin(&slow);
    shop.midway(&mut restore, "FROM", 8 << 20);
    restore.kill().unwrap();
    ended(restore, None);
    shop.deserted("live");
    let left = shop.databases();
    assert_eq!((left.len(), shop.sql("live", "select a from mine").as_str()), (2, "1"), "{left:?}");
    let named = format!("database {} is left of a restore that did not end", left[1]);
    let plan = shop.ok(&[&whole[..], &["--dry-run"]].concat());
    assert!(plan.contains(&named) && plan.contains(&format!("DROP DATABASE \"{}\"", left[1])), "{plan}");

    let mut restore = shop.begin(&slow);
    shop.midway(&mut restore, "FROM", 8 << 20);
    shop.site.cluster.kill().unwrap();
    let failed = said(&ended(restore, Some(10)));
    assert!(failed.contains("what was restored so far is left as database live__strongroom_"), "{failed}");
    let port = shop.site.cluster.port();
    shop.site.cluster.start_at(port).unwrap();
    assert_eq!(shop.sql("live", "select a from mine"), "1");

    // One table, into a database that is in use.
    let part = ["restore", "--table", "public.noise=public.noise_then", "--yes"];
    let mut restore = shop.begin(&[&part[..], &[SLOWLY]].concat());
    shop.midway(&mut restore, "FROM", 8 << 20);
    restore.kill().unwrap();
    ended(restore, None);
    shop.deserted("shop");
    assert_eq!(shop.sql("shop", "select to_regclass('noise_then') is null"), "t");
    let restored = shop.ok(&part);
    assert!(restored.contains("equal to the dump's"), "{restored}");
    let plan = shop.ok(&["restore", "--table", "public.noise=public.noise_more", "--dry-run"]);
    assert!(plan.contains("schema public__strongroom_") && plan.contains("CASCADE;"), "{plan}");

    // What is left does not stand in the way, and nothing of it was dropped.
    shop.ok(&whole);
    let sum = "select count(*), sum(hashtext(v)) from noise";
    assert_eq!(shop.sql("live", sum), shop.sql("shop", sum));
    let left = shop.databases();
    assert_eq!(left.iter().filter(|name| name.contains("__strongroom_")).count(), 2, "{left:?}");
    let replaced = left.iter().find(|name| name.contains("__replaced_")).unwrap();
    assert_eq!(shop.sql(replaced, "select a from mine"), "1");
}
