//! What is looked at in a restored server that runs.

#![allow(clippy::disallowed_methods, reason = "runs the server's own checking program")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use strongroom_engine::EngineError;
use strongroom_model::drill::Answer;
use strongroom_model::{Cx, SystemId, Timeline};
use tokio::process::Command;

use crate::course::{Course, Ended, ended};
use crate::drill::subject::Subject;
use crate::facts::PostgresFacts;
use crate::logical::program::Program;

/// The first version with `pg_amcheck`.
const AMCHECK_FROM: u16 = 14;

/// Characters of what a program says that are kept.
const KEPT: usize = 2000;

/// Databases that are named.
const NAMED: usize = 10;

const OPERATION: &str = "check the restored server";

/// Whether recovery ended where it was to end, by the history of the timeline that the server is on now; and where that was.
pub async fn recovery(
    subject: &Subject,
    data: &Path,
    course: &Course,
) -> Result<(Answer, Option<Ended>), EngineError> {
    let client = subject.connect_anyhow().await?;
    let sql =
        "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int4 AS timeline";
    let row = client.row(OPERATION, sql, &[]).await?;
    let number = client.get::<i32>(OPERATION, &row, "timeline")?.cast_unsigned();
    let timeline = Timeline::new(number).filter(|timeline| *timeline > course.timeline);
    let Some(ended) = timeline.and_then(|timeline| ended(data, timeline)) else {
        let text = format!(
            "the server is on timeline {number}, and no history says where it left {}",
            course.timeline
        );
        return Ok((Answer::failed(text), None));
    };
    let text = format!("{}: {ended}, then timeline {number}", course.target);
    let answer = if course.leads_to(&ended) { Answer::passed(text) } else { Answer::failed(text) };
    Ok((answer, Some(ended)))
}

/// Whether it is the cluster that the point's facts tell of.
pub async fn facts(subject: &Subject, facts: &PostgresFacts) -> Result<Answer, EngineError> {
    let client = subject.connect_anyhow().await?;
    let sql = "SELECT system_identifier::text AS id, catalog_version_no::int4 AS catalog, \
               current_setting('server_version_num')::int4 / 10000 AS major, current_setting('data_checksums') AS checksums, \
               current_setting('block_size')::int4 AS block FROM pg_control_system()";
    let row = client.row(OPERATION, sql, &[]).await?;
    let number = |column| client.get::<i32>(OPERATION, &row, column).map(i32::cast_unsigned);
    let id: String = client.get(OPERATION, &row, "id")?;
    let checksums: String = client.get(OPERATION, &row, "checksums")?;
    let on = |on: bool| if on { "on" } else { "off" }.to_owned();
    let compared = [
        ("system identifier", id, SystemId::to_string(&facts.system_id)),
        ("major version", number("major")?.to_string(), (facts.version_num / 10_000).to_string()),
        ("catalogue version", number("catalog")?.to_string(), facts.catalog_version.to_string()),
        ("block size", number("block")?.to_string(), facts.block_size.to_string()),
        ("page checksums", checksums, on(facts.data_checksums)),
    ];
    let differs = compared.iter().filter(|(_, found, expected)| found != expected);
    let differs: Vec<String> =
        differs.map(|(what, found, expected)| format!("{what} {found} instead of {expected}")).collect();
    Ok(match differs.is_empty() {
        true => Answer::passed(format!("system {}, as the point's facts say", facts.system_id)),
        false => Answer::failed(differs.join("; ")),
    })
}

/// Whether every database takes connections and has its catalogue; and, if nothing was replayed behind the point, whether they
/// are the ones that it was taken of.
pub async fn databases(
    cx: &Cx,
    subject: &Subject,
    (recorded, nothing_since): (&BTreeMap<u32, String>, bool),
) -> Result<Answer, EngineError> {
    let client = subject.connect_anyhow().await?;
    // -2: one whose DROP was cut short, which nobody can connect to.
    let sql = "SELECT datname::text AS name, datallowconn AND datconnlimit <> -2 AS open FROM pg_database ORDER BY 1";
    let (mut all, mut relations, mut open) = (BTreeSet::new(), 0, 0);
    for row in client.rows(OPERATION, sql, &[]).await? {
        cx.check()?;
        let name: String = client.get(OPERATION, &row, "name")?;
        if client.get::<bool>(OPERATION, &row, "open")? {
            let inside = subject.connect(&name).await?;
            let row = inside.row(OPERATION, "SELECT count(*) AS count FROM pg_class", &[]).await?;
            relations += inside.get::<i64>(OPERATION, &row, "count")?;
            open += 1;
        }
        all.insert(name);
    }
    let recorded: BTreeSet<String> = recorded.values().cloned().collect();
    let list =
        |names: BTreeSet<&String>| names.into_iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    let (gone, new) = (list(recorded.difference(&all).collect()), list(all.difference(&recorded).collect()));
    let text = format!("{open} take connections, with {relations} relations");
    Ok(match (gone.is_empty(), new.is_empty(), recorded.is_empty()) {
        (true, true, _) | (_, _, true) => Answer::passed(text),
        (false, ..) if nothing_since => {
            Answer::failed(format!("{text}; the point has {gone}, which are missing"))
        }
        (false, true, _) => Answer::passed(format!("{text}; dropped since the point: {gone}")),
        (true, ..) => Answer::passed(format!("{text}; not in the point's facts: {new}")),
        (false, ..) => Answer::passed(format!("{text}; since the point dropped: {gone}; made: {new}")),
    })
}

/// Every table's pages and every index against its table, in all databases.
pub async fn amcheck(cx: &Cx, subject: &Subject, jobs: usize) -> Result<Answer, EngineError> {
    let major = subject.major;
    if major < AMCHECK_FROM {
        return Ok(Answer::not_run(format!("PostgreSQL {major} has no pg_amcheck")));
    }
    let program = Program { name: "pg_amcheck", path: subject.program("pg_amcheck"), major };
    if !program.path.exists() {
        return Ok(Answer::not_run(format!("there is no {} on this host", program.path.display())));
    }
    let client = subject.connect_anyhow().await?;
    let sql = "SELECT FROM pg_available_extensions WHERE name = 'amcheck'";
    if client.rows(OPERATION, sql, &[]).await?.is_empty() {
        return Ok(Answer::not_run("the extension amcheck is not on this host"));
    }
    let mut command: Command = program.on_files();
    command.arg("-h").arg(&subject.socket).args(["-p", "5432", "-w", "-U", &subject.superuser]);
    command.args(["--all", "--install-missing", "--heapallindexed"]).arg(format!("--jobs={}", jobs.max(1)));
    let (is_sound, said) = program.ask(cx, &mut command).await?;
    Ok(match is_sound {
        true => Answer::passed("every table and every index of all databases, each row found in its indexes"),
        false => Answer::failed(shortened(&said)),
    })
}

/// On one line, and no more than a record should hold.
pub(crate) fn shortened(said: &str) -> String {
    let line = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ");
    match line.char_indices().nth(KEPT) {
        Some((end, _)) => format!("{} …", &line[..end]),
        None => line,
    }
}
