//! What a view of one source is made of, brought together once for the page and for the API.

use strongroom_catalog::history::Filter;
use strongroom_model::SourceName;

use crate::http::desk::Desk;
use crate::http::shown::jobs::job_line;
use crate::http::shown::source::{Told, ToldOfSource};

/// Jobs of a source that are shown.
const JOBS: i64 = 20;

/// What verbs and the catalog tell of a source.
pub async fn told_of_source(desk: &Desk, name: &SourceName) -> ToldOfSource {
    let tellings = &desk.tellings;
    let words = [
        &["list", name.as_str()][..],
        &["report", "rto-rpo", name.as_str()],
        &["hold", "list", name.as_str()],
    ];
    let jobs = async {
        let catalog = desk.catalog().await.map_err(|problem| problem.detail().to_owned())?;
        let filter = Filter { source: Some(name.clone()), most: JOBS, ..Filter::default() };
        let jobs = catalog.jobs(&filter).await.map_err(|error| error.to_string())?;
        Ok(jobs.iter().map(|job| job_line(job, desk.now())).collect())
    };
    // What is not in the vault at all is an error to those who name it, and nothing to show here.
    let snapshot = desk.board.last();
    let reading = snapshot.as_ref().and_then(|snapshot| snapshot.reading.as_ref());
    if let Some(reading) = reading.filter(|reading| !reading.sources.contains_key(name)) {
        let (drilled, jobs) = tokio::join!(tellings.one_of(words[1]), jobs);
        let (listed, held) = (Told::Said(reading.at, Default::default()), Told::Said(reading.at, Vec::new()));
        return ToldOfSource { listed, drilled, held, jobs };
    }
    let (listed, drilled, held, jobs) =
        tokio::join!(tellings.one_of(words[0]), tellings.one_of(words[1]), tellings.of(words[2]), jobs);
    ToldOfSource { listed, drilled, held, jobs }
}
