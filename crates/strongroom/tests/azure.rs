//! The main job with a container of Azure as vault, on a real server.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use live::cloud::{let_fetch, ship_by, with};
use live::{Site, versions};
use strongroom_postgres::cluster::InitOptions;
use strongroom_store::conformance::azurite::AzuriteServer;

#[test]
fn backup_ship_verify_and_restore_by_way_of_a_container() {
    let Some(binaries) = versions().into_iter().next() else { return };
    let Some(server) = AzuriteServer::start() else { return };
    server.make_container("vaults");
    let site = Site::new(&binaries, InitOptions::default());
    let settings = |container: &str, more: &str| {
        format!(
            "[vault]\nurl = \"az://{container}/prod\"\naccount = \"devstoreaccount1\"\nendpoint = \"{}\"\nallow_http = true\nidentity_file = \"{}\"\n{more}\n\
             [source.main]\nkind = \"postgres\"\nconnection = \"host={} port={} user=postgres\"\n",
            server.endpoint(),
            site.inside("azure.txt"),
            site.cluster.socket_folder().display(),
            site.cluster.port(),
        )
    };
    std::fs::write(site.path("azure.toml"), settings("vaults", "")).unwrap();
    with(&site, "azure.toml", 0, &["init", "--generate-identity", &site.inside("azure.txt")]);
    ship_by(&site, "azure.toml");
    site.cluster
        .sql("create table t as select n, md5(n::text) as v from generate_series(1, 20000) n")
        .unwrap();
    with(&site, "azure.toml", 0, &["backup"]);
    site.cluster.sql("insert into t values (-1, 'last')").unwrap();
    site.ship(&site.cluster);
    assert!(with(&site, "azure.toml", 0, &["verify", "--data"]).contains("sound"));
    assert!(with(&site, "azure.toml", 0, &["doctor", "--storage"]).contains("of 4 writers at once one won"));
    with(&site, "azure.toml", 0, &["restore", "--yes", "--no-archiving", "--to", &site.inside("restored")]);
    let_fetch(&site, "restored");
    assert_eq!(site.start("restored").sql("select count(*) from t").unwrap(), "20001");

    // A container that is not there is no absent file.
    let fetch = ["wal", "fetch", "000000010000004200000042", &site.inside("x")];
    with(&site, "azure.toml", 1, &fetch);
    std::fs::write(site.path("azure.toml"), settings("mistyped", "")).unwrap();
    with(&site, "azure.toml", 200, &fetch);
    std::fs::write(
        site.path("azure.toml"),
        settings("vaults", "[vault.lock]\nmode = \"governance\"\ndays = 1\n"),
    )
    .unwrap();
    assert!(with(&site, "azure.toml", 6, &["list"]).contains("S3's only so far"));
}
