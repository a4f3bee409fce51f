//! The overview: to which second each source can be recovered, and how that is known. Broken ones first.

use serde::Serialize;
use strongroom_model::alert::Severity;
use strongroom_model::{SourceName, Timestamp};

use super::Sight;
use super::line::{SourceLine, Standing, lines};

/// Sources on a page.
pub const ON_A_PAGE: usize = 50;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Only sources with this in their name or kind.
    pub text: String,
    /// Only those that stand so.
    pub standing: Option<Standing>,
    /// Which page of them, from 1 on.
    pub page: usize,
}

/// How many stand how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Count {
    /// How.
    pub standing: Standing,
    /// How many.
    pub sources: usize,
}

/// What there is to say first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Headline {
    /// Before the time.
    pub before: String,
    /// To which second.
    pub to: Option<Timestamp>,
    /// Behind it.
    pub after: String,
    /// How that is known.
    pub known_by: String,
}

/// All sources, or those that were asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overview {
    /// When this was made.
    pub at: Timestamp,
    /// When the vault last said what it holds.
    pub read_at: Option<Timestamp>,
    /// Why that may no longer hold; `None` if it does.
    pub stale: Option<String>,
    /// What there is to say first, of all sources.
    pub headline: Headline,
    /// How many of all stand how; those of which there are none are left out.
    pub counts: Vec<Count>,
    /// Alerts that fire, of all sources and of the vault: critical ones, and others.
    pub alerts: (usize, usize),
    /// All sources there are.
    pub sources_in_all: usize,
    /// How many fit what was asked.
    pub fitting: usize,
    /// Which page this is, from 1 on, and of how many.
    pub page: (usize, usize),
    /// The sources of this page, the worst first.
    pub sources: Vec<SourceLine>,
}

/// The overview, of sources that `may_see` lets be seen.
pub fn overview(sight: Sight<'_>, asked: &Asked, may_see: impl Fn(&SourceName) -> bool) -> Overview {
    let mut all = lines(sight);
    all.retain(|line| may_see(&line.source));
    let count = |standing| all.iter().filter(|line| line.standing == standing).count();
    let counts =
        Standing::ALL.iter().map(|standing| Count { standing: *standing, sources: count(*standing) });
    let counts: Vec<Count> = counts.filter(|count| count.sources > 0).collect();
    let headline = headline(&all);
    let sources_in_all = all.len();
    let told = sight.snapshot.map(|snapshot| snapshot.facts.alerts.iter());
    let seen = told
        .into_iter()
        .flatten()
        .filter(|alert| alert.condition.source.as_ref().is_none_or(&may_see))
        .map(|alert| alert.condition.severity);
    let (critical, others): (Vec<_>, Vec<_>) = seen.partition(|severity| *severity == Severity::Critical);
    let text = asked.text.trim().to_lowercase();
    all.retain(|line| {
        let fits = line.source.as_str().contains(&text) || line.kind.contains(&text);
        fits && asked.standing.is_none_or(|standing| line.standing == standing)
    });
    let fitting = all.len();
    let pages = fitting.div_ceil(ON_A_PAGE).max(1);
    let page = asked.page.clamp(1, pages);
    let sources = all.into_iter().skip((page - 1) * ON_A_PAGE).take(ON_A_PAGE).collect();
    Overview {
        at: sight.now,
        read_at: sight.read_at(),
        stale: sight.staleness(),
        headline,
        counts,
        alerts: (critical.len(), others.len()),
        sources_in_all,
        fitting,
        page: (page, pages),
        sources,
    }
}

/// What there is to say of these sources first.
pub fn headline(lines: &[SourceLine]) -> Headline {
    let said = |before: String, to, after: String, known_by: String| Headline { before, to, after, known_by };
    if let [line] = lines {
        return match (line.recoverable_to, line.standing) {
            (Some(to), Standing::Unknown) => said(
                format!("{} could be recovered to", line.source),
                Some(to),
                "when the vault last answered".to_owned(),
                line.why.clone(),
            ),
            (Some(to), _) => {
                said(format!("{} can be recovered to", line.source), Some(to), String::new(), how(line))
            }
            (None, Standing::Unknown) => said(
                format!("Whether {} can be recovered is not known", line.source),
                None,
                String::new(),
                line.why.clone(),
            ),
            (None, _) => {
                said(format!("{} cannot be recovered", line.source), None, String::new(), line.why.clone())
            }
        };
    }
    let count = lines.len();
    let furthest =
        lines.iter().filter_map(|line| Some((line.recoverable_to?, line))).min_by_key(|(to, _)| *to);
    let able = lines.iter().filter(|line| line.recoverable_to.is_some()).count();
    let count_of = |is: fn(&SourceLine) -> bool| lines.iter().filter(|line| is(line)).count();
    let said_of = [
        (count_of(|line| line.standing == Standing::Proven), "restored by a drill lately"),
        (
            count_of(|line| line.proof.is_none() && line.points.is_some_and(|points| points > 0)),
            "never drilled",
        ),
        (count_of(|line| line.points == Some(0)), "without any recovery point"),
        (count_of(|line| line.standing == Standing::Unknown), "not known, or by what was read long ago"),
    ];
    let parts = said_of.iter().filter(|(sources, _)| *sources > 0);
    let parts: Vec<String> = parts.map(|(sources, how)| format!("{sources} {how}")).collect();
    let known_by = parts.join(", ");
    match (count, furthest) {
        (0, _) => said("Nothing is protected yet".to_owned(), None, String::new(), String::new()),
        (_, None) => {
            said(format!("None of {count} sources is known to be recoverable"), None, String::new(), known_by)
        }
        (_, Some((to, line))) if able == 1 => {
            let before = format!("1 of {count} sources can be recovered: {} to", line.source);
            said(before, Some(to), String::new(), known_by)
        }
        (_, Some((to, line))) => {
            let those = if able == count { format!("All {count}") } else { format!("{able} of {count}") };
            let after = format!("or later; {} is furthest behind", line.source);
            said(format!("{those} sources can be recovered to"), Some(to), after, known_by)
        }
    }
}

/// How it is known of one source.
fn how(line: &SourceLine) -> String {
    format!("{}; {}", line.known_by, line.why)
}
