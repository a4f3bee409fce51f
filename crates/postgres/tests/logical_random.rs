//! Random schemas with random rows, dumped, restored and compared.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod driver;
mod harness;

use driver::{Server, dump, load};
use harness::{cx, servers};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use strongroom_postgres::logical::options::Scope;
use strongroom_postgres::quote::quoted_name;

/// Types, and an expression for a random value of each.
const TYPES: &[(&str, &str)] = &[
    ("bool", "random() < 0.5"),
    ("smallint", "(random() * 65535 - 32768)::int::smallint"),
    ("int", "(random() * 4e9 - 2e9)::int"),
    ("bigint", "(random() * 1.8e19 - 9e18)::numeric::bigint"),
    ("numeric", "(random() * 10 ^ (random() * 40)::int)::numeric / (1 + (random() * 1000)::int)"),
    ("numeric(20,5)", "(random() * 1e12)::numeric(20,5)"),
    ("real", "(random() * 10 ^ (random() * 70 - 35))::real"),
    ("double precision", "random() * 10 ^ (random() * 600 - 300)"),
    (
        "text",
        "(select string_agg(chr(1 + (random() * 12000)::int), '') from generate_series(1, (random() * 30)::int + n * 0))",
    ),
    (
        "varchar(40)",
        "(select string_agg(chr(1 + (random() * 130)::int), '') from generate_series(1, (random() * 30)::int + n * 0))",
    ),
    ("char(7)", "md5(random()::text)::char(7)"),
    ("bytea", "decode(repeat(md5(random()::text), (random() * 200)::int), 'hex')"),
    ("timestamp", "'0001-01-01'::timestamp + random() * interval '9000 years'"),
    ("timestamptz", "'1900-01-01'::timestamptz + random() * interval '300 years'"),
    ("date", "'4000-01-01 BC'::date + (random() * 3000000)::int"),
    ("time", "'00:00'::time + random() * interval '1 day'"),
    ("interval", "(random() - 0.5) * interval '300 years 5 months 3 days 4 hours'"),
    ("uuid", "md5(random()::text)::uuid"),
    ("jsonb", "jsonb_build_object(random()::text, array[random()::text, E'\"\\\\\\t'])"),
    (
        "inet",
        "('10.' || (random() * 255)::int || '.0.' || (random() * 255)::int || '/' || (random() * 32)::int)::inet",
    ),
    ("bit varying(64)", "((random() * 1e9)::int)::bit(32)::varbit"),
    ("point", "point(random() * 1e9, -random())"),
    ("numrange", "numrange((random() * 10)::numeric, (10 + random() * 10)::numeric, '[)')"),
    (
        "text[]",
        "array[md5(random()::text), null, '', 'NULL', E'a\\\\\"{},', chr(1 + (random() * 12000)::int)]",
    ),
    ("double precision[]", "array[random(), 'nan', '-infinity', null]"),
    ("tsvector", "to_tsvector('simple', md5(random()::text) || ' it''s')"),
    ("xid8", "((random() * 1e9)::int::text)::xid8"),
];

/// A table: its name, columns (name and type), rows, and which columns are dropped again.
type Table = (String, Vec<(String, usize, bool)>, u32);

fn tables() -> impl Strategy<Value = Vec<Table>> {
    let name = "[a-zA-Z0-9_ \"'%.,/\\\\$\n\tüß€表-]{1,16}";
    let column = (name, 0..TYPES.len(), prop::bool::weighted(0.2));
    let table = (name, prop::collection::vec(column, 0..9), prop_oneof![Just(0u32), 1..300u32]);
    prop::collection::vec(table, 1..6)
}

fn statements(tables: &[Table]) -> String {
    let mut sql = String::new();
    for (at, (name, columns, rows)) in tables.iter().enumerate() {
        let name = quoted_name(&format!("{at}{name}"));
        let named = |at: usize, name: &str| quoted_name(&format!("{at}{name}"));
        let all = columns.iter().enumerate().map(|(at, (column, kind, _))| {
            let (kind, value) = TYPES[*kind];
            format!("case when random() < 0.1 then null else {value} end::{kind} as {}", named(at, column))
        });
        let all: Vec<String> = all.collect();
        sql.push_str(&format!(
            "create table {name} as select {} from generate_series(1, {rows}) n;\n",
            all.join(", ")
        ));
        for (at, (column, _, is_dropped)) in columns.iter().enumerate() {
            if *is_dropped {
                sql.push_str(&format!("alter table {name} drop column {};\n", named(at, column)));
            }
        }
    }
    sql
}

#[tokio::test(flavor = "multi_thread")]
async fn random_schemas_and_rows_come_back() {
    let mut runner = TestRunner::deterministic();
    for binaries in servers() {
        let server = Server::start(&binaries, "");
        for case in 0..6 {
            let tables = tables().new_tree(&mut runner).unwrap().current();
            let (name, again) = (format!("random{case}"), format!("again{case}"));
            server.sql("postgres", &format!("create database {name}"));
            let sql = statements(&tables);
            server.sql(&name, &sql);
            let held = dump(&cx(), &server.logical(&name)).await.unwrap();
            let target = server.target(server.options(Scope::NewDatabase(Some(again.clone()))));
            let loaded = load(&cx(), &target, &held).await.unwrap_or_else(|error| panic!("{error:?}\n{sql}"));
            let rows: u64 = tables.iter().map(|(_, _, rows)| u64::from(*rows)).sum();
            assert_eq!(loaded.report["rows"], rows, "{sql}");
            let (before, after) = (server.text(&name), server.text(&again));
            // Where a row lies in its table is the server's business.
            let sorted = |text: &str| -> Vec<String> {
                let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
                lines.sort();
                lines
            };
            let (before, after) = (sorted(&before), sorted(&after));
            let different = before.iter().zip(&after).find(|(before, after)| before != after);
            assert!(before == after, "{different:?}\n{sql}");
        }
    }
}
