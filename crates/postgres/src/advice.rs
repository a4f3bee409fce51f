//! What stands between a server and being recoverable, and how to mend each thing.
//!
//! [`advise`] is pure: what the server is goes in, findings come out, each with the exact SQL or command that mends
//! it. [`fix`] writes those that are settings. It never replaces another tool's `archive_command`: that would end
//! that tool's archive without its owner's knowledge, so such a mend is shown and left to the owner.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use strongroom_engine::EngineError;
use strongroom_model::time::human_duration;

use crate::connect::Client;
use crate::inspect::{PostgresInspection, Tablespace, backup_functions};
use crate::quote::{quoted_name, quoted_string};
use crate::refusal::SqlError;
use crate::version::Major;

/// What the server should be set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The command that ships a WAL file, with `%p`.
    pub archive_command: String,
    /// Seconds after which it is to close a segment, if that was promised.
    pub archive_timeout: Option<u64>,
}

/// How a check came out. Orders from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Backups work; something is weaker or slower than it could be.
    Warning,
    /// Backups or the journal do not work, or cannot be relied on.
    Wrong,
}

/// How to mend a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mend {
    /// A setting to write; [`fix`] does it.
    Setting {
        /// Which.
        name: &'static str,
        /// Its new value, as text.
        value: String,
        /// Whether it takes effect only when the server restarts; else when it reads its files again.
        restart: bool,
    },
    /// Statements for the server's owner to judge and run.
    Sql(String),
    /// A command, or a step outside the server.
    Shell(String),
}

impl fmt::Display for Mend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mend::Setting { name, value, restart } => {
                write!(f, "ALTER SYSTEM SET {name} = {};", quoted_string(value))?;
                f.write_str(if *restart {
                    " -- then restart the server"
                } else {
                    " SELECT pg_reload_conf();"
                })
            }
            Mend::Sql(text) | Mend::Shell(text) => f.write_str(text),
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// What was looked at; stable, for scripts.
    pub check: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found and what it means.
    pub found: String,
    /// What to do; with [`Verdict::Ok`], something that could be even better.
    pub mend: Option<Mend>,
}

/// An `archive_timeout` longer than this is worth a word, in seconds.
const LONG_TIMEOUT: u64 = 300;
/// The server's clock may differ from ours by this much without a word, in milliseconds.
const CLOCKS_AGREE: u64 = 2_000;
/// A failure longer ago than this, with success since, is history.
const RECENTLY: Duration = Duration::from_secs(3600);

/// Looks at everything that matters to backups and the journal.
pub fn advise(server: &PostgresInspection, wanted: &Wanted) -> Vec<Advice> {
    let mut found = vec![role_in_replication(server), block_size(server)];
    let mut writing = vec![wal_level(server), archive_mode(server)];
    writing.extend(archive_library(server));
    writing.extend([
        archive_command(server, wanted),
        archive_timeout(server, wanted),
        full_page_writes(server),
    ]);
    found.extend(writing.into_iter().map(|advice| if_promoted(server, advice)));
    found.extend([archiving(server), fsync(server), data_checksums(server)]);
    found.extend([wal_compression(server), wal_senders(server)]);
    found.extend(summarize_wal(server));
    found.extend([backup_rights(server), further_rights(server), settings_right(server)]);
    found.extend(server.tablespaces.iter().filter_map(|tablespace| inside(server, tablespace)));
    found.push(clocks(server));
    found
}

/// The statements that give a role all that Strongroom needs and nothing else. Rights to call functions are kept in
/// each database, so the statements must be run in the one that Strongroom connects to.
pub fn grants(major: Major, role: &str) -> Vec<String> {
    let role = quoted_name(role);
    let (start, stop) = backup_functions(major);
    let functions =
        [start, stop, "pg_catalog.pg_switch_wal()", "pg_catalog.pg_create_restore_point(text)"].into_iter();
    let mut statements: Vec<_> =
        functions.map(|function| format!("GRANT EXECUTE ON FUNCTION {function} TO {role};")).collect();
    statements.push(format!("GRANT pg_read_all_settings TO {role};"));
    statements
}

fn ok(check: &'static str, found: impl Into<String>) -> Advice {
    Advice { check, verdict: Verdict::Ok, found: found.into(), mend: None }
}

fn warning(check: &'static str, found: impl Into<String>, mend: impl Into<Option<Mend>>) -> Advice {
    Advice { check, verdict: Verdict::Warning, found: found.into(), mend: mend.into() }
}

fn wrong(check: &'static str, found: impl Into<String>, mend: impl Into<Option<Mend>>) -> Advice {
    Advice { check, verdict: Verdict::Wrong, found: found.into(), mend: mend.into() }
}

/// A setting that takes effect at once.
fn set(server: &PostgresInspection, name: &'static str, value: impl Into<String>) -> Mend {
    set_with(server, name, value.into(), false)
}

/// A setting that takes effect when the server restarts.
fn set_at_restart(server: &PostgresInspection, name: &'static str, value: &str) -> Mend {
    set_with(server, name, value.to_owned(), true)
}

fn set_with(server: &PostgresInspection, name: &'static str, value: String, restart: bool) -> Mend {
    match server.settings.get(name) {
        Some(setting) if setting.pending_restart => Mend::Shell(format!(
            "restart the server: a new value of {name} is already written and waits for that"
        )),
        // The command line wins over every file.
        Some(setting) if setting.source == "command line" => Mend::Shell(format!(
            "start the server with -c {name}='{value}': its command line sets {name} now"
        )),
        _ => Mend::Setting { name, value, restart },
    }
}

fn shown<'a>(server: &'a PostgresInspection, name: &str) -> &'a str {
    server.setting(name).unwrap_or("not visible to this role")
}

fn role_in_replication(server: &PostgresInspection) -> Advice {
    const CHECK: &str = "primary";
    match server.in_recovery {
        false => ok(CHECK, format!("a primary on timeline {}", server.timeline)),
        true => ok(
            CHECK,
            format!("a standby on timeline {}: the WAL its backups need is its primary's", server.timeline),
        ),
    }
}

/// What a standby's settings say of writing and shipping WAL counts later, but for one that archives what it receives.
fn if_promoted(server: &PostgresInspection, advice: Advice) -> Advice {
    let archives = server.setting("archive_mode") == Some("always") && advice.check.starts_with("archive_");
    if !server.in_recovery || archives || advice.verdict == Verdict::Ok {
        return advice;
    }
    let found = format!("{} (counts once this server, or a restored point of it, is promoted)", advice.found);
    Advice { verdict: Verdict::Warning, found, ..advice }
}

fn block_size(server: &PostgresInspection) -> Advice {
    const CHECK: &str = "block_size";
    match server.block_size {
        8192 => ok(CHECK, "8192 bytes"),
        other => wrong(CHECK, format!("{other} bytes: Strongroom reads pages of 8192 bytes only"), None),
    }
}

fn wal_level(server: &PostgresInspection) -> Advice {
    const CHECK: &str = "wal_level";
    match shown(server, CHECK) {
        "minimal" => wrong(
            CHECK,
            "minimal: the WAL leaves out what a restore needs",
            set_at_restart(server, CHECK, "replica"),
        ),
        level => ok(CHECK, level),
    }
}

fn archive_mode(server: &PostgresInspection) -> Advice {
    const CHECK: &str = "archive_mode";
    match shown(server, CHECK) {
        "off" => wrong(
            CHECK,
            "off: no WAL is shipped, so nothing can be restored",
            set_at_restart(server, CHECK, "on"),
        ),
        mode => ok(CHECK, mode),
    }
}

/// A library takes the place of the command; since 16 having both is an error at every file.
fn archive_library(server: &PostgresInspection) -> Option<Advice> {
    const CHECK: &str = "archive_library";
    let library = server.setting(CHECK).filter(|library| !library.is_empty())?;
    Some(wrong(
        CHECK,
        format!("'{library}' archives the WAL in place of archive_command"),
        Mend::Sql(
            "-- when nothing depends on it any more:\nALTER SYSTEM SET archive_library = ''; SELECT pg_reload_conf();"
                .into(),
        ),
    ))
}

/// Whose `archive_command` it is.
#[derive(Debug, PartialEq, Eq)]
enum Command<'a> {
    /// None, or one that throws WAL away and calls that success.
    Nothing,
    /// Exactly the one wanted.
    AsWanted,
    /// Strongroom's, with other options or another path.
    OursOtherwise,
    /// Another tool's; its name.
    Foreign(&'a str),
}

/// Tools by what their commands contain.
const TOOLS: [(&str, &str); 8] = [
    ("pgbackrest", "pgBackRest"),
    ("wal-g", "WAL-G"),
    ("walg", "WAL-G"),
    ("barman", "Barman"),
    ("pghoard", "pghoard"),
    ("pg_probackup", "pg_probackup"),
    ("pgmoneta", "pgmoneta"),
    ("wal-e", "WAL-E"),
];

fn whose<'a>(command: &'a str, wanted: &str) -> Command<'a> {
    let command = command.trim();
    let words: Vec<_> = command.split_whitespace().collect();
    match words.as_slice() {
        [] | ["(disabled)" | ":" | "true" | "/bin/true" | "/usr/bin/true"] | ["exit", "0"] | ["cd", "."] => {
            Command::Nothing
        }
        _ if command == wanted.trim() => Command::AsWanted,
        _ if command.contains("strongroom") && command.contains("wal push") => Command::OursOtherwise,
        _ => {
            let tool = TOOLS.iter().find(|(mark, _)| command.contains(mark));
            Command::Foreign(tool.map_or("another tool", |(_, tool)| tool))
        }
    }
}

fn archive_command(server: &PostgresInspection, wanted: &Wanted) -> Advice {
    const CHECK: &str = "archive_command";
    let Some(command) = server.setting(CHECK) else {
        return warning(CHECK, "not visible to this role", Mend::Sql(read_settings(server)));
    };
    let mend = set(server, CHECK, &wanted.archive_command);
    match whose(command, &wanted.archive_command) {
        Command::AsWanted => ok(CHECK, command),
        Command::OursOtherwise => {
            warning(CHECK, format!("Strongroom's, but not this configuration's: {command}"), mend)
        }
        Command::Nothing if command.trim().is_empty() => {
            wrong(CHECK, "empty: WAL piles up at the server", mend)
        }
        Command::Nothing if command == "(disabled)" => {
            wrong(CHECK, "disabled, since archive_mode is off", mend)
        }
        Command::Nothing => wrong(CHECK, format!("'{command}' throws the WAL away"), mend),
        Command::Foreign(tool) => wrong(
            CHECK,
            format!("{tool}'s: {command}"),
            Mend::Sql(format!("-- this ends {tool}'s archive, so decide when:\n{mend}")),
        ),
    }
}

fn archive_timeout(server: &PostgresInspection, wanted: &Wanted) -> Advice {
    const CHECK: &str = "archive_timeout";
    let seconds = server.setting(CHECK).and_then(|value| value.parse::<u64>().ok());
    if let (Some(seconds), Some(promised)) = (seconds, wanted.archive_timeout)
        && (seconds == 0 || seconds > promised)
    {
        let found = format!("{seconds} s, and the settings promise that it is {promised} s at most");
        return wrong(CHECK, found, set(server, CHECK, format!("{promised}s")));
    }
    let mend = || set(server, CHECK, "60s");
    match seconds {
        None => warning(CHECK, shown(server, CHECK), None),
        Some(0) => warning(
            CHECK,
            format!(
                "0: on a quiet server, what was committed since the last full {} of WAL could be lost",
                server.segment_size
            ),
            mend(),
        ),
        Some(seconds) if seconds > LONG_TIMEOUT => {
            warning(CHECK, format!("{seconds} s: that much of the latest work could be lost"), mend())
        }
        Some(seconds) => {
            ok(CHECK, format!("{seconds} s: at most about that much of the latest work could be lost"))
        }
    }
}

fn archiving(server: &PostgresInspection) -> Advice {
    const CHECK: &str = "archiver";
    let archiver = &server.archiver;
    let file = archiver.last_failed_wal.as_deref().unwrap_or("a file");
    let age = archiver.last_failed_at.map(|at| server.server_time.since(at));
    let mend = Mend::Shell("look for archive_command in the server's log".into());
    match (age, &archiver.last_archived_wal) {
        (Some(age), _) if archiver.is_failing() => {
            let count = archiver.failed_count;
            wrong(
                CHECK,
                format!("failing: {file} last failed {} ago ({count} failures so far)", human_duration(age)),
                mend,
            )
        }
        (Some(age), _) if age < RECENTLY => {
            warning(CHECK, format!("working again: {file} failed {} ago", human_duration(age)), mend)
        }
        (_, Some(last)) => {
            ok(CHECK, format!("working: {last} was the last of {} files", archiver.archived_count))
        }
        (_, None) => ok(CHECK, "has archived nothing yet"),
    }
}

fn full_page_writes(server: &PostgresInspection) -> Advice {
    const CHECK: &str = "full_page_writes";
    match server.is_off(CHECK) {
        true => warning(
            CHECK,
            "off: a crash can leave torn pages (backups switch it on while they run)",
            set(server, CHECK, "on"),
        ),
        false => ok(CHECK, shown(server, CHECK)),
    }
}

fn fsync(server: &PostgresInspection) -> Advice {
    const CHECK: &str = "fsync";
    match server.is_off(CHECK) {
        true => warning(
            CHECK,
            "off: a crash of the host can damage the cluster beyond repair",
            set(server, CHECK, "on"),
        ),
        false => ok(CHECK, shown(server, CHECK)),
    }
}

fn data_checksums(server: &PostgresInspection) -> Advice {
    const CHECK: &str = "data_checksums";
    if server.data_checksums {
        return ok(CHECK, "on");
    }
    let folder = server.data_directory.as_deref().unwrap_or(Path::new("DATA_DIRECTORY"));
    let mend = format!("pg_checksums --enable -D {}", shell_word(&folder.to_string_lossy()));
    warning(
        CHECK,
        "off: pages damaged by the disk are copied unnoticed",
        Mend::Shell(format!("{mend}   # while the server is stopped")),
    )
}

fn wal_compression(server: &PostgresInspection) -> Advice {
    const CHECK: &str = "wal_compression";
    let mut advice = ok(CHECK, shown(server, CHECK));
    if server.is_off(CHECK) {
        advice.found = "off: less WAL would be written and shipped with it".into();
        // Since 15 there is a choice of methods, of which lz4 costs least.
        advice.mend = Some(set(server, CHECK, if server.major.number() < 15 { "on" } else { "lz4" }));
    }
    advice
}

/// Worth a word where a backup would use it.
fn summarize_wal(server: &PostgresInspection) -> Option<Advice> {
    const CHECK: &str = "summarize_wal";
    if server.in_recovery || !server.major.believes_summaries(server.version_num) {
        return None;
    }
    let mut advice = ok(CHECK, shown(server, CHECK));
    if server.is_off(CHECK) {
        advice.found = "off: backups would not have to read what did not change with it".into();
        advice.mend = Some(set(server, CHECK, "on"));
    }
    Some(advice)
}

fn wal_senders(server: &PostgresInspection) -> Advice {
    const CHECK: &str = "max_wal_senders";
    match server.setting(CHECK).and_then(|value| value.parse::<u32>().ok()) {
        Some(0 | 1) => warning(
            CHECK,
            format!("{}: too few to receive WAL by streaming", shown(server, CHECK)),
            set_at_restart(server, CHECK, "10"),
        ),
        _ => ok(CHECK, shown(server, CHECK)),
    }
}

fn all_grants(server: &PostgresInspection) -> String {
    let database = quoted_name(&server.rights.database);
    let statements = grants(server.major, &server.rights.role).join("\n");
    let place = if server.in_recovery { "at the primary, " } else { "" };
    format!("-- {place}as a superuser, in database {database}:\n{statements}")
}

fn read_settings(server: &PostgresInspection) -> String {
    format!("GRANT pg_read_all_settings TO {};", quoted_name(&server.rights.role))
}

fn backup_rights(server: &PostgresInspection) -> Advice {
    const CHECK: &str = "backup_rights";
    let rights = &server.rights;
    let role = &rights.role;
    match (rights.backup_start, rights.backup_stop) {
        (true, true) if rights.superuser => {
            let mut advice = ok(CHECK, format!("{role} is a superuser, which is more than backups need"));
            advice.mend = Some(Mend::Sql(format!(
                "CREATE ROLE strongroom LOGIN;\n{}",
                grants(server.major, "strongroom").join("\n")
            )));
            advice
        }
        (true, true) => ok(CHECK, format!("{role} may begin and end backups")),
        _ => wrong(CHECK, format!("{role} may not begin and end backups"), Mend::Sql(all_grants(server))),
    }
}

fn further_rights(server: &PostgresInspection) -> Advice {
    const CHECK: &str = "further_rights";
    let rights = &server.rights;
    match (rights.switch_wal, rights.create_restore_point) {
        (true, true) => {
            ok(CHECK, format!("{} may complete WAL segments and name restore points", rights.role))
        }
        _ => warning(
            CHECK,
            format!("{} may not complete WAL segments or not name restore points", rights.role),
            Mend::Sql(all_grants(server)),
        ),
    }
}

fn settings_right(server: &PostgresInspection) -> Advice {
    const CHECK: &str = "settings_right";
    match server.data_directory.is_some() {
        true => ok(CHECK, format!("{} sees all settings", server.rights.role)),
        false => warning(
            CHECK,
            format!("{} does not see data_directory and archive_command", server.rights.role),
            Mend::Sql(read_settings(server)),
        ),
    }
}

/// A tablespace inside the data directory would be copied twice: listing refuses it.
fn inside(server: &PostgresInspection, tablespace: &Tablespace) -> Option<Advice> {
    let folder = server.data_directory.as_deref()?;
    if !Path::new(&tablespace.location).starts_with(folder) {
        return None;
    }
    let (name, location) = (&tablespace.name, &tablespace.location);
    Some(wrong(
        "tablespace",
        format!("{name} lies inside the data directory, at {location}"),
        Mend::Sql(format!(
            "-- move its tables to another tablespace, then:\nDROP TABLESPACE {};",
            quoted_name(name)
        )),
    ))
}

fn clocks(server: &PostgresInspection) -> Advice {
    const CHECK: &str = "clock";
    let apart = server.clock_ahead_ms.unsigned_abs();
    if apart <= CLOCKS_AGREE {
        return ok(CHECK, "the server's agrees with this host's");
    }
    let direction = if server.clock_ahead_ms > 0 { "ahead of" } else { "behind" };
    let found = format!(
        "the server's is {} {direction} this host's; times to restore to are the server's",
        human_duration(Duration::from_millis(apart))
    );
    warning(
        CHECK,
        found,
        Mend::Shell("synchronise both hosts' clocks (chronyc tracking, timedatectl)".into()),
    )
}

/// A word as a shell reads it back.
fn shell_word(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// A setting that [`fix`] wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fixed {
    /// Which.
    pub name: &'static str,
    /// Its new value.
    pub value: String,
    /// It takes effect only when the server restarts.
    pub restart: bool,
}

/// Why a setting was not written. Those before it were; running again is harmless.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct FixError(#[from] SqlError);

impl From<FixError> for EngineError {
    fn from(FixError(error): FixError) -> EngineError {
        match EngineError::from(error) {
            EngineError::Unfit { what, .. } => EngineError::Unfit {
                what,
                hint: "write settings as a superuser, or run the statements that `strongroom doctor` prints"
                    .into(),
            },
            other => other,
        }
    }
}

/// Writes the settings among the findings that are not [`Verdict::Ok`], and makes the server read them.
pub async fn fix(client: &Client, found: &[Advice]) -> Result<Vec<Fixed>, FixError> {
    let mut fixed = Vec::new();
    for advice in found.iter().filter(|advice| advice.verdict != Verdict::Ok) {
        if let Some(Mend::Setting { name, value, restart }) = &advice.mend {
            let statement = format!("ALTER SYSTEM SET {} = {}", quoted_name(name), quoted_string(value));
            client.run("write a setting", &statement).await?;
            fixed.push(Fixed { name, value: value.clone(), restart: *restart });
        }
    }
    if !fixed.is_empty() {
        client.run("make the server read its settings", "SELECT pg_catalog.pg_reload_conf()").await?;
    }
    Ok(fixed)
}

#[cfg(test)]
mod tests;
