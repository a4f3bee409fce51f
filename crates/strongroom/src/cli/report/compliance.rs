//! `strongroom report compliance`

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use strongroom_model::SourceName;
use strongroom_model::control::{Clauses, Control, Finding, Verdict};
use strongroom_model::source::Protected;
use strongroom_ops::report::compliance::{Bench, Judged, Other, judged};
use strongroom_vault::Vault;

use super::{Form, Made, made_by, promises};
use crate::context::{Context, called};
use crate::failure::{Code, Failure};
use crate::paper::{Paper, Part, Row, Rows, Tone};
use crate::settings::LockSettings;

/// Report which controls hold for each source, by which evidence, and which clauses of which standard they support
#[derive(clap::Args)]
#[command(after_help = "\
Controls and clauses are in docs/compliance.md: SOC 2, ISO/IEC 27001:2022, PCI DSS 4.0, NIST SP 800-53 and NIST CSF 2.0.
What nobody measured is not known, and does not pass. Exits with 0 if every control that was asked passed, else with 4.

Examples:
  strongroom report compliance
  strongroom report compliance orders --days 90 --output json
  strongroom report compliance --format html > compliance.html")]
pub struct Arguments {
    /// Only this source
    source: Option<SourceName>,
    /// Backups of so many days are counted
    #[arg(long, default_value_t = 31, value_parser = clap::value_parser!(u32).range(1..=400))]
    days: u32,
    #[command(flatten)]
    pub form: Form,
}

const HEAD: [&str; 5] = ["source", "control", "verdict", "found", "evidence"];

const CLAUSES: [&str; 8] = [
    "control",
    "passed",
    "asks",
    "SOC 2",
    "ISO/IEC 27001:2022",
    "PCI DSS 4.0",
    "NIST SP 800-53 r5",
    "NIST CSF 2.0",
];

pub async fn made(context: &Context, arguments: &Arguments) -> Result<Made, Failure> {
    let vault = context.answering().await?;
    let asked = (arguments.source.as_ref(), arguments.days);
    let judged = judged_of(context, &vault, asked).await?;
    let found: Vec<Verdict> =
        judged.iter().flat_map(|of| &of.findings).map(|finding| finding.verdict).collect();
    let count = |verdict| found.iter().filter(|found| **found == verdict).count();
    let counts = [Verdict::Passed, Verdict::Failed, Verdict::NotKnown].map(count);
    let [passed, failed, not_known] = counts;
    let mut findings: Vec<(&SourceName, &Finding)> =
        judged.iter().flat_map(|of| of.findings.iter().map(move |finding| (&of.source, finding))).collect();
    findings.sort_by_key(|(source, finding)| (finding.verdict, *source));
    let rows = findings.iter().map(|(source, finding)| row(source, finding)).collect();
    let paper = Paper {
        title: "Compliance".to_owned(),
        note: made_by(context, &format!("the settings and what is in {}", vault.place())),
        lead: format!("{passed} passed, {failed} failed, {not_known} not known."),
        parts: vec![
            Part::Table("Findings".to_owned(), Rows { head: &HEAD, rows }),
            Part::Table("Controls, and the clauses that they support".to_owned(), clauses(&judged)),
        ],
    };
    let controls = Control::ALL.iter().map(
        |control| json!({ "control": control, "asks": control.question(), "clauses": control.clauses() }),
    );
    let json = json!({
        "at": context.cx.now(), "vault": vault.id().to_string(), "days": arguments.days,
        "passed": passed, "failed": failed, "not_known": not_known,
        "sources": judged, "controls": controls.collect::<Vec<_>>(),
    });
    Ok(Made::new(&json, paper, passed > 0 && passed == found.len()))
}

/// Judges every source of settings and vault, or the one, by backups of so many days.
pub async fn judged_of(
    context: &Context,
    vault: &Arc<Vault>,
    (source, days): (Option<&SourceName>, u32),
) -> Result<Vec<Judged>, Failure> {
    let configured = context.settings.protected();
    let mut sources: BTreeSet<SourceName> = vault.sources().await?.into_iter().collect();
    sources.extend(configured.iter().map(|source| source.name.clone()));
    if let Some(only) = source {
        sources.retain(|source| source == only);
        if sources.is_empty() {
            let failure =
                Failure::new(Code::Settings, format!("source {only} is neither configured nor in the vault"));
            return Err(failure.hint("`strongroom report coverage` shows all sources"));
        }
    }
    let promises = promises(context);
    let bench = Bench {
        plans: &context.settings.plans,
        promises: &promises,
        period: Duration::from_secs(u64::from(days) * 86_400),
        custody: match context.is_first(vault) {
            true => context.custody_of(vault).map_err(|failure| failure.on_one_line()),
            false => Err("a vault that stands in for the first one was asked".to_owned()),
        },
        lock_days: context.settings.vault.lock.as_ref().map(LockSettings::days),
        others: others(context, vault).await,
    };
    let mut judged_all = Vec::new();
    for source in &sources {
        let of_source: Option<&Protected> = configured.iter().find(|known| known.name == *source);
        let retention = context.retention(None, source)?;
        judged_all.push(judged(&context.cx, vault, &bench, (source, of_source, retention)).await?);
    }
    Ok(judged_all)
}

/// Every other vault of the settings, opened or with the reason why not. One that is no replica has WAL alone, and no points.
async fn others(context: &Context, vault: &Arc<Vault>) -> Vec<Other> {
    let mut others = Vec::new();
    for settings in &context.settings.further {
        let opened = context.further_vault(settings).await.map_err(|failure| failure.on_one_line());
        match opened {
            Ok(other) if other.check_replica(vault).is_err() => {}
            opened => others.push((called(settings), opened)),
        }
    }
    others
}

fn row(source: &SourceName, finding: &Finding) -> Row {
    let tone = match finding.verdict {
        Verdict::Passed => Tone::Good,
        Verdict::Failed => Tone::Bad,
        Verdict::NotKnown => Tone::Unsure,
    };
    let evidence = match finding.evidence.is_empty() {
        true => "-".to_owned(),
        false => finding.evidence.join("\n"),
    };
    let (control, verdict) = (finding.control.to_string(), finding.verdict.to_string());
    Row { cells: vec![source.to_string(), control, verdict, finding.found.clone(), evidence], tone }
}

fn clauses(judged: &[Judged]) -> Rows {
    let of = |control: &Control| {
        let verdicts: Vec<Verdict> = judged.iter().filter_map(|of| of.verdict(*control)).collect();
        let passed = verdicts.iter().filter(|verdict| **verdict == Verdict::Passed).count();
        let Clauses { soc2, iso27001, pci_dss, nist_800_53, nist_csf } = control.clauses();
        let named = |clauses: &[&str]| if clauses.is_empty() { "-".to_owned() } else { clauses.join(", ") };
        let mut cells = vec![
            control.to_string(),
            format!("{passed} of {}", verdicts.len()),
            control.question().to_owned(),
        ];
        cells.extend([soc2, iso27001, pci_dss, nist_800_53, nist_csf].map(named));
        Row::judged(cells, passed == verdicts.len())
    };
    Rows { head: &CLAUSES, rows: Control::ALL.iter().map(of).collect() }
}
