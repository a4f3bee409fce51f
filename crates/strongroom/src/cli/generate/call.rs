//! How other programs call this one: their ways of quoting, and who runs it.

use std::path::PathBuf;
use std::str::FromStr;

use crate::context::Context;
use crate::failure::{Code, Failure};

/// Where variables with secrets are kept on a host: NAME=value, a line each.
pub const ENVIRONMENT: &str = "/etc/strongroom/environment";

/// A user of this system.
#[derive(Clone, Debug)]
pub struct UserName(String);

/// A word that no system takes for a user.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' cannot name a user: use a-z, 0-9, '-' and '_', beginning with a letter or '_'")]
pub struct UserNameError(String);

impl FromStr for UserName {
    type Err = UserNameError;

    fn from_str(text: &str) -> Result<UserName, UserNameError> {
        let is_plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase() || byte == b'_');
        match begins && text.len() <= 32 && text.bytes().all(is_plain) {
            true => Ok(UserName(text.to_owned())),
            false => Err(UserNameError(text.to_owned())),
        }
    }
}

/// Who runs which program.
#[derive(clap::Args)]
pub struct Caller {
    /// The user it runs as: the one who runs the server
    #[arg(long, value_name = "NAME", default_value = "postgres")]
    user: UserName,
    /// The program [default: this one]
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
}

/// The program, its settings, and who runs it.
pub struct Call {
    program: String,
    options: Vec<String>,
    /// Who runs it.
    pub user: String,
}

impl Call {
    /// On this host: with these settings, whatever the working directory is.
    pub fn here(context: &Context, caller: &Caller) -> Result<Call, Failure> {
        let own = || {
            let error = |error| Failure::new(Code::Failed, format!("find this binary's own path: {error}"));
            std::env::current_exe().map_err(error)
        };
        let program: PathBuf = caller.program.clone().map_or_else(own, Ok)?;
        if !program.is_absolute() {
            let failure = Failure::new(Code::Usage, format!("{} is no whole path", program.display()));
            return Err(failure.hint("name the program as /usr/local/bin/strongroom"));
        }
        let program = program.to_string_lossy().into_owned();
        Ok(Call { program, options: context.own_words()?, user: caller.user.0.clone() })
    }

    fn words<'a>(&'a self, verb: &'a [String]) -> impl Iterator<Item = &'a String> {
        std::iter::once(&self.program).chain(&self.options).chain(verb)
    }

    /// As a shell reads it.
    pub fn shell(&self, verb: &[String]) -> String {
        self.words(verb).map(|word| shell(word)).collect::<Vec<_>>().join(" ")
    }

    /// As `ExecStart=` reads it.
    pub fn exec(&self, verb: &[String]) -> String {
        self.words(verb).map(|word| exec(word)).collect::<Vec<_>>().join(" ")
    }
}

/// Letters that mean themselves everywhere.
fn is_plain(word: &str) -> bool {
    let plain = |letter: char| {
        letter.is_ascii_alphanumeric()
            || matches!(letter, '-' | '_' | '.' | '/' | ':' | '=' | ',' | '@' | '+')
    };
    !word.is_empty() && word.chars().all(plain)
}

/// A word for a shell.
pub fn shell(word: &str) -> String {
    if is_plain(word) { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// A word for systemd.service(5), which knows specifiers, variables and escapes.
pub fn exec(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let escaped = escaped.replace('%', "%%").replace('$', "$$");
    if is_plain(word) { escaped } else { format!("\"{escaped}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_through_as_they_are() {
        for (word, of_shell, of_systemd) in [
            ("orders", "orders", "orders"),
            ("/etc/strong room/x", "'/etc/strong room/x'", "\"/etc/strong room/x\""),
            ("it's", "'it'\\''s'", "\"it's\""),
            ("100%", "'100%'", "\"100%%\""),
            ("$HOME", "'$HOME'", "\"$$HOME\""),
            ("a\"b\\", "'a\"b\\'", "\"a\\\"b\\\\\""),
            ("", "''", "\"\""),
        ] {
            assert_eq!((shell(word).as_str(), exec(word).as_str()), (of_shell, of_systemd));
        }
        assert!("postgres".parse::<UserName>().is_ok() && "_a-1".parse::<UserName>().is_ok());
        for text in ["", "a b", "-a", "1a", "a\nUser=root", "root;"] {
            assert!(text.parse::<UserName>().is_err(), "{text}");
        }
    }
}
