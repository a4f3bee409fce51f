//! `strongroom report architecture`

use strongroom_model::plan::Work;
use strongroom_model::retention::Retention;
use strongroom_model::source::{Protected, Shipping};
use strongroom_model::time::human_duration;
use strongroom_ops::report::architecture::{Architecture, Inside, Protection, Store, inside};

use super::drawing::drawn;
use super::{Form, Made, made_by};
use crate::catalog::open;
use crate::context::{Context, called};
use crate::failure::Failure;
use crate::paper::{Paper, Part, Row, Rows, Tone};
use crate::settings::{LockSettings, VaultSettings};

/// Report what is protected by what: sources, agents, vaults, copies, locks and keys
#[derive(clap::Args)]
#[command(after_help = "\
Comes from the settings, and from the vaults as far as they can be opened now. Of keys it says for whom they are, and nothing of them.
The page has a drawing. Exits with 4 if a vault cannot be opened.

Examples:
  strongroom report architecture
  strongroom report architecture --format html > architecture.html")]
pub struct Arguments {
    #[command(flatten)]
    pub form: Form,
}

const SOURCES: [&str; 5] = ["source", "kind", "journal", "backed up by", "copied to"];
const VAULTS: [&str; 6] = ["vault", "place", "encryption", "keys for", "lock", "keeps"];

pub async fn made(context: &Context, _: &Arguments) -> Result<Made, Failure> {
    let all = architecture(context).await;
    let source = |of: &Protection| {
        let dash = |words: &[String]| if words.is_empty() { "-".to_owned() } else { words.join("; ") };
        Row::plain(vec![
            of.source.clone(),
            of.kind.clone(),
            of.journal.clone(),
            dash(&of.plans),
            dash(&of.copies),
        ])
    };
    let vault = |of: &Store| {
        let (suite, keys, tone) = match &of.inside {
            Inside::Open { suite, keys, .. } => (suite.clone(), keys.join("; "), Tone::Plain),
            Inside::Shut(why) => ("not known".to_owned(), format!("not known: {why}"), Tone::Bad),
        };
        Row {
            cells: vec![of.name.clone(), of.place.clone(), suite, keys, of.lock.clone(), of.keeps.clone()],
            tone,
        }
    };
    let paper = Paper {
        title: "Architecture".to_owned(),
        note: made_by(context, "the settings, and the vaults themselves"),
        lead: String::new(),
        parts: vec![
            Part::Figure("What goes where".to_owned(), drawn(&all), lines(&all)),
            Part::Table(
                "Sources".to_owned(),
                Rows { head: &SOURCES, rows: all.sources.iter().map(source).collect() },
            ),
            Part::Table(
                "Vaults".to_owned(),
                Rows { head: &VAULTS, rows: all.vaults.iter().map(vault).collect() },
            ),
            Part::Prose(
                "Agents".to_owned(),
                match all.agents.is_empty() {
                    true => "none was heard of".to_owned(),
                    false => all.agents.join("\n"),
                },
            ),
        ],
    };
    let is_fine = all.vaults.iter().all(|vault| matches!(vault.inside, Inside::Open { .. }));
    Ok(Made::new(&all, paper, is_fine))
}

/// All of it, by the settings and whatever can be opened.
async fn architecture(context: &Context) -> Architecture {
    let mut vaults = vec![store(context, &context.settings.vault, true).await];
    for settings in &context.settings.further {
        vaults.push(store(context, settings, false).await);
    }
    let sources = context.settings.protected().iter().map(|source| protection(context, source)).collect();
    Architecture { sources, agents: agents(context).await, vaults }
}

async fn store(context: &Context, settings: &VaultSettings, is_main: bool) -> Store {
    let opened = if is_main { context.vault().await } else { context.further_vault(settings).await };
    let (place, inside) = match opened {
        Ok(vault) => {
            let said = inside(&vault).await.map_err(Failure::from);
            (vault.place(), said.unwrap_or_else(|failure| Inside::Shut(failure.on_one_line())))
        }
        Err(failure) => {
            let place = settings.url.clone().unwrap_or_else(|| "not known".to_owned());
            (place, Inside::Shut(failure.on_one_line()))
        }
    };
    Store {
        name: called(settings),
        place,
        lock: settings.lock.as_ref().map_or_else(|| "none".to_owned(), locked),
        keeps: match (&settings.retention, &context.settings.retention) {
            (Some(of), _) => kept(of),
            (None, Some(of)) => format!("what sources and plans say, else {}", kept(of)),
            (None, None) => "what sources and plans say, else everything".to_owned(),
        },
        inside,
    }
}

fn locked(lock: &LockSettings) -> String {
    format!("{} for {} days", lock.lock().mode.as_str().to_lowercase(), lock.days())
}

/// A retention in words.
pub fn kept(retention: &Retention) -> String {
    let of = |count: u32, what: &str| (count > 0).then(|| format!("{what} {count}"));
    let rules = [
        of(retention.keep_last, "last"),
        of(retention.keep_days, "days"),
        of(retention.daily, "daily"),
        of(retention.weekly, "weekly"),
        of(retention.monthly, "monthly"),
        of(retention.yearly, "yearly"),
        of(retention.pitr_days, "days to any second:"),
    ];
    rules.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn protection(context: &Context, source: &Protected) -> Protection {
    let covering = context.settings.plans.iter().filter(|(_, plan)| plan.covers(source));
    let (mut plans, mut copies) = (Vec::new(), Vec::new());
    for (name, plan) in covering {
        for table in plan.timetables().filter(|table| table.work == Work::Backup) {
            plans.push(format!("{name}/{} ({} {})", table.rule, table.schedule, table.zone));
            copies.extend(table.copies.iter().cloned());
        }
    }
    copies.sort();
    copies.dedup();
    let journal = match source.shipping {
        _ if !source.kind.has_journal() => "none: it is dumped".to_owned(),
        Shipping::Streamed(span) => format!("streamed as it is written, {span} late at most"),
        Shipping::Archived(span) => format!("archived by the server each {span} at least"),
        Shipping::None => "archived by the server, as often as it says".to_owned(),
    };
    Protection { source: source.name.to_string(), kind: source.kind.to_string(), journal, plans, copies }
}

/// The agents that the catalog has heard of; none if it cannot be asked.
async fn agents(context: &Context) -> Vec<String> {
    let Ok(catalog) = open(context).await else { return Vec::new() };
    let known = catalog.agents().await.unwrap_or_default();
    let now = context.cx.now();
    let shown = |agent: &strongroom_catalog::history::Agent| {
        let ago = human_duration(now.since(agent.seen));
        format!("{} ({}), last heard of {ago} ago", agent.name, agent.build)
    };
    known.iter().map(shown).collect()
}

/// The drawing for a terminal.
fn lines(all: &Architecture) -> String {
    let first = all.vaults.first().map_or("vault", |vault| vault.name.as_str());
    let line = |of: &Protection| {
        let copies: String = of.copies.iter().map(|copy| format!(" ─▶ {copy}")).collect();
        format!("{} ─▶ {first}{copies}", of.source)
    };
    match all.sources.is_empty() {
        true => format!("nothing ─▶ {first}"),
        false => all.sources.iter().map(line).collect::<Vec<_>>().join("\n"),
    }
}
