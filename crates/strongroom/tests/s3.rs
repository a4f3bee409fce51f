//! The main job with an S3 bucket as vault, on a real server.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use std::process::Output;

use live::{Site, said, versions};
use strongroom_postgres::cluster::InitOptions;
use strongroom_store::conformance::moto::MotoServer;

fn run(site: &Site, arguments: &[&str]) -> Output {
    let mut command = site.command_with("s3.toml", arguments);
    command.env("AWS_ACCESS_KEY_ID", "test").env("AWS_SECRET_ACCESS_KEY", "test");
    command.output().unwrap()
}

fn ok(site: &Site, arguments: &[&str]) -> String {
    let output = run(site, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    said(&output)
}

#[test]
fn backup_ship_verify_and_restore_by_way_of_a_bucket() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let Some(mut server) = MotoServer::start() else { return };
    server.make_bucket("vaults");
    let site = Site::new(&binaries, InitOptions::default());
    let settings = |bucket: &str| {
        format!(
            "[vault]\nurl = \"s3://{bucket}/prod\"\nendpoint = \"{}\"\npath_style = true\nallow_http = true\nidentity_file = \"{}\"\n\
             [source.main]\nkind = \"postgres\"\nconnection = \"host={} port={} user=postgres\"\n",
            server.endpoint(),
            site.inside("s3.txt"),
            site.cluster.socket_folder().display(),
            site.cluster.port(),
        )
    };
    std::fs::write(site.path("s3.toml"), settings("vaults")).unwrap();
    ok(&site, &["init", "--generate-identity", &site.inside("s3.txt")]);
    let command = site.inside("strongroom");
    let push = format!(
        "alter system set archive_command = 'AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test {command} --config {} wal push --source main \"%p\"'; select pg_reload_conf()",
        site.inside("s3.toml")
    );
    site.cluster.sql(&push).unwrap();
    site.cluster
        .sql("create table t as select n, md5(n::text) as v from generate_series(1, 20000) n")
        .unwrap();
    ok(&site, &["backup"]);
    site.cluster.sql("insert into t values (-1, 'last')").unwrap();
    site.ship(&site.cluster);
    assert!(ok(&site, &["verify", "--data"]).contains("sound"));
    assert!(ok(&site, &["list"]).contains("ok"));
    assert!(ok(&site, &["doctor", "--storage"]).contains("of 4 writers at once one won"));
    ok(&site, &["restore", "--yes", "--no-archiving", "--to", &site.inside("restored")]);
    // Recovery fetches with the environment of the server, which has no credentials: give it some.
    let auto_conf = site.path("restored/postgresql.auto.conf");
    let text = std::fs::read_to_string(&auto_conf).unwrap();
    let given = text.replace(
        "restore_command = '",
        "restore_command = 'AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test ",
    );
    std::fs::write(&auto_conf, given).unwrap();
    let restored = site.start("restored");
    assert_eq!(restored.sql("select count(*) from t").unwrap(), "20001");

    // A bucket that is not there, and a server that is not there: neither is an absent file.
    std::fs::write(site.path("s3.toml"), settings("mistyped")).unwrap();
    let fetch = ["wal", "fetch", "000000010000004200000042", &site.inside("x")];
    assert_eq!(run(&site, &fetch).status.code(), Some(200));
    assert_eq!(run(&site, &["list"]).status.code(), Some(6));
    std::fs::write(site.path("s3.toml"), settings("vaults")).unwrap();
    server.kill();
    assert_eq!(run(&site, &fetch).status.code(), Some(200));
}
