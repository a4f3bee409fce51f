//! The main job with an S3 bucket as vault, on a real server.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use live::cloud::{let_fetch, ship_by, with};
use live::{Site, versions};
use strongroom_postgres::cluster::InitOptions;
use strongroom_store::conformance::moto::MotoServer;

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
    with(&site, "s3.toml", 0, &["init", "--generate-identity", &site.inside("s3.txt")]);
    ship_by(&site, "s3.toml");
    site.cluster
        .sql("create table t as select n, md5(n::text) as v from generate_series(1, 20000) n")
        .unwrap();
    with(&site, "s3.toml", 0, &["backup"]);
    site.cluster.sql("insert into t values (-1, 'last')").unwrap();
    site.ship(&site.cluster);
    assert!(with(&site, "s3.toml", 0, &["verify", "--data"]).contains("sound"));
    assert!(with(&site, "s3.toml", 0, &["list"]).contains("ok"));
    assert!(with(&site, "s3.toml", 0, &["doctor", "--storage"]).contains("of 4 writers at once one won"));
    with(&site, "s3.toml", 0, &["restore", "--yes", "--no-archiving", "--to", &site.inside("restored")]);
    let_fetch(&site, "restored");
    let restored = site.start("restored");
    assert_eq!(restored.sql("select count(*) from t").unwrap(), "20001");

    // A bucket that is not there, and a server that is not there: neither is an absent file.
    std::fs::write(site.path("s3.toml"), settings("mistyped")).unwrap();
    let fetch = ["wal", "fetch", "000000010000004200000042", &site.inside("x")];
    with(&site, "s3.toml", 200, &fetch);
    with(&site, "s3.toml", 6, &["list"]);
    std::fs::write(site.path("s3.toml"), settings("vaults")).unwrap();
    server.kill();
    with(&site, "s3.toml", 200, &fetch);
}
