//! The one place through which every sign-in, every refusal and every act of a person passes: into the agent's own log at once, and
//! into the audit log behind the request's back.
//!
//! **Invariants**
//! - Nothing here waits: what is noted is written by `agent/testimony.rs`.
//! - A name that the settings do not know is not written down: it may be a password in the wrong field.

use strongroom_model::audit::{ActorKind, Texts};
use strongroom_model::{PointId, SourceName};

use crate::actor::TOKEN;
use crate::agent::sightings::{OK, STRANGER, Sighting};
use crate::http::access::person::{By, Person};
use crate::http::desk::Desk;
use crate::http::problem::Problem;
use crate::settings::Settings;
use crate::settings::access::{PersonName, Role};

/// What somebody did, or wanted to.
#[derive(Clone, Debug, Default)]
pub struct Scene<'a> {
    /// In the audit log's words: `sign-in`, `sign-out`, `order`, `ask`, `approve`, `decline`, `cancel`, `plan`, `look`, `request`.
    pub verb: &'a str,
    /// To which source.
    pub source: Option<&'a SourceName>,
    /// To which point.
    pub point: Option<&'a PointId>,
    /// What exactly; no secret is in it.
    pub what: String,
    /// From where, if that is known.
    pub from: String,
    /// Whose name was said, of somebody who did not show that it is theirs.
    pub claims: Option<PersonName>,
}

/// Writes down what somebody did.
pub fn witness(desk: &Desk, person: &Person, scene: &Scene<'_>) {
    tracing::info!("{}", told(person, scene, OK));
    note(desk, person, scene, OK);
}

/// Writes down what somebody did not get, and why.
pub fn witness_refusal(desk: &Desk, person: &Person, scene: &Scene<'_>, problem: &Problem) {
    let mut scene = scene.clone();
    let settings = &desk.context().settings;
    scene.source = scene.source.filter(|source| settings.sources.contains_key(*source));
    tracing::warn!("{}: {}", told(person, &scene, problem.code), problem.detail());
    note(desk, person, &scene, problem.code);
}

fn told(Person { name, role, by, .. }: &Person, scene: &Scene<'_>, outcome: &str) -> String {
    let Scene { verb, what, from, claims, .. } = scene;
    let mut told = format!("{name} ({role}, {by:?}): {verb} {what}: {outcome}");
    if let Some(claims) = claims {
        told.push_str(&format!(", as {claims}"));
    }
    if !from.is_empty() {
        told.push_str(&format!(", from {from}"));
    }
    told
}

fn note(desk: &Desk, person: &Person, scene: &Scene<'_>, outcome: &str) {
    let (kind, name) = match (person.by, person.name.strip_prefix(TOKEN)) {
        (By::Token, Some(token)) => (ActorKind::Token, token),
        _ => (ActorKind::Web, person.name.as_str()),
    };
    let texts = [
        ("what", scene.what.clone()),
        ("from", scene.from.clone()),
        ("name", scene.claims.as_ref().map(PersonName::to_string).unwrap_or_default()),
    ];
    let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
    desk.sightings.note(Sighting {
        at: desk.now(),
        kind,
        name: name.to_owned(),
        verb: scene.verb.to_owned(),
        source: scene.source.cloned(),
        point: scene.point.cloned(),
        outcome: outcome.to_owned(),
        texts: texts.map(|(key, text)| (key.to_owned(), text)).collect::<Texts>(),
    });
}

/// Somebody who is not known by more than what they say.
pub fn stranger() -> Person {
    Person {
        name: STRANGER.to_owned(),
        role: Role::Viewer,
        sources: Some([].into()),
        by: By::Session,
        csrf: None,
    }
}

/// The name that a stranger said, if it is one of the settings.
pub fn claimed(settings: &Settings, said: &str) -> Option<PersonName> {
    said.parse().ok().filter(|name| settings.users.contains_key(name))
}
