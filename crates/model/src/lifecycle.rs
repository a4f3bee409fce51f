//! Lifecycle: into which storage classes a bucket moves objects as they age, and what is wrong with a plan of it.

use serde::{Deserialize, Serialize};

use crate::retention::Retention;
use crate::tier::StorageClass;

/// From how many days on an object is in a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Days after it was written.
    pub days: u32,
    /// The class.
    pub class: StorageClass,
}

/// What a bucket is to do with a vault's objects as they age. Records and manifests stay where they are: listings read them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Lifecycle {
    /// Packs.
    pub packs: Vec<Step>,
    /// WAL files.
    pub wal: Vec<Step>,
    /// Days after which older versions of what was overwritten or deleted go; they stay if left out.
    pub noncurrent_days: Option<u32>,
}

/// How grave an objection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Gravity {
    /// It costs more than it needs to, or takes longer than one may expect.
    Warning,
    /// It would not work: such rules are not applied.
    Wrong,
}

/// What is wrong with a lifecycle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Objection {
    /// Names the rule that is broken; stable, for scripts.
    pub rule: &'static str,
    /// How grave it is.
    pub gravity: Gravity,
    /// What is wrong.
    pub what: String,
    /// What to do instead.
    pub instead: String,
}

/// What of a vault's settings a lifecycle must agree with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// Days for which later points go on referring to a pack.
    pub rebase_days: u32,
    /// What is kept of each source.
    pub retentions: Vec<Retention>,
    /// Days for which objects are locked.
    pub lock_days: Option<u32>,
    /// The class that packs are put into at once.
    pub packs: Option<StorageClass>,
}

/// Days before which S3 moves nothing into an infrequently read class ("Transition actions").
const EARLIEST_IA: u32 = 30;

impl Lifecycle {
    /// Whether the bucket is to do nothing.
    pub fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.wal.is_empty() && self.noncurrent_days.is_none()
    }

    /// Whether anything ends up where it must be thawed.
    pub fn freezes(&self) -> bool {
        self.packs.iter().chain(&self.wal).any(|step| step.class.is_frozen())
    }

    /// Days after which packs must be thawed.
    pub fn packs_freeze_after(&self) -> Option<u32> {
        self.packs.iter().find(|step| step.class.is_frozen()).map(|step| step.days)
    }

    /// Everything that is wrong with it, in order of the rules.
    pub fn objections(&self, surroundings: &Surroundings) -> Vec<Objection> {
        let mut found = Vec::new();
        for (what, steps) in [("packs", &self.packs), ("wal", &self.wal)] {
            found.extend(steps.iter().filter_map(|step| too_early(what, step)));
            found.extend(steps.windows(2).filter_map(|pair| out_of_order(what, pair[0], pair[1])));
            found.extend(steps.windows(2).filter_map(|pair| too_short(what, pair[0], pair[1])));
        }
        found.extend(gone_before_paid(surroundings));
        found.extend(self.frozen_in_use(surroundings.rebase_days));
        found.extend(self.gone_too_soon(surroundings));
        found.extend(self.window_is_frozen(surroundings));
        found.extend(self.versions_go_before_locks(surroundings));
        found
    }

    fn frozen_in_use(&self, rebase_days: u32) -> Option<Objection> {
        let days = self.packs_freeze_after().filter(|days| *days <= rebase_days)?;
        Some(Objection {
            rule: "frozen-in-use",
            gravity: Gravity::Wrong,
            what: format!(
                "packs freeze after {days} days, and backups go on referring to them for {rebase_days}"
            ),
            instead: format!(
                "freeze packs after {} days or more, or lower rebase_days in [backup]",
                rebase_days + 1
            ),
        })
    }

    fn gone_too_soon(&self, surroundings: &Surroundings) -> Option<Objection> {
        let life = longest_life(&surroundings.retentions)? + surroundings.rebase_days;
        let step = *self.packs.last()?;
        let needed = step.days + step.class.minimum_days();
        (life < needed).then(|| Objection {
            rule: "minimum-duration",
            gravity: Gravity::Warning,
            what: format!(
                "no pack lives longer than {life} days, and one that goes to {} on day {} pays until day {needed}",
                step.class, step.days
            ),
            instead: "leave this step out, take it later, or keep points longer".to_owned(),
        })
    }

    fn window_is_frozen(&self, surroundings: &Surroundings) -> Option<Objection> {
        let step = self.wal.iter().find(|step| step.class.is_frozen())?;
        let window = surroundings.retentions.iter().map(|retention| retention.pitr_days).max()?;
        (step.days < window).then(|| Objection {
            rule: "window-frozen",
            gravity: Gravity::Warning,
            what: format!(
                "WAL freezes after {} days, and restores to any second are promised for {window}",
                step.days
            ),
            instead: format!("freeze WAL after {window} days or more, or not at all"),
        })
    }

    fn versions_go_before_locks(&self, surroundings: &Surroundings) -> Option<Objection> {
        let (days, lock) = (self.noncurrent_days?, surroundings.lock_days?);
        (days < lock).then(|| Objection {
            rule: "versions-before-locks",
            gravity: Gravity::Warning,
            what: format!("older versions are to go after {days} days, and are locked for {lock}"),
            instead: "the lock wins: say the same number of days in both places".to_owned(),
        })
    }
}

/// What is put into a class at once is paid for its minimum, however soon it goes.
fn gone_before_paid(surroundings: &Surroundings) -> Option<Objection> {
    let (class, life) = (surroundings.packs?, longest_life(&surroundings.retentions)?);
    let (life, minimum) = (life + surroundings.rebase_days, class.minimum_days());
    (life < minimum).then(|| Objection {
        rule: "minimum-duration",
        gravity: Gravity::Warning,
        what: format!("no pack lives longer than {life} days, and each pays for {minimum} in {class}"),
        instead: "leave the storage class out, or keep points longer".to_owned(),
    })
}

fn too_early(what: &str, step: &Step) -> Option<Objection> {
    let is_ia = matches!(step.class, StorageClass::StandardIa | StorageClass::OnezoneIa);
    (is_ia && step.days < EARLIEST_IA).then(|| Objection {
        rule: "infrequent-access-days",
        gravity: Gravity::Wrong,
        what: format!(
            "{what}: S3 moves nothing to {} before day {EARLIEST_IA}, and this says {}",
            step.class, step.days
        ),
        instead: format!("say {EARLIEST_IA} days, or put it there at once with [vault.classes]"),
    })
}

fn out_of_order(what: &str, first: Step, second: Step) -> Option<Objection> {
    (second.days <= first.days || second.class <= first.class).then(|| Objection {
        rule: "order",
        gravity: Gravity::Wrong,
        what: format!(
            "{what}: {} on day {} follows {} on day {}",
            second.class, second.days, first.class, first.days
        ),
        instead: "each step must be later and colder than the one before".to_owned(),
    })
}

fn too_short(what: &str, first: Step, second: Step) -> Option<Objection> {
    let (stay, minimum) = (second.days.checked_sub(first.days)?, first.class.minimum_days());
    (stay < minimum).then(|| Objection {
        rule: "minimum-duration",
        gravity: Gravity::Warning,
        what: format!("{what}: {stay} days in {} cost as much as {minimum}", first.class),
        instead: format!("go on to {} on day {} or later", second.class, first.days + minimum),
    })
}

/// The longest time in days that a rule of days or calendar keeps a point; `None` if one keeps without such a limit.
pub fn longest_life(retentions: &[Retention]) -> Option<u32> {
    let life = |retention: &Retention| {
        let Retention { keep_days, daily, weekly, monthly, yearly, pitr_days, .. } = retention;
        let of_calendar = [*daily, weekly * 7, monthly * 31, yearly * 366];
        let longest = of_calendar.into_iter().chain([*keep_days, *pitr_days]).max().filter(|days| *days > 0);
        longest.filter(|_| retention.keep_last == 0)
    };
    let lives: Option<Vec<u32>> = retentions.iter().map(life).collect();
    lives?.into_iter().max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use StorageClass::{DeepArchive, Glacier, GlacierIr, StandardIa};

    fn step(days: u32, class: StorageClass) -> Step {
        Step { days, class }
    }

    fn rules(lifecycle: &Lifecycle, surroundings: &Surroundings) -> Vec<(&'static str, Gravity)> {
        lifecycle.objections(surroundings).iter().map(|found| (found.rule, found.gravity)).collect()
    }

    #[test]
    fn every_rule_has_a_plan_that_breaks_it() {
        let keeps = |retention: Retention| Surroundings {
            rebase_days: 30,
            retentions: vec![retention],
            lock_days: Some(60),
            packs: None,
        };
        let year = keeps(Retention { keep_days: 365, pitr_days: 35, ..Retention::default() });
        let month = keeps(Retention { keep_days: 30, ..Retention::default() });
        let packs = |steps: &[Step]| Lifecycle { packs: steps.to_vec(), ..Lifecycle::default() };
        let wal = |steps: &[Step]| Lifecycle { wal: steps.to_vec(), ..Lifecycle::default() };
        let (wrong, warning) = (Gravity::Wrong, Gravity::Warning);
        for (lifecycle, surroundings, expected) in [
            (packs(&[step(60, Glacier), step(150, DeepArchive)]), &year, vec![]),
            (packs(&[step(30, StandardIa), step(60, GlacierIr)]), &year, vec![]),
            (packs(&[step(29, StandardIa)]), &year, vec![("infrequent-access-days", wrong)]),
            (packs(&[step(30, Glacier)]), &year, vec![("frozen-in-use", wrong)]),
            (packs(&[step(31, Glacier)]), &year, vec![]),
            (packs(&[step(60, GlacierIr), step(50, DeepArchive)]), &year, vec![("order", wrong)]),
            (packs(&[step(60, DeepArchive), step(300, Glacier)]), &year, vec![("order", wrong)]),
            (packs(&[step(40, Glacier), step(129, DeepArchive)]), &year, vec![("minimum-duration", warning)]),
            (packs(&[step(40, Glacier)]), &month, vec![("minimum-duration", warning)]),
            (packs(&[step(250, DeepArchive)]), &year, vec![("minimum-duration", warning)]),
            (wal(&[step(34, Glacier)]), &year, vec![("window-frozen", warning)]),
            (wal(&[step(35, Glacier)]), &year, vec![]),
            (
                Lifecycle { noncurrent_days: Some(30), ..Lifecycle::default() },
                &year,
                vec![("versions-before-locks", warning)],
            ),
        ] {
            assert_eq!(rules(&lifecycle, surroundings), expected, "{lifecycle:?}");
        }
        // What begins in a class stays there for as long as it must, or is paid for as if it had.
        let at_once = |retention_days, class| Surroundings {
            packs: Some(class),
            rebase_days: 6,
            ..keeps(Retention { keep_days: retention_days, ..Retention::default() })
        };
        let broken = |surroundings| rules(&Lifecycle::default(), &surroundings);
        assert_eq!(broken(at_once(24, StandardIa)), []);
        assert_eq!(broken(at_once(23, StandardIa)), [("minimum-duration", warning)]);
        assert_eq!(broken(at_once(24, GlacierIr)), [("minimum-duration", warning)]);
        // What is kept by count may stay for ever: nothing is known of its end.
        let counted = keeps(Retention { keep_days: 1, keep_last: 3, ..Retention::default() });
        assert_eq!(rules(&packs(&[step(250, DeepArchive)]), &counted), []);
    }

    #[test]
    fn classes_read_as_s3_writes_them() {
        for name in [
            "STANDARD",
            "INTELLIGENT_TIERING",
            "STANDARD_IA",
            "ONEZONE_IA",
            "GLACIER_IR",
            "GLACIER",
            "DEEP_ARCHIVE",
        ] {
            let class: StorageClass = name.parse().unwrap();
            assert_eq!(class.to_string(), name);
            assert_eq!(serde_json::to_string(&class).unwrap(), format!("\"{name}\""));
        }
        assert!("COLD".parse::<StorageClass>().is_err());
    }
}
