//! `strongroom access`

use std::time::Duration;

use serde_json::json;
use strongroom_catalog::job::later;
use strongroom_model::span::Span;
use strongroom_model::{SourceName, Timestamp};
use zeroize::Zeroizing;

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::http::access::password::{SHORTEST, hashed, token};
use crate::output::Outcome;
use crate::settings::access::{PersonName, Role};

/// The longest that a token may be good for.
const LONGEST: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// Let people and programs in at the agent's page and API
#[derive(clap::Subcommand)]
pub enum Verb {
    /// Ask for a password and print the lines that let a person sign in
    #[command(after_help = "\
The lines belong into strongroom.toml; the agent takes them up by itself. What is printed is a hash (Argon2id), which says
nothing of the password; it may also stand in a file or a variable: password = \"file:/path\".

Examples:
  strongroom access password ada --role admin
  strongroom access password grace --role operator >> /etc/strongroom/strongroom.toml")]
    Password(Password),
    /// Print a new token, once, and the lines that let a program in that shows it
    #[command(after_help = "\
The token is on the first line and is not kept anywhere; the other lines belong into strongroom.toml. Whoever takes them
out again takes the token back.

Examples:
  strongroom access token ci --role operator --expires 90d --source orders
  strongroom access token prometheus --role viewer --expires 365d --output json")]
    Token(Token),
}

#[derive(clap::Args)]
pub struct Password {
    /// Who signs in
    name: PersonName,
    /// What they may do
    #[arg(long)]
    role: Role,
}

#[derive(clap::Args)]
pub struct Token {
    /// What it is called
    name: PersonName,
    /// What it allows
    #[arg(long)]
    role: Role,
    /// For how long it is good: 90d, 12h
    #[arg(long, value_name = "TIME")]
    expires: Span,
    /// Only for this source; may be given more than once
    #[arg(long = "source", value_name = "SOURCE")]
    sources: Vec<SourceName>,
}

pub fn run(context: &Context, verb: &Verb) -> Result<Outcome, Failure> {
    match verb {
        Verb::Password(Password { name, role }) => {
            let password = asked_twice()?;
            let hash = hashed(&context.cx, &password)
                .map_err(|why| Failure::new(Code::Failed, format!("hash a password: {why}")))?;
            let lines = format!("[user.{}]\nrole = \"{role}\"\npassword = \"{hash}\"", quoted(name));
            Ok(Outcome::new(&json!({ "name": name, "role": role, "password": hash, "lines": lines }), lines))
        }
        Verb::Token(arguments) => new_token(context, arguments),
    }
}

fn new_token(context: &Context, arguments: &Token) -> Result<Outcome, Failure> {
    let Token { name, role, expires, sources } = arguments;
    if expires.0.is_zero() || expires.0 > LONGEST {
        return Err(Failure::new(
            Code::Usage,
            "a token is good for more than no time, and ten years at most",
        ));
    }
    if let Some(unknown) = sources.iter().find(|source| !context.settings.sources.contains_key(*source)) {
        return Err(Failure::new(Code::Usage, format!("source {unknown} is not in the settings")));
    }
    let (secret, hash) = token(&context.cx);
    let until = later(context.cx.now(), expires.0);
    let until = Timestamp::from_unix_seconds(until.unix_seconds()).unwrap_or(until);
    let mut lines =
        format!("[token.{}]\nrole = \"{role}\"\nhash = \"{hash}\"\nexpires = \"{}\"", quoted(name), until.0);
    if !sources.is_empty() {
        let names: Vec<String> = sources.iter().map(|source| format!("\"{source}\"")).collect();
        lines.push_str(&format!("\nsources = [{}]", names.join(", ")));
    }
    let json = json!({ "name": name, "role": role, "token": *secret, "hash": hash.to_string(), "expires": until, "lines": lines });
    Ok(Outcome::new(&json, format!("{}\n\n{lines}", *secret)))
}

/// A key of TOML: a dot or @ would mean something else.
fn quoted(name: &PersonName) -> String {
    let is_bare = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
    match name.as_str().chars().all(is_bare) {
        true => name.to_string(),
        false => format!("\"{name}\""),
    }
}

/// A new password, typed unseen and the same twice; or the first line of standard input, if nobody is at a terminal.
fn asked_twice() -> Result<Zeroizing<String>, Failure> {
    use std::io::IsTerminal;
    let unread = |error: std::io::Error| Failure::new(Code::Usage, format!("read the new password: {error}"));
    let password = match std::io::stdin().is_terminal() {
        true => {
            let ask = |prompt: &str| rpassword::prompt_password(prompt).map(Zeroizing::new);
            let password = ask("New password: ").map_err(unread)?;
            if ask("Once more: ").map_err(unread)? != password {
                return Err(
                    Failure::new(Code::Usage, "the two passwords differ").hint("nothing was made: try again")
                );
            }
            password
        }
        false => {
            let mut line = Zeroizing::new(String::new());
            std::io::stdin().read_line(&mut line).map_err(unread)?;
            Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned())
        }
    };
    if password.chars().count() < SHORTEST {
        let failure = Failure::new(Code::Usage, format!("a password has {SHORTEST} letters at least"));
        return Err(failure.hint("four words that you choose by chance are easy to keep in mind"));
    }
    Ok(password)
}
