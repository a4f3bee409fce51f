//! Who this process acts for, as the audit log has it: a user of this host; or a rule or an agent, for whom an agent started it.
//!
//! **Invariant**: what the variable says counts only in a process that an agent started, and names no person: whoever runs commands
//! as an agent's user can pass for its plans, and for nobody on the web page. User and host are written beside it in any case.

#![allow(clippy::disallowed_methods, reason = "this module is where a process finds out for whom it acts")]

use rustix::process::geteuid;
use strongroom_model::audit::{Actor, ActorKind};
use strongroom_postgres::owner::OwnerNames;

use crate::surroundings::host;

/// Names for whom an agent started this process: `agent`, or `plan NAME/RULE`.
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

/// Who this process acts for; `of_agent` if an agent started it.
pub fn actor(of_agent: bool) -> Actor {
    let uid = geteuid().as_raw();
    let user = OwnerNames::default().owner(uid, 0).user.unwrap_or_else(|| uid.to_string());
    let told = std::env::var(ACTOR).ok().filter(|_| of_agent);
    let (kind, name) = told.as_deref().and_then(read).unwrap_or((ActorKind::User, user.clone()));
    let sudo = std::env::var("SUDO_USER").ok().filter(|name| !name.is_empty());
    Actor { kind, name, host: host(), user, sudo }
}

/// What the variable may say: no other kind of actor.
fn read(told: &str) -> Option<(ActorKind, String)> {
    match told.split_once(' ') {
        None if told == AGENT => Some((ActorKind::Agent, "by itself".to_owned())),
        Some(("plan", rule)) if !rule.is_empty() => Some((ActorKind::Plan, rule.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_names_plans_and_agents_and_nobody_else() {
        let plan = |name: &str| Some((ActorKind::Plan, name.to_owned()));
        assert_eq!(read(&of_rule("nightly", "full")), plan("nightly/full"));
        assert_eq!(read(&of_rule("", "sweep")).map(|(kind, _)| kind), Some(ActorKind::Agent));
        for wrong in ["", "plan", "plan ", "web ada", "token ci", "user root", "Agent", "agent smith"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
