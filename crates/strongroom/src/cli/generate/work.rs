//! What plans order, as commands with their times: for programs that run commands at times, where no agent does.
//!
//! **Invariants**
//! - A command is what the agent would run, word for word.
//! - A line keeps its name for as long as its plan, rule, source and kind do, whatever else is in the settings.

use std::collections::BTreeMap;
use std::time::Duration;

use strongroom_catalog::Kind;
use strongroom_model::schedule::Schedule;
use strongroom_model::zone::Zone;

use crate::agent::agenda::{Line, agenda};
use crate::agent::jobs::verb;
use crate::failure::{Code, Failure};
use crate::settings::Settings;

/// One line of the plans: what is done, and when.
pub struct Work {
    /// What tells it from all others.
    key: String,
    /// The same, as a name: `backup-orders-gold-nightly`.
    plain: String,
    /// What it is, for people: `backup orders (nightly of plan gold)`.
    pub says: String,
    /// What it does.
    pub kind: Kind,
    /// When.
    pub schedule: Schedule,
    /// Whose clock the schedule follows.
    pub zone: Zone,
    /// What follows the program's name on each command line, one after another.
    pub commands: Vec<Vec<String>>,
    /// How late it may begin.
    pub start_window: Duration,
    /// How long it may take.
    pub completion_window: Duration,
}

/// Everything that these settings order.
pub fn work(settings: &Settings) -> Result<Vec<Work>, Failure> {
    let lines: Vec<Work> = agenda(settings).into_iter().map(|line| of_line(settings, line)).collect();
    match lines.is_empty() {
        false => Ok(lines),
        true => {
            let failure = Failure::new(Code::Settings, "no plan orders anything");
            Err(failure
                .hint("write one in strongroom.toml (docs/plans.md): its schedules are what this is made of"))
        }
    }
}

fn of_line(settings: &Settings, line: Line) -> Work {
    let Line { standing, schedule, zone, copies } = line;
    let source = standing.source.as_ref();
    let mut commands = vec![verb(settings, (standing.kind, &standing.rule), source, "")];
    commands.extend(copies.iter().map(|vault| verb(settings, (Kind::Copy, &standing.rule), source, vault)));
    let kind = standing.kind.to_string();
    let of_source = source.map(|source| format!(" {source}")).unwrap_or_default();
    let of_plan = match standing.plan.as_str() {
        "" => String::new(),
        plan => format!(" ({} of plan {plan})", standing.rule),
    };
    let source = source.map(ToString::to_string).unwrap_or_default();
    let rule = if standing.rule == kind { "" } else { standing.rule.as_str() };
    let parts = [kind.as_str(), &source, &standing.plan, rule];
    Work {
        key: standing.key(),
        plain: parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("-"),
        says: format!("{kind}{of_source}{of_plan}"),
        kind: standing.kind,
        schedule,
        zone,
        commands,
        start_window: standing.start_window,
        completion_window: standing.completion_window,
    }
}

/// A name for each line, of the letters that `is_allowed`, others as `-`, no longer than `longest`. Where that is not what it is
/// called, or what another is called as well, a number of its own follows.
pub fn names(lines: &[Work], longest: usize, is_allowed: fn(char) -> bool) -> Vec<String> {
    let mut count = BTreeMap::<&str, usize>::new();
    lines.iter().for_each(|line| *count.entry(&line.plain).or_default() += 1);
    let name = |line: &Work| {
        let is_whole = line.plain.len() <= longest && line.plain.chars().all(is_allowed);
        if is_whole && count.get(line.plain.as_str()) == Some(&1) {
            return line.plain.clone();
        }
        let letters = line.plain.chars().map(|letter| if is_allowed(letter) { letter } else { '-' });
        let cut: String = letters.take(longest.saturating_sub(9)).collect();
        format!("{}-{:08x}", cut.trim_end_matches('-'), number(&line.key))
    };
    lines.iter().map(name).collect()
}

/// FNV-1a: the same in every build, so that a line that was installed is known again.
fn number(key: &str) -> u32 {
    key.bytes().fold(0x811c_9dc5, |number: u32, byte| (number ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: &str = r#"
        agent = { sweep = { schedule = "0 5 * * 0" } }
        [source.a]
        kind = "postgres"
        [source.a-b]
        kind = "postgres"
        [source.a_b]
        kind = "postgres"
        [plan.c]
        select = { sources = ["a-b", "a_b"] }
        [[plan.c.rule]]
        name = "d"
        schedule = "0 1 * * *"
        copies = ["second"]
        [plan.b-c]
        select = { sources = ["a"] }
        verify = { schedule = "0 4 * * *" }
        [[plan.b-c.rule]]
        name = "d"
        schedule = "0 1 * * *"
    "#;

    #[test]
    fn no_two_lines_have_one_name() {
        let lines = work(&toml::from_str(SETTINGS).unwrap()).unwrap();
        let is_label = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
        let found = names(&lines, 24, is_label);
        let expected = ["backup-a-b-c-d-", "verify-a-b-c", "backup-a-b-c-d-", "backup-a-b-c-d-", "sweep"];
        assert_eq!(found.len(), expected.len());
        for (name, begins) in found.iter().zip(expected) {
            assert!(name.starts_with(begins) && name.len() <= 24, "{found:?}");
        }
        let set: std::collections::BTreeSet<&String> = found.iter().collect();
        assert_eq!(set.len(), found.len(), "{found:?}");
        let copied = lines.iter().find(|line| line.says == "backup a-b (d of plan c)").unwrap();
        assert_eq!(copied.commands, [vec!["backup", "a-b"], vec!["copy", "a-b", "--to", "second"]]);
        assert!(work(&Settings::default()).is_err());
    }
}
