//! Dumps written as files, and restored from them by PostgreSQL's own programs alone.
//!
//! Runs on every version that `logical.rs` runs on.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod driver;
mod harness;

use std::path::Path;

use driver::{Held, Server, dump};
use harness::{cx, servers};
use strongroom_engine::{DumpTarget, EngineError, Loaded};
use strongroom_model::entry::EntryPath;
use strongroom_postgres::cluster::{Binaries, run};
use strongroom_postgres::logical::export::{Compressed, Export, ExportOptions, Shape, UNFINISHED};

const EVERYTHING: &str = include_str!("driver/everything.sql");

fn server(binaries: &Binaries, database: &str, sql: &str) -> Server {
    let server = Server::start(binaries, "");
    server.sql("postgres", &format!("create database {database}"));
    server.sql(database, sql);
    server
}

fn options(server: &Server, shape: Shape, to: &Path) -> ExportOptions {
    ExportOptions {
        shape,
        to: Some(to.to_owned()),
        compressed: Compressed::No,
        no_owner: false,
        no_privileges: false,
        programs: server.programs.clone(),
        scratch: Some(server.scratch.path.clone()),
    }
}

/// Writes what is held, one part after the other; all but the last ones.
async fn export(options: ExportOptions, held: &Held, without: usize) -> Result<Loaded, EngineError> {
    let target = Export::new(options);
    let plan = target.plan(&cx(), &held.dumped).await?;
    let parts: Vec<&EntryPath> = plan.first.iter().chain(&plan.rest).collect();
    for part in &parts[..parts.len() - without] {
        let mut writer = target.open(&cx(), part).await?;
        for piece in held.parts[&part.to_string()].chunks(99_991) {
            writer.write(&cx(), bytes::Bytes::copy_from_slice(piece)).await?;
        }
        writer.close(&cx()).await?;
    }
    target.finish(&cx()).await
}

fn assert_same(before: &str, after: &str) {
    let (mut left, mut right): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    left.sort();
    right.sort();
    if left != right {
        left.retain(|line| !after.lines().any(|other| other == *line));
        right.retain(|line| !before.lines().any(|other| other == *line));
        panic!("only before: {left:#?}\nonly after: {right:#?}");
    }
}

/// Rows, sequences and large objects.
fn content(held: &Held) -> Vec<String> {
    let facts = held.facts();
    let tables = facts.tables.iter().filter(|table| table.through.is_none());
    let mut all: Vec<String> = tables.map(|table| format!("{table} {} {}", table.rows, table.sum)).collect();
    all.extend(
        facts.sequences.iter().map(|one| format!("{} {} {}", one.name, one.last_value, one.is_called)),
    );
    all.push(format!("{:?}", facts.large_objects));
    all.extend(facts.schema.iter().map(|(kind, fact)| format!("{kind} {} {}", fact.count, fact.names)));
    all.sort();
    all
}

fn restore_folder(server: &Server, folder: &Path, database: &str) {
    server.sql("postgres", &format!("create database {database} template template0"));
    let mut command = server.cluster.client("pg_restore");
    command.args(["--exit-on-error", "-Fd", "-j", "2", "-d", database]).arg(folder);
    run(&mut command).unwrap();
}

fn restore_sql(server: &Server, file: &Path, database: &str) {
    server.sql("postgres", &format!("create database {database} template template0"));
    let mut command = server.cluster.client("psql");
    command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-f"]).arg(file);
    run(&mut command).unwrap();
}

/// The programs run as another user.
fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_comes_back_from_files() {
    for binaries in servers() {
        let server = server(&binaries, "everything", EVERYTHING);
        let held = dump(&cx(), &server.logical("everything")).await.unwrap();
        let text = server.text("everything");
        let folder = server.scratch.path.clone();
        open_to_all(&folder);
        for (name, compressed) in
            [("raw", Compressed::No), ("gzip", Compressed::Gzip), ("zstd", Compressed::Zstd)]
        {
            let to = folder.join(name);
            let options = ExportOptions { compressed, ..options(&server, Shape::Directory, &to) };
            let exported = export(options, &held, 0).await;
            if compressed == Compressed::Zstd && held.facts().dumped_by < 16 {
                assert!(exported.unwrap_err().to_string().contains("has no zstd"));
                assert!(!to.exists());
                continue;
            }
            exported.unwrap();
            open_to_all(&to);
            restore_folder(&server, &to, name);
            assert_same(&text, &server.text(name));
            assert_eq!(content(&held), content(&dump(&cx(), &server.logical(name)).await.unwrap()), "{name}");
            let globals = std::fs::read_to_string(to.join("globals.sql")).unwrap();
            assert!(globals.contains("CREATE ROLE keeper"), "{globals}");
        }
        let to = folder.join("all.sql");
        let exported = export(options(&server, Shape::Sql, &to), &held, 0).await.unwrap();
        assert!(
            exported.lines.iter().any(|line| line.contains("psql -X -v ON_ERROR_STOP=1")),
            "{exported:?}"
        );
        restore_sql(&server, &to, "plain");
        assert_same(&text, &server.text("plain"));
        assert_eq!(content(&held), content(&dump(&cx(), &server.logical("plain")).await.unwrap()));
        assert!(folder.join("all.globals.sql").exists());
        for (name, program) in [("all.sql.gz", "gzip"), ("all.sql.zst", "zstd")] {
            std::fs::remove_file(folder.join("all.globals.sql")).unwrap();
            let packed = folder.join(name);
            export(options(&server, Shape::Sql, &packed), &held, 0).await.unwrap();
            match std::process::Command::new(program).arg("-dc").arg(&packed).output() {
                Ok(unpacked) => assert!(unpacked.stdout == std::fs::read(&to).unwrap(), "{name}"),
                Err(error) => println!("not tested: there is no {program}: {error}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_encodings_and_many_large_objects_come_back() {
    let Some(binaries) = servers().into_iter().next() else { return };
    let server = Server::start(&binaries, "");
    server.sql("postgres", "create database old encoding 'LATIN1' locale 'C' template template0");
    server.sql(
        "old",
        "create table t (a text); insert into t values (E'caf\\u00e9'), ('plain'); comment on table t is E'\\u00e9'; \
         select lo_from_bytea(n, decode(md5(n::text), 'hex')) from generate_series(1000, 1500) n",
    );
    let held = dump(&cx(), &server.logical("old")).await.unwrap();
    let folder = server.scratch.path.clone();
    open_to_all(&folder);
    for shape in [Shape::Directory, Shape::Sql] {
        let name = format!("new_{shape:?}").to_lowercase();
        let to = folder.join(&name);
        export(options(&server, shape, &to), &held, 0).await.unwrap();
        open_to_all(&to);
        match shape {
            Shape::Directory => restore_folder(&server, &to, &name),
            Shape::Sql => restore_sql(&server, &to, &name),
        }
        assert_eq!(server.sql(&name, "select string_agg(a, ' ' order by a) from t"), "café plain");
        assert_eq!(server.sql(&name, "select obj_description('t'::regclass)"), "é");
        let sum = "select count(*) || ' ' || sum(length(lo_get(oid))) from pg_largeobject_metadata";
        assert_eq!(server.sql(&name, sum), "501 8016");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_whole_has_no_name_and_nothing_is_overwritten() {
    let Some(binaries) = servers().into_iter().next() else { return };
    let server = server(&binaries, "shop", "create table t as select generate_series(1, 1000) as a");
    let held = dump(&cx(), &server.logical("shop")).await.unwrap();
    let folder = server.scratch.path.clone();
    let names = || -> Vec<String> {
        let names = std::fs::read_dir(&folder).unwrap();
        names.map(|name| name.unwrap().file_name().to_string_lossy().into_owned()).collect()
    };
    for shape in [Shape::Directory, Shape::Sql] {
        let to = folder.join("out");
        let error = export(options(&server, shape, &to), &held, 1).await.unwrap_err().to_string();
        assert!(error.contains("data/public.t/0000") && error.contains("came to no end"), "{error}");
        assert_eq!(names(), Vec::<String>::new());
        // Of another run, which may still be at it.
        let other = folder.join(format!("out{UNFINISHED}"));
        std::fs::write(&other, "theirs").unwrap();
        let error = export(options(&server, shape, &to), &held, 0).await.unwrap_err().to_string();
        assert!(error.contains("runs or was killed") && other.exists(), "{error}");
        std::fs::remove_file(&other).unwrap();
        std::fs::write(&to, "mine").unwrap();
        let error = export(options(&server, shape, &to), &held, 0).await.unwrap_err().to_string();
        assert!(error.contains("is there already"), "{error}");
        assert_eq!(std::fs::read(&to).unwrap(), b"mine");
        std::fs::remove_file(&to).unwrap();
    }
    let error =
        export(options(&server, Shape::Sql, &folder.join("no/where.sql")), &held, 0).await.unwrap_err();
    assert!(error.to_string().contains("is no folder"), "{error}");
}
