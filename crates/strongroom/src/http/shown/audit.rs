//! The audit log: who did what to the vault, and what people did, or were refused, at the agent's door; as `audit list` tells it.

use serde::Serialize;
use strongroom_model::audit::Line;

use crate::http::shown::source::{Knowledge, Told};

/// The verb that tells it. What is older `audit list` shows by hand.
pub const WORDS: [&str; 4] = ["audit", "list", "--newest", "1000"];

/// A page of it.
#[derive(Debug, Serialize)]
pub struct AuditPage {
    /// How it is known, and since when.
    #[serde(flatten)]
    pub known: Knowledge,
    /// Newest first.
    pub entries: Vec<Line>,
    /// What the next page is asked for by; null: there is none.
    pub next: Option<u64>,
}

/// So many, newest first, of those before this number.
pub fn page(told: &Told<Vec<Line>>, before: Option<u64>, limit: usize) -> AuditPage {
    let mut all: Vec<&Line> = told.said().into_iter().flatten().collect();
    all.retain(|line| before.is_none_or(|before| line.number < before));
    all.sort_by_key(|line| std::cmp::Reverse(line.number));
    let entries: Vec<Line> = all.iter().take(limit).map(|line| (*line).clone()).collect();
    let next = entries.last().map(|line| line.number).filter(|_| all.len() > limit);
    AuditPage { known: told.knowledge(), entries, next }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use strongroom_model::Timestamp;

    use super::*;

    fn lines(numbers: &[u64]) -> Vec<Line> {
        let line = |number: &u64| {
            let line = json!({
                "number": number, "at": "2026-11-20T12:00:00Z",
                "actor": { "kind": "web", "name": "ada", "host": "h", "user": "postgres" },
                "act": { "verb": "sign-in" }, "outcome": "ok", "exit_code": 0, "ended_at": null,
                "texts": { "from": "192.0.2.1" }, "voucher": { "forged": "the signature is wrong" },
            });
            serde_json::from_value(line).unwrap()
        };
        numbers.iter().map(line).collect()
    }

    #[test]
    fn pages_follow_each_other_to_the_end_and_leave_nothing_out() {
        let now = Timestamp::from_unix_seconds(1_800_000_000).unwrap();
        let told = Told::Said(now, lines(&[1, 2, 4, 5, 7]));
        for (before, limit, numbers, next) in [
            (None, 2, &[7, 5][..], Some(5)),
            (Some(5), 2, &[4, 2], Some(2)),
            (Some(2), 2, &[1], None),
            (None, 5, &[7, 5, 4, 2, 1], None),
            (Some(1), 5, &[], None),
        ] {
            let page = page(&told, before, limit);
            let found: Vec<u64> = page.entries.iter().map(|line| line.number).collect();
            assert_eq!((found.as_slice(), page.next), (numbers, next), "{before:?} {limit}");
        }
        let unknown = page(&Told::Asking, None, 5);
        assert!(unknown.entries.is_empty() && unknown.known == Knowledge::Asking);
    }
}
