//! What people have done: each act becomes a job of the catalog, carried out by an agent like the jobs of plans, under the name of
//! who wanted it.
//!
//! ```text
//! Deed ▶ allowed? ▶ sound? ▶ confirmed? ─┬▶ job
//!                                        └▶ request ▶ a second person agrees ▶ job     what destroys, if the settings want that
//! ```
//!
//! **Invariants**
//! - Nothing is carried out here: what a person may not, or what does not read, never becomes a job.
//! - The same key leads to the same job, however often it is sent.
//! - What destroys or overwrites, and every restore, is confirmed by the source's name.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use serde_json::Value;
use strongroom_catalog::by_hand::HandOrder;
use strongroom_catalog::requests::Request;
use strongroom_catalog::{Catalog, CatalogError, Job, JobId};
use strongroom_model::{PointId, SourceName};

use crate::agent::deed::Deed;
use crate::agent::jobs::told_by;
use crate::context::Context;
use crate::http::access::person::{Act, By, Person, allowed, allowed_everywhere};
use crate::http::desk::Desk;
use crate::http::problem::Problem;
use crate::http::witness::{Scene, witness, witness_refusal};

/// How long the vault may take to say what it has.
const PATIENCE: Duration = Duration::from_secs(20);

/// The longest key of an order.
const LONGEST_KEY: usize = 100;

/// What an act came to.
pub enum Ordered {
    /// A job, new or the same as before.
    Job(bool, Box<Job>),
    /// A request that waits for a second person, new or the same as before.
    Request(bool, Box<Request>),
}

/// What is to be done, and what makes sure that it is meant.
pub struct Wish {
    /// What.
    pub deed: Deed,
    /// The source's name, typed.
    pub confirm: Option<String>,
    /// What makes it the same when it is sent again; by chance if left out.
    pub key: Option<String>,
}

/// What a deed is, for the table of who may what.
pub fn act_of(deed: &Deed) -> Act {
    match deed {
        Deed::Backup { .. } => Act::BackUp,
        Deed::Verify { .. } => Act::Verify,
        Deed::Drill { .. } => Act::Drill,
        Deed::Hold { .. } => Act::Hold,
        Deed::Release { .. } => Act::Release,
        Deed::Expire { .. } => Act::Expire,
        Deed::Restore { over: false, .. } => Act::Restore,
        Deed::Restore { over: true, .. } => Act::RestoreOver,
    }
}

/// Has it done, or asks for it.
pub async fn act(desk: &Arc<Desk>, person: &Person, wish: Wish) -> Result<Ordered, Problem> {
    let (deed, what) = (wish.deed.clone(), format!("{} of {}", wish.deed.kind(), wish.deed.source()));
    let scene = |verb, what| Scene {
        verb,
        source: Some(deed.source()),
        point: deed.point(),
        what,
        ..Scene::default()
    };
    let ordered = order(desk, person, wish).await;
    match &ordered {
        Ok(Ordered::Job(true, job)) => {
            witness(desk, person, &scene("order", format!("{what}, job {}", job.id)));
        }
        Ok(Ordered::Request(true, request)) => {
            witness(desk, person, &scene("ask", format!("{what}, request {}", request.id)));
        }
        Ok(_) => {}
        Err(problem) => witness_refusal(desk, person, &scene("order", what), problem),
    }
    ordered
}

async fn order(desk: &Arc<Desk>, person: &Person, wish: Wish) -> Result<Ordered, Problem> {
    let context = desk.context();
    let Wish { deed, confirm, key } = wish;
    let (act, source) = (act_of(&deed), deed.source().clone());
    let what = format!("{} of {source}", deed.kind());
    may(desk, person, (act, &source), &what)?;
    deed.check(&context)?;
    let needs_name = act.is_destructive() || matches!(act, Act::Restore);
    if needs_name && confirm.as_deref() != Some(source.as_str()) {
        return Err(Problem::new(StatusCode::CONFLICT, "not-confirmed", format!("{what} is not confirmed"))
            .hint("send the source's name as confirm"));
    }
    let waits = act.is_destructive() && context.settings.http.as_ref().is_some_and(|http| http.second_person);
    if waits && person.by == By::Token {
        let detail =
            format!("{what} needs a second person, and a token is none: whoever has it could be both");
        return Err(Problem::not_allowed(detail).hint("sign in to ask for it"));
    }
    let key = key_of(&context, key)?;
    if let Some(point) = deed.point() {
        is_of(desk, &source, point).await?;
    }
    let catalog = desk.catalog().await?;
    let order = HandOrder {
        kind: deed.kind(),
        seat: deed.seat(),
        // Our own value: JSON cannot refuse it.
        act: serde_json::to_value(&deed).unwrap_or_default(),
        source,
        person: person.name.clone(),
        key,
    };
    Ok(order_or_ask(&catalog, &order, (waits, desk.now())).await?)
}

async fn order_or_ask(
    catalog: &Catalog,
    order: &HandOrder,
    (waits, now): (bool, strongroom_model::Timestamp),
) -> Result<Ordered, CatalogError> {
    Ok(match waits {
        true => {
            let (is_new, request) = catalog.ask(order, now).await?;
            Ordered::Request(is_new, Box::new(request))
        }
        false => {
            let (is_new, job) = catalog.order_by_hand(order, now).await?;
            Ordered::Job(is_new, Box::new(job))
        }
    })
}

/// What a restore would do: its plan, as `restore --dry-run --output json` prints it.
pub async fn restore_plan(desk: &Arc<Desk>, person: &Person, deed: &Deed) -> Result<Value, Problem> {
    let context = desk.context();
    let what = format!("plan a {} of {}", deed.kind(), deed.source());
    may(desk, person, (act_of(deed), deed.source()), &what).inspect_err(|problem| {
        let scene =
            Scene { verb: "plan", source: Some(deed.source()), point: deed.point(), ..Scene::default() };
        witness_refusal(desk, person, &scene, problem);
    })?;
    let words = deed.plan_words(&context)?;
    let told = tokio::time::timeout(PATIENCE, told_by(&context, &words)).await;
    let no_plan = |why| Problem::new(StatusCode::CONFLICT, "no-restore", why);
    told.map_err(|_| vault_away("it does not answer in time".into()))?.map_err(no_plan)
}

/// Calls a job off.
pub async fn cancel(desk: &Arc<Desk>, person: &Person, id: JobId) -> Result<Job, Problem> {
    let called_off = call_off(desk, person, id).await;
    let source = called_off.as_ref().ok().and_then(|job| job.source.as_ref());
    testify(
        (desk, person),
        Scene { verb: "cancel", source, what: format!("job {id}"), ..Scene::default() },
        &called_off,
    );
    called_off
}

async fn call_off(desk: &Arc<Desk>, person: &Person, id: JobId) -> Result<Job, Problem> {
    let catalog = desk.catalog().await?;
    let job = known_job(&catalog, person, id).await?;
    let what = format!("cancel job {id}");
    match &job.source {
        Some(source) => may(desk, person, (Act::Cancel, source), &what)?,
        // Who knows of the vault's own chores knows of every source.
        None if person.role >= Act::Cancel.role() => {}
        None => return Err(not_allowed(person, Act::Cancel, &what)),
    }
    Ok(catalog.cancel(id, desk.now()).await?)
}

/// Writes down what came of it.
fn testify<T>((desk, person): (&Desk, &Person), scene: Scene<'_>, came: &Result<T, Problem>) {
    match came {
        Ok(_) => witness(desk, person, &scene),
        Err(problem) => witness_refusal(desk, person, &scene, problem),
    }
}

/// A job that this person may know of.
pub async fn known_job(catalog: &Catalog, person: &Person, id: JobId) -> Result<Job, Problem> {
    let job = catalog.job(id).await?;
    let is_known = person.knows(job.source.as_ref());
    is_known.then_some(job).ok_or_else(|| Problem::not_found(format!("there is no job {id}")))
}

/// Agrees to what somebody else asked for.
pub async fn approve(desk: &Arc<Desk>, person: &Person, id: i64) -> Result<Job, Problem> {
    let agreed = agree(desk, person, id).await;
    let (source, what) = match &agreed {
        Ok((request, job)) => {
            (request.source.as_ref(), format!("request {id} of {}, job {}", request.person, job.id))
        }
        Err(_) => (None, format!("request {id}")),
    };
    testify((desk, person), Scene { verb: "approve", source, what, ..Scene::default() }, &agreed);
    agreed.map(|(_, job)| job)
}

async fn agree(desk: &Arc<Desk>, person: &Person, id: i64) -> Result<(Request, Job), Problem> {
    let (catalog, request) = known_request(desk, person, id).await?;
    if person.by == By::Token {
        return Err(Problem::not_allowed("a token agrees to nothing: sign in"));
    }
    if let Some(source) = &request.source {
        may(desk, person, (Act::Approve, source), &format!("approve request {id}"))?;
    }
    let job = catalog.approve(id, &person.name, desk.now()).await?;
    Ok((request, job))
}

/// Says no to what was asked for, or takes it back.
pub async fn decline(desk: &Arc<Desk>, person: &Person, id: i64) -> Result<Request, Problem> {
    let declined = disagree(desk, person, id).await;
    let (source, what) = match &declined {
        Ok(request) => (request.source.as_ref(), format!("request {id} of {}", request.person)),
        Err(_) => (None, format!("request {id}")),
    };
    testify((desk, person), Scene { verb: "decline", source, what, ..Scene::default() }, &declined);
    declined
}

async fn disagree(desk: &Arc<Desk>, person: &Person, id: i64) -> Result<Request, Problem> {
    let (catalog, request) = known_request(desk, person, id).await?;
    if let Some(source) = request.source.as_ref().filter(|_| request.person != person.name) {
        may(desk, person, (Act::Approve, source), &format!("decline request {id}"))?;
    }
    Ok(catalog.decline(id, &person.name, desk.now()).await?)
}

async fn known_request(desk: &Desk, person: &Person, id: i64) -> Result<(Arc<Catalog>, Request), Problem> {
    let catalog = desk.catalog().await?;
    let request = catalog.request(id, desk.now()).await?;
    match person.knows(request.source.as_ref()) {
        true => Ok((catalog, request)),
        false => Err(Problem::not_found(format!("there is no request {id}"))),
    }
}

/// Shows the audit log to who may see all of it.
pub fn may_see_audit(desk: &Desk, person: &Person) -> Result<(), Problem> {
    if allowed_everywhere(person, Act::SeeAudit) {
        return Ok(());
    }
    let what = "seeing the audit log";
    let problem = match person.role >= Act::SeeAudit.role() {
        true => Problem::not_allowed(format!("{what} takes somebody who knows of every source")),
        false => not_allowed(person, Act::SeeAudit, what),
    };
    witness_refusal(
        desk,
        person,
        &Scene { verb: "look", what: "audit log".to_owned(), ..Scene::default() },
        &problem,
    );
    Err(problem)
}

/// Says no to who may not.
fn may(desk: &Desk, person: &Person, (act, source): (Act, &SourceName), what: &str) -> Result<(), Problem> {
    if !desk.context().settings.sources.contains_key(source) || !person.knows(Some(source)) {
        return Err(Problem::not_found(format!("there is no source {source}")));
    }
    match allowed(person, act, source) {
        true => Ok(()),
        false => Err(not_allowed(person, act, what)),
    }
}

fn not_allowed(person: &Person, act: Act, what: &str) -> Problem {
    let role = act.role();
    let problem =
        Problem::not_allowed(format!("{} is {}, and {what} takes the role {role}", person.name, person.role));
    match person.by {
        By::Loopback => problem.hint(format!(
            "`strongroom access password NAME --role {role}` prints the lines that let somebody sign in"
        )),
        By::Session | By::Token => problem.hint("role in [user.NAME] or [token.NAME] says who may what"),
    }
}

fn key_of(context: &Context, key: Option<String>) -> Result<String, Problem> {
    let Some(key) = key else {
        return Ok(blake3::Hash::from_bytes(context.cx.random()).to_hex().to_string());
    };
    let is_sound =
        (1..=LONGEST_KEY).contains(&key.len()) && key.chars().all(|letter| letter.is_ascii_graphic());
    let refused = || Problem::unreadable("idempotency-key is up to 100 letters, digits and marks");
    is_sound.then_some(key).ok_or_else(refused)
}

/// Refuses a point of another source: who may touch the one need not be allowed to touch the other.
async fn is_of(desk: &Desk, source: &SourceName, point: &PointId) -> Result<(), Problem> {
    let absent = || Problem::not_found(format!("source {source} has no point {point}"));
    let words = ["list", source.as_str()].map(str::to_owned);
    let told = tokio::time::timeout(PATIENCE, told_by(&desk.context(), &words)).await;
    match told.map_err(|_| vault_away("it does not answer in time".into()))? {
        Ok(told) if has_point(&told, point) => Ok(()),
        Ok(_) => Err(absent()),
        // A source of which the vault holds nothing is an error to `list`, and has no points to us.
        Err(_) if is_empty(desk, source) => Err(absent()),
        Err(why) => Err(vault_away(why)),
    }
}

/// Whether the vault held nothing of the source when it answered last, just now.
fn is_empty(desk: &Desk, source: &SourceName) -> bool {
    let snapshot = desk.board.last().filter(|snapshot| !snapshot.is_silent);
    let reading = snapshot.as_ref().and_then(|snapshot| snapshot.reading.as_ref());
    reading.is_some_and(|reading| !reading.sources.contains_key(source))
}

/// Whether `list` names the point.
fn has_point(told: &Value, point: &PointId) -> bool {
    let sources = told.as_array().into_iter().flatten();
    let mut points = sources.filter_map(|source| source["points"].as_array()).flatten();
    points.any(|row| row["point"].as_str() == Some(&point.to_string()))
}

fn vault_away(why: String) -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "vault-away",
        format!("the vault does not say what it has: {why}"),
    )
    .after(Duration::from_secs(30))
}
