//! `strongroom checklist`

use clap::builder::NonEmptyStringValueParser;
use serde_json::json;
use strongroom_model::checklist::{Answer, Period, Reply};
use strongroom_ops::checklist::{Known, SignOffs, answers, sign, sign_offs};

use crate::cli::report::{compliance, cost, jobs, made_by};
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::Outcome;
use crate::paper::{Paper, Part, Row, Rows, Sheet, Tone};
use crate::surroundings::hand;

/// Answer the daily, weekly and monthly checklist by what was measured, and record who signed it off
#[derive(clap::Subcommand)]
pub enum Verb {
    /// Jobs, sizes, points, WAL
    #[command(after_help = EXAMPLES)]
    Daily(Asked),
    /// Logs, retention, room
    #[command(after_help = EXAMPLES)]
    Weekly(Asked),
    /// Restores, procedures, objectives, cost
    #[command(after_help = EXAMPLES)]
    Monthly(Asked),
    /// Past sign-offs, and what is overdue
    #[command(after_help = "\
Exits with 4 if a checklist is overdue, or a record does not count.

Examples:
  strongroom checklist list
  strongroom checklist list --output json")]
    List,
}

const EXAMPLES: &str = "\
What the machine cannot see a person must answer: the sign-off says that they did. Exits with 4 if an answer is no.

Examples:
  strongroom checklist daily
  strongroom checklist weekly --sign 'Ada Lovelace' --note 'logs read; nothing new'
  strongroom checklist monthly --format html > monthly.html";

#[derive(clap::Args)]
pub struct Asked {
    /// Sign it off under this name: the answers are kept in the vault, signed with its key
    #[arg(long, value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    sign: Option<String>,
    /// What to keep with it, for whoever asks later
    #[arg(long, value_name = "TEXT", requires = "sign")]
    note: Option<String>,
    /// How to write it
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    format: Sheet,
}

const HEAD: [&str; 4] = ["question", "answer", "found", "see"];

const PAST: [&str; 5] = ["checklist", "signed off", "by", "answers", "note"];

pub async fn run(context: &Context, verb: &Verb) -> Result<Outcome, Failure> {
    match verb {
        Verb::Daily(asked) => ask(context, Period::Daily, asked).await,
        Verb::Weekly(asked) => ask(context, Period::Weekly, asked).await,
        Verb::Monthly(asked) => ask(context, Period::Monthly, asked).await,
        Verb::List => list(context).await,
    }
}

async fn ask(context: &Context, period: Period, asked: &Asked) -> Result<Outcome, Failure> {
    let vault = context.vault().await?;
    let days = (period.looks_back().as_secs() / 86_400) as u32;
    let judged = compliance::judged_of(context, &vault, (None, days)).await?;
    let known = Known {
        jobs: jobs::figures_of(context, days).await.map_err(|failure| failure.on_one_line()),
        judged: &judged,
        expected_storage: context.settings.watch.expected_storage.map(|size| size.0),
        cost: match period {
            Period::Monthly => Some(cost::in_short(context, &vault).await?),
            Period::Daily | Period::Weekly => None,
        },
    };
    let found = answers(&context.cx, &vault, period, &known).await?;
    let count = |reply| found.iter().filter(|answer| answer.reply == reply).count();
    let (no, persons) = (count(Reply::No), count(Reply::Person));
    let evidence = match &asked.sign {
        Some(by) => {
            let note = asked.note.as_deref();
            Some(sign(&context.cx, &vault, (period, found.clone()), (by, note), &hand()).await?)
        }
        None => None,
    };
    let mut lead = format!("{} yes, {no} no, {persons} for a person to answer.", count(Reply::Yes));
    if let (Some(evidence), Some(by)) = (&evidence, &asked.sign) {
        lead.push_str(&format!(" Signed off by {by}: {evidence}"));
    }
    let paper = Paper {
        title: format!("Checklist, {period}"),
        note: made_by(context, &format!("the settings and what is in {}", vault.place())),
        lead,
        parts: vec![Part::Table(String::new(), Rows { head: &HEAD, rows: found.iter().map(row).collect() })],
    };
    let json = json!({ "period": period, "answers": found, "evidence": evidence });
    let code = if no == 0 { Code::Ok } else { Code::Problems };
    Ok(Outcome::new(&json, paper.written(asked.format)).with_code(code))
}

fn row(answer: &Answer) -> Row {
    let tone = match answer.reply {
        Reply::Yes => Tone::Good,
        Reply::No => Tone::Bad,
        Reply::Person => Tone::Unsure,
    };
    let see = if answer.evidence.is_empty() { "-".to_owned() } else { answer.evidence.join("\n") };
    let cells = vec![answer.question.asks().to_owned(), answer.reply.to_string(), answer.found.clone(), see];
    Row { cells, tone }
}

async fn list(context: &Context) -> Result<Outcome, Failure> {
    let vault = context.answering().await?;
    let all = sign_offs(&context.cx, &vault).await?;
    let rows = all.iter().flat_map(|of| of.records.iter().rev().map(move |record| (of, record)));
    let rows = rows.map(|(of, record)| match &record.sign_off {
        Some(sign_off) => {
            let count = |reply| sign_off.answers.iter().filter(|answer| answer.reply == reply).count();
            let [yes, no, persons] = [Reply::Yes, Reply::No, Reply::Person].map(count);
            Row::plain(vec![
                of.period.to_string(),
                sign_off.at.to_string(),
                sign_off.by.clone(),
                format!("{yes} yes, {no} no, {persons} a person's"),
                sign_off.note.clone().unwrap_or_else(|| "-".to_owned()),
            ])
        }
        None => {
            let why = format!("does not count: {}", record.wrong.unwrap_or("it does not read"));
            let cells = vec![of.period.to_string(), record.id.clone(), "-".to_owned(), "-".to_owned(), why];
            Row { cells, tone: Tone::Bad }
        }
    });
    let due: Vec<String> = all.iter().filter_map(overdue).collect();
    let paper = Paper {
        title: "Checklists".to_owned(),
        note: made_by(context, &format!("the evidence in {}", vault.place())),
        lead: if due.is_empty() { "Nothing is overdue.".to_owned() } else { due.join("; ") },
        parts: vec![Part::Table(String::new(), Rows { head: &PAST, rows: rows.collect() })],
    };
    let is_fine =
        due.is_empty() && all.iter().all(|of| of.records.iter().all(|record| record.wrong.is_none()));
    let code = if is_fine { Code::Ok } else { Code::Problems };
    Ok(Outcome::new(&all, paper.text()).with_code(code))
}

fn overdue(of: &SignOffs) -> Option<String> {
    Some(format!("{} is overdue, {}: strongroom checklist {}", of.period, of.overdue.as_ref()?, of.period))
}
