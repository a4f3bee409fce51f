//! The shared AWS profile files, as far as static keys go.
//!
//! `object_store` knows the environment, web identity and instance metadata, but not these. Profiles that ask for another
//! program or a role are left to those: export their credentials into the environment.

#![allow(clippy::disallowed_methods, reason = "this module is where credential files are read")]

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a profile says.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) keys: Option<(String, String)>,
    pub(crate) token: Option<String>,
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
}

impl Profile {
    /// The profile that `AWS_PROFILE` names (or `default`), from `~/.aws` or where the environment says.
    pub(crate) fn load() -> Profile {
        let name = std::env::var("AWS_PROFILE").unwrap_or_else(|_| "default".into());
        let file = |variable: &str, usual: &str| {
            let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".aws").join(usual));
            std::env::var_os(variable).map(PathBuf::from).or_else(home)
        };
        let read = |path: Option<PathBuf>| {
            path.and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default()
        };
        let credentials = read(file("AWS_SHARED_CREDENTIALS_FILE", "credentials"));
        let config = read(file("AWS_CONFIG_FILE", "config"));
        Profile::parse(&name, &credentials, &config)
    }

    fn parse(name: &str, credentials: &str, config: &str) -> Profile {
        let in_config = if name == "default" { name.to_owned() } else { format!("profile {name}") };
        let mut values = section(config, &in_config);
        // The credentials file outweighs the other.
        values.extend(section(credentials, name));
        let mut take = |key: &str| values.remove(key);
        Profile {
            keys: take("aws_access_key_id").zip(take("aws_secret_access_key")),
            token: take("aws_session_token"),
            region: take("region"),
            endpoint: take("endpoint_url"),
        }
    }
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
}
