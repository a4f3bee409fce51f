//! `[http]`, `[user.NAME]` and `[token.NAME]`: where the page and the API are served, and who may do what there.
//!
//! **Invariants**
//! - No address that others can reach is served to whoever asks: it has TLS and somebody who may sign in, or a proxy in front.
//! - A password stands here as its hash, or as where that is; neither is ever repeated in a message.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use argon2::password_hash::phc::PasswordHash;
use serde::{Deserialize, Serialize};
use strongroom_model::span::Span;
use strongroom_model::{SourceName, Timestamp, words};

use super::Settings;
use crate::secret::Reference;

/// Where the agent answers unless the settings say otherwise: outside the range that Prometheus's exporters have among themselves.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8432);

/// The longest name of a person or token.
const LONGEST_NAME: usize = 64;

/// `[http]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpSettings {
    /// Where the agent listens.
    pub listen: SocketAddr,
    /// Something in front of it sees to TLS and to who may ask.
    pub behind_proxy: bool,
    /// The certificate to show, and those between it and its authority: PEM.
    pub certificate: Option<PathBuf>,
    /// Its key: PEM.
    pub key: Option<PathBuf>,
    /// A session that nobody uses ends after so long.
    pub session_idle: Span,
    /// Every session ends after so long.
    pub session_length: Span,
    /// What destroys or overwrites waits until a second person has said yes.
    pub second_person: bool,
    /// Restores that are asked for here go into folders of this folder; left out, none are.
    pub restore_to: Option<PathBuf>,
}

impl Default for HttpSettings {
    fn default() -> HttpSettings {
        HttpSettings {
            listen: LISTEN,
            behind_proxy: false,
            certificate: None,
            key: None,
            session_idle: Span::from_hours(1),
            session_length: Span::from_hours(12),
            second_person: false,
            restore_to: None,
        }
    }
}

/// What one may do, from the least to the most.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Sees.
    Viewer,
    /// Has backed up, verified, drilled, held and restored.
    Operator,
    /// Has released, expired and overwritten, and sees who did what.
    Admin,
}

words!(Role, "role", Viewer = "viewer", Operator = "operator", Admin = "admin");

/// Who signs in, or what a token is called: letters, digits, `-`, `_`, `.` and `@`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct PersonName(String);

/// A word that names nobody.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' can name neither a person nor a token: use letters, digits, -, _, . and @, 64 at most")]
pub struct PersonNameError(String);

impl TryFrom<String> for PersonName {
    type Error = PersonNameError;

    fn try_from(text: String) -> Result<PersonName, PersonNameError> {
        let is_plain =
            |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | '@');
        let is_sound = (1..=LONGEST_NAME).contains(&text.len()) && text.chars().all(is_plain);
        if is_sound { Ok(PersonName(text)) } else { Err(PersonNameError(text)) }
    }
}

impl std::str::FromStr for PersonName {
    type Err = PersonNameError;

    fn from_str(text: &str) -> Result<PersonName, PersonNameError> {
        text.to_owned().try_into()
    }
}

impl fmt::Display for PersonName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PersonName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A password's hash, or where it is.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Password {
    /// Argon2id, as a PHC string: `$argon2id$v=19$…`.
    Hash(String),
    /// `env:NAME`, `file:/path` or `command:…`: where that string is.
    Secret(Reference),
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Text that is neither. It is not shown: it may be the password itself.
#[derive(Debug, thiserror::Error)]
#[error(
    "it is neither an Argon2id hash ($argon2id$…) nor where one is (env:NAME, file:/path or command:…): `strongroom access password` makes one"
)]
pub struct PasswordError;

impl TryFrom<String> for Password {
    type Error = PasswordError;

    fn try_from(text: String) -> Result<Password, PasswordError> {
        match text.starts_with("$argon2id$") && PasswordHash::new(&text).is_ok_and(|hash| hash.hash.is_some())
        {
            true => Ok(Password::Hash(text)),
            false => text.parse().map(Password::Secret).map_err(|_| PasswordError),
        }
    }
}

/// `[user.NAME]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserSettings {
    /// What they may do.
    pub role: Role,
    /// What they prove who they are with.
    pub password: Password,
}

/// `[token.NAME]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSettings {
    /// What it allows.
    pub role: Role,
    /// The hash of what is shown: `blake3:` and 64 hexadecimal digits.
    pub hash: TokenHash,
    /// From then on it is worth nothing.
    pub expires: Timestamp,
    /// It is for these alone; left out, for all.
    pub sources: Option<BTreeSet<SourceName>>,
}

/// What a token is known by: it holds 256 random bits, so that a plain hash says nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct TokenHash(pub blake3::Hash);

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "blake3:{}", self.0.to_hex())
    }
}

/// Text that is no hash. It is not shown: it may be the token itself.
#[derive(Debug, thiserror::Error)]
#[error("it is not the hash of a token (blake3:…): `strongroom access token` makes both")]
pub struct TokenHashError;

impl TryFrom<String> for TokenHash {
    type Error = TokenHashError;

    fn try_from(text: String) -> Result<TokenHash, TokenHashError> {
        let digits = text.strip_prefix("blake3:").ok_or(TokenHashError)?;
        blake3::Hash::from_hex(digits).map(TokenHash).map_err(|_| TokenHashError)
    }
}

/// Settings under which the wrong people would read.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// An address that everybody could ask.
    #[error(
        "listen of [http] is {0}, which others can reach, and there is no TLS: give certificate and key, listen on 127.0.0.1, or say behind_proxy = true if a proxy or network policy sees to who may ask"
    )]
    Open(SocketAddr),
    /// One where nobody is asked who they are.
    #[error(
        "listen of [http] is {0}, which others can reach, and nobody could sign in there: `strongroom access password NAME` makes a [user.NAME]"
    )]
    Nobody(SocketAddr),
    /// Half a pair.
    #[error("[http] has one of certificate and key, and needs both")]
    Half,
    /// A folder that depends on where the agent was started.
    #[error("restore_to of [http] is {}, which does not begin with /", .0.display())]
    Relative(PathBuf),
}

impl HttpSettings {
    /// Refuses an address that others can reach, unless somebody sees to them.
    pub fn check(&self, of: &Settings) -> Result<(), AccessError> {
        let has_tls = match (&self.certificate, &self.key) {
            (Some(_), Some(_)) => true,
            (None, None) => false,
            _ => return Err(AccessError::Half),
        };
        if let Some(folder) = self.restore_to.as_ref().filter(|folder| !folder.is_absolute()) {
            return Err(AccessError::Relative(folder.clone()));
        }
        match self.listen.ip().is_loopback() || self.behind_proxy {
            true => Ok(()),
            false if !has_tls => Err(AccessError::Open(self.listen)),
            false if of.users.is_empty() && of.tokens.is_empty() => Err(AccessError::Nobody(self.listen)),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$YmFkIHNhbHQh$DqHGwv6NQV0VcaJi7jeF1E8IpfMXmXcpq4r2kKyqpXk";

    fn read(text: &str) -> Result<Settings, String> {
        Settings::read(text, "f").map_err(|error| error.to_string())
    }

    #[test]
    fn people_and_tokens_read() {
        let text = format!(
            "[http]\nsession_idle = \"10m\"\nrestore_to = \"/srv/restores\"\nsecond_person = true\n\
             [user.ada]\nrole = \"admin\"\npassword = \"{HASH}\"\n\
             [user.\"grace@example.org\"]\nrole = \"operator\"\npassword = \"file:/run/secrets/grace\"\n\
             [token.ci]\nrole = \"viewer\"\nhash = \"blake3:{}\"\nexpires = \"2027-01-01T00:00:00Z\"\nsources = [\"orders\"]\n",
            "ab".repeat(32)
        );
        let settings = read(&text).unwrap();
        let roles: Vec<(String, Role)> =
            settings.users.iter().map(|(name, user)| (name.to_string(), user.role)).collect();
        assert_eq!(
            roles,
            [("ada".to_owned(), Role::Admin), ("grace@example.org".to_owned(), Role::Operator)]
        );
        let token = settings.tokens.values().next().unwrap();
        assert_eq!(token.hash.to_string(), format!("blake3:{}", "ab".repeat(32)));
        assert_eq!(settings.http.as_ref().unwrap().session_idle, Span::from_secs(600));
        assert_eq!(HttpSettings::default().listen.to_string(), "127.0.0.1:8432");
        assert!(Role::Viewer < Role::Operator && Role::Operator < Role::Admin);
    }

    #[test]
    fn mistakes_are_named_and_secrets_are_not() {
        for (text, says) in [
            ("[user.a]\nrole = \"root\"\npassword = \"env:A\"\n", "unknown variant `root`"),
            ("[user.a]\nrole = \"admin\"\npassword = \"canary\"\n", "neither an Argon2id hash"),
            ("[user.a]\nrole = \"admin\"\npassword = \"$argon2id$canary\"\n", "neither an Argon2id hash"),
            ("[user.a]\nrole = \"admin\"\npassword = \"$argon2i$v=19$canary\"\n", "neither an Argon2id hash"),
            ("[user.\"a b\"]\nrole = \"admin\"\npassword = \"env:A\"\n", "can name neither"),
            ("[user.a]\nrole = \"admin\"\n", "missing field `password`"),
            (
                "[token.a]\nrole = \"viewer\"\nhash = \"canary\"\nexpires = \"2027-01-01T00:00:00Z\"\n",
                "not the hash of a token",
            ),
            (
                "[token.a]\nrole = \"viewer\"\nhash = \"blake3:canary\"\nexpires = \"2027-01-01T00:00:00Z\"\n",
                "not the hash of a token",
            ),
            ("[http]\nlisten = \"0.0.0.0:8432\"\n", "there is no TLS"),
            ("[http]\nlisten = \"0.0.0.0:8432\"\ncertificate = \"c\"\nkey = \"k\"\n", "nobody could sign in"),
            ("[http]\ncertificate = \"c\"\n", "needs both"),
            ("[http]\nrestore_to = \"restores\"\n", "does not begin with /"),
            ("[http]\nlisten = \"localhost\"\n", "line 2"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says) && !error.contains("canary"), "{text}: {error}");
        }
        let user = "[user.a]\nrole = \"admin\"\npassword = \"env:A\"\n";
        for http in ["behind_proxy = true\n", "certificate = \"c\"\nkey = \"k\"\n"] {
            assert!(read(&format!("[http]\nlisten = \"0.0.0.0:8432\"\n{http}{user}")).is_ok(), "{http}");
        }
    }
}
