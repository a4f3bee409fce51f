//! Units for systemd: the agent as a service, or a service and a timer for each line of the plans where no agent is to run.
//!
//! **Invariants**
//! - What is shut off is nothing that a backup, a restore into a folder or a drill with its own server needs. So `/tmp` is not
//!   private (commands of the server find the agent there), memory may be made executable (the server's JIT), and shared memory
//!   of the user stays (its server may be running).
//! - No secret is in a unit: variables come from a file, credentials from systemd.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::Made;
use super::call::{Call, Caller, ENVIRONMENT, exec};
use super::work::{Work, names, work};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Outcome;
use crate::secret::Reference;
use crate::settings::Settings;

/// Where credentials are kept on a host.
const CREDENTIALS: &str = "/etc/strongroom/credentials";

/// Longer than any name of a unit that systemd takes, with what is put around it.
const LONGEST_NAME: usize = 200;

/// What is the same for all services.
const FENCE: &str = "\
# Nothing of the system is changed, and nobody becomes somebody else. Vaults, scratch folders and sockets are outside /usr and /etc.
ProtectSystem=full
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
UMask=0077
";

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    caller: Caller,
    /// A service and a timer for each line of the plans instead of the agent's service
    #[arg(long)]
    without_agent: bool,
    /// Into this folder, in which they must not be there; to standard output without it
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

pub fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    let call = Call::here(context, &arguments.caller)?;
    let made = match arguments.without_agent {
        true => timers(&call, &context.settings)?,
        false => agent(&call, &context.settings),
    };
    super::into_folder(context, arguments.to.as_deref(), &made)
}

/// The agent's service.
fn agent(call: &Call, settings: &Settings) -> Made {
    let exec = call.exec(&["run".to_owned()]);
    let stop = settings.agent.grace.as_secs().saturating_add(60);
    let text = format!(
        "# Made by `strongroom generate systemd`. Into /etc/systemd/system, then:\n\
         #   systemctl daemon-reload && systemctl enable --now strongroom\n\
         [Unit]\n\
         Description=Strongroom agent: backups, WAL, drills and alerts\n\
         Wants=network-online.target\n\
         After=network-online.target postgresql.service\n\
         \n\
         [Service]\n\
         Type=notify\n\
         NotifyAccess=main\n\
         User={user}\n\
         ExecStart={exec}\n\
         ExecReload=/bin/kill -HUP $MAINPID\n\
         # Jobs are asked to stop by the agent; what is left when it has gone is ended.\n\
         KillMode=mixed\n\
         TimeoutStopSec={stop}\n\
         WatchdogSec=60\n\
         Restart=always\n\
         RestartSec=5\n\
         RuntimeDirectory=strongroom\n\
         StateDirectory=strongroom\n\
         {secrets}\
         \n\
         {FENCE}\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        user = call.user,
        secrets = secrets(settings),
    );
    Made { files: vec![("strongroom.service".to_owned(), text)], left_out: Vec::new() }
}

/// A service and a timer for each line of the plans.
fn timers(call: &Call, settings: &Settings) -> Result<Made, Failure> {
    let lines = work(settings)?;
    let mut made = Made::default();
    let is_allowed = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    for (line, name) in lines.iter().zip(names(&lines, LONGEST_NAME, is_allowed)) {
        match line.schedule.calendars(&line.zone) {
            Ok(calendars) => {
                let name = format!("strongroom-{name}");
                made.files.push((format!("{name}.service"), service(call, settings, line)));
                made.files.push((format!("{name}.timer"), timer(line, &name, &calendars)));
            }
            Err(why) => made.left_out.push(format!("{}: {why}", line.says)),
        }
    }
    Ok(made)
}

fn service(call: &Call, settings: &Settings, line: &Work) -> String {
    let mut text = format!(
        "# Made by `strongroom generate systemd --without-agent`. Its timer starts it.\n\
         [Unit]\n\
         Description=Strongroom: {}\n\
         Wants=network-online.target\n\
         After=network-online.target postgresql.service\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         User={}\n",
        line.says, call.user
    );
    for words in &line.commands {
        // Writing into a string does not end in an error.
        let _ = writeln!(text, "ExecStart={}", call.exec(words));
    }
    let limit = line.completion_window.as_secs();
    let _ = write!(
        text,
        "# Told once it stops at its next safe place; so long it may take.\nTimeoutStartSec={limit}\nTimeoutStopSec=90\nKillMode=mixed\nStateDirectory=strongroom\n{}\n{FENCE}",
        secrets(settings)
    );
    text
}

fn timer(line: &Work, name: &str, calendars: &[String]) -> String {
    let mut text = format!(
        "# Made by `strongroom generate systemd --without-agent`. Into /etc/systemd/system with its service, then:\n\
         #   systemctl daemon-reload && systemctl enable --now {name}.timer\n\
         [Unit]\n\
         Description=Strongroom: {}: {}\n\
         \n\
         [Timer]\n",
        line.says, line.schedule
    );
    for calendar in calendars {
        let _ = writeln!(text, "OnCalendar={calendar}");
    }
    text.push_str("# What went by while the host was down is done once.\nPersistent=yes\nAccuracySec=1s\n\n[Install]\nWantedBy=timers.target\n");
    text
}

/// Where what the settings refer to comes from.
fn secrets(settings: &Settings) -> String {
    let references = settings.references();
    let variable = |reference: &Reference| match reference {
        Reference::Environment(name) => Some(name.clone()),
        _ => None,
    };
    let mut variables: Vec<String> = references.iter().filter_map(variable).collect();
    variables.extend(settings.outside_variable().map(str::to_owned));
    let mut text = String::new();
    if !variables.is_empty() {
        let _ = write!(
            text,
            "# NAME=value for {}; chmod 600, of root: systemd reads it.\nEnvironmentFile=-{ENVIRONMENT}\n",
            variables.join(", ")
        );
    }
    let mut names: Vec<&str> = references.iter().filter_map(credential).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        let place = Path::new(CREDENTIALS).join(name);
        let _ = writeln!(text, "LoadCredential={}", exec(&format!("{name}:{}", place.display())));
    }
    text
}

/// The credential that a command reads: `command:cat $CREDENTIALS_DIRECTORY/NAME`.
fn credential(reference: &Reference) -> Option<&str> {
    let Reference::Command(command) = reference else { return None };
    let behind = ["$CREDENTIALS_DIRECTORY/", "${CREDENTIALS_DIRECTORY}/", "$CREDENTIALS_DIRECTORY\"/"]
        .iter()
        .find_map(|variable| command.split_once(variable))?
        .1;
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let end = behind.find(|letter| !is_name(letter)).unwrap_or(behind.len());
    Some(&behind[..end]).filter(|name| !name.is_empty() && !name.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_named_and_not_written() {
        let settings: Settings = toml::from_str(
            "[vault]\npassphrase_command = 'cat \"$CREDENTIALS_DIRECTORY/vault key\"'\n[source.a]\nkind = \"postgres\"\npassword = \"env:PW\"\n\
             [catalog]\npassword = \"command:cat ${CREDENTIALS_DIRECTORY}/catalog\"\n",
        )
        .unwrap();
        let text = secrets(&settings);
        assert!(text.contains("NAME=value for PW;"), "{text}");
        assert!(text.contains("LoadCredential=catalog:/etc/strongroom/credentials/catalog\n"), "{text}");
        let of_home: Settings =
            toml::from_str("[vault]\nidentity_file = \"/etc/strongroom/identity.txt\"\n").unwrap();
        assert_eq!(secrets(&of_home), "");
    }
}
