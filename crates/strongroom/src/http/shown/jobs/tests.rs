//! States of jobs in words.

#![allow(clippy::unwrap_used, reason = "a test")]

use strongroom_catalog::Kind;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(1_800_000_000 + seconds).unwrap()
}

fn job(state: State) -> Job {
    Job {
        id: 7,
        kind: Kind::Copy,
        source: "orders".parse().ok(),
        vault: "far".into(),
        plan: "gold".into(),
        rule: "daily".into(),
        due: at(-100),
        start_by: at(100),
        end_by: at(200),
        state,
        attempt: 1,
        run_at: at(-100),
        owner: None,
        token: 1,
        lease_until: None,
        heartbeat: None,
        began: Some(at(-90)),
        ended: Some(at(-30)),
        cancelling: false,
        exit_code: None,
        result: None,
        said: None,
        act: None,
        person: None,
    }
}

#[test]
fn states_are_told_in_words_and_never_better_than_they_are() {
    let with = |change: fn(&mut Job), state| {
        let mut job = job(state);
        change(&mut job);
        job
    };
    for (job, state, tone, can_cancel) in [
        (job(State::Done), "done", Tone::Good, false),
        (with(|job| job.exit_code = Some(0), State::Done), "done", Tone::Good, false),
        (with(|job| job.exit_code = Some(4), State::Done), "done, exit code 4", Tone::Look, false),
        (with(|job| job.exit_code = Some(6), State::Failed), "failed, exit code 6", Tone::Bad, false),
        (job(State::Expired), "expired", Tone::Bad, false),
        (job(State::Missed), "missed", Tone::Look, false),
        (job(State::Cancelled), "cancelled", Tone::Look, false),
        (job(State::Leased), "running", Tone::Going, true),
        (with(|job| job.cancelling = true, State::Leased), "stopping", Tone::Look, false),
        (job(State::Queued), "waits for attempt 2", Tone::Look, true),
        (with(|job| job.attempt = 0, State::Queued), "waits", Tone::Going, true),
    ] {
        let line = job_line(&job, at(0));
        assert_eq!((line.state.as_str(), line.tone, line.can_cancel), (state, tone, can_cancel));
    }
    assert_eq!(job_line(&job(State::Done), at(0)).what, "copy to far");
    assert_eq!(job_line(&job(State::Done), at(0)).took_s, Some(60));
    let running = Job { ended: None, ..job(State::Leased) };
    assert_eq!(job_line(&running, at(0)).took_s, Some(90));
}

#[test]
fn of_what_a_job_said_the_end_is_shown() {
    let said = format!("{}é the end", "x".repeat(1000));
    let line = job_line(&Job { said: Some(said), ..job(State::Failed) }, at(0));
    assert!(line.said.chars().count() == SAID && line.said.ends_with("é the end"));
}
