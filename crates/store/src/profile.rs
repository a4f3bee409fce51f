//! The shared AWS profile files, as far as static keys go.
//!
//! `object_store` knows the environment, web identity and instance metadata, but not these. Profiles that ask for another
//! program or a role are left to those: export their credentials into the environment.

#![allow(clippy::disallowed_methods, reason = "this module is where credential files are read")]

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Why there is no profile to use. Falling through to another identity than the one that was named would be worse.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProfileError {
    /// There is none of this name.
    #[error("the profile '{name}' ({by}) is in neither the credentials file nor the config file")]
    Absent {
        /// Where its name is from.
        by: &'static str,
        /// Which one.
        name: String,
    },
    /// It gets its keys elsewhere.
    #[error(
        "the profile '{name}' ({by}) has no keys but says how to get them: \
         put them into the environment (aws configure export-credentials --format env)"
    )]
    Indirect {
        /// Where its name is from.
        by: &'static str,
        /// Which one.
        name: String,
    },
    /// A file is there and cannot be read.
    #[error("read {0}")]
    Read(PathBuf, #[source] std::io::Error),
}

/// What a profile says.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) keys: Option<(String, String)>,
    pub(crate) token: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
    /// What it says of keys that are to be had elsewhere: from a role, a program, a sign-on.
    pub(crate) indirect: bool,
}

impl Profile {
    /// The profile of this name, or the one that `AWS_PROFILE` names (or `default`): from `~/.aws` or where the environment
    /// says. Without keys if the environment has some and no name was given: then those are meant.
    pub(crate) fn load(name: Option<&str>) -> Result<Profile, ProfileError> {
        let file = |variable: &str, usual: &str| {
            let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".aws").join(usual));
            std::env::var_os(variable).map(PathBuf::from).or_else(home)
        };
        let credentials = read(file("AWS_SHARED_CREDENTIALS_FILE", "credentials"));
        let config = read(file("AWS_CONFIG_FILE", "config"));
        if let Some(name) = name {
            return Profile::named("named in the bucket's options", name, &credentials?, &config?);
        }
        let asked_for = std::env::var("AWS_PROFILE").ok();
        // Keys in the environment outweigh any profile's, also one's that is not there.
        let keys_around = std::env::var_os("AWS_ACCESS_KEY_ID").is_some();
        if let Some(name) = asked_for.as_deref().filter(|_| !keys_around) {
            return Profile::named("from AWS_PROFILE", name, &credentials?, &config?);
        }
        let name = asked_for.as_deref().unwrap_or("default");
        let profile = Profile::parse(name, &or_nothing(credentials), &or_nothing(config));
        Ok(if keys_around { Profile { keys: None, ..profile } } else { profile })
    }

    /// The profile that somebody asked for.
    fn named(by: &'static str, name: &str, credentials: &str, config: &str) -> Result<Profile, ProfileError> {
        let profile = Profile::parse(name, credentials, config);
        let name = name.to_owned();
        match &profile {
            Profile { keys: None, indirect: true, .. } => Err(ProfileError::Indirect { by, name }),
            profile if *profile == Profile::default() => Err(ProfileError::Absent { by, name }),
            _ => Ok(profile),
        }
    }

    fn parse(name: &str, credentials: &str, config: &str) -> Profile {
        let in_config = if name == "default" { name.to_owned() } else { format!("profile {name}") };
        let mut values = section(config, &in_config);
        // The credentials file outweighs the other.
        values.extend(section(credentials, name));
        let indirect = ["role_arn", "credential_process", "sso_session", "sso_start_url"];
        let indirect = indirect.iter().any(|key| values.contains_key(*key));
        let mut take = |key: &str| values.remove(key);
        Profile {
            indirect,
            keys: take("aws_access_key_id").zip(take("aws_secret_access_key")),
            token: take("aws_session_token"),
            region: take("region"),
            endpoint: take("endpoint_url"),
        }
    }
}

/// A file's text; empty if there is none.
fn read(path: Option<PathBuf>) -> Result<String, ProfileError> {
    let path = path.as_deref().unwrap_or(Path::new(""));
    match std::fs::read_to_string(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(ProfileError::Read(path.to_owned(), error)),
        text => Ok(text.unwrap_or_default()),
    }
}

/// A file that nobody asked for may be somebody else's: `HOME` often stays behind when the user changes.
fn or_nothing(text: Result<String, ProfileError>) -> String {
    text.unwrap_or_else(|error| {
        tracing::warn!("{error}; going on without it");
        String::new()
    })
}

/// The values of one section of an INI file.
fn section(text: &str, name: &str) -> BTreeMap<String, String> {
    let mut inside = false;
    let mut values = BTreeMap::new();
    for line in text.lines() {
        let trimmed = line.trim();
        if trimmed.starts_with(['#', ';']) {
            continue;
        }
        if let Some(title) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = title.trim() == name;
        } else if let Some((key, value)) =
            trimmed.split_once('=').filter(|_| inside && !line.starts_with([' ', '\t']))
        {
            values.insert(key.trim().to_owned(), value.trim().to_owned());
        }
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    const CREDENTIALS: &str = "[default]\naws_access_key_id = A\naws_secret_access_key=B=\n# no\n[other]\naws_access_key_id = C\n\
                               aws_secret_access_key = D\naws_session_token = T\n";
    const CONFIG: &str = "[default]\nregion = eu-central-1\n[profile other]\nregion = eu-west-1\nendpoint_url = http://127.0.0.1:9\ns3 =\n  region = wrong\n";

    #[test]
    fn a_profile_is_read_from_both_files() {
        let profile = Profile::parse("default", CREDENTIALS, CONFIG);
        assert_eq!(profile.keys, Some(("A".into(), "B=".into())));
        assert_eq!((profile.token, profile.region.as_deref()), (None, Some("eu-central-1")));
        let other = Profile::parse("other", CREDENTIALS, CONFIG);
        assert_eq!(other.keys, Some(("C".into(), "D".into())));
        assert_eq!(other.token.as_deref(), Some("T"));
        assert_eq!(
            (other.region.as_deref(), other.endpoint.as_deref()),
            (Some("eu-west-1"), Some("http://127.0.0.1:9"))
        );
        assert!(Profile::parse("absent", CREDENTIALS, CONFIG) == Profile::default());
    }

    #[test]
    fn a_profile_that_was_asked_for_is_not_passed_over() {
        let config =
            "[profile role]\nrole_arn = arn:aws:iam::1:role/r\n[profile place]\nregion = eu-west-1\n";
        let named = |name| Profile::named("from AWS_PROFILE", name, CREDENTIALS, config);
        assert!(matches!(named("absent"), Err(ProfileError::Absent { name, .. }) if name == "absent"));
        assert!(matches!(named("role"), Err(ProfileError::Indirect { name, .. }) if name == "role"));
        assert!(named("other").is_ok_and(|profile| profile.keys.is_some()));
        // Where it is, without who asks: an instance's own identity may do.
        assert!(named("place").is_ok_and(|profile| profile.region.is_some()));
    }
}
