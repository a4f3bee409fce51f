//! What the users of the data know of it, as questions with the answers that they expect.
//!
//! **Invariant**: what a user wrote, and whatever functions of the database that calls, runs as a role of our own, which may read
//! everything, change nothing and reach nothing beside the database; read-only, and no longer than it may. (Before version 14
//! there is no such right, and the superuser asks.)

use std::time::Duration;

use strongroom_engine::EngineError;
use strongroom_model::drill::Answer;
use strongroom_model::time::{TypedTime, human_duration};
use strongroom_model::{Cx, Timestamp};

use crate::connect::connect;
use crate::drill::subject::Subject;
use crate::quote::quoted_name;
use crate::refusal::SqlError;

/// The first version with a right to read everything.
const READS_ALL_FROM: u16 = 14;

const OPERATION: &str = "ask what was expected";

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assertion {
    /// The database, if not the one that is asked anyway.
    pub database: Option<String>,
    /// What is asked: SQL whose first row's first column is the answer.
    pub query: String,
    /// The answer, as text.
    pub expect: Option<String>,
    /// How old the answer, which is a time, may be at the moment that was restored to.
    pub max_age: Option<Duration>,
    /// How long it may take.
    pub timeout: Duration,
}

/// Makes the role that asks, if the server knows the right it needs. `database` is the one that is asked where none is said.
pub async fn admit(subject: &Subject, assertions: &[Assertion], database: &str) -> Result<(), EngineError> {
    if assertions.is_empty() || subject.major < READS_ALL_FROM {
        return Ok(());
    }
    let (client, asker) = (subject.connect_anyhow().await?, quoted_name(&subject.asker));
    let made = format!("CREATE ROLE {asker} LOGIN BYPASSRLS IN ROLE pg_read_all_data");
    client.run(OPERATION, &made).await?;
    for assertion in assertions {
        let name = quoted_name(assertion.database.as_deref().unwrap_or(database));
        let grant = format!("GRANT CONNECT ON DATABASE {name} TO {asker}");
        match client.run(OPERATION, &grant).await {
            // There is no such database: the question itself will say so.
            Ok(()) | Err(SqlError::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Asks. `moment` is what was restored to.
pub async fn ask(
    cx: &Cx,
    subject: &Subject,
    assertion: &Assertion,
    (database, moment): (&str, Timestamp),
) -> Result<Answer, EngineError> {
    let database = assertion.database.as_deref().unwrap_or(database);
    let user = if subject.major < READS_ALL_FROM { &subject.superuser } else { &subject.asker };
    let client = connect(&subject.conninfo(user, database)?).await?;
    let timeout = assertion.timeout.as_millis();
    // Names are found as users of the database find them.
    let settings = format!(
        "SET statement_timeout = {timeout}; SET default_transaction_read_only = on; SET search_path TO DEFAULT; \
         SET DateStyle = 'ISO'; SET TimeZone = 'UTC'"
    );
    client.run(OPERATION, &settings).await?;
    match client.first_column(cx, OPERATION, &assertion.query).await {
        Ok(rows) => Ok(judge(assertion, rows.into_iter().next(), moment)),
        Err(SqlError::Cancelled(cancelled)) => Err(cancelled.into()),
        Err(error) => Ok(Answer::failed(format!("{}: {error}", assertion.query))),
    }
}

/// Compares what came with what was expected. The outer `None` is no row, the inner one null.
fn judge(assertion: &Assertion, found: Option<Option<String>>, moment: Timestamp) -> Answer {
    let query = &assertion.query;
    let Some(found) = found else { return Answer::failed(format!("{query}: no row")) };
    let shown = found.clone().unwrap_or_else(|| "null".to_owned());
    if let Some(expected) = &assertion.expect
        && found.as_ref() != Some(expected)
    {
        return Answer::failed(format!("{query}: {shown} instead of {expected}"));
    }
    let Some(limit) = assertion.max_age else { return Answer::passed(format!("{query}: {shown}")) };
    let time = found.as_deref().and_then(|text| text.parse::<TypedTime>().ok());
    let Some(time) = time.and_then(|time| time.in_zone("UTC").ok()) else {
        return Answer::failed(format!("{query}: {shown}, which is no time"));
    };
    let age = human_duration(moment.since(time));
    match moment.since(time) <= limit {
        true => Answer::passed(format!("{query}: {shown}, {age} before what was restored to")),
        false => Answer::failed(format!(
            "{query}: {shown}, {age} before what was restored to; it may be {}",
            human_duration(limit)
        )),
    }
}

#[cfg(test)]
mod tests {
    use strongroom_model::drill::CheckOutcome;

    use super::*;

    fn check(expect: Option<&str>, max_age: Option<u64>, found: Option<Option<&str>>, says: &str) {
        let assertion = Assertion {
            database: None,
            query: "q".into(),
            expect: expect.map(str::to_owned),
            max_age: max_age.map(Duration::from_secs),
            timeout: Duration::from_secs(1),
        };
        let moment = Timestamp::from_unix_seconds(1_795_176_000).unwrap();
        let answer = judge(&assertion, found.map(|text| text.map(str::to_owned)), moment);
        let word = if answer.outcome == CheckOutcome::Passed { "+" } else { "-" };
        assert_eq!(format!("{word} {}", answer.detail), says);
    }

    #[test]
    fn an_answer_is_the_one_that_was_expected_or_young_enough() {
        check(Some("t"), None, Some(Some("t")), "+ q: t");
        check(Some("t"), None, Some(Some("f")), "- q: f instead of t");
        check(Some("t"), None, Some(None), "- q: null instead of t");
        check(Some("t"), None, None, "- q: no row");
        let before = "2026-11-20 11:59:00+00";
        check(
            None,
            Some(60),
            Some(Some(before)),
            &format!("+ q: {before}, 1 min 0 s before what was restored to"),
        );
        check(
            None,
            Some(59),
            Some(Some("2026-11-20 11:59:00")),
            "- q: 2026-11-20 11:59:00, 1 min 0 s before what was restored to; it may be 59.0 s",
        );
        check(None, Some(59), Some(Some("yesterday")), "- q: yesterday, which is no time");
        check(None, Some(59), Some(None), "- q: null, which is no time");
        // From a clock that ran ahead: it is not old.
        check(
            None,
            Some(59),
            Some(Some("2026-11-20 12:00:01+00")),
            "+ q: 2026-11-20 12:00:01+00, 0 ms before what was restored to",
        );
    }
}
