//! A database host that may append and not read: it ships and backs up, its owner verifies, restores and lets go.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros, reason = "a test")]

mod live;

use live::{Site, digest, sound, versions};
use strongroom_postgres::cluster::InitOptions;

#[test]
fn a_host_appends_what_only_its_owner_restores() {
    for binaries in versions() {
        let site = Site::new(&binaries, InitOptions::default());
        let add = ["key", "add", "--append-only", "--label", "database host", "--generate-identity"];
        site.ok(&[&add[..], &[&site.inside("host.txt")]].concat());
        let owners = std::fs::read_to_string(site.path("strongroom.toml")).unwrap();
        for (name, text) in
            [("owner.toml", &owners), ("strongroom.toml", &owners.replace("identity.txt", "host.txt"))]
        {
            std::fs::write(site.path(name), text).unwrap();
            site.binaries.give(&site.path(name)).unwrap();
        }
        let load = site.load(2);
        site.backup();
        site.quiet(load);
        let before = digest(&site.cluster);
        let point = site.backup();
        site.ship(&site.cluster);

        // The host knows what there is, and reads nothing of it.
        for arguments in [&["list"][..], &["status"], &["show", &point], &["verify"]] {
            site.ok(arguments);
        }
        assert!(site.ok(&["doctor"]).contains("opens, to append and not to read"));
        let stolen = site.inside("stolen");
        site.fails(7, &["restore", "--dry-run", "--to", &stolen, "--latest"]);
        let refused = site.fails(7, &["restore", "--yes", "--to", &stolen, "--latest"]);
        assert!(refused.contains("may only append") && refused.contains("key list"), "{refused}");
        assert!(!site.path("stolen/PG_VERSION").exists());
        let exported = site.fails(7, &["export", "--to", &site.inside("exported")]);
        assert!(exported.contains("may only append") && !site.path("exported/PG_VERSION").exists());
        assert!(site.fails(7, &["verify", "--data"]).contains("may only append"));
        let wal = site.cluster.sql("select last_archived_wal from pg_stat_archiver").unwrap();
        assert!(site.fails(200, &["wal", "fetch", wal.trim(), &stolen]).contains("may only append"));
        assert!(!site.path("stolen").is_file());
        assert!(site.fails(7, &["sweep"]).contains("may only append"));
        let more = ["key", "add", "--generate-identity", &site.inside("more.txt")];
        assert!(site.fails(7, &more).contains("may only append"));
        let drill = site.fails(4, &["key", "check"]);
        assert!(drill.contains("proven to append; no restore comes of it"), "{drill}");

        // The host is lost. Its owner has the whole key.
        std::fs::copy(site.path("owner.toml"), site.path("strongroom.toml")).unwrap();
        let listed = site.ok(&["key", "list"]);
        assert!(listed.contains("append only") && listed.contains("everything"), "{listed}");
        assert!(!site.ok(&["key", "sheet"]).contains("database host"), "a sheet names who can restore");
        site.ok(&["key", "check"]);
        site.ok(&["verify", "--data"]);
        let restored = site.restore("restored", &["--latest", "--no-archiving"]);
        assert_eq!(digest(&restored), before, "{binaries:?}");
        sound(restored);
    }
}
