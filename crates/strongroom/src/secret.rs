//! Secrets by reference: `env:NAME`, `file:/path` and `command:…` say where a secret is, so that no settings file, command line
//! or message has it.
//!
//! **Invariants**
//! - Text that is no reference is never repeated: it may be the secret itself.
//! - A secret is read when it is needed, anew each time (it may have been changed meanwhile), and wiped when dropped.

#![allow(clippy::disallowed_methods, reason = "this module is where secrets are read")]

use std::env::VarError;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use serde::Deserialize;
use zeroize::Zeroizing;

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Reference {
    /// `env:NAME`: a variable of this process, the whole of it.
    Environment(String),
    /// `file:/path`: a file's first line.
    File(PathBuf),
    /// `command:…`: the first line that a command of the shell prints.
    Command(String),
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Neither of the three. What it is instead is not shown.
    #[error("it is not a reference to a secret")]
    NotAReference,
    /// The variable is not set, or empty.
    #[error("read it from the environment: {0} is not set")]
    Unset(String),
    /// The variable is not UTF-8.
    #[error("read it from the environment: {0} is not UTF-8 text")]
    NotText(String),
    /// The file cannot be read.
    #[error("read it from {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file's first line is empty.
    #[error("read it from {}: the first line is empty", .0.display())]
    Empty(PathBuf),
    /// The command did not print it. The command is not shown: it may hold a secret of its own.
    #[error("run the command that prints it: {0}")]
    Command(String),
}

impl SecretError {
    /// The way out.
    pub fn hint(&self) -> &'static str {
        match self {
            SecretError::NotAReference => {
                "say where the secret is, not what it is: env:NAME, file:/path or command:…"
            }
            SecretError::Unset(_) | SecretError::NotText(_) => "set it in the environment of this command",
            SecretError::Read { .. } => "is the path right, and may this user read it?",
            SecretError::Empty(_) => "write the secret there",
            SecretError::Command(_) => "does it work in a shell of this user?",
        }
    }
}

impl FromStr for Reference {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Reference, SecretError> {
        match text.split_once(':') {
            Some((_, "")) => Err(SecretError::NotAReference),
            Some(("env", name)) => Ok(Reference::Environment(name.to_owned())),
            Some(("file", path)) => Ok(Reference::File(path.into())),
            Some(("command", command)) => Ok(Reference::Command(command.to_owned())),
            _ => Err(SecretError::NotAReference),
        }
    }
}

impl TryFrom<String> for Reference {
    type Error = SecretError;

    fn try_from(text: String) -> Result<Reference, SecretError> {
        Zeroizing::new(text).parse()
    }
}

impl Reference {
    /// The same, a relative file beside another one.
    pub fn beside(&self, place: impl FnOnce(&Path) -> PathBuf) -> Reference {
        match self {
            Reference::File(path) => Reference::File(place(path)),
            other => other.clone(),
        }
    }

    /// As it is written on a command line.
    pub fn as_written(&self) -> String {
        match self {
            Reference::Environment(name) => format!("env:{name}"),
            Reference::File(path) => format!("file:{}", path.display()),
            Reference::Command(command) => format!("command:{command}"),
        }
    }

    /// What is there now.
    pub fn read(&self) -> Result<Zeroizing<String>, SecretError> {
        match self {
            Reference::Environment(name) => match std::env::var(name).map(Zeroizing::new) {
                Ok(secret) if !secret.is_empty() => Ok(secret),
                Ok(_) | Err(VarError::NotPresent) => Err(SecretError::Unset(name.clone())),
                Err(VarError::NotUnicode(_)) => Err(SecretError::NotText(name.clone())),
            },
            Reference::File(path) => {
                let read = |source| SecretError::Read { path: path.clone(), source };
                let text = text_of(path).map_err(read)?;
                first_line(&text).ok_or_else(|| SecretError::Empty(path.clone()))
            }
            Reference::Command(command) => printed_by(command),
        }
    }
}

/// All of a file that holds a secret.
pub fn text_of(path: &Path) -> Result<Zeroizing<String>, std::io::Error> {
    let facts = std::fs::metadata(path)?;
    if facts.is_file() && facts.mode() & 0o077 != 0 {
        tracing::warn!("{} can be read by others: chmod 600 it", path.display());
    }
    Ok(Zeroizing::new(std::fs::read_to_string(path)?))
}

/// What a command prints as its first line. What it says otherwise goes where this process's own words go.
fn printed_by(command: &str) -> Result<Zeroizing<String>, SecretError> {
    let mut shell = Command::new("/bin/sh");
    let output = shell.args(["-c", command]).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| SecretError::Command(error.to_string()))?;
    let printed = Zeroizing::new(output.stdout);
    if !output.status.success() {
        return Err(SecretError::Command(output.status.to_string()));
    }
    let no_text = |_| SecretError::Command("it printed no UTF-8 text".to_owned());
    let text = std::str::from_utf8(&printed).map_err(no_text)?;
    first_line(text).ok_or_else(|| SecretError::Command("it printed nothing".to_owned()))
}

fn first_line(text: &str) -> Option<Zeroizing<String>> {
    let line = text.lines().next().filter(|line| !line.is_empty())?;
    Some(Zeroizing::new(line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_says_where_and_nothing_else_is_one() {
        for (text, expected) in [
            ("env:PW", Some(Reference::Environment("PW".into()))),
            ("file:/run/secrets/pw", Some(Reference::File("/run/secrets/pw".into()))),
            ("command:pass show a:b", Some(Reference::Command("pass show a:b".into()))),
            ("env:", None),
            ("canary", None),
            ("canary:x", None),
            ("ENV:PW", None),
            ("", None),
        ] {
            let read = text.parse::<Reference>();
            match &read {
                Ok(reference) => assert_eq!(reference.as_written(), text),
                Err(error) => assert!(!format!("{error} {error:?} {}", error.hint()).contains("canary")),
            }
            assert_eq!(read.ok(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_read_is_the_first_line_of_what_is_there_now() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pw");
        let file = Reference::File(path.clone());
        assert!(matches!(file.read(), Err(SecretError::Read { .. })));
        for (text, expected) in [("one\ntwo\n", Some("one")), ("three", Some("three")), ("\nfour", None)] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(file.read().ok().as_deref().map(String::as_str), expected, "{text}");
        }
        let command = |text: &str| Reference::Command(text.into()).read();
        assert_eq!(command("echo a; echo b").unwrap().as_str(), "a");
        assert!(command("exit 3").unwrap_err().to_string().ends_with("exit status: 3"));
        assert!(command("true").unwrap_err().to_string().ends_with("printed nothing"));
        assert!(matches!(
            Reference::Environment("STRONGROOM_NO_SUCH".into()).read(),
            Err(SecretError::Unset(_))
        ));
    }
}
