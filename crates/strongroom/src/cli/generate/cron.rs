//! A crontab: the lines of the plans for hosts without systemd and without the agent.
//!
//! **Invariant**: a schedule that cron would run at other times is left out, and said.

use std::fmt::Write;

use strongroom_model::zone::Zone;

use super::call::{Call, Caller, ENVIRONMENT};
use super::work::{Work, work};
use super::{Made, Target};
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::secret::Reference;
use crate::settings::Settings;

#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    caller: Caller,
    /// Who gets what commands have to tell [default: the user it runs as]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    mail_to: Option<String>,
    /// The time zone of the host [default: the one that all plans have]
    #[arg(long, value_name = "ZONE")]
    timezone: Option<Zone>,
    #[command(flatten)]
    pub target: Target,
}

/// What cron takes after MAILTO= and hands to a mail program.
fn address(text: &str) -> Result<String, String> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "@.,-_+".contains(letter);
    match !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain) {
        true => Ok(text.to_owned()),
        false => Err("it is no plain address: write it as dba@example.org, several with commas".to_owned()),
    }
}

/// The crontab.
pub fn made(context: &Context, arguments: &Arguments) -> Result<Made, Failure> {
    let call = Call::here(context, &arguments.caller)?;
    let mail_to = arguments.mail_to.as_deref().unwrap_or(&call.user);
    Crontab { call: &call, mail_to, zone: arguments.timezone.as_ref() }.file(&context.settings)
}

/// What the crontab is for.
struct Crontab<'a> {
    call: &'a Call,
    mail_to: &'a str,
    zone: Option<&'a Zone>,
}

impl Crontab<'_> {
    fn file(&self, settings: &Settings) -> Result<Made, Failure> {
        let lines = work(settings)?;
        let zone = match self.zone {
            Some(zone) => zone.clone(),
            None => only_zone(&lines)?,
        };
        let mut made = Made::default();
        let mut text = self.head(settings, &zone);
        for line in &lines {
            match self.line(line, &zone, settings) {
                // Writing into a string does not end in an error.
                Ok(line) => drop(write!(text, "\n{line}\n")),
                Err(why) => {
                    let _ = write!(text, "\n# Left out: {}: {why}\n", line.says);
                    made.left_out.push(format!("{}: {why}", line.says));
                }
            }
        }
        made.files.push(("strongroom.crontab".to_owned(), text));
        Ok(made)
    }

    fn head(&self, settings: &Settings, zone: &Zone) -> String {
        let mut text = format!(
            "# Made by `strongroom generate cron`. Install it for the user who runs the server: crontab -u {} FILE\n\
             # Times are those of {zone}. cronie takes that from CRON_TZ; Debian's cron knows only the zone of the host, which must be it then.\n\
             # A command prints only if it has something to tell, which is mailed. No line needs a lock: two at once are safe.\n",
            self.call.user
        );
        if let Some(file) = self.environment(settings) {
            let _ = writeln!(
                text,
                "# Secrets that the settings take from the environment are in {file}, as NAME='value', chmod 600."
            );
        }
        let _ = write!(
            text,
            "SHELL=/bin/sh\nPATH=/usr/local/bin:/usr/bin:/bin\nMAILTO={}\nCRON_TZ={zone}\n",
            self.mail_to
        );
        text
    }

    fn environment(&self, settings: &Settings) -> Option<&'static str> {
        let of_variable = |reference: &Reference| matches!(reference, Reference::Environment(_));
        let needs = settings.references().iter().any(of_variable) || settings.outside_variable().is_some();
        needs.then_some(ENVIRONMENT)
    }

    fn line(&self, line: &Work, zone: &Zone, settings: &Settings) -> Result<String, String> {
        if !line.schedule.is_rate() && line.zone != *zone {
            return Err(format!("'{}' is of {}, and this file of {zone}", line.schedule, line.zone));
        }
        let fields = line.schedule.five_fields().map_err(|error| error.to_string())?;
        let commands =
            line.commands.iter().map(|words| self.call.shell(words)).collect::<Vec<_>>().join(" && ");
        let secrets =
            self.environment(settings).map(|file| format!("set -a; . {file}; ")).unwrap_or_default();
        let command = format!("{secrets}said=$({{ {commands}; }} 2>&1) || printf '%s\\n' \"$said\"");
        if command.contains(['\n', '\r', '\0']) {
            return Err("a word of its command has a line end, which no crontab can hold".to_owned());
        }
        // A percent sign would end the command.
        let command = command.replace('%', "\\%");
        let rate = if line.schedule.is_rate() { ", counted from midnight" } else { "" };
        Ok(format!("# {}: {}{rate}\n{fields} {command}", line.says, line.schedule))
    }
}

fn only_zone(lines: &[Work]) -> Result<Zone, Failure> {
    let mut zones: Vec<&Zone> = Vec::new();
    for line in lines.iter().filter(|line| !line.schedule.is_rate()) {
        if !zones.contains(&&line.zone) {
            zones.push(&line.zone);
        }
    }
    match zones[..] {
        [] => Ok(Zone::UTC),
        [zone] => Ok(zone.clone()),
        _ => {
            let named: Vec<String> = zones.iter().map(ToString::to_string).collect();
            let failure = Failure::new(
                Code::Usage,
                format!("the plans follow several zones ({}), and a host has one", named.join(", ")),
            );
            Err(failure.hint("say with --timezone which one it has: what follows another is left out; or generate systemd --without-agent, which takes all"))
        }
    }
}
