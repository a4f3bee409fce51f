//! Dumps of real servers, restored and compared: by what `pg_dump` writes of both, and by facts.
//!
//! Runs on every version installed on this host, and on those in the chroots that `STRONGROOM_TEST_CHROOTS` names
//! (`dir:dir`; takes root).

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod driver;
mod harness;

use std::collections::BTreeMap;

use driver::{Held, Server, dump, dump_with, load, load_with};
use harness::{cx, servers};
use strongroom_engine::{DumpEngine, DumpTarget, EngineError};
use strongroom_postgres::connect;
use strongroom_postgres::logical::dump::Logical;
use strongroom_postgres::logical::facts::LogicalFacts;
use strongroom_postgres::logical::load::Load;
use strongroom_postgres::logical::options::{LoadOptions, Scope, Wanted, Without};
use strongroom_postgres::logical::program::Programs;
use strongroom_postgres::logical::roles::RoleMap;

const EVERYTHING: &str = include_str!("driver/everything.sql");

/// A server with a database that has everything.
fn everything(binaries: &strongroom_postgres::cluster::Binaries) -> Server {
    let server = Server::start(binaries, "");
    server.sql("postgres", "create database everything");
    server.sql("everything", EVERYTHING);
    server
}

/// A server of the newest version on this host with a small database.
fn small() -> Option<Server> {
    let server = Server::start(servers().first()?, "");
    server.sql("postgres", "create database shop");
    server.sql(
        "shop",
        "create table customers (id serial primary key, name text); create table orders (id bigint generated always as \
         identity primary key, customer int references customers, note text, at timestamptz default now()); \
         create index on orders (customer); insert into customers (name) select 'c' || n from generate_series(1, 50) n; \
         insert into orders (customer, note) select 1 + n % 50, 'o' || n from generate_series(1, 5000) n; \
         create view busy as select customer, count(*) as n from orders group by 1; \
         create function stamp() returns trigger language plpgsql as 'begin new.note := ''stamped''; return new; end'; \
         create extension hstore; create trigger stamp before update on orders for each row execute function stamp(); comment on table orders is 'o'",
    );
    Some(server)
}

fn new(name: &str) -> Scope {
    Scope::NewDatabase(Some(name.to_owned()))
}

fn wanted(name: &str, into: Option<(&str, &str)>) -> Wanted {
    let into = into.map(|(schema, name)| (schema.to_owned(), name.to_owned()));
    Wanted { schema: "public".to_owned(), name: name.to_owned(), into }
}

fn text_of(error: &EngineError) -> String {
    format!("{error} / {}", error.hint().unwrap_or_default())
}

/// Two texts of the same lines; in which order rows lie in a table is the server's business.
fn assert_same(before: &str, after: &str) {
    // How many more times a line is there before than after.
    let mut lines: BTreeMap<&str, i64> = BTreeMap::new();
    before.lines().for_each(|line| *lines.entry(line).or_default() += 1);
    after.lines().for_each(|line| *lines.entry(line).or_default() -= 1);
    lines.retain(|_, times| *times != 0);
    assert!(lines.is_empty(), "{lines:#?}");
}

/// Facts that another dump of an equal database has as well.
fn content(facts: &LogicalFacts) -> String {
    let tables = facts.tables.iter().filter(|table| table.through.is_none());
    let mut all: Vec<String> =
        tables.map(|table| format!("{table} {} {} {:?}", table.rows, table.sum, table.latest)).collect();
    all.extend(
        facts.sequences.iter().map(|one| format!("{} {} {}", one.name, one.last_value, one.is_called)),
    );
    all.push(format!("{:?}", facts.large_objects));
    let database = &facts.database;
    all.push(format!("{:?} {:?} {:?}", database.comment, database.settings, facts.role_settings));
    all.push(format!("{} {:?}", database.owner, database.grants));
    all.extend(facts.schema.iter().map(|(kind, fact)| format!("{kind} {} {}", fact.count, fact.names)));
    all.sort();
    all.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back() {
    for binaries in servers() {
        let server = everything(&binaries);
        let held = dump(&cx(), &server.logical("everything")).await.unwrap();
        let facts = held.facts();
        assert_eq!(facts.warnings, Vec::<String>::new());
        assert!(facts.left_out.iter().any(|left| left.what == "rows of app.distant"), "{:?}", facts.left_out);
        let many = facts.tables.iter().find(|table| table.name == "many").unwrap();
        assert_eq!((many.rows, many.latest["at"].as_str()), (20_000, "2026-01-01 05:33:20"));
        let target = server.target(server.options(new("again")));
        let loaded = load(&cx(), &target, &held).await.unwrap();
        assert!(loaded.lines.iter().any(|line| line.contains("equal to the dump's")), "{:?}", loaded.lines);
        assert_same(&server.text("everything"), &server.text("again"));
        let again = dump(&cx(), &server.logical("again")).await.unwrap();
        assert_same(&content(&facts), &content(&again.facts()));
        // What `pg_dump` would dump rows or values of, and nothing else.
        let text = server.text("everything");
        let count = |kind: &str| {
            text.lines().filter(|line| line.contains(&format!("; Type: {kind}; Schema"))).count()
        };
        let through = facts.tables.iter().filter(|table| table.through.is_some()).count();
        assert_eq!((through, count("TABLE DATA") + through), (3, facts.tables.len()));
        assert_eq!(count("SEQUENCE SET"), facts.sequences.len());
        // The same rows are in the same parts, byte for byte, so that the next dump costs nothing.
        let once_more = dump(&cx(), &server.logical("everything")).await.unwrap();
        assert_eq!(once_more.parts.keys().collect::<Vec<_>>(), held.parts.keys().collect::<Vec<_>>());
        for (name, bytes) in held.parts.iter().filter(|(name, _)| *name != "schema.dump") {
            assert!(once_more.parts[name] == *bytes, "{name}");
        }
        assert!(String::from_utf8_lossy(&held.parts["globals.sql"]).contains("CREATE ROLE keeper"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_servers_dump_is_restored_at_a_newer_one_and_not_the_other_way() {
    let all = servers();
    let (Some(oldest), Some(newest)) =
        (all.iter().min_by_key(|one| one.major()), all.iter().max_by_key(|one| one.major()))
    else {
        return;
    };
    if oldest.major() == newest.major() {
        println!("not tested: there is one version only");
        return;
    }
    let (old, new_server) = (everything(oldest), Server::start(newest, ""));
    let held = dump(&cx(), &old.logical("everything")).await.unwrap();
    let target = new_server.target(new_server.options(new("upgraded")));
    let refused = text_of(&load(&cx(), &target, &held).await.unwrap_err());
    assert!(refused.contains("no roles") && refused.contains("keeper"), "{refused}");
    let roles: String = String::from_utf8_lossy(&held.parts["globals.sql"]).into_owned();
    let roles: Vec<&str> = roles.lines().filter(|line| line.starts_with("CREATE ROLE")).collect();
    let roles: Vec<&str> = roles.into_iter().filter(|line| !line.contains("postgres")).collect();
    new_server.sql("postgres", &roles.join("\n"));
    let loaded = load(&cx(), &target, &held).await.unwrap();
    assert!(loaded.lines.iter().any(|line| line.contains("equal to the dump's")), "{:?}", loaded.lines);
    let there = dump(&cx(), &new_server.logical("upgraded")).await.unwrap();
    let rows = |held: &Held| -> Vec<String> {
        let facts = held.facts();
        let mut rows: Vec<String> = facts
            .tables
            .iter()
            .filter(|table| table.through.is_none())
            .map(|table| format!("{table} {} {}", table.rows, table.sum))
            .collect();
        rows.sort();
        rows
    };
    assert_eq!(rows(&held), rows(&there));
    // Back, it is refused, before anything is made; and so is a dump with programs that are older than the server.
    let target = old.target(old.options(new("back")));
    let refused = text_of(&target.plan(&cx(), &there.dumped).await.unwrap_err());
    assert!(refused.contains("the dump is of") && refused.contains("find pg_restore"), "{refused}");
    let outdated = Logical::new(new_server.conninfo("upgraded"), old.programs.clone());
    let refused = text_of(&outdated.start(&cx()).await.err().unwrap());
    assert!(refused.contains("find pg_dump of PostgreSQL") && refused.contains("install"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_restored_is_refused_with_every_reason_and_nothing_is_made() {
    let Some(server) = small() else { return };
    server.sql("shop", "create role seller; alter table orders owner to seller");
    let held = dump(&cx(), &server.logical("shop")).await.unwrap();
    server.sql("shop", "alter table orders owner to postgres; drop role seller");
    let mut facts = held.facts();
    facts.extensions.push(strongroom_postgres::logical::facts::ExtensionFact {
        name: "no_such_thing".into(),
        version: "1".into(),
    });
    facts.database.collate = "xx_XX.UTF-8".into();
    let mut unfit = held.dumped.clone();
    unfit.facts = serde_json::to_value(&facts).unwrap();
    let mut options = server.options(new("shop"));
    options.programs = Programs { folder: Some("/nonexistent".into()) };
    let before = server.sql("postgres", "select string_agg(datname, ' ' order by 1) from pg_database");
    let refused = text_of(&server.target(options).plan(&cx(), &unfit).await.unwrap_err());
    for reason in [
        "database shop already",
        "no extension no_such_thing",
        "no role seller",
        "no locale xx_XX.UTF-8",
        "find pg_restore",
    ] {
        assert!(refused.contains(reason), "{reason}: {refused}");
    }
    assert_eq!(before, server.sql("postgres", "select string_agg(datname, ' ' order by 1) from pg_database"));
    // A shape of facts that this build does not know.
    let mut newer = held.dumped.clone();
    newer.facts["facts"] = 99.into();
    let target = server.target(server.options(new("x")));
    assert!(matches!(target.plan(&cx(), &newer).await, Err(EngineError::Damaged { .. })));
    // Not empty.
    let target = server.target(server.options(Scope::EmptyDatabase("shop".to_owned())));
    let refused = text_of(&target.plan(&cx(), &held.dumped).await.unwrap_err());
    assert!(refused.contains("database shop is not empty"), "{refused}");
    server.sql("postgres", "create database latin encoding 'LATIN1' locale 'C' template template0");
    let target = server.target(server.options(Scope::EmptyDatabase("latin".to_owned())));
    let refused = text_of(&target.plan(&cx(), &held.dumped).await.unwrap_err());
    assert!(refused.contains("encoding of the database latin is LATIN1"), "{refused}");
    // Without owners nobody is missing.
    server.sql("postgres", "create database empty");
    let mut options = server.options(Scope::EmptyDatabase("empty".to_owned()));
    (options.no_owner, options.no_privileges) = (true, true);
    load(&cx(), &server.target(options), &held).await.unwrap();
    assert_eq!(server.sql("empty", "select count(*) from orders"), "5000");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_sorts_otherwise_there_or_is_not_installed_is_said_before_the_first_row() {
    let Some(server) = small() else { return };
    server.sql(
        "postgres",
        "create database sorted template template0 locale_provider icu icu_locale 'en' encoding 'UTF8'",
    );
    server.sql("sorted", "create table t (v text); insert into t values ('a')");
    server.sql("postgres", "create database empty");
    let held = dump(&cx(), &server.logical("sorted")).await.unwrap();
    let mut facts = held.facts();
    assert!(facts.database.collation_version.is_some(), "ICU has versions");
    facts.database.collation_version = Some("1.0".into());
    let mut elsewhere = held.dumped.clone();
    elsewhere.facts = serde_json::to_value(&facts).unwrap();
    let steps = async |scope: Scope, database: &str, dumped: &strongroom_engine::Dumped| {
        let target = Load::new(server.conninfo(database), server.options(scope));
        target.plan(&cx(), dumped).await.unwrap().steps.join("\n")
    };
    let said = steps(new("again"), "postgres", &elsewhere).await;
    assert!(said.contains("and had 1.0: text may sort otherwise"), "{said}");
    let said = steps(new("again"), "postgres", &held.dumped).await;
    assert!(!said.contains("otherwise"), "{said}");
    facts.database.collate = "C".into();
    elsewhere.facts = serde_json::to_value(&facts).unwrap();
    let said = steps(Scope::EmptyDatabase("empty".to_owned()), "postgres", &elsewhere).await;
    assert!(said.contains("the database empty sorts by C.UTF-8, and the dump's by C"), "{said}");
    // Of a part nobody knows whether it needs the extension.
    let held = dump(&cx(), &server.logical("shop")).await.unwrap();
    let part = || Scope::Tables(vec![wanted("customers", Some(("public", "customers_then")))]);
    let said = steps(part(), "empty", &held.dumped).await;
    assert!(said.contains("the database empty lacks") && said.contains("extension hstore"), "{said}");
    let said = steps(part(), "shop", &held.dumped).await;
    assert!(!said.contains("lacks"), "{said}");
}

/// What `pg_dump` writes, with other roles wherever it names one.
fn called_otherwise(text: &str, roles: &[(&str, &str)]) -> String {
    let names_roles = [
        "-- Name: ",
        "-- Data for Name: ",
        "ALTER ",
        "GRANT ",
        "REVOKE ",
        "SET SESSION AUTHORIZATION ",
        "CREATE POLICY ",
        "CREATE USER MAPPING ",
    ];
    let line = |line: &str| match names_roles.iter().any(|start| line.starts_with(start)) {
        true => roles.iter().fold(line.to_owned(), |line, (dumped, here)| line.replace(dumped, here)),
        false => line.to_owned(),
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_the_target_does_not_have_are_called_otherwise() {
    let pairs = [("keeper", "owning"), ("reader", "reading"), ("Odd \"Role\"", "even")];
    for binaries in servers() {
        let server = everything(&binaries);
        let held = dump(&cx(), &server.logical("everything")).await.unwrap();
        let before = server.text("everything");
        // Here nobody knows the roles of the dump any more.
        server.sql("everything", "alter subscription sub set (slot_name = none); drop subscription sub");
        server.sql("postgres", "drop database everything");
        server.sql("postgres", "drop role keeper, reader, \"Odd \"\"Role\"\"\"");
        let mut options = server.options(new("again"));
        let roles = |pairs: &[(&str, &str)]| {
            RoleMap::new(pairs.iter().map(|(dumped, here)| ((*dumped).to_owned(), (*here).to_owned())))
                .unwrap()
        };
        options.roles = roles(&[pairs[0], pairs[1], ("stranger", "postgres")]);
        let refused = text_of(&server.target(options.clone()).plan(&cx(), &held.dumped).await.unwrap_err());
        for part in ["no role stranger", "no roles Odd \"Role\", owning, reading", "--map-role"] {
            assert!(refused.contains(part), "{part}: {refused}");
        }
        // Nobody gets anything, and a policy and a user mapping name somebody.
        let mut bare = server.options(new("bare"));
        (bare.no_owner, bare.no_privileges) = (true, true);
        let refused = text_of(&load(&cx(), &server.target(bare.clone()), &held).await.unwrap_err());
        assert!(refused.contains("does not have: reader (create"), "{refused}");
        assert_eq!(server.sql("postgres", "select count(*) from pg_database where datname ~ '^bare'"), "0");
        // A table brings its policies along, unless it gets another name.
        server.sql("postgres", "create database part");
        server.sql("part", "create schema app");
        let part = |into: Option<(String, String)>| {
            let hidden = Wanted { schema: "app".to_owned(), name: "hidden".to_owned(), into };
            Load::new(
                server.conninfo("part"),
                LoadOptions { scope: Scope::Tables(vec![hidden]), ..bare.clone() },
            )
        };
        let refused = text_of(&load(&cx(), &part(None), &held).await.unwrap_err());
        assert!(refused.contains("does not have: reader (create"), "{refused}");
        assert_eq!(server.sql("part", "select count(*) from pg_namespace where nspname ~ 'strongroom'"), "0");
        load(&cx(), &part(Some(("app".to_owned(), "found".to_owned()))), &held).await.unwrap();
        assert_eq!(server.sql("part", "select count(*) from app.found"), "2");
        server.sql("postgres", "create role owning; create role reading; create role even");
        bare.roles = roles(&[pairs[1]]);
        load(&cx(), &server.target(bare), &held).await.unwrap();
        assert_eq!(server.sql("bare", "select roles from pg_policies where policyname = 'own'"), "{reading}");
        options.roles = roles(&pairs);
        let target = server.target(options);
        let plan = target.plan(&cx(), &held.dumped).await.unwrap();
        assert!(plan.steps.contains(&"call role keeper of the dump owning".to_owned()), "{:?}", plan.steps);
        load(&cx(), &target, &held).await.unwrap();
        let quoted = [pairs[0], pairs[1], ("\"Odd \"\"Role\"\"\"", "even"), pairs[2]];
        assert_same(&called_otherwise(&before, &quoted), &server.text("again"));
        let settings = "select setrole::regrole, setconfig from pg_db_role_setting where setrole <> 0";
        assert_eq!(server.sql("again", settings), "reading|{statement_timeout=1min}");
        let grants = "select has_database_privilege('reading', 'again', 'connect'), datacl::text ~ 'reading=c/' \
                      from pg_database where datname = 'again'";
        assert_eq!(server.sql("again", grants), "t|t");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_replaced_by_renaming_and_only_when_asked() {
    let Some(server) = small() else { return };
    let held = dump(&cx(), &server.logical("shop")).await.unwrap();
    server.sql("shop", "delete from orders; insert into customers (name) values ('new')");
    let mut options = server.options(Scope::NewDatabase(None));
    options.replace = true;
    options.without = Without { indexes: false, constraints: false, triggers: true };
    let within = Load::new(server.conninfo("shop"), options.clone());
    let refused = text_of(&within.plan(&cx(), &held.dumped).await.unwrap_err());
    assert!(refused.contains("the database connected to cannot be renamed"), "{refused}");
    let loaded = load(&cx(), &server.target(options), &held).await.unwrap();
    assert!(loaded.lines.iter().any(|line| line.contains("shop__replaced_t1")), "{:?}", loaded.lines);
    assert_eq!(server.sql("shop", "select count(*) from orders"), "5000");
    assert_eq!(server.sql("shop", "select count(*) from pg_trigger where not tgisinternal"), "0");
    assert_eq!(server.sql("shop", "select count(*) from pg_indexes where tablename = 'orders'"), "2");
    assert_eq!(server.sql("shop__replaced_t1", "select count(*) from customers where name = 'new'"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_is_found_and_the_database_stays_aside() {
    let Some(server) = small() else { return };
    let held = dump(&cx(), &server.logical("shop")).await.unwrap();
    let target = server.target(server.options(new("again")));
    let change = async || {
        let sql = "update customers set name = 'x' where id = 7; delete from orders where id = 1; select nextval('customers_id_seq')";
        server.sql("again__strongroom_t1", sql);
    };
    let error = load_with(&cx(), &target, &held, change).await.unwrap_err();
    let text = text_of(&error);
    for part in [
        "public.customers: 50 rows as expected, with other content",
        "public.orders: 5000 rows expected, 4999 found",
        "left as database again__strongroom_t1",
        "DROP DATABASE \"again__strongroom_t1\"",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(server.sql("postgres", "select count(*) from pg_database where datname = 'again'"), "0");
    // One byte of a row on its way, and a part that is cut short.
    for (id, damage) in [("t2", true), ("t3", false)] {
        let mut damaged = Held { parts: held.parts.clone(), dumped: held.dumped.clone() };
        let rows = damaged.parts.get_mut("data/public.customers/0000").unwrap();
        match damage {
            true => rows[2] = b'd',
            false => rows.truncate(rows.iter().rposition(|byte| *byte == b'\t').unwrap() - 2),
        }
        let mut options = server.options(new("again"));
        id.clone_into(&mut options.id);
        let error = load(&cx(), &server.target(options), &damaged).await.unwrap_err();
        assert!(text_of(&error).contains("public.customers"), "{error}");
    }
    // A part that never came.
    let mut options = server.options(new("again"));
    "t4".clone_into(&mut options.id);
    let target = server.target(options);
    target.plan(&cx(), &held.dumped).await.unwrap();
    let text = text_of(&target.finish(&cx()).await.unwrap_err());
    assert!(text.contains("schema.dump") && text.contains("came to no end"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_come_back_one_by_one() {
    let Some(server) = small() else { return };
    server.sql(
        "shop",
        "create role viewer; grant select on orders to viewer; create role other; \
        alter default privileges grant all on tables to other",
    );
    let before = server.text("shop");
    let held = dump(&cx(), &server.logical("shop")).await.unwrap();
    let restore = async |scope: Scope, replace: bool| {
        let mut options = server.options(scope);
        options.replace = replace;
        load(&cx(), &Load::new(server.conninfo("shop"), options), &held).await
    };
    // There already, and used by others.
    let refused = restore(Scope::Tables(vec![wanted("orders", None)]), false).await.unwrap_err();
    assert!(text_of(&refused).contains("a table public.orders already"), "{refused}");
    let refused = restore(Scope::Tables(vec![wanted("orders", None)]), true).await.unwrap_err();
    assert!(text_of(&refused).contains("busy"), "{refused}");
    let refused = restore(Scope::Tables(vec![wanted("nowhere", None)]), false).await.unwrap_err();
    assert!(text_of(&refused).contains("the dump has no table public.nowhere"), "{refused}");
    // Dropped, and brought back with everything on it.
    server.sql("shop", "drop view busy; drop table orders");
    restore(Scope::Tables(vec![wanted("orders", None)]), false).await.unwrap();
    let view = "create view busy as select customer, count(*) as n from orders group by 1; revoke all on busy from other";
    server.sql("shop", view);
    assert_same(&before, &server.text("shop"));
    // Under another name, beside it.
    restore(Scope::Tables(vec![wanted("orders", Some(("public", "orders_then")))]), false).await.unwrap();
    assert_eq!(
        server.sql("shop", "select count(*) from orders_then join orders using (id, note, at)"),
        "5000"
    );
    server.sql("shop", "drop table orders_then");
    assert_same(&before, &server.text("shop"));
    // Replaced.
    server.sql("shop", "drop view busy; update orders set customer = 2");
    restore(Scope::Tables(vec![wanted("orders", None)]), true).await.unwrap();
    let count = "select count(distinct customer) from ";
    assert_eq!(server.sql("shop", &format!("{count} orders")), "50");
    assert_eq!(server.sql("shop", &format!("{count} public__replaced_t1.orders")), "1");
    server.sql("shop", "drop schema public__replaced_t1 cascade; delete from orders where id > 100");
    // Rows alone, of those that went; a key that is there twice takes everything back.
    let twice = restore(Scope::Rows(vec![wanted("orders", None)]), false).await.unwrap_err();
    assert!(text_of(&twice).contains("public__strongroom_t1"), "{twice}");
    assert_eq!(server.sql("shop", "select count(*) from orders"), "100");
    server.sql("shop", "drop schema public__strongroom_t1 cascade; delete from orders");
    restore(Scope::Rows(vec![wanted("orders", None)]), false).await.unwrap();
    assert_eq!(server.sql("shop", "select count(*), min(note) <> 'stamped' from orders"), "5000|t");
    assert_eq!(server.sql("shop", "select count(*) from pg_namespace where nspname ~ 'strongroom'"), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_comes_back() {
    for binaries in servers() {
        let server = everything(&binaries);
        let held = dump(&cx(), &server.logical("everything")).await.unwrap();
        let name = "Odd Schema.with \"quotes\"";
        let before = server.text("everything");
        server.sql("everything", "drop schema \"Odd Schema.with \"\"quotes\"\"\" cascade");
        let scope = Scope::Schema(name.to_owned());
        let target = Load::new(server.conninfo("everything"), server.options(scope.clone()));
        load(&cx(), &target, &held).await.unwrap();
        assert_same(&before, &server.text("everything"));
        let mut options = server.options(scope);
        options.replace = true;
        let target = Load::new(server.conninfo("everything"), options);
        load(&cx(), &target, &held).await.unwrap();
        let replaced =
            "select count(*) from pg_namespace where nspname = 'Odd Schema.with \"quotes\"__replaced_t1'";
        assert_eq!(server.sql("everything", replaced), "1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partitioned_table_comes_with_its_partitions() {
    for binaries in servers() {
        let server = everything(&binaries);
        server.sql("everything", "drop publication pub_all; drop publication pub");
        let held = dump(&cx(), &server.logical("everything")).await.unwrap();
        let before = server.text("everything");
        server.sql("everything", "drop table app.measures, app.moods");
        let wanted = |name: &str| Wanted { schema: "app".into(), name: name.into(), into: None };
        let scope = Scope::Tables(vec![wanted("measures"), wanted("moods")]);
        let target = Load::new(server.conninfo("everything"), server.options(scope));
        let loaded = load(&cx(), &target, &held).await.unwrap();
        assert_eq!(loaded.report["rows"], 701);
        assert_same(&before, &server.text("everything"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_role_dumps_what_it_may_read_and_is_told_what_it_may_not() {
    let Some(server) = small() else { return };
    server.sql(
        "shop",
        "create role dumper login; create role seller; grant select on all tables in schema public to dumper; \
         grant select on all sequences in schema public to dumper; create table secrets (a int); create schema closed; \
         create table closed.t (a int); create sequence hidden; select lo_create(5); create table policed (owner text); \
         alter table policed enable row level security; grant select on policed to dumper",
    );
    let engine = Logical::new(server.conninfo_as("shop", "dumper"), server.programs.clone());
    let refused = text_of(&engine.inspect(&cx()).await.unwrap_err());
    for part in [
        "may not read",
        "public.secrets",
        "closed.t",
        "sequence public.hidden",
        "1 large objects (5)",
        "policed, by row security",
    ] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    assert!(refused.contains("GRANT SELECT") && refused.contains("dumper"), "{refused}");
    server.sql(
        "shop",
        "grant usage on schema closed to dumper; grant select on secrets, closed.t to dumper; grant select on sequence hidden to dumper; \
         grant select on large object 5 to dumper; alter table policed disable row level security",
    );
    let inspected = engine.inspect(&cx()).await.unwrap();
    assert!(inspected.product.starts_with("PostgreSQL ") && inspected.what.contains("database shop"));
    let held = dump(&cx(), &engine).await.unwrap();
    let target = server.target(server.options(new("again")));
    load(&cx(), &target, &held).await.unwrap();
    assert_same(&server.text("shop"), &server.text("again"));
    // Restored by one that may make databases and nothing else.
    server.sql("postgres", "create role builder login createdb");
    let mut options = server.options(new("built"));
    (options.no_owner, options.no_privileges) = (true, true);
    load(&cx(), &Load::new(server.conninfo_as("postgres", "builder"), options), &held).await.unwrap();
    let owner = "select pg_get_userbyid(datdba) from pg_database where datname = 'built'";
    assert_eq!(server.sql("built", &format!("{owner}; select count(*) from orders")), "builder\n5000");
    let dumper = Load::new(server.conninfo_as("postgres", "dumper"), server.options(new("other")));
    let refused = text_of(&dumper.plan(&cx(), &held.dumped).await.unwrap_err());
    assert!(refused.contains("the role dumper may not create databases"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_extensions_tables_only_its_users_rows_are_dumped() {
    let Some(server) = small() else { return };
    server.sql(
        "shop",
        "create table settings (name text, custom bool); create table own (a int); \
         insert into settings values ('built in', false), ('ours', true); insert into own values (1); \
         alter extension hstore add table settings; alter extension hstore add table own; \
         update pg_extension set extconfig = array['settings'::regclass::oid], extcondition = array['WHERE custom'] \
         where extname = 'hstore'",
    );
    let held = dump(&cx(), &server.logical("shop")).await.unwrap();
    assert_eq!(held.parts["data/public.settings/0000"], b"ours\tt\n");
    assert!(!held.parts.contains_key("data/public.own/0000"));
    assert_eq!(held.facts().extensions[0].name, "hstore");
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_during_a_dump_are_not_in_it() {
    let Some(server) = small() else { return };
    let (cx, engine) = (cx(), server.logical("shop"));
    let held = dump_with(&cx, &engine, async |done| {
        let sql = "insert into orders (customer, note) values (1, 'late'); delete from orders where id = 2; \
                   create table if not exists late (a int); vacuum orders";
        server.sql("shop", sql);
        assert!(done < 10);
    });
    let held = held.await.unwrap();
    let target = server.target(server.options(new("again")));
    load(&cx, &target, &held).await.unwrap();
    let count =
        "select count(*), count(*) filter (where note = 'late'), to_regclass('late') is null from orders";
    assert_eq!(server.sql("again", count), "5000|0|t");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_changes_at_the_moment_of_the_snapshot_ends_the_dump() {
    let Some(server) = small() else { return };
    for change in [
        "truncate orders",
        "alter table orders rename to gone; create table orders (like gone)",
        "alter table orders alter note type varchar(4) using 'x'",
        "drop table orders",
    ] {
        let other = connect::connect(&server.conninfo("shop")).await.unwrap();
        other.run("test", &format!("begin; set search_path = public; {change}")).await.unwrap();
        let engine = server.logical("shop");
        let starting = tokio::spawn(async move { engine.start(&cx()).await.map(|_| ()) });
        wait_for(&server, "select count(*) > 0 from pg_locks where not granted").await;
        other.run("test", "commit").await.unwrap();
        let error = starting.await.unwrap().unwrap_err();
        assert!(matches!(error, EngineError::Overtaken { .. }), "{error:?}");
        assert!(error.to_string().contains("orders"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_others_wait_for_is_named_and_not_waited_for() {
    let Some(server) = small() else { return };
    let session = server.logical("shop").start(&cx()).await.unwrap();
    let other = connect::connect(&server.conninfo("shop")).await.unwrap();
    let waiting =
        tokio::spawn(async move { other.run("test", "alter table public.orders add column late int").await });
    wait_for(&server, "select count(*) > 0 from pg_locks where not granted").await;
    let orders = session.parts().iter().position(|part| part.path.is("data/public.orders/0000")).unwrap();
    let error = session.open(&cx(), orders).await.err().unwrap();
    assert!(matches!(error, EngineError::Overtaken { .. }), "{error:?}");
    assert!(error.to_string().contains("another session waits to change it"), "{error}");
    drop(session);
    waiting.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_session_ends_the_dump() {
    let Some(server) = small() else { return };
    let kill = "select pg_terminate_backend(pid) from pg_stat_activity where state like 'idle in%' and application_name = 'strongroom' \
                order by backend_start limit 1";
    let (cx, engine) = (cx(), server.logical("shop"));
    let lost = dump_with(&cx, &engine, async |done| {
        if done >= 2 {
            server.sql("postgres", kill);
        }
    });
    let error = lost.await.err().unwrap();
    assert!(matches!(error, EngineError::Overtaken { .. }), "{error:?}");
    // The whole server.
    let mut server = server;
    let session = engine.start(&cx).await.unwrap();
    let mut reader = session.open(&cx, 1).await.unwrap();
    server.cluster.kill().unwrap();
    while let Ok(Some(_)) = reader.next(&cx).await {}
    assert!(session.open(&cx, 2).await.is_err() && session.stop(&cx).await.is_err());
    server.cluster.start_at(server.cluster.port()).unwrap();
    // A dump whose parts were not all read is none.
    let session = engine.start(&cx).await.unwrap();
    let error = session.stop(&cx).await.unwrap_err();
    assert!(error.to_string().contains("data/public.orders/0000"), "{error}");
    // Stopped by the user.
    let session = engine.start(&cx).await.unwrap();
    let mut reader = session.open(&cx, 0).await.unwrap();
    cx.cancel();
    assert!(matches!(reader.next(&cx).await, Err(EngineError::Cancelled(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_dumped_like_its_primary() {
    for binaries in servers() {
        let server = everything(&binaries);
        let standby = server.standby();
        let held = dump(&cx(), &standby.logical("everything")).await.unwrap();
        let facts = held.facts();
        assert!(facts.standby && facts.left_out.iter().any(|left| left.what == "rows of app.fleeting"));
        let primary = dump(&cx(), &server.logical("everything")).await.unwrap().facts();
        let sums = |facts: &LogicalFacts| -> Vec<String> {
            let tables = facts.tables.iter().filter(|table| table.name != "fleeting");
            tables.map(|table| format!("{table} {} {}", table.rows, table.sum)).collect()
        };
        assert_eq!(sums(&facts), sums(&primary));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_stopped_says_what_it_leaves() {
    let Some(server) = small() else { return };
    let held = dump(&cx(), &server.logical("shop")).await.unwrap();
    let target = server.target(server.options(new("again")));
    let stopped = cx();
    let error = load_with(&stopped, &target, &held, async || stopped.cancel()).await.unwrap_err();
    assert!(matches!(error, EngineError::Cancelled(_)), "{error:?}");
    let databases =
        "select string_agg(datname, ' ' order by datname) from pg_database where datname ~ 'again'";
    assert_eq!(server.sql("postgres", databases), "again__strongroom_t1");
    // Killed, it cannot say anything, and is named all the same.
    let mut options = server.options(new("again"));
    "t2".clone_into(&mut options.id);
    let error =
        load_with(&cx(), &server.target(options), &held, async || server.cluster.kill().unwrap()).await;
    let error = error.unwrap_err();
    assert!(matches!(error, EngineError::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains("left as database again__strongroom_t2"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_encoding_comes_back() {
    let Some(binaries) = servers().into_iter().next() else { return };
    let server = Server::start(&binaries, "");
    for (encoding, rows) in [
        ("LATIN1", "select chr(n) from generate_series(160, 255) n"),
        ("LATIN2", "select chr(n) from generate_series(160, 255) n"),
        ("WIN1252", "select 'Größe €'"),
        ("KOI8R", "select 'Привет'"),
        ("EUC_JP", "select 'あいうえお表'"),
        ("EUC_KR", "select '안녕'"),
        ("EUC_CN", "select '中文'"),
        ("EUC_TW", "select '中文'"),
        ("EUC_JIS_2004", "select 'あいうえお表'"),
        ("SQL_ASCII", "select convert_from('\\xff80e4'::bytea, 'SQL_ASCII')"),
    ] {
        let (name, again) = (encoding.to_lowercase(), format!("{}_again", encoding.to_lowercase()));
        let create = format!("create database {name} encoding '{encoding}' locale 'C' template template0");
        server.sql("postgres", &create);
        let ascii = encoding == "SQL_ASCII";
        let client = if ascii { "SQL_ASCII" } else { "UTF8" };
        let column = if encoding.starts_with("LATIN") || encoding == "WIN1252" { "größe" } else { "v" };
        let fill = format!(
            "set client_encoding = '{client}'; create table t (\"{column}\" text); insert into t {rows}"
        );
        server.sql(&name, &fill);
        let held = dump(&cx(), &server.logical(&name)).await.unwrap();
        load(&cx(), &server.target(server.options(new(&again))), &held).await.unwrap();
        let sum = format!(
            "set client_encoding = '{client}'; select md5(string_agg(\"{column}\", ',' order by 1)) from t"
        );
        let sum = sum.replace("order by 1", &format!("order by \"{column}\""));
        assert_eq!(server.sql(&name, &sum), server.sql(&again, &sum), "{encoding}");
        let encoding_of = "select getdatabaseencoding()";
        assert_eq!(server.sql(&again, encoding_of), encoding);
        if !ascii {
            server.sql(
                &again,
                &format!(
                    "set client_encoding = 'UTF8'; alter table t rename \"{column}\" to gone; drop table t"
                ),
            );
            let target =
                Load::new(server.conninfo(&again), server.options(Scope::Tables(vec![wanted("t", None)])));
            load(&cx(), &target, &held).await.unwrap();
            assert_eq!(server.sql(&name, &sum), server.sql(&again, &sum), "{encoding}");
        }
    }
}

/// All bytes of an encoding that stand for something, one character a row.
const ALL_BYTES: &str = "do $$ begin for n in 128..255 loop begin \
    insert into t values (convert_from(decode(to_hex(n), 'hex'), getdatabaseencoding())); \
    exception when others then null; end; end loop; end $$";

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_of_every_encoding_of_one_byte_comes_back() {
    let Some(binaries) = servers().into_iter().next() else { return };
    let server = Server::start(&binaries, "");
    let isos = (5..=8).map(|number| format!("ISO_8859_{number}"));
    let latins = (1..=10).map(|number| format!("LATIN{number}"));
    let windows = (1250..=1258).map(|number| format!("WIN{number}"));
    let others = ["WIN866", "WIN874", "KOI8R", "KOI8U"].map(str::to_owned);
    for encoding in isos.chain(latins).chain(windows).chain(others) {
        let (name, again) = (encoding.to_lowercase(), format!("{}_again", encoding.to_lowercase()));
        let create = format!("create database {name} encoding '{encoding}' locale 'C' template template0");
        server.sql("postgres", &create);
        server.sql(&name, &format!("create table t (v text); {ALL_BYTES}"));
        let held = dump(&cx(), &server.logical(&name)).await.unwrap();
        load(&cx(), &server.target(server.options(new(&again))), &held).await.unwrap();
        // As bytes: what is asked for in UTF-8 may be wrong on both sides.
        let bytes = "select count(*) || ' ' || md5(string_agg(convert_to(v, getdatabaseencoding()), '' order by v)) from t";
        let (before, after) = (server.sql(&name, bytes), server.sql(&again, bytes));
        let count: u32 = before.split(' ').next().unwrap().parse().unwrap();
        assert!(before == after && count > 70, "{encoding}: {before}, {after}");
    }
}

/// Waits until this is true, on the server.
async fn wait_for(server: &Server, question: &str) {
    for _ in 0..600 {
        if server.sql("postgres", question) == "t" {
            return;
        }
        server.sql("postgres", "select pg_sleep(0.05)");
    }
    panic!("never: {question}");
}
