//! A vault of a site in a bucket or container: the binary, the archiver and recovery, each with credentials.

use std::process::Output;

use strongroom_store::conformance::azurite::KEY;

use super::{Site, said};

/// What the servers of the tests take; each kind of bucket looks for its own.
const CREDENTIALS: [(&str, &str); 3] =
    [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AZURE_STORAGE_ACCOUNT_KEY", KEY)];

/// The credentials, for a binary that runs on.
pub fn envs() -> [(&'static str, &'static str); 3] {
    CREDENTIALS
}

/// Runs the binary to its end.
pub fn run(site: &Site, settings: &str, arguments: &[&str]) -> Output {
    site.command_with(settings, arguments).envs(CREDENTIALS).output().unwrap()
}

/// Runs it and expects this exit code; all it said.
pub fn with(site: &Site, settings: &str, code: i32, arguments: &[&str]) -> String {
    let output = run(site, settings, arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", said(&output));
    said(&output)
}

/// Has the archiver ship by other settings from here on.
pub fn ship_by(site: &Site, settings: &str) {
    let push = format!(
        "alter system set archive_command = '{} {} --config {} wal push --source main \"%p\"'; select pg_reload_conf()",
        words(),
        site.inside("strongroom"),
        site.inside(settings)
    );
    site.cluster.sql(&push).unwrap();
}

/// Lets the recovery of a restored folder fetch: it has the environment of the server, which has no credentials.
pub fn let_fetch(site: &Site, restored: &str) {
    let auto_conf = site.path(restored).join("postgresql.auto.conf");
    let text = std::fs::read_to_string(&auto_conf).unwrap();
    let command = "restore_command = '";
    std::fs::write(&auto_conf, text.replace(command, &format!("{command}{} ", words()))).unwrap();
}

/// The credentials before a command of a shell.
fn words() -> String {
    CREDENTIALS.map(|(name, value)| format!("{name}={value}")).join(" ")
}
