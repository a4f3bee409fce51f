//! The one place through which every sign-in, every refusal and every act of a person passes.

use crate::http::access::person::{By, Person};
use crate::http::desk::Desk;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody signed in.
    SignedIn,
    /// Somebody signed out.
    SignedOut,
    /// Somebody was not let in: a wrong name, password, token or address.
    NotLetIn,
    /// Somebody known asked for what they may not have.
    Refused,
    /// Somebody had something done.
    Acted,
    /// Somebody asked for what a second person must agree to.
    Asked,
    /// A second person agreed.
    Approved,
    /// Somebody said no to what was asked for, or took it back.
    Declined,
}

/// Writes down who did what. `what` holds no secret: a verb, a source, a number.
pub fn witness(_desk: &Desk, person: &Person, (event, what): (Event, &str)) {
    let Person { name, role, by, .. } = person;
    match event {
        Event::NotLetIn | Event::Refused => tracing::warn!("{name} ({role}, {by:?}): {event:?}: {what}"),
        _ => tracing::info!("{name} ({role}, {by:?}): {event:?}: {what}"),
    }
}

/// Somebody who is not known by more than what they say.
pub fn stranger(name: &str) -> Person {
    let name = name.chars().filter(|letter| !letter.is_control()).take(64).collect();
    let role = crate::settings::access::Role::Viewer;
    Person { name, role, sources: Some([].into()), by: By::Session, csrf: None }
}
