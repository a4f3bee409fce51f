//! Dumps of real servers, restored and compared: by what `pg_dump` writes of both, and by facts.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod driver;
mod harness;

use driver::{Server, dump, load};
use harness::{cx, servers};
use strongroom_postgres::logical::options::Scope;

const EVERYTHING: &str = include_str!("driver/everything.sql");

fn everything(server: &Server) {
    server.sql("postgres", "create database everything");
    server.sql("everything", EVERYTHING);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back() {
    for binaries in servers() {
        let server = Server::start(&binaries, "");
        everything(&server);
        let held = dump(&cx(), &server.logical("everything")).await.unwrap();
        assert_eq!(held.facts().warnings, Vec::<String>::new());
        let target = server.target(server.options(Scope::NewDatabase(Some("again".to_owned()))));
        let loaded = load(&cx(), &target, &held).await.unwrap();
        println!("{}", loaded.lines.join("\n"));
        similar_asserts(&server.text("everything"), &server.text("again"));
        let again = dump(&cx(), &server.logical("again")).await.unwrap();
        let (before, after) = (held.facts(), again.facts());
        assert_eq!(before.sequences.len(), after.sequences.len());
        assert_eq!(before.large_objects, after.large_objects);
    }
}

fn similar_asserts(before: &str, after: &str) {
    if before != after {
        std::fs::write("/tmp/before.sql", before).unwrap();
        std::fs::write("/tmp/after.sql", after).unwrap();
        panic!("they differ");
    }
}
