//! The main job with a container of Azure as vault, on a real server.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use live::{Site, said, versions};
use strongroom_postgres::cluster::InitOptions;
use strongroom_store::conformance::azurite::{AzuriteServer, KEY};

fn with(site: &Site, code: i32, arguments: &[&str]) -> String {
    let mut command = site.command_with("azure.toml", arguments);
    let output = command.env("AZURE_STORAGE_ACCOUNT_KEY", KEY).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
    said(&output)
}

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
    with(&site, 0, &["init", "--generate-identity", &site.inside("azure.txt")]);
    let push = format!(
        "alter system set archive_command = 'AZURE_STORAGE_ACCOUNT_KEY={KEY} {} --config {} wal push --source main \"%p\"'; select pg_reload_conf()",
        site.inside("strongroom"),
        site.inside("azure.toml")
    );
    site.cluster.sql(&push).unwrap();
    site.cluster
        .sql("create table t as select n, md5(n::text) as v from generate_series(1, 20000) n")
        .unwrap();
    with(&site, 0, &["backup"]);
    site.cluster.sql("insert into t values (-1, 'last')").unwrap();
    site.ship(&site.cluster);
    assert!(with(&site, 0, &["verify", "--data"]).contains("sound"));
    assert!(with(&site, 0, &["doctor", "--storage"]).contains("of 4 writers at once one won"));
    with(&site, 0, &["restore", "--yes", "--no-archiving", "--to", &site.inside("restored")]);
    let auto_conf = site.path("restored/postgresql.auto.conf");
    let text = std::fs::read_to_string(&auto_conf).unwrap();
    let given =
        text.replace("restore_command = '", &format!("restore_command = 'AZURE_STORAGE_ACCOUNT_KEY={KEY} "));
    std::fs::write(&auto_conf, given).unwrap();
    assert_eq!(site.start("restored").sql("select count(*) from t").unwrap(), "20001");

    // A container that is not there is no absent file.
    let fetch = ["wal", "fetch", "000000010000004200000042", &site.inside("x")];
    with(&site, 1, &fetch);
    std::fs::write(site.path("azure.toml"), settings("mistyped", "")).unwrap();
    with(&site, 200, &fetch);
    std::fs::write(
        site.path("azure.toml"),
        settings("vaults", "[vault.lock]\nmode = \"governance\"\ndays = 1\n"),
    )
    .unwrap();
    assert!(with(&site, 6, &["list"]).contains("S3's only so far"));
}
