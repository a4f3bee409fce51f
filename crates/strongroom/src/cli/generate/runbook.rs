//! `strongroom generate runbook`: what to do in each disaster, with the names of this installation, and times that drills measured.
//!
//! **Invariant**: every line that begins with `strongroom` is one that this build takes: a test puts each through its own parser.

use std::collections::BTreeMap;

use strongroom_model::source::SourceKind;
use strongroom_model::time::human_duration;
use strongroom_model::{PointId, SourceName, Timestamp};
use strongroom_ops::status::{LastDrill, status};

use super::Target;
use crate::context::{Context, called};
use crate::failure::Failure;
use crate::paper::{Paper, Part};
use crate::surroundings::{host, tool};

#[derive(clap::Args)]
pub struct Arguments {
    /// How to write it
    #[arg(long, value_name = "FORMAT", default_value = "markdown")]
    format: Format,
    #[command(flatten)]
    pub target: Target,
}

/// How it is written.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Format {
    /// For a wiki or a repository
    Markdown,
    /// As a page that needs nothing beside it, for whoever has no network when it is needed
    Html,
}

/// What the procedures name.
struct Names {
    vault: String,
    replicas: Vec<String>,
    keys: Vec<String>,
    sources: BTreeMap<SourceName, Known>,
}

/// What is known of a source.
struct Known {
    kind: SourceKind,
    newest: Option<PointId>,
    measured: String,
}

pub async fn text(context: &Context, arguments: &Arguments) -> Result<String, Failure> {
    let vault = context.answering().await?;
    let mut states: BTreeMap<SourceName, _> = status(&context.cx, &vault, None)
        .await?
        .into_iter()
        .map(|state| (state.source.clone(), state))
        .collect();
    let now = context.cx.now();
    let known = |(name, settings): (&SourceName, &crate::settings::SourceSettings)| {
        let state = states.remove(name);
        let measured = measured(state.as_ref().and_then(|state| state.drill.as_ref()), now);
        (
            name.clone(),
            Known { kind: settings.kind, newest: state.and_then(|state| state.last_point), measured },
        )
    };
    let sources = context.settings.sources.iter().map(known).collect();
    let recipients = vault.recipients().await?;
    let keys = recipients.iter().map(|row| {
        let kind = row.kind.as_deref().unwrap_or("does not read");
        format!("{} ({kind})", row.label.as_deref().unwrap_or("without a label"))
    });
    let names = Names {
        vault: vault.place(),
        replicas: context.settings.further.iter().map(called).collect(),
        keys: keys.collect(),
        sources,
    };
    let note =
        format!("{now}, by the settings and what is in {}; made by {} on {}", vault.place(), tool(), host());
    let paper = paper(&names, note);
    Ok(match arguments.format {
        Format::Markdown => paper.markdown(),
        Format::Html => paper.html(),
    })
}

fn measured(drill: Option<&LastDrill>, now: Timestamp) -> String {
    let Some(drill) = drill else { return "Never drilled: nobody knows how long it takes.".to_owned() };
    let ago = human_duration(now.since(drill.at));
    let took = drill.rto_seconds.and_then(|seconds| std::time::Duration::try_from_secs_f64(seconds).ok());
    match took {
        Some(took) => format!(
            "The last drill took {} until the data could be used, {ago} ago ({}).",
            human_duration(took),
            drill.evidence
        ),
        None => format!("The last drill, {ago} ago, did not get so far ({}).", drill.evidence),
    }
}

fn paper(names: &Names, note: String) -> Paper {
    let intro = "TIME, DATABASE, SCHEMA.TABLE and FILE are to be replaced. Keep a copy of this where it can be read when the network cannot, \
                 and make it anew when the settings change.";
    let mut parts = vec![Part::Prose(String::new(), intro.to_owned())];
    for (source, known) in &names.sources {
        parts.push(Part::Prose(format!("Source {source}"), known.measured.clone()));
        match known.kind {
            SourceKind::Postgres => {
                of_cluster(source, &mut parts);
                of_doubt(source, known, &mut parts);
            }
            SourceKind::PostgresLogical => of_dump(source, &mut parts),
        }
    }
    parts.push(lost_vault(names));
    parts.push(lost_key(names));
    Paper { title: "Disaster runbook".to_owned(), note, lead: String::new(), parts }
}

type Steps = Vec<(String, Vec<String>)>;

fn step(what: &str, commands: &[String]) -> (String, Vec<String>) {
    (what.to_owned(), commands.to_vec())
}

fn of_cluster(source: &SourceName, parts: &mut Vec<Part>) {
    let folder = folder_of(source);
    let beside = format!("strongroom restore {source} --to {folder} --no-archiving --start --port 5433");
    let server: Steps = vec![
        step("See to which second it can be recovered.", &[format!("strongroom status {source}")]),
        step(
            "On a host with the same major version of PostgreSQL, the settings and a key: look at the plan.",
            &[format!("strongroom restore {source} --to {folder} --dry-run")],
        ),
        step("Restore, and start.", &[format!("strongroom restore {source} --to {folder} --start")]),
        step(
            "See that it archives again, and take a recovery point.",
            &[format!("strongroom doctor {source}"), format!("strongroom backup {source}")],
        ),
    ];
    let database: Steps = vec![
        step("Restore it beside the server, on another port.", &[format!("{beside} --db DATABASE")]),
        step(
            "Bring it over.",
            &[
                "pg_dump -p 5433 -Fc -f DATABASE.dump DATABASE".to_owned(),
                "pg_restore --create -d postgres DATABASE.dump".to_owned(),
            ],
        ),
    ];
    let table: Steps = vec![
        step(
            "Find out when it was still there (the server's log), and restore the time before beside the server.",
            &[format!("{beside} --at TIME --exclusive")],
        ),
        step(
            "Bring it over.",
            &[
                "pg_dump -p 5433 -t SCHEMA.TABLE -Fc -f table.dump DATABASE".to_owned(),
                "pg_restore -d DATABASE table.dump".to_owned(),
            ],
        ),
    ];
    parts.extend([
        Part::Steps(format!("{source}: the server is lost"), server),
        Part::Steps(format!("{source}: a database is lost"), database),
        Part::Steps(format!("{source}: a table was dropped"), table),
    ]);
}

/// What is there cannot be trusted: neither a page, nor a host.
fn of_doubt(source: &SourceName, known: &Known, parts: &mut Vec<Part>) {
    let folder = folder_of(source);
    let page: Steps = vec![
        step("See that what is in the vault is sound.", &[format!("strongroom verify {source} --data")]),
        step(
            "Restore to the latest there is, beside the damaged folder, which stays as it is.",
            &[format!("strongroom restore {source} --to {folder} --latest")],
        ),
        step(
            "Stop the damaged server, start the restored one, and take a recovery point.",
            &[format!("strongroom backup {source}")],
        ),
    ];
    let hold = known
        .newest
        .as_ref()
        .map(|point| format!("strongroom hold place {point} --reason ransomware --owner NAME"));
    let attack: Steps = vec![
        step(
            "Disconnect the hosts. Let nothing expire: hold what is there.",
            &hold.into_iter().collect::<Vec<_>>(),
        ),
        step(
            "See what the vault has; of a bucket with versions also as it was, with --as-of TIME.",
            &[format!("strongroom list {source}")],
        ),
        step(
            "Prove a state from before the attack, on a host that was never connected.",
            &[format!("strongroom drill {source} --at TIME")],
        ),
        step(
            "Restore it there.",
            &[format!("strongroom restore {source} --to {folder} --at TIME --no-archiving")],
        ),
        step("Exchange every key that the attacked hosts had.", &["strongroom key list".to_owned()]),
    ];
    parts.extend([
        Part::Steps(format!("{source}: a page is corrupted"), page),
        Part::Steps(format!("{source}: ransomware"), attack),
    ]);
}

/// A new folder: nothing is restored over what is left of the old one.
fn folder_of(source: &SourceName) -> String {
    format!("/var/lib/postgresql/{source}-restored")
}

fn of_dump(source: &SourceName, parts: &mut Vec<Part>) {
    let again = format!("{}_again", source.as_str().replace(['-', '.'], "_"));
    let database: Steps = vec![
        step("See what there is.", &[format!("strongroom list {source}")]),
        step(
            "Restore into a new database of the server that the settings name; or of another, with --target CONNINFO.",
            &[
                format!("strongroom restore {source} --to-database {again} --dry-run"),
                format!("strongroom restore {source} --to-database {again} --yes"),
            ],
        ),
    ];
    let table: Steps = vec![step(
        "Restore the table under another name, from the newest dump before TIME, and compare.",
        &[format!("strongroom restore {source} --at TIME --table SCHEMA.TABLE=SCHEMA.TABLE_THEN --dry-run")],
    )];
    parts.extend([
        Part::Steps(format!("{source}: the server or the database is lost"), database),
        Part::Steps(format!("{source}: a table was dropped"), table),
    ]);
}

fn lost_vault(names: &Names) -> Part {
    let heading = format!("The vault {} is lost, or its region", names.vault);
    let Some(replica) = names.replicas.first() else {
        let none = "There is no second vault: what was in it is lost. Name one in [[also]] while there is time, and fill it with strongroom copy.";
        return Part::Prose(heading, none.to_owned());
    };
    let steps: Steps = vec![
        step(
            "Restores go on with the next vault that answers. See what it has.",
            &["strongroom list".to_owned()],
        ),
        step("See that it is sound.", &[format!("strongroom verify --in {replica} --data")]),
        step(
            "Give the first vault a new place in the settings, and fill it.",
            &[
                format!("strongroom init --copy-of {replica}"),
                format!("strongroom copy --from {replica} --to vault"),
            ],
        ),
    ];
    Part::Steps(heading, steps)
}

fn lost_key(names: &Names) -> Part {
    let keys = match names.keys.is_empty() {
        true => "nobody: it is not encrypted".to_owned(),
        false => names.keys.join(", "),
    };
    let steps: Steps = vec![
        step(
            &format!("The vault opens for: {keys}. Find one of these."),
            &["strongroom key list".to_owned()],
        ),
        step("Prove that it opens the vault.", &["strongroom key check --identity-file FILE".to_owned()]),
        step(
            "Add a new one, and remove the one that is lost.",
            &["strongroom key add --new-passphrase-file FILE --identity-file FILE".to_owned()],
        ),
        step(
            "Print a new recovery sheet, and keep it apart from the vault.",
            &["strongroom key sheet".to_owned()],
        ),
    ];
    Part::Steps("The key is lost".to_owned(), steps)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn names(replicas: &[&str]) -> Names {
        let newest = "20261120T120000Z-1f2e3d4c".parse().ok();
        let measured = measured(None, Timestamp::from_unix_seconds(0).unwrap());
        let known = Known { kind: SourceKind::Postgres, newest, measured };
        Names {
            vault: "s3://b/<p>".into(),
            replicas: replicas.iter().map(|name| (*name).to_owned()).collect(),
            keys: vec!["safe (age)".into()],
            sources: [("orders".parse().unwrap(), known)].into(),
        }
    }

    #[test]
    fn every_command_of_the_runbook_is_one_that_this_build_takes() {
        let mut names = names(&["dr"]);
        let dumped = Known { kind: SourceKind::PostgresLogical, newest: None, measured: String::new() };
        names.sources.insert("shop-1".parse().unwrap(), dumped);
        let paper = paper(&names, "n".into());
        let steps = paper.parts.iter().filter_map(|part| match part {
            Part::Steps(_, steps) => Some(steps),
            _ => None,
        });
        let commands: Vec<&String> = steps.flatten().flat_map(|(_, commands)| commands).collect();
        let ours: Vec<&&String> =
            commands.iter().filter(|command| command.starts_with("strongroom ")).collect();
        assert!(ours.len() > 15, "{ours:?}");
        for command in ours {
            let filled = command.replace("--at TIME", "--at 2026-11-20T12:00:00Z");
            let parsed = crate::cli::Arguments::try_parse_from(filled.split(' '));
            assert!(
                parsed.is_ok(),
                "{command}: {}",
                parsed.err().map(|error| error.to_string()).unwrap_or_default()
            );
        }
        assert!(paper.markdown().contains("Never drilled") && paper.html().contains("s3://b/&lt;p&gt;"));
    }

    #[test]
    fn without_a_second_vault_it_says_that_nothing_comes_back() {
        let text = paper(&names(&[]), "n".into()).markdown();
        assert!(text.contains("There is no second vault") && !text.contains("--copy-of"), "{text}");
    }
}
