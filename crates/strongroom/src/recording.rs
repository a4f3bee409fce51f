//! What the command line writes into the audit log: the one place where acts are recorded, whatever verb they are of.
//!
//! ```text
//! destroys             begun ▶ the verb ▶ ended       begun must be written, or the verb does not begin
//! hands out            begun ▶ the verb ▶ ended       must be written only if the settings say so: recovery waits for no log
//! changes otherwise            the verb ▶ ended       at best: what is done is done
//! ```
//!
//! **Invariants**
//! - What clap knows is what is recorded: which verb, with which words. A verb is in exactly one of the four lists.
//! - No option that may hold a secret is recorded, and of an error what people are told of it, which holds none.
//! - A verb's exit code is its own: what cannot be recorded afterwards is said aloud, and changes nothing.
//!
//! On a crash a beginning stays without an end, and is shown so.

use std::sync::Arc;
use std::time::Duration;

use clap::ArgMatches;
use strongroom_model::audit::{Act, Actor, Head, Stage, Texts};
use strongroom_ops::audit::{Record, record};
use strongroom_vault::Vault;

use crate::actor::actor;
use crate::agent::leash;
use crate::agent::testimony::UNWRITTEN;
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::Outcome;
use crate::settings::Required;
use crate::surroundings::tool;

/// Verbs that take away what cannot be had back.
const DESTROYING: &[&str] = &["expire", "sweep", "key remove", "key rotate", "hold release"];

/// Verbs that hand data out.
const HANDING_OUT: &[&str] = &["restore", "export"];

/// Verbs that change a vault, or what is known of it, in other ways.
const AFTER: &[&str] = &[
    "init",
    "backup",
    "dump",
    "import",
    "copy",
    "verify",
    "drill",
    "key add",
    "hold place",
    "thaw",
    "lifecycle",
    "checklist daily",
    "checklist weekly",
    "checklist monthly",
    "audit settings",
];

/// Verbs that change no vault, and WAL, whose objects are too many and speak for themselves. What agents and jobs do is recorded by
/// the processes that carry it out; what happens to jobs, the catalog knows. `audit testify` is itself how an agent records.
#[cfg(test)]
const UNRECORDED: &[&str] = &[
    "wal push",
    "wal fetch",
    "wal receive",
    "wal status",
    "run",
    "jobs list",
    "jobs show",
    "jobs cancel",
    "jobs retry",
    "alert list",
    "alert test",
    "list",
    "show",
    "status",
    "access password",
    "access token",
    "checklist list",
    "report status",
    "report coverage",
    "report rto-rpo",
    "report compliance",
    "report cost",
    "report jobs",
    "report architecture",
    "report send",
    "key list",
    "key check",
    "key sheet",
    "hold list",
    "generate alerts",
    "generate dashboards",
    "generate systemd",
    "generate cron",
    "generate k8s",
    "generate github-actions",
    "generate runbook",
    "doctor",
    "plan lint",
    "plan show",
    "plan simulate",
    "plan import",
    "completions",
    "audit list",
    "audit verify",
    "audit head",
    "audit testify",
];

/// Options whose words are written under seal. None of them can hold a secret: connection strings and references are not here.
const TEXTS: &[&str] = &[
    "to",
    "to_database",
    "into_database",
    "at",
    "lsn",
    "xid",
    "name",
    "reason",
    "owner",
    "until",
    "from",
    "copy_of",
    "repair_from",
    "file",
    "number",
    "label",
    "age_recipient",
    "forget",
    "days",
    "table",
    "schema",
    "sign",
    "note",
];

/// Options that name the vault which an act concerns.
const VAULTS: [&str; 2] = ["named", "of"];

/// How long an entry behind an act may take: the act is done, and a store that is away must not keep its report.
const PATIENCE: Duration = Duration::from_secs(30);

/// An act of this process that is to be in the audit log.
pub struct Recording {
    actor: Actor,
    act: Act,
    texts: Texts,
    named: Option<String>,
    /// The least setting under which its beginning must be written; `None` if only its end is.
    before: Option<Required>,
    begun: Option<(Arc<Vault>, Head)>,
}

impl Recording {
    /// What these words of a command line are to be recorded as; `None` if they change and hand out nothing.
    pub fn of(context: &Context, matches: &ArgMatches) -> Option<Recording> {
        let (verb, matches) = leaf(matches);
        let is_one_of = |verbs: &[&str]| verbs.contains(&verb.as_str());
        let before = match () {
            () if is_one_of(DESTROYING) => Some(Required::Destroying),
            () if is_one_of(HANDING_OUT) => Some(Required::Everything),
            () if is_one_of(AFTER) => None,
            () => return None,
        };
        let is_set = |flag: &str| matches!(matches.try_get_one::<bool>(flag), Ok(Some(true)));
        let only_reads = match verb.as_str() {
            "verify" => is_set("records"),
            "lifecycle" => !is_set("apply"),
            verb if verb.starts_with("checklist ") => word(matches, "sign").is_none(),
            _ => false,
        };
        if only_reads || is_set("dry_run") {
            return None;
        }
        let what = word(matches, "what");
        let named = |id: &str| word(matches, id).or_else(|| what.clone());
        let source = named("source").and_then(|name| name.parse().ok());
        let is_of_one = ["backup", "restore", "export", "drill"].contains(&verb.as_str());
        let source = source.or_else(|| context.source(None).ok().filter(|_| is_of_one));
        let point = named("point").and_then(|name| name.parse().ok());
        let mut texts: Texts =
            TEXTS.iter().filter_map(|id| Some(((*id).to_owned(), word(matches, id)?))).collect();
        if verb == "audit settings" {
            let path = context.settings.path.as_ref().map(|path| path.display().to_string());
            texts.extend(path.map(|path| ("path".to_owned(), path)));
            texts.extend(context.settings.hash.clone().map(|hash| ("sha_256".to_owned(), hash)));
        }
        let named = VAULTS.iter().find_map(|id| word(matches, id));
        let (actor, act) = (actor(leash::is_held()), Act { verb, source, point });
        Some(Recording { actor, act, texts, named, before, begun: None })
    }

    /// Writes the beginning, where there must be one.
    pub async fn begin(&mut self, context: &Context) -> Result<(), Failure> {
        let Some(least) = self.before else { return Ok(()) };
        // What does not open says so as the verb would.
        let vault = self.vault(context).await?;
        if least == Required::Everything && self.named.is_none() && context.global.as_of.is_none() {
            context.has_answered(Arc::clone(&vault));
        }
        let is_required = context.settings.audit.required >= least;
        let writing = self.write(context, &vault, Stage::Begun);
        let written = match is_required {
            true => writing.await,
            false => tokio::time::timeout(PATIENCE, writing).await.unwrap_or_else(|_| Err(silent())),
        };
        match written {
            Ok(head) => {
                self.begun = Some((vault, head));
                Ok(())
            }
            Err(failure) if is_required => {
                let what = format!("record {} in the audit log before it begins", self.act.verb);
                let causes = std::iter::once(failure.message).chain(failure.causes).collect();
                let failure = Failure { causes, ..Failure::new(failure.kind, what) };
                Err(failure.hint(
                    "may this user write to the vault? With `required = \"nothing\"` in [audit] it begins unrecorded",
                ))
            }
            Err(failure) => {
                tracing::error!("{} begins unrecorded: {}", self.act.verb, failure.on_one_line());
                Ok(())
            }
        }
    }

    /// Writes what came of it.
    pub async fn end(mut self, context: &Context, result: &Result<Outcome, Failure>) {
        let code = match result {
            Ok(outcome) => outcome.code,
            Err(failure) => {
                self.texts.insert("error".to_owned(), failure.message.clone());
                failure.kind
            }
        };
        let vault = match (&self.begun, context.opened_first()) {
            (Some((vault, _)), _) => Ok(vault.clone()),
            (None, Some(vault)) => Ok(vault),
            // Nothing was done to a vault that the act itself could not open.
            (None, None) if cannot_open(code) => return,
            // It knows its vault by flags and variables, and says which one it opened.
            (None, None) if self.act.verb == "dump" => return,
            (None, None) => match tokio::time::timeout(PATIENCE, self.vault(context)).await {
                Ok(opened) => opened,
                Err(_) => Err(silent()),
            },
        };
        let of = self.begun.as_ref().map(|(_, head)| head.number);
        let stage = Stage::Ended { of, outcome: code.word(), exit_code: code as u8 };
        let written = match vault {
            Ok(vault) => tokio::time::timeout(PATIENCE, self.write(context, &vault, stage)).await,
            Err(failure) => Ok(Err(failure)),
        };
        if let Err(failure) = written.unwrap_or_else(|_| Err(silent())) {
            tracing::error!("what came of {} {UNWRITTEN}: {}", self.act.verb, failure.on_one_line());
        }
    }

    async fn vault(&self, context: &Context) -> Result<Arc<Vault>, Failure> {
        context.writable(self.named.as_deref()).await
    }

    async fn write(&self, context: &Context, vault: &Vault, stage: Stage) -> Result<Head, Failure> {
        let (actor, act, texts) = (self.actor.clone(), self.act.clone(), self.texts.clone());
        Ok(record(&context.cx, vault, &Record { actor, act, stage, texts }, &tool()).await?)
    }
}

fn silent() -> Failure {
    Failure::new(Code::Store, format!("the vault did not answer within {} s", PATIENCE.as_secs()))
}

/// Whether this is what came of it because the vault could not be opened.
fn cannot_open(code: Code) -> bool {
    matches!(code, Code::Usage | Code::Settings | Code::Store | Code::Key | Code::Newer)
}

/// The words of the verb, and what was given to it.
fn leaf(matches: &ArgMatches) -> (String, &ArgMatches) {
    let (mut words, mut matches) = (Vec::new(), matches);
    while let Some((word, below)) = matches.subcommand() {
        words.push(word);
        matches = below;
    }
    (words.join(" "), matches)
}

/// What was given for an option, if the verb has it and it was.
fn word(matches: &ArgMatches, id: &str) -> Option<String> {
    let given = matches.try_get_raw(id).ok().flatten()?;
    Some(given.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::Command;

    use super::*;

    fn leaves(command: &Command, path: &str, found: &mut Vec<String>) {
        let below: Vec<&Command> = command.get_subcommands().collect();
        if below.is_empty() {
            found.push(path.to_owned());
        }
        for command in below {
            let path = [path, command.get_name()].join(" ");
            leaves(command, path.trim(), found);
        }
    }

    /// Whoever adds a verb says here whether it is recorded.
    #[test]
    fn every_verb_is_recorded_or_not_on_purpose() {
        let mut found = Vec::new();
        leaves(&crate::cli::command(), "", &mut found);
        let listed: Vec<&str> = [DESTROYING, HANDING_OUT, AFTER, UNRECORDED].concat();
        assert_eq!(listed.iter().collect::<BTreeSet<_>>().len(), listed.len(), "a verb is listed twice");
        let (found, listed): (BTreeSet<&str>, BTreeSet<&str>) =
            (found.iter().map(String::as_str).collect(), listed.into_iter().collect());
        assert_eq!(found, listed);
    }

    #[test]
    fn what_only_looks_is_not_recorded() {
        let recorded = |line: &str| {
            let words = std::iter::once("strongroom").chain(line.split(' '));
            let matches = crate::cli::command().try_get_matches_from(words).unwrap();
            Recording::of(&crate::cli::bare(&matches), &matches)
        };
        for line in [
            "list",
            "status",
            "verify --records",
            "lifecycle",
            "checklist daily",
            "expire --dry-run",
            "sweep a --dry-run",
            "backup --dry-run",
            "restore a --to x --dry-run",
            "hold list",
            "key check",
            "wal push x",
            "audit verify",
            "checklist daily",
        ] {
            assert!(recorded(line).is_none(), "{line}");
        }
        for line in [
            "verify",
            "lifecycle --apply",
            "checklist weekly --sign ada",
            "sweep",
            "backup",
            "key add --generate-identity f",
        ] {
            assert!(recorded(line).is_some(), "{line}");
        }
        let point = "20261120T120000Z-1f2e3d4c";
        let release = recorded(&format!("hold release {point} --reason case --owner ada --in far")).unwrap();
        assert!(release.before == Some(Required::Destroying) && release.named.as_deref() == Some("far"));
        assert_eq!(release.act.point.as_ref().map(ToString::to_string).as_deref(), Some(point));
        assert_eq!(release.texts.get("reason").map(String::as_str), Some("case"));
        let restore = recorded("restore orders --to /srv/x --standby --primary password=secret --yes")
            .map(|it| it.texts);
        assert!(restore.is_some_and(|texts| texts.values().all(|text| !text.contains("secret"))));
        assert_eq!(
            recorded("verify orders").unwrap().act.source.map(|it| it.to_string()).as_deref(),
            Some("orders")
        );
    }
}
