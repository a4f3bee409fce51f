//! What people and scripts read. The only module that prints.

#![allow(clippy::disallowed_macros, reason = "this module is where printing happens")]

use std::io::{ErrorKind, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use serde::Serialize;
use serde_json::json;
use tabled::builder::Builder;
use tabled::settings::object::Rows;
use tabled::settings::{Alignment, Modify, Padding, Style as TableStyle};

use crate::failure::{Code, Failure};
use crate::{Caller, arguments, exit_code};

/// Who reads the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// People.
    Human,
    /// Scripts: one JSON document on standard output, also for errors.
    Json,
}

/// When to colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What a command came to.
pub struct Outcome {
    /// The exit code.
    pub code: Code,
    /// For scripts.
    pub json: serde_json::Value,
    /// For people.
    pub human: String,
    /// The last of many lines for scripts, each a document.
    pub is_line: bool,
}

impl Outcome {
    /// A success: the value for scripts, the text for people.
    pub fn new(value: &impl Serialize, human: impl Into<String>) -> Outcome {
        // Our own values: structs and enums with string keys, which JSON cannot refuse.
        let json =
            serde_json::to_value(value).unwrap_or_else(|error| json!({ "unprintable": error.to_string() }));
        Outcome { code: Code::Ok, json, human: human.into(), is_line: false }
    }

    /// With another exit code.
    pub fn with_code(self, code: Code) -> Outcome {
        Outcome { code, ..self }
    }

    /// As the last of the lines that [`Printer::line`] printed.
    pub fn on_one_line(self) -> Outcome {
        Outcome { is_line: true, ..self }
    }
}

/// How to print.
#[derive(Clone, Copy, Debug)]
pub struct Printer {
    /// For whom.
    pub format: Format,
    /// In colour?
    pub color: Color,
}

impl Printer {
    /// Prints what a command came to and gives its exit code. A reader that went away is no failure; a full disk under
    /// a report is one, but for PostgreSQL, which reads the code alone.
    pub fn outcome(&self, outcome: &Outcome) -> Code {
        match self.report(outcome) {
            Err(error)
                if error.kind() != ErrorKind::BrokenPipe && Caller::of(&arguments()) == Caller::Shell =>
            {
                let failure = Failure::new(Code::Failed, format!("write to standard output: {error}"));
                self.failure(&failure.hint("what the command did stands: only its report is not whole"))
            }
            _ => outcome.code,
        }
    }

    fn report(&self, outcome: &Outcome) -> std::io::Result<()> {
        let mut out = anstream(self.color, std::io::stdout().is_terminal(), std::io::stdout());
        match self.format {
            Format::Human if outcome.human.is_empty() => {}
            Format::Human => writeln!(out, "{}", outcome.human.trim_end())?,
            Format::Json if outcome.is_line => writeln!(out, "{}", outcome.json)?,
            Format::Json => writeln!(out, "{:#}", outcome.json)?,
        }
        out.flush()
    }

    /// Prints why a command failed and gives its exit code. Of a document that cannot be written the log has a line.
    pub fn failure(&self, failure: &Failure) -> Code {
        if self.format == Format::Json {
            let error = json!({ "error": failure, "exit_code": exit_code(failure.kind) });
            if writeln!(std::io::stdout(), "{error:#}").is_err() {
                tracing::error!("{}", failure.on_one_line());
            }
            return failure.kind;
        }
        let mut err = self.side();
        let red = Style::new().bold().fg_color(Some(AnsiColor::Red.into()));
        let cyan = Style::new().bold().fg_color(Some(AnsiColor::Cyan.into()));
        let _ = writeln!(err, "{red}error:{red:#} {}", failure.message);
        for cause in &failure.causes {
            let _ = writeln!(err, "  because: {cause}");
        }
        if let Some(hint) = &failure.hint {
            let _ = writeln!(err, "{cyan}hint:{cyan:#} {hint}");
        }
        failure.kind
    }

    /// Prints something that happened on the way, as a line for scripts. A reader that went away misses it.
    pub fn line(&self, value: &impl Serialize) {
        let mut out = std::io::stdout();
        let written =
            serde_json::to_string(value).map(|line| writeln!(out, "{line}").and_then(|()| out.flush()));
        if !matches!(written, Ok(Ok(()))) {
            tracing::debug!("nobody reads standard output any more");
        }
    }

    /// Says something on the side, to people only.
    pub fn note(&self, text: &str) {
        if self.format == Format::Human {
            let _ = writeln!(self.side(), "{text}");
        }
    }

    /// Standard error, with colours only where they are wanted.
    fn side(&self) -> Box<dyn Write> {
        anstream(self.color, std::io::stderr().is_terminal(), std::io::stderr())
    }

    /// Shows a text and asks for `yes`. `None` if nobody is there to answer.
    pub fn confirm(&self, text: &str) -> Option<bool> {
        if self.format == Format::Json || !std::io::stdin().is_terminal() {
            return None;
        }
        let _ = write!(self.side(), "{text} [yes/no] ");
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer).ok()?;
        Some(matches!(answer.trim(), "yes" | "y"))
    }
}

/// A writer that drops colours where they are not wanted.
fn anstream<'a>(color: Color, terminal: bool, inner: impl Write + 'a) -> Box<dyn Write + 'a> {
    #[allow(
        clippy::disallowed_methods,
        reason = "a convention of terminals (no-color.org), not a setting of ours"
    )]
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    match color {
        Color::Always => Box::new(inner),
        Color::Auto if terminal && !plain => Box::new(inner),
        Color::Auto | Color::Never => Box::new(Plain(inner)),
    }
}

/// Drops escape sequences: they begin with ESC and end with `m` in what we print.
struct Plain<W>(W);

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut rest = bytes;
        while let Some(escape) = rest.iter().position(|byte| *byte == 0x1b) {
            self.0.write_all(&rest[..escape])?;
            let end = rest[escape..]
                .iter()
                .position(|byte| *byte == b'm')
                .map_or(rest.len(), |end| escape + end + 1);
            rest = &rest[end..];
        }
        self.0.write_all(rest)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

/// Green, yellow or red text.
pub fn tinted(text: &str, color: AnsiColor) -> String {
    let style = Style::new().fg_color(Some(color.into()));
    format!("{style}{text}{style:#}")
}

/// A table: a head, rows, figures to the right where `right` says so.
pub fn table(head: &[&str], rows: &[Vec<String>], right: &[usize]) -> String {
    let mut builder = Builder::new();
    builder.push_record(head.iter().map(|cell| cell.to_uppercase()));
    rows.iter().for_each(|row| builder.push_record(row.clone()));
    let mut table = builder.build();
    table.with(TableStyle::blank()).with(Padding::new(0, 2, 0, 0));
    for column in right {
        table.with(Modify::new(tabled::settings::object::Columns::one(*column)).with(Alignment::right()));
    }
    table.with(Modify::new(Rows::first()).with(Alignment::left()));
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}
