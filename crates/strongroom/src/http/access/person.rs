//! A person, or the program of one, and the table of what which role may have done.

use std::collections::BTreeSet;

use axum::http::Method;
use strongroom_model::SourceName;

use crate::settings::access::Role;

/// How somebody showed who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// They signed in.
    Session,
    /// They sent a token.
    Token,
    /// They reached this host's own address, and nobody is configured to sign in.
    Loopback,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The user's name; `token:NAME`; `loopback`.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// To which sources; `None`: to all.
    pub sources: Option<BTreeSet<SourceName>>,
    /// How that is known.
    pub by: By,
    /// What a form of theirs must hold: another site's page cannot know it.
    pub csrf: Option<String>,
}

/// What somebody may want.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// To see what is protected, and how.
    See,
    /// A recovery point, now.
    BackUp,
    /// What is in the vault checked.
    Verify,
    /// A restore tried.
    Drill,
    /// A point kept until it is released.
    Hold,
    /// A job called off.
    Cancel,
    /// A restore into an empty folder.
    Restore,
    /// To say yes to what somebody else wants.
    Approve,
    /// A point kept no longer.
    Release,
    /// Points let go.
    Expire,
    /// A restore over what is there.
    RestoreOver,
    /// To see who did what.
    SeeAudit,
}

impl Act {
    /// The least role that may have it done.
    pub fn role(self) -> Role {
        match self {
            Act::See => Role::Viewer,
            Act::BackUp
            | Act::Verify
            | Act::Drill
            | Act::Hold
            | Act::Cancel
            | Act::Restore
            | Act::Approve => Role::Operator,
            Act::Release | Act::Expire | Act::RestoreOver | Act::SeeAudit => Role::Admin,
        }
    }

    /// Whether it destroys or overwrites: a second person may have to agree.
    pub fn is_destructive(self) -> bool {
        matches!(self, Act::Release | Act::Expire | Act::RestoreOver)
    }
}

/// Whether this person may have that done to this source.
pub fn allowed(person: &Person, act: Act, source: &SourceName) -> bool {
    person.role >= act.role() && person.knows(Some(source))
}

/// Whether this person may have that done to what concerns every source.
pub fn allowed_everywhere(person: &Person, act: Act) -> bool {
    person.role >= act.role() && person.knows(None)
}

impl Person {
    /// Whether they may know of this source; of the vault's own chores know those who know of all sources.
    pub fn knows(&self, source: Option<&SourceName>) -> bool {
        match (&self.sources, source) {
            (None, _) => true,
            (Some(sources), Some(source)) => sources.contains(source),
            (Some(_), None) => false,
        }
    }
}

/// Whether a request by this method could come from a page of another site, and change something.
pub fn changes(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTS: [Act; 12] = [
        Act::See,
        Act::BackUp,
        Act::Verify,
        Act::Drill,
        Act::Hold,
        Act::Cancel,
        Act::Restore,
        Act::Approve,
        Act::Release,
        Act::Expire,
        Act::RestoreOver,
        Act::SeeAudit,
    ];

    fn person(role: Role, sources: Option<&[&str]>) -> Person {
        let sources = sources.map(|names| names.iter().map(|name| name.parse().unwrap()).collect());
        Person { name: "ada".into(), role, sources, by: By::Session, csrf: None }
    }

    #[test]
    fn each_role_may_what_the_table_says_and_no_more() {
        let orders: SourceName = "orders".parse().unwrap();
        for (role, may) in [
            // See, back up, verify, drill, hold, cancel, restore, approve, release, expire, restore over, see the audit log.
            (Role::Viewer, "y-----------"),
            (Role::Operator, "yyyyyyyy----"),
            (Role::Admin, "yyyyyyyyyyyy"),
        ] {
            let row = |person: &Person, source: &SourceName| -> String {
                ACTS.iter().map(|act| if allowed(person, *act, source) { 'y' } else { '-' }).collect()
            };
            assert_eq!(row(&person(role, None), &orders), may, "{role}");
            assert_eq!(row(&person(role, Some(&["orders"])), &orders), may, "{role}");
            assert_eq!(row(&person(role, Some(&["shop"])), &orders), "------------", "{role}");
            assert_eq!(row(&person(role, Some(&[])), &orders), "------------", "{role}");
        }
    }

    #[test]
    fn what_destroys_is_an_admins_and_what_concerns_all_is_of_those_who_know_all() {
        for act in ACTS {
            assert!(!act.is_destructive() || act.role() == Role::Admin, "{act:?}");
        }
        assert!(person(Role::Viewer, None).knows(None));
        assert!(!person(Role::Admin, Some(&["orders"])).knows(None));
        for (role, sources, may) in [
            (Role::Admin, None, true),
            (Role::Admin, Some(&["orders"][..]), false),
            (Role::Operator, None, false),
            (Role::Viewer, None, false),
        ] {
            assert_eq!(allowed_everywhere(&person(role, sources), Act::SeeAudit), may, "{role} {sources:?}");
        }
    }
}
