//! Passwords: kept elsewhere and read anew when they are refused, or in libpq's file of them, `host:port:database:user:password`
//! a line, `*` for any, `\` before `:` and `\`.

#![allow(clippy::disallowed_methods, reason = "this module is where the password file is read")]

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use zeroize::Zeroizing;

/// A password. Wiped when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

impl Password {
    pub(crate) fn new(text: Zeroizing<String>) -> Password {
        Password(text)
    }

    /// The password itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Reads a password where it is kept. May take as long as a program that is asked for it.
pub type ReadPassword =
    Arc<dyn Fn() -> Result<Zeroizing<String>, Box<dyn std::error::Error + Send + Sync>> + Send + Sync>;

/// A password that is kept elsewhere. What was read last is shared by all who connect with it, so that it is not read for
/// every connection.
#[derive(Clone)]
pub(crate) struct KeptPassword {
    read: ReadPassword,
    last: Arc<Mutex<Password>>,
}

impl KeptPassword {
    /// Reads it for the first time.
    pub(crate) fn new(read: ReadPassword) -> Result<KeptPassword, Box<dyn std::error::Error + Send + Sync>> {
        let last = Arc::new(Mutex::new(Password::new(read()?)));
        Ok(KeptPassword { read, last })
    }

    /// As it was when it was read last.
    pub(crate) fn last(&self) -> Password {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads it anew; whether it is another than the one that was refused. Another connection may have done so already.
    pub(crate) fn renew(&self, refused: &Password) -> Result<bool, Box<dyn std::error::Error + Send + Sync>> {
        let now = Password::new((self.read)()?);
        let differs = now != *refused;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = now;
        Ok(differs)
    }
}

impl fmt::Debug for KeptPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// The password for this host, port, database and user. A file that others may read is not used, as libpq does.
pub fn find(path: &Path, wanted: [&str; 4]) -> Option<Password> {
    let metadata = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "password file not used: others may read it; run chmod 600 on it");
        return None;
    }
    let text = Zeroizing::new(std::fs::read_to_string(path).ok()?);
    passfile_password(&text, wanted)
}

/// The password of the first line whose host, port, database and user all match (`*` matches all).
fn passfile_password(text: &str, wanted: [&str; 4]) -> Option<Password> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut rest = line;
        for wanted in wanted {
            let (field, escaped, after) = passfile_field(rest);
            if after.is_none() || !(field == wanted || field == "*" && !escaped) {
                return None;
            }
            rest = after.unwrap_or_default();
        }
        // The password ends with the line; only what precedes a further ':' is it, as in libpq.
        let (password, _, _) = passfile_field(rest);
        (!password.is_empty()).then(|| Password(Zeroizing::new(password)))
    })
}

/// A field up to the next unescaped `:`, whether an escape was in it, and what follows the `:`.
fn passfile_field(text: &str) -> (String, bool, Option<&str>) {
    let (mut field, mut escaped, mut characters) = (String::new(), false, text.char_indices());
    while let Some((at, character)) = characters.next() {
        match character {
            ':' => return (field, escaped, Some(&text[at + 1..])),
            '\\' => {
                escaped = true;
                field.extend(characters.next().map(|(_, next)| next));
            }
            _ => field.push(character),
        }
    }
    (field, escaped, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_file_is_read_line_by_line() {
        let text = "# comment:*:*:*:no\nlocalhost:5432:*:backup:socket\ndb1:*:orders:backup:a\\:b\\\\c\n\
            db1:5433:*:*:any\n\\*:*:*:*:star\nbroken:line\n*:*:*:last:";
        let find = |wanted| passfile_password(text, wanted).map(|password| password.expose().to_owned());
        assert_eq!(find(["localhost", "5432", "x", "backup"]).as_deref(), Some("socket"));
        assert_eq!(find(["db1", "1", "orders", "backup"]).as_deref(), Some("a:b\\c"));
        assert_eq!(find(["db1", "5433", "x", "y"]).as_deref(), Some("any"));
        assert_eq!(find(["*", "1", "x", "y"]).as_deref(), Some("star"));
        assert_eq!(find(["db2", "5432", "orders", "backup"]), None);
        assert_eq!(find(["db2", "5432", "orders", "last"]), None);
    }
}
