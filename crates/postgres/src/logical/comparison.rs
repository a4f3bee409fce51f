//! What was restored, read back and compared with what was dumped.
//!
//! **Invariant**: every row of every restored table is read from the server again, and so is every sequence and every byte of
//! every large object. A difference is named with what was expected and what was found.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use strongroom_model::Cx;
use tokio::task::JoinSet;

use crate::connect::{self, Client};
use crate::logical::catalog::read_sequences;
use crate::logical::copying::{Copying, unless_cancelled};
use crate::logical::facts::TableFact;
use crate::logical::failure::LogicalError;
use crate::logical::fingerprint::fingerprint;
use crate::logical::large_objects::Objects;
use crate::logical::loading::Loading;
use crate::logical::statement::read_rows;
use crate::logical::tally::{Counted, Tally};

const OPERATION: &str = "read rows back";

/// Bytes counted at a time.
const ENOUGH: usize = 256 << 10;

/// The first version that reads a range of ctids without reading the whole table.
const READS_RANGES: u32 = 140_000;

/// Something that a connection works at.
#[derive(Clone, Debug)]
enum Task {
    /// Counts a range of the table of this place.
    Count(usize, u32),
    /// Gathers statistics of a table.
    Analyze(String),
}

/// Gathers statistics of all tables, several at a time.
pub(crate) async fn analyze(cx: &Cx, loading: &Arc<Loading>) -> Result<(), LogicalError> {
    let tasks = loading.staged.iter().map(|table| Task::Analyze(table.quoted())).collect();
    work_off(cx, loading, tasks).await.map(drop)
}

/// Every table that is not what it was.
pub(crate) async fn different_tables(cx: &Cx, loading: &Arc<Loading>) -> Result<Vec<String>, LogicalError> {
    let mut tasks = VecDeque::new();
    for (at, table) in loading.staged.iter().enumerate() {
        tasks.extend((0..parts(table, loading.version_num)).map(|number| Task::Count(at, number)));
    }
    let mut found: BTreeMap<usize, Counted> = BTreeMap::new();
    for (at, counted) in work_off(cx, loading, tasks).await? {
        let total = found.remove(&at).unwrap_or_default().with(&counted);
        found.insert(at, total);
    }
    // What went through a partitioned table may lie in another of its partitions than before.
    let mut groups: BTreeMap<String, (Counted, Counted)> = BTreeMap::new();
    for (at, table) in loading.choice.tables.iter().enumerate() {
        let expected = Counted { rows: table.rows, bytes: table.bytes, sum: table.sum, latest: Vec::new() };
        let name = match &table.through {
            Some((schema, name)) => format!("{schema}.{name}"),
            None => table.to_string(),
        };
        let (wanted, there) = groups.entry(name).or_default();
        *wanted = std::mem::take(wanted).with(&expected);
        *there = std::mem::take(there).with(&found.remove(&at).unwrap_or_default());
    }
    let differences = groups.iter().filter_map(|(name, (wanted, there))| difference(name, wanted, there));
    Ok(differences.collect())
}

fn difference(name: &str, wanted: &Counted, there: &Counted) -> Option<String> {
    if wanted.rows != there.rows {
        return Some(format!("{name}: {} rows expected, {} found", wanted.rows, there.rows));
    }
    (wanted.sum != there.sum).then(|| {
        format!(
            "{name}: {} rows as expected, with other content ({} expected, {} found)",
            wanted.rows, wanted.sum, there.sum
        )
    })
}

fn parts(table: &TableFact, version_num: u32) -> u32 {
    if version_num >= READS_RANGES { table.parts } else { 1 }
}

/// Has several connections work off tasks; what was counted, by table.
async fn work_off(
    cx: &Cx,
    loading: &Arc<Loading>,
    tasks: VecDeque<Task>,
) -> Result<Vec<(usize, Counted)>, LogicalError> {
    let tasks = Arc::new(Mutex::new(tasks));
    let mut workers = JoinSet::new();
    for _ in 0..loading.options.jobs.max(1) {
        let (cx, loading, tasks) = (cx.clone(), loading.clone(), tasks.clone());
        workers.spawn(async move {
            let (mut counted, mut copying) = (Vec::new(), loading.copying().await?);
            loop {
                let task = tasks.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                match task {
                    Some(Task::Count(at, number)) => {
                        counted.push((at, count(&cx, &loading, &mut copying, (at, number)).await?));
                    }
                    Some(Task::Analyze(table)) => {
                        let sql = format!("ANALYZE {table}");
                        unless_cancelled(&cx, copying.run("analyze a table", &sql)).await??;
                    }
                    None => break,
                }
            }
            loading.give_back(copying);
            Ok::<_, LogicalError>(counted)
        });
    }
    let mut all = Vec::new();
    // Dropped with an error, the others end as well.
    while let Some(worker) = workers.join_next().await {
        match worker {
            Ok(counted) => all.extend(counted?),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    Ok(all)
}

async fn count(
    cx: &Cx,
    loading: &Loading,
    copying: &mut Copying,
    (at, number): (usize, u32),
) -> Result<Counted, LogicalError> {
    let mut table = loading.staged[at].clone();
    table.parts = parts(&table, loading.version_num);
    let name = loading.choice.tables[at].to_string();
    let failed = |error| LogicalError::copy("read back", &name, error);
    let sql = read_rows(&table, number, &loading.facts.database.encoding);
    unless_cancelled(cx, copying.copy_out(OPERATION, &sql)).await?.map_err(failed)?;
    // Times are for people: they are in the sum as well.
    let mut tally = Tally::new(Vec::new());
    loop {
        let mut take = |piece: &[u8], ends: bool| tally.take(piece, ends);
        let reading = copying.read_rows(OPERATION, ENOUGH, &mut take);
        if !unless_cancelled(cx, reading).await?.map_err(failed)? {
            return Ok(tally.finish());
        }
        cx.progress.advance(ENOUGH as u64);
    }
}

/// Every sequence that is not where it was.
pub(crate) async fn different_sequences(
    cx: &Cx,
    client: &Client,
    loading: &Loading,
) -> Result<Vec<String>, LogicalError> {
    let expected = loading.sequences();
    let mut found = expected.clone();
    read_sequences(cx, client, &mut found).await?;
    let pairs = expected.iter().zip(&found).filter(|(expected, found)| expected != found);
    let text = pairs.map(|(expected, found)| {
        format!(
            "sequence {}.{}: {} expected, {} found",
            expected.schema, expected.name, expected.last_value, found.last_value
        )
    });
    Ok(text.collect())
}

/// Whether the large objects are not what they were.
pub(crate) async fn different_large_objects(cx: &Cx, loading: &Loading) -> Result<Vec<String>, LogicalError> {
    let expected = match loading.choice.large_objects {
        true => &loading.facts.large_objects,
        false => return Ok(Vec::new()),
    };
    let mut found = Counted::default();
    for part in &expected.parts {
        let mut objects = Objects::new(connect::connect(&loading.conninfo).await?, *part);
        while objects.next(cx).await?.is_some() {}
        found = found.with(&objects.tally.finish());
    }
    let wanted = Counted { rows: expected.count, sum: expected.sum, ..Counted::default() };
    Ok(difference("large objects", &wanted, &found).into_iter().collect())
}

/// Kinds of objects that are not the same ones as before, and what else is to be said of them.
pub(crate) async fn different_schema(
    cx: &Cx,
    client: &Client,
    loading: &Loading,
) -> Result<(Vec<String>, Vec<String>), LogicalError> {
    let found = fingerprint(cx, client).await?;
    let (mut differences, mut notes) = (Vec::new(), Vec::new());
    let same_version = loading.version_num / 10_000 == u32::from(loading.facts.major());
    for (kind, expected) in &loading.facts.schema {
        let Some(found) = found.get(kind) else { continue };
        match (expected == found, expected.names == found.names && expected.count == found.count) {
            (true, _) => {}
            (false, true) if same_version => {
                notes.push(format!(
                    "{kind}: all {} are there; the server words some otherwise",
                    expected.count
                ));
            }
            (false, true) => {}
            (false, false) if same_version => differences.push(format!(
                "{kind}: {} expected, {} found, or with other names",
                expected.count, found.count
            )),
            (false, false) => notes.push(format!(
                "{kind}: {} at PostgreSQL {}, {} here",
                expected.count,
                loading.facts.major(),
                found.count
            )),
        }
    }
    Ok((differences, notes))
}
