//! `strongroom wal push | receive | fetch | status`

use std::path::PathBuf;

use anstyle::AnsiColor;
use strongroom_model::time::human_duration;
use strongroom_model::{ByteSize, SourceName, WalFile};
use strongroom_ops::wal_status::wal_status;

use crate::agent::socket::{Errand, ask};
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::journal::{absent, fetch, push};
use crate::output::{Outcome, table, tinted};

mod receive;

/// Ship WAL, bring it back, look at it
#[derive(clap::Subcommand)]
pub enum Verb {
    /// Ship one finished WAL file; for archive_command
    #[command(after_help = "\
Succeeds only when the vault durably holds this file. The same file again is fine; another file of the same name is
refused and what is there stays. Exit codes are 0 or 1 to 125, as the archiver needs them.

Example, in postgresql.conf (or let `strongroom doctor --fix` write it):
  archive_command = 'strongroom --config /etc/strongroom/strongroom.toml wal push --source orders \"%p\"'")]
    Push {
        /// The file, as in %p
        path: PathBuf,
        /// The source; may be left out if there is only one
        #[arg(long)]
        source: Option<SourceName>,
    },
    Receive(receive::Arguments),
    /// Bring one WAL file back; for restore_command
    #[command(after_help = "\
Exits with 0 when the file is in place, whole and checked; with 1 only when the vault says with authority that there is
none; with 200 for everything else, so that a store that is down stops recovery and never ends it early.")]
    Fetch {
        /// The file's name, as in %f
        name: String,
        /// Where to put it, as in %p
        destination: PathBuf,
        /// The source; may be left out if there is only one
        #[arg(long)]
        source: Option<SourceName>,
    },
    /// Show what of the journal is in the vault, and its gaps
    Status {
        /// The source; may be left out if there is only one
        source: Option<SourceName>,
    },
}

pub async fn run(context: &Context, verb: &Verb) -> Result<Outcome, Failure> {
    match verb {
        Verb::Push { path, source } => {
            let source = context.source_with_wal(source.as_ref())?;
            match ask(context, &source, Errand::push(path)?).await {
                Some(answer) => answer,
                None => push(context, path, &source).await,
            }
        }
        Verb::Receive(arguments) => receive::run(context, arguments).await,
        Verb::Fetch { name, destination, source } => {
            let source = context.source_with_wal(source.as_ref())?;
            // Recovery asks for nothing but WAL files; a name that is none is certainly nowhere.
            let Ok(file) = WalFile::parse(name) else { return Ok(absent(&source, name)) };
            match ask(context, &source, Errand::fetch(file, destination)?).await {
                Some(answer) => answer,
                None => fetch(context, (file, destination), &source).await,
            }
        }
        Verb::Status { source } => status(context, source.as_ref()).await,
    }
}

async fn status(context: &Context, source: Option<&SourceName>) -> Result<Outcome, Failure> {
    let source = context.source_with_wal(source)?;
    let vault = context.answering().await?;
    let status = wal_status(&context.cx, &vault, &source).await?;
    let (mut rows, mut problems) = (Vec::new(), Vec::new());
    for lineage in &status.lineages {
        for window in &lineage.windows {
            rows.push(vec![
                lineage.lineage.system_id.to_string(),
                window.window.timeline.to_string(),
                window.first_segment.clone(),
                window.last_segment.clone(),
                match window.window.tail {
                    Some(bytes) => format!("{} + {}", window.segments, ByteSize(bytes.into())),
                    None => window.segments.to_string(),
                },
                window.last_transaction.map_or_else(|| "-".into(), |time| time.to_string()),
                format!("{} ago", human_duration(std::time::Duration::from_secs(window.age_s))),
            ]);
            if window.gap_follows {
                problems.push(format!(
                    "gap on timeline {} after {}",
                    window.window.timeline, window.last_segment
                ));
            }
        }
        problems.extend(
            lineage.missing_histories.iter().map(|id| format!("the history of timeline {id} is missing")),
        );
    }
    let head = ["system", "timeline", "first", "last", "segments", "last transaction", "shipped"];
    let mut text = table(&head, &rows, &[1, 4]);
    for problem in &problems {
        text.push_str(&format!("\n{} {problem}", tinted("!", AnsiColor::Red)));
    }
    let code = if problems.is_empty() { Code::Ok } else { Code::Problems };
    Ok(Outcome::new(&status, text).with_code(code))
}
