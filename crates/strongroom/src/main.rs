//! The `strongroom` command.
//!
//! `main` owns the exit code. PostgreSQL reads two commands' codes as a contract (semantics §7.1, §7.2), so those two are
//! translated here, last, whatever happened before: a usage error, a panic, a signal.

mod surroundings;
mod diagnostics;
mod actor;
mod secret;
mod conventions;
mod settings;
mod failure;
mod prices;
mod output;
mod paper;
mod losses;
mod progress;
mod context;
mod pdf;
mod catalog;
mod channels;
mod journal;
mod receive;
mod agent;
mod recording;
mod http;
mod recovering;
mod cli;

use std::process::ExitCode;

use crate::failure::Code;

/// Who reads the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    /// A person or a script: `docs/exit-codes.md`.
    Shell,
    /// The archiver: anything above 125 would kill it, unseen in `pg_stat_archiver`.
    ArchiveCommand,
    /// Recovery: 1 to 125 means "there is no such file" and promotes; above 125 stops recovery.
    RestoreCommand,
}

/// Recovery stops on this. Not 143, which the server takes for a clean shutdown.
const RECOVERY_STOPS: u8 = 200;

impl Caller {
    /// Options may stand anywhere, also between `wal` and its verb. Of a line that clap refused not every word is
    /// known: what could be recovery asking is taken for it, because a wrong "there is no such file" loses data.
    fn of(arguments: &[String]) -> Caller {
        let words = cli::words(arguments);
        let mut behind = words.into_iter().skip_while(|word| *word != "wal").skip(1).peekable();
        if behind.peek().is_none() {
            return Caller::Shell;
        }
        match behind.find(|word| matches!(*word, "push" | "receive" | "fetch" | "status")) {
            Some("push") => Caller::ArchiveCommand,
            Some("receive" | "status") => Caller::Shell,
            _ => Caller::RestoreCommand,
        }
    }

    /// Nobody is there to ask twice, and nothing is half done that a later run would miss.
    pub fn stops_at_once(self) -> bool {
        self != Caller::Shell
    }

    fn exit(self, code: Code) -> u8 {
        match (self, code) {
            (Caller::RestoreCommand, Code::Ok | Code::Absent) => code as u8,
            (Caller::RestoreCommand, _) => RECOVERY_STOPS,
            (Caller::ArchiveCommand, code) if code as u8 > 125 => Code::Failed as u8,
            (_, code) => code as u8,
        }
    }
}

/// The words this process was called with.
#[allow(
    clippy::disallowed_methods,
    reason = "who calls is read from the command line, also when clap could not"
)]
fn arguments() -> Vec<String> {
    std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect()
}

/// The exit code for whoever called this process.
fn exit_code(code: Code) -> u8 {
    Caller::of(&arguments()).exit(code)
}

fn main() -> ExitCode {
    let code = std::panic::catch_unwind(cli::run).unwrap_or(Code::Bug);
    ExitCode::from(exit_code(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recovery_only_ever_hears_absent_when_that_is_known() {
        let of = |line: &str| Caller::of(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(of("strongroom wal fetch --source a x y"), Caller::RestoreCommand);
        assert_eq!(of("strongroom --config f wal fetch x y"), Caller::RestoreCommand);
        assert_eq!(of("strongroom wal push pg_wal/x"), Caller::ArchiveCommand);
        for line in [
            "strongroom wal status",
            "strongroom wal status --config fetch fetch",
            "strongroom wal receive fetch --slot push",
            "strongroom wal",
            "strongroom list",
            "strongroom backup wal",
        ] {
            assert_eq!(of(line), Caller::Shell, "{line}");
        }
        for line in ["strongroom wal --config fetch push x", "strongroom wal push --source fetch x"] {
            assert_eq!(of(line), Caller::ArchiveCommand, "{line}");
        }
        for line in [
            "strongroom wal --config f fetch x y",
            "strongroom wal -c f fetch x y",
            "strongroom wal -vc f fetch x y",
            "strongroom wal -cf fetch x y",
            "strongroom wal --config=f fetch x y",
            "strongroom --config wal wal fetch x y",
            "strongroom wal --source push fetch x y",
            "strongroom wal --no-such-flag v fetch x y",
            "strongroom --no-such-flag v wal fetch x y",
            "strongroom wal fecth x y",
        ] {
            assert_eq!(of(line), Caller::RestoreCommand, "{line}");
        }
        for code in Code::ALL {
            let fetch = Caller::RestoreCommand.exit(code);
            match code {
                Code::Ok => assert_eq!(fetch, 0),
                Code::Absent => assert_eq!(fetch, 1),
                _ => assert!(fetch > 125 && fetch != 143, "{code:?}"),
            }
            let push = Caller::ArchiveCommand.exit(code);
            assert!(push <= 125 && (push == 0) == (code == Code::Ok), "{code:?}");
        }
    }
}
