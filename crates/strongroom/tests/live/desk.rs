//! A server that asks for passwords, and somebody with nothing but an environment: no settings, no rights on the host.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use strongroom_postgres::cluster::{Binaries, Cluster, InitOptions};

use super::said;

const SCHEMA: &str = "\
create table checker_config (id int primary key, v text);
create table whitelist_rules (id int primary key, v text);
insert into checker_config select n, md5(n::text) || md5((n * 7)::text) from generate_series(1, 40000) n;
insert into whitelist_rules select n, 'rule ' || n from generate_series(1, 10) n;";

/// Of the role `audit`, with what must be quoted.
pub const PASSWORD: &str = "sEcret 'of' audit";

/// A server that asks for passwords, and a desk of somebody with nothing but an environment.
pub struct Desk {
    /// The server: role and database `audit`.
    pub cluster: Cluster,
    folder: tempfile::TempDir,
}

impl Desk {
    /// A new one; `None`, with the reason, where there is no PostgreSQL.
    pub fn new() -> Option<Desk> {
        let Ok(binaries) = Binaries::newest() else {
            assert!(std::env::var_os("CI").is_none(), "there is no PostgreSQL on this host");
            println!("skipped: there is no PostgreSQL on this host");
            return None;
        };
        let mut cluster = Cluster::init(&binaries, &InitOptions::default()).unwrap();
        cluster.start().unwrap();
        let password = PASSWORD.replace('\'', "''");
        let role =
            format!("create role audit login password '{password}'; create database audit owner audit");
        for statement in role.split("; ") {
            cluster.sql(statement).unwrap();
        }
        cluster
            .sql_in("audit", &format!("set role audit; grant all on schema public to audit; {SCHEMA}"))
            .unwrap();
        let hba = cluster.data().join("pg_hba.conf");
        std::fs::write(&hba, "local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n").unwrap();
        cluster.sql("select pg_reload_conf()").unwrap();
        let folder = tempfile::tempdir().unwrap();
        Some(Desk { cluster, folder })
    }

    /// A file or folder of the desk.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file that only its owner may use; where it is.
    pub fn put(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A program with the variables of the scripts, and nothing else of this host's.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        let path = format!("{}:/usr/bin:/bin", bin(&self.cluster).display());
        command.args(arguments).current_dir(self.folder.path()).env_clear();
        command.env("HOME", self.folder.path()).env("PATH", path);
        command.env("POSTGRES_HOST", "127.0.0.1").env("POSTGRES_PORT", self.cluster.port().to_string());
        command.env("POSTGRES_PASSWORD", PASSWORD).env("BACKUP_DIR", self.path("backup"));
        command.env("STRONGROOM_PASSPHRASE", "of the vault");
        command
    }

    /// The binary, likewise.
    pub fn strongroom(&self, arguments: &[&str]) -> Command {
        self.command(env!("CARGO_BIN_EXE_strongroom"), arguments)
    }

    /// Takes a dump; its report.
    pub fn dump(&self, arguments: &[&str]) -> Value {
        let words = [&["dump", "--once", "--output", "json"], arguments].concat();
        json(&self.strongroom(&words).output().unwrap())
    }
}

fn bin(cluster: &Cluster) -> PathBuf {
    let major = cluster.binaries().major().number();
    Path::new("/usr/lib/postgresql").join(major.to_string()).join("bin")
}

/// The document that a success printed.
pub fn json(output: &Output) -> Value {
    answers(output, 0);
    serde_json::from_slice(&output.stdout).unwrap()
}

/// All it said, after this exit code.
pub fn answers(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}", said(output));
    said(output)
}
