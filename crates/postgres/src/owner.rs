//! Whose files are: numbers on this host, names that mean the same on another one.

use std::collections::HashMap;

use nix::unistd::{Gid, Group, Uid, User};
use strongroom_model::entry::Owner;

/// Looks names up once each. A number without a name, or a directory service that does not answer, gives none: the
/// number alone is enough on the same host.
#[derive(Debug, Default)]
pub struct OwnerNames {
    users: HashMap<u32, Option<String>>,
    groups: HashMap<u32, Option<String>>,
}

impl OwnerNames {
    /// The owner with these numbers on this host.
    pub fn owner(&mut self, uid: u32, gid: u32) -> Owner {
        let user = self.users.entry(uid);
        let user =
            user.or_insert_with(|| User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name));
        let group = self.groups.entry(gid);
        let group = group
            .or_insert_with(|| Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name));
        Owner { uid, gid, user: user.clone(), group: group.clone() }
    }
}

/// User and group number of `owner` on this host: by name where this host has the name, else the numbers it had.
pub fn numbers(owner: &Owner) -> (u32, u32) {
    let user = owner.user.as_deref().and_then(|name| User::from_name(name).ok().flatten());
    let group = owner.group.as_deref().and_then(|name| Group::from_name(name).ok().flatten());
    (user.map_or(owner.uid, |user| user.uid.as_raw()), group.map_or(owner.gid, |group| group.gid.as_raw()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_outweighs_a_number_and_a_number_stands_for_an_unknown_name() {
        let root = OwnerNames::default().owner(0, 0);
        assert_eq!((root.user.as_deref(), root.group.as_deref()), (Some("root"), Some("root")));
        assert_eq!(numbers(&Owner { uid: 4711, gid: 4712, ..root }), (0, 0));
        let nobody = OwnerNames::default().owner(3_999_999_999, 3_999_999_998);
        assert_eq!((&nobody.user, &nobody.group), (&None, &None));
        let foreign = Owner { user: Some("no such user here".to_owned()), group: None, ..nobody };
        assert_eq!(numbers(&foreign), (3_999_999_999, 3_999_999_998));
    }
}
