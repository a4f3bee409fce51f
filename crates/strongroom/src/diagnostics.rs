//! What is said on standard error beside results: lines for people, or for programs that collect them.
//!
//! ```text
//! event ▶ level ▶ text or JSON ▶ secrets hidden ▶ standard error
//! ```
//!
//! **Invariants**
//! - A line is written at once, so that those of several processes do not mix.
//! - What looks like a password is not written, whoever says it: no message of ours has one, but a library's might.

#![allow(clippy::disallowed_methods, reason = "logging begins before settings are read")]

use std::io::Write;

/// Says how lines are written: `json`, or as text.
pub const FORMAT: &str = "STRONGROOM_LOG_FORMAT";

/// Stands where a secret stood.
const HIDDEN: &str = "<hidden>";

/// What an equals sign and a secret follow.
const WORDS: [&str; 6] = ["password", "passphrase", "secret", "token", "signature", "credential"];

/// Begins to write what is said from now on.
pub fn begin(quiet: bool, verbose: u8, ansi: bool) {
    let of_host = level_of_host();
    let default = match (quiet, verbose) {
        (true, _) => "error",
        (false, 0) => of_host.as_deref().unwrap_or("warn"),
        (false, 1) => "strongroom=info,warn",
        (false, _) => "strongroom=debug,info",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("STRONGROOM_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new(default));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| Discreet);
    match std::env::var(FORMAT).is_ok_and(|format| format.eq_ignore_ascii_case("json")) {
        true => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
        false => lines.with_ansi(ansi).without_time().with_target(false).init(),
    }
}

/// `LOG_LEVEL`, which a host may set for all its programs: only what is ours follows it, so that no library under us
/// begins to print what it sends.
fn level_of_host() -> Option<String> {
    let level: tracing::Level = std::env::var("LOG_LEVEL").ok()?.parse().ok()?;
    Some(format!("strongroom={level},error"))
}

/// Standard error, without secrets. It is given whole lines.
struct Discreet;

impl Write for Discreet {
    fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
        let hidden = without_secrets(&String::from_utf8_lossy(line));
        std::io::stderr().write_all(hidden.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// A line in which values of words such as `password=` and passwords of addresses are hidden. JSON stays JSON.
fn without_secrets(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let mut spans: Vec<(usize, usize)> = Vec::new();
    for word in WORDS {
        let after = lower.match_indices(word).map(|(at, _)| at + word.len());
        spans.extend(after.filter_map(|at| value(line, at)));
    }
    let addresses = line.match_indices("://").map(|(at, mark)| at + mark.len());
    spans.extend(addresses.filter_map(|at| password_of_address(line, at)));
    spans.sort_unstable();
    let (mut text, mut done) = (String::new(), 0);
    for (begin, end) in spans {
        if begin >= done {
            text.push_str(&line[done..begin]);
            text.push_str(HIDDEN);
            done = end;
        }
    }
    text.push_str(&line[done..]);
    text
}

/// Where the value behind an equals sign at `at` begins and ends.
fn value(line: &str, at: usize) -> Option<(usize, usize)> {
    let behind = line[at..].trim_start().strip_prefix('=')?.trim_start();
    // Quoted, also within a string of JSON.
    let (open, close): (&str, &[char]) = match behind {
        _ if behind.starts_with("\\\"") => ("\\\"", &['\\', '"']),
        _ if behind.starts_with('"') => ("\"", &['"']),
        _ if behind.starts_with('\'') => ("'", &['\'']),
        _ => ("", &[' ', '\t', '\n', '&', ',', ';', ')', '}', '"', '\\', '\'']),
    };
    let inner = &behind[open.len()..];
    let length = inner.find(close).unwrap_or(inner.len());
    let begin = line.len() - inner.len();
    (length > 0).then_some((begin, begin + length))
}

/// Where the password of an address begins and ends, whose host or user begins at `at`.
fn password_of_address(line: &str, at: usize) -> Option<(usize, usize)> {
    let rest = &line[at..];
    let end = rest
        .find(|letter: char| letter.is_whitespace() || matches!(letter, '/' | '"' | '\'' | '?'))
        .unwrap_or(rest.len());
    let (user, _) = rest[..end].rsplit_once('@')?;
    let colon = user.find(':')?;
    (colon + 1 < user.len()).then_some((at + colon + 1, at + user.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_hidden() {
        for (line, expected) in [
            ("nothing to hide\n", "nothing to hide\n"),
            ("host=h password=canary user=u", "host=h password=<hidden> user=u"),
            ("PASSWORD = 'two words' x", "PASSWORD = '<hidden>' x"),
            ("say password = \"env:NAME\"", "say password = \"<hidden>\""),
            ("{\"message\":\"a token=\\\"canary\\\" b\"}", "{\"message\":\"a token=\\\"<hidden>\\\" b\"}"),
            ("{\"message\":\"password=canary\"}", "{\"message\":\"password=<hidden>\"}"),
            ("GET /x?X-Amz-Signature=0a1b&b=2", "GET /x?X-Amz-Signature=<hidden>&b=2"),
            ("postgres://u:canary@h:5432/d", "postgres://u:<hidden>@h:5432/d"),
            ("postgres://u:c@n:ary@h/d", "postgres://u:<hidden>@h/d"),
            ("postgres://u@h:5432/d", "postgres://u@h:5432/d"),
            ("http://127.0.0.1:80/a@b", "http://127.0.0.1:80/a@b"),
            ("the token is old; no password was given", "the token is old; no password was given"),
            ("password=", "password="),
            ("über password=ä€ ö", "über password=<hidden> ö"),
        ] {
            assert_eq!(without_secrets(line), expected);
        }
    }
}
