//! Alerts that fire, what is still to be told of them, and to whom: so that an agent that is started anew, or another of the fleet,
//! neither tells twice nor forgets.
//!
//! ```text
//! watch (one agent a subject) ▶ news ▶ tell: alert and tellings in one transaction ▶ due ▶ channel ─┬▶ told: the row goes
//!                                                                                   ▲──── again ───┴▶ not told
//! ```
//!
//! **Invariants**
//! - A source is watched by one agent at a time; one that is killed holds its watch until it runs out.
//! - What is written as told of is a row that goes only once a channel took it, or nobody could want it any more. An agent that
//!   dies between the two tells it again: twice is better than never.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;
use strongroom_model::Timestamp;
use strongroom_model::alert::Condition;
use strongroom_model::alert::news::{Alert, Event, News};

use crate::catalog::{Catalog, CatalogError};
use crate::database::{Cell, Row, Statement};
use crate::history::Reader;
use crate::job::later;

/// How long what is told is kept from other agents while a channel works on it: longer than any channel may take.
const CLAIM: Duration = Duration::from_secs(120);

/// Tellings that no channel took are dropped then: what they tell of is told by reminders.
const STALE: Duration = Duration::from_secs(24 * 3600);

/// Something to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Telling {
    /// Its number.
    pub id: i64,
    /// By which channel.
    pub channel: String,
    /// How often it was tried, this time included.
    pub attempt: i64,
    /// What.
    pub news: News,
}

/// How a channel is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChannelRecord {
    /// Its name in the settings.
    pub name: String,
    /// Since when it takes nothing; `None` if it took the last that it was told.
    pub failing_since: Option<Timestamp>,
    /// Why.
    pub why: Option<String>,
    /// How often it took something.
    pub told: i64,
    /// How often it did not.
    pub refused: i64,
}

impl Catalog {
    /// Watches these subjects until `until`, as far as nobody else does: those that `owner` has.
    pub async fn watch(
        &self,
        subjects: &[&str],
        owner: &str,
        (now, until): (Timestamp, Timestamp),
    ) -> Result<BTreeSet<String>, CatalogError> {
        let sql = "insert into watches (subject, owner, until, known_since) values ($1, $2, $3, $4)
             on conflict (subject) do update set owner = excluded.owner, until = excluded.until
             where watches.owner is null or watches.owner = excluded.owner or watches.until < excluded.known_since
             returning subject";
        let one =
            |subject: &&str| Statement::new(sql, [(*subject).into(), owner.into(), until.into(), now.into()]);
        let answers = self.together("watch sources", subjects.iter().map(one).collect()).await?;
        answers.iter().flatten().map(|row| Reader::of(self, row).text("subject")).collect()
    }

    /// Since when each of these subjects is watched, by whomever.
    pub async fn known_since(&self, subjects: &[&str]) -> Result<BTreeMap<String, Timestamp>, CatalogError> {
        let texts = self.dialect().texts_of("$1");
        let sql = format!("select subject, known_since from watches where subject in ({texts})");
        let subjects = serde_json::json!(subjects).to_string();
        let rows = self.rows("look since when sources are watched", sql, [subjects.as_str().into()]).await?;
        let read = |row| {
            let mut reader = Reader::of(self, row);
            Ok((reader.text("subject")?, reader.time("known_since")?))
        };
        rows.iter().map(read).collect()
    }

    /// Watches nothing any more.
    pub async fn watch_no_more(&self, owner: &str) -> Result<(), CatalogError> {
        self.rows("watch sources no more", "update watches set owner = null where owner = $1", [owner.into()])
            .await
            .map(drop)
    }

    /// The alerts that fire, by key.
    pub async fn alerts(&self) -> Result<Vec<Alert>, CatalogError> {
        let rows = self
            .rows("list alerts", "select condition, fired_at, told_at from alerts order by key", [])
            .await?;
        rows.iter().map(|row| read_alert(self, row)).collect()
    }

    /// Writes down what is news, and that each of these channels is to be told.
    pub async fn tell(&self, news: &[(News, Vec<&str>)], now: Timestamp) -> Result<(), CatalogError> {
        let statements = news.iter().flat_map(|(news, channels)| {
            let tellings = channels.iter().map(|channel| telling(news, channel, now));
            std::iter::once(alert(news)).chain(tellings)
        });
        let statements: Vec<Statement> = statements.collect();
        if statements.is_empty() {
            return Ok(());
        }
        self.together("write down alerts", statements).await.map(drop)
    }

    /// Takes what these channels are to be told now, oldest first. Nobody else gets it for a while.
    pub async fn due_tellings(
        &self,
        channels: &[&str],
        now: Timestamp,
    ) -> Result<Vec<Telling>, CatalogError> {
        let (texts, skip_locked) = (self.dialect().texts_of("$3"), self.dialect().skip_locked());
        let sql = format!(
            "update tellings set run_at = $2, attempt = attempt + 1 where id in (
               select id from tellings where run_at <= $1 and channel in ({texts}) order by run_at, id limit 100 {skip_locked})
             returning id, channel, attempt, news"
        );
        let channels = serde_json::json!(channels).to_string();
        let cells = [now.into(), later(now, CLAIM).into(), channels.as_str().into()];
        let rows = self.rows("take what is to be told", sql, cells).await?;
        let mut due = rows.iter().map(|row| read_telling(self, row)).collect::<Result<Vec<Telling>, _>>()?;
        due.sort_by_key(|telling| telling.id);
        Ok(due)
    }

    /// A channel took it.
    pub async fn told(&self, telling: &Telling) -> Result<(), CatalogError> {
        let done = Statement::new("delete from tellings where id = $1", [telling.id.into()]);
        self.together("write down what was told", vec![done, well(&telling.channel)]).await.map(drop)
    }

    /// A channel did not take it: it is tried again then.
    pub async fn not_told(
        &self,
        telling: &Telling,
        why: &str,
        (now, again): (Timestamp, Timestamp),
    ) -> Result<(), CatalogError> {
        let wait = Statement::new(
            "update tellings set run_at = $2 where id = $1",
            [telling.id.into(), again.into()],
        );
        let statements = vec![wait, ill(&telling.channel, why, now)];
        self.together("write down what was not told", statements).await.map(drop)
    }

    /// A channel was tried by hand: `Err` is why it took nothing.
    pub async fn tried(
        &self,
        channel: &str,
        outcome: Result<(), &str>,
        now: Timestamp,
    ) -> Result<(), CatalogError> {
        let statement = outcome.map_or_else(|why| ill(channel, why, now), |()| well(channel));
        self.together("write down how a channel is", vec![statement]).await.map(drop)
    }

    /// How many tellings wait, after those are dropped that waited so long that nobody wants them any more.
    pub async fn waiting_tellings(&self, now: Timestamp) -> Result<i64, CatalogError> {
        let before = now.earlier(STALE).unwrap_or(now);
        let statements = vec![
            Statement::new("delete from tellings where made_at < $1", [before.into()]),
            Statement::new("select count(*) from tellings", []),
        ];
        let answers = self.together("count what is to be told", statements).await?;
        match answers.last().and_then(|rows| rows.first()).and_then(|row| row.0.first()) {
            Some(Cell::Number(count)) => Ok(*count),
            found => Err(self.unreadable(0, "count", found.unwrap_or(&Cell::Null))),
        }
    }

    /// Every channel that was told something, by name.
    pub async fn channels(&self) -> Result<Vec<ChannelRecord>, CatalogError> {
        let sql = "select name, failing_since, why, told, refused from channels order by name";
        let rows = self.rows("list channels", sql, []).await?;
        rows.iter().map(|row| read_channel(self, row)).collect()
    }
}

/// The row of the alert that this is news of, as it is afterwards.
fn alert(news: &News) -> Statement {
    let key = news.condition.key();
    let source = news.condition.source.as_ref().map(|source| source.as_str());
    let fire = "insert into alerts (key, source, condition, fired_at, told_at) values ($1, $2, $3, $4, $5)
         on conflict (key) do update set condition = excluded.condition, told_at = excluded.told_at";
    match news.event {
        Event::Recovered => Statement::new("delete from alerts where key = $1", [key.as_str().into()]),
        Event::Fired | Event::Reminded => {
            let condition = serde_json::json!(news.condition).to_string();
            let cells = [
                key.as_str().into(),
                source.into(),
                condition.as_str().into(),
                news.fired_at.into(),
                news.at.into(),
            ];
            Statement::new(fire, cells)
        }
    }
}

fn telling(news: &News, channel: &str, now: Timestamp) -> Statement {
    let key = format!("{}/{}/{}/{channel}", news.occasion(), news.event.word(), news.at.0.as_microsecond());
    let told = serde_json::json!(news).to_string();
    let sql = "insert into tellings (key, channel, news, made_at, run_at) values ($1, $2, $3, $4, $4) on conflict (key) do nothing";
    Statement::new(sql, [key.as_str().into(), channel.into(), told.as_str().into(), now.into()])
}

fn well(channel: &str) -> Statement {
    let sql = "insert into channels (name, told) values ($1, 1)
         on conflict (name) do update set failing_since = null, why = null, told = channels.told + 1";
    Statement::new(sql, [channel.into()])
}

fn ill(channel: &str, why: &str, now: Timestamp) -> Statement {
    let sql = "insert into channels (name, failing_since, why, refused) values ($1, $2, $3, 1)
         on conflict (name) do update set failing_since = coalesce(channels.failing_since, excluded.failing_since),
           why = excluded.why, refused = channels.refused + 1";
    Statement::new(sql, [channel.into(), now.into(), why.into()])
}

fn read_alert(catalog: &Catalog, row: &Row) -> Result<Alert, CatalogError> {
    let mut reader = Reader::of(catalog, row);
    let condition: Condition = reader.json("condition")?;
    Ok(Alert { condition, fired_at: reader.time("fired_at")?, told_at: reader.time("told_at")? })
}

fn read_telling(catalog: &Catalog, row: &Row) -> Result<Telling, CatalogError> {
    let mut reader = Reader::of(catalog, row);
    Ok(Telling {
        id: reader.number("id")?,
        channel: reader.text("channel")?,
        attempt: reader.number("attempt")?,
        news: reader.json("news")?,
    })
}

fn read_channel(catalog: &Catalog, row: &Row) -> Result<ChannelRecord, CatalogError> {
    let mut reader = Reader::of(catalog, row);
    Ok(ChannelRecord {
        name: reader.text("name")?,
        failing_since: reader.some_time("failing_since")?,
        why: reader.some_text("why")?,
        told: reader.number("told")?,
        refused: reader.number("refused")?,
    })
}
