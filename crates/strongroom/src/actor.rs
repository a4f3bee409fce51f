//! Who this process acts for, as the audit log has it: a user of this host; or a rule, a person or a token, for whom an agent
//! started it, or that agent.
//!
//! **Invariant**: what the variable says counts only in a process that an agent started, and in few forms. It proves that the agent's
//! system user wrote it, and no more: whoever runs commands as that user can pass for its plans and for people who order of it. User
//! and host are written beside it in any case.

#![allow(clippy::disallowed_methods, reason = "this module is where a process finds out for whom it acts")]

use rustix::process::geteuid;
use strongroom_model::audit::{Actor, ActorKind};
use strongroom_postgres::owner::OwnerNames;

use crate::surroundings::host;

/// Names for whom an agent started this process: `agent`, `plan NAME/RULE`, `user NAME via web` or `token NAME`.
pub const ACTOR: &str = "STRONGROOM_ACTOR";

/// What the variable says of an agent's own errands.
pub const AGENT: &str = "agent";

/// What the variable says of the job of a plan's rule; of one without a plan it is the agent's own.
pub fn of_rule(plan: &str, rule: &str) -> String {
    match plan {
        "" => AGENT.to_owned(),
        plan => format!("plan {plan}/{rule}"),
    }
}

/// What the catalog has before a token's name, where a person's could be.
pub const TOKEN: &str = "token:";

/// What stands between who asked and who agreed.
const WITH: &str = ", with ";

/// The longest name of a person or token.
const LONGEST_NAME: usize = 64;

/// What the variable says of the job that somebody ordered, by the name that the catalog has: `ada`, `ada, with grace`, `token:ci`;
/// `None` if that names nobody.
pub fn of_person(person: &str) -> Option<String> {
    let said = match person.strip_prefix(TOKEN) {
        Some(token) => format!("token {token}"),
        None => format!("user {person} via web"),
    };
    read(&said).map(|_| said)
}

/// Somebody else than this process's user, for whom it acts.
pub fn standing_for(kind: ActorKind, name: String) -> Actor {
    Actor { kind, name, ..actor(false) }
}

/// Who this process acts for; `of_agent` if an agent started it.
pub fn actor(of_agent: bool) -> Actor {
    let uid = geteuid().as_raw();
    let user = OwnerNames::default().owner(uid, 0).user.unwrap_or_else(|| uid.to_string());
    let told = std::env::var(ACTOR).ok().filter(|_| of_agent);
    let (kind, name) = told.as_deref().and_then(read).unwrap_or((ActorKind::User, user.clone()));
    let sudo = std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty());
    Actor { kind, name, host: host(), user, sudo }
}

/// What the variable may say, and nothing else.
fn read(told: &str) -> Option<(ActorKind, String)> {
    if let Some(person) = told.strip_prefix("user ").and_then(|told| told.strip_suffix(" via web")) {
        let (asked, agreed) =
            person.split_once(WITH).map_or((person, None), |(one, other)| (one, Some(other)));
        let is_sound = is_name(asked) && agreed.is_none_or(is_name);
        return is_sound.then(|| (ActorKind::Web, person.to_owned()));
    }
    match told.split_once(' ') {
        None if told == AGENT => Some((ActorKind::Agent, "by itself".to_owned())),
        Some(("plan", rule)) if !rule.is_empty() => Some((ActorKind::Plan, rule.to_owned())),
        Some(("token", name)) if is_name(name) => Some((ActorKind::Token, name.to_owned())),
        _ => None,
    }
}

/// Whether a person or a token can be called so in the settings.
fn is_name(text: &str) -> bool {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | '@');
    (1..=LONGEST_NAME).contains(&text.len()) && text.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_names_whom_an_agent_acts_for_and_nobody_else() {
        let found = |kind: ActorKind, name: &str| Some((kind, name.to_owned()));
        for (told, who) in [
            (Some(of_rule("nightly", "full")), found(ActorKind::Plan, "nightly/full")),
            (Some(of_rule("", "sweep")), found(ActorKind::Agent, "by itself")),
            (of_person("grace"), found(ActorKind::Web, "grace")),
            (of_person("ada@example.org"), found(ActorKind::Web, "ada@example.org")),
            (of_person("ada, with grace"), found(ActorKind::Web, "ada, with grace")),
            (of_person("token:ci"), found(ActorKind::Token, "ci")),
        ] {
            assert_eq!(read(&told.unwrap()), who);
        }
        for wrong in [
            "",
            "plan",
            "plan ",
            "web ada",
            "token",
            "token ",
            "token a b",
            "token ci via web",
            "user root",
            "user  via web",
            "user ada",
            "user ada via web ",
            "user ada lovelace via web",
            "user ada, with  via web",
            "user via web",
            "Agent",
            "user ada, with bob, with vic via web",
            "user a\nb via web",
            "user token:ci via web",
            "agent smith",
            " agent",
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_catalog_that_names_nobody_orders_nothing() {
        for wrong in
            ["", "token:", "ada lovelace", "ada,with grace", "a\nb", "token:ci, with ada", &"a".repeat(65)]
        {
            assert_eq!(of_person(wrong), None, "{wrong}");
        }
    }
}
