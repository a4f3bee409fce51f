//! `strongroom wal receive`: the server's WAL as it is written, into every vault, seconds behind it.
//!
//! ```text
//! connect ▶ whose WAL? ▶ slot ▶ where to begin ▶ histories ▶ ┌ stream ─ parts, segments ─ report what is durable ┐
//!    ▲                                                       └ the timeline ends ▶ its successor's history ──────┘
//!    └── connection lost, server restarted, a vault is back ──┘
//! ```
//!
//! **Invariants**
//! - The server is told that WAL is durable only when **every** vault has it; so its slot keeps what any of them lacks,
//!   and a commit that waits for us waits for all of them.
//! - A timeline's history is in a vault before the timeline's WAL is.
//! - Nothing is skipped in silence: WAL that the server no longer has is a [`Event::Gap`].
//! - Memory is bounded: when too much waits for the vaults, reading stops and the server keeps the rest.
//!
//! Killed at any moment: what was reported as durable is in the vaults; the next run begins with the segment after the
//! last whole one. Stopped on request: what was received is shipped first.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use strongroom_engine::EngineError;
use strongroom_model::{ByteSize, Cx, Lsn, SourceName, Timeline, Timestamp};
use strongroom_postgres::connect::connect;
use strongroom_postgres::conninfo::Conninfo;
use strongroom_postgres::receiving::{Lane, Receiving, Work};
use strongroom_postgres::replication::{Replication, ReplicationError, Standing, Start, Stream, Streamed};
use strongroom_postgres::sender::{SlotName, look};
use strongroom_vault::Vault;
use strongroom_vault::lineage::Lineage;

use crate::error::{OpsError, with_causes};
use crate::lineage::{NewLineage, settle};

mod start;
mod shipping;
mod arrival;

use arrival::{Arrival, arrive, history_of};
pub use shipping::Rhythm;
use shipping::{Settled, Shipping, is_final};
use start::{end_in, floor};

/// Between two looks at the clock.
const TICK: Duration = Duration::from_millis(100);

/// Between two reports when nothing new is durable. The server gives up on us after `wal_sender_timeout`, 60 s.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// A silent server is asked for a sign of life, and given up.
const ASK_AFTER: Duration = Duration::from_secs(30);
const GIVE_UP_AFTER: Duration = Duration::from_secs(90);

/// Between two tries to connect.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How long the last bytes may take after the user asked to stop.
const LAST_PARTS_WITHIN: Duration = Duration::from_secs(30);

/// Whole segments that wait for the vaults; one may always wait.
const MAY_WAIT: u64 = 64 << 20;

/// What to receive, and how.
#[derive(Clone, Debug)]
pub struct ReceiveRequest {
    /// The source.
    pub source: SourceName,
    /// The slot that keeps WAL for us at the server; made if there is none.
    pub slot: Option<SlotName>,
    /// How often parts are shipped.
    pub rhythm: Rhythm,
    /// Where to stop.
    pub until: Option<Lsn>,
    /// WAL was received before: a server that does not answer is waited for from the first try on.
    pub has_begun: bool,
    /// A vault could not be opened: nothing is reported as durable, so that the server keeps everything for it, and
    /// receiving ends after this time, to be begun again with all.
    pub incomplete: Option<Duration>,
}

/// Something that a person or a script wants to know at once.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// WAL comes.
    Receiving {
        /// The server.
        place: String,
        /// Of which timeline.
        timeline: Timeline,
        /// From where on.
        from: Lsn,
    },
    /// The slot was made: the server keeps WAL for us from now on.
    SlotMade {
        /// Its name.
        slot: SlotName,
    },
    /// The server had given the slot up; it was made anew.
    SlotLost {
        /// Its name.
        slot: SlotName,
    },
    /// The server no longer has this WAL. Unless `wal push` shipped it, nothing before the gap can be restored to
    /// anything behind it: a new recovery point is needed.
    Gap {
        /// The first byte that is missing.
        from: Lsn,
        /// The first byte behind it.
        to: Lsn,
    },
    /// The server went on with another timeline.
    Timeline {
        /// The one that ended.
        ended: Timeline,
        /// Where.
        at: Lsn,
        /// The one that follows.
        next: Timeline,
    },
    /// The connection was lost, or there is none yet; it is tried again and again.
    Disconnected {
        /// Why.
        why: String,
    },
    /// A vault takes nothing; it is tried again and again.
    VaultDown {
        /// Which.
        vault: String,
        /// Why.
        why: String,
    },
    /// A vault is back.
    VaultBack {
        /// Which.
        vault: String,
    },
    /// A vault lacks what has been let go meanwhile: the server sends it once more.
    CatchingUp,
}

/// What receiving came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Received {
    /// Up to where WAL was received.
    pub received: Option<Lsn>,
    /// Up to where every vault has it.
    pub durable: Option<Lsn>,
    /// Whole segments shipped, counted for each vault.
    pub segments: u64,
    /// Parts shipped, counted for each vault.
    pub parts: u64,
    /// Gaps found.
    pub gaps: u64,
    /// Receiving ended to be begun again, with all vaults.
    #[serde(skip)]
    pub again: bool,
}

impl Received {
    /// Adds what a later run came to.
    pub fn add(&mut self, later: &Received) {
        *self = Received {
            received: later.received.or(self.received),
            durable: later.durable.or(self.durable),
            segments: self.segments + later.segments,
            parts: self.parts + later.parts,
            gaps: self.gaps + later.gaps,
            again: later.again,
        };
    }
}

/// Receives WAL until the user asks to stop, or `request.until` is durable everywhere. What it came to stands, whatever
/// ended it.
pub async fn wal_receive(
    cx: &Cx,
    server: &Conninfo,
    vaults: &[Arc<Vault>],
    request: &ReceiveRequest,
    tell: Tell<'_>,
) -> (Received, Result<(), OpsError>) {
    let now = cx.now();
    let mut receiver = Receiver {
        cx,
        server,
        vaults,
        request,
        tell,
        began_at: now,
        heard_at: now,
        reported_at: now,
        is_asked: false,
        has_streamed: request.has_begun,
        removed: None,
        server_at: Lsn(0),
        pace: Pace { since: now, position: Lsn(0), rate: 0 },
        received: Received::default(),
    };
    let mut flow = None;
    let ended = receiver.run(&mut flow).await;
    if let Some(Flow { receiving, shipping }) = &flow {
        receiver.received.received = Some(receiving.position());
        receiver.received.durable = Some(shipping.durable(receiving));
    }
    (receiver.received, ended)
}

/// Whether there is a slot of this name that can be removed: nobody reads from it.
pub async fn has_slot(server: &Conninfo, slot: &SlotName) -> Result<bool, OpsError> {
    let client = connect(server).await.map_err(EngineError::from)?;
    Ok(look(&client, Some(slot)).await.map_err(EngineError::from)?.slot.is_some())
}

/// Removes a slot, so that the server keeps nothing for it any more. `false` if there is none.
pub async fn drop_slot(server: &Conninfo, slot: &SlotName) -> Result<bool, OpsError> {
    if !has_slot(server, slot).await? {
        return Ok(false);
    }
    let mut replication = Replication::connect(server).await.map_err(EngineError::from)?;
    Ok(replication.drop_slot(slot).await.map_err(EngineError::from)?)
}

/// Where events go.
pub type Tell<'a> = &'a (dyn Fn(&Event) + Sync);

/// Receiving, across connections.
struct Receiver<'a> {
    cx: &'a Cx,
    server: &'a Conninfo,
    vaults: &'a [Arc<Vault>],
    request: &'a ReceiveRequest,
    tell: Tell<'a>,
    began_at: Timestamp,
    heard_at: Timestamp,
    reported_at: Timestamp,
    /// The server wants to be told what is durable: nothing waits for more then.
    is_asked: bool,
    /// WAL has come, on whichever connection.
    has_streamed: bool,
    /// The server said that it has no WAL from here on.
    removed: Option<Lsn>,
    /// How far the server's own WAL is.
    server_at: Lsn,
    pace: Pace,
    received: Received,
}

/// What was received, and the vaults it goes to.
struct Flow {
    receiving: Receiving,
    shipping: Shipping,
}

impl Flow {
    fn give(&mut self, is_due: bool) {
        self.shipping.give(&mut self.receiving, is_due);
    }

    fn durable(&self) -> Lsn {
        self.shipping.durable(&self.receiving)
    }

    /// Whether so much waits for the vaults that no more may come.
    fn is_full(&self) -> bool {
        self.receiving.waiting() > MAY_WAIT.max(self.shipping.lineage().segment_size.bytes())
    }
}

/// How fast WAL came lately.
struct Pace {
    since: Timestamp,
    position: Lsn,
    /// Bytes a second.
    rate: u64,
}

/// How a connection ended, or a stretch of it.
enum End {
    /// The user asked to stop, or everything that was asked for is there.
    Stopped,
    /// A vault lacks what the server must send once more.
    Anew,
    /// The timeline has no more WAL.
    Timeline,
}

/// What ended a connection before its time.
enum Stumble {
    /// The server has removed WAL that we lack.
    Removed(ReplicationError),
    /// Anything else.
    Other(OpsError),
}

impl From<ReplicationError> for Stumble {
    fn from(error: ReplicationError) -> Stumble {
        match error {
            ReplicationError::Removed { .. } => Stumble::Removed(error),
            error => Stumble::Other(EngineError::from(error).into()),
        }
    }
}

impl From<OpsError> for Stumble {
    fn from(error: OpsError) -> Stumble {
        Stumble::Other(error)
    }
}

impl Receiver<'_> {
    async fn run(&mut self, flow: &mut Option<Flow>) -> Result<(), OpsError> {
        let (mut pause, mut last_said) = (FIRST_PAUSE, String::new());
        loop {
            let had_streamed = std::mem::take(&mut self.has_streamed);
            let ended = self.connection(flow).await;
            if self.has_streamed {
                (pause, last_said) = (FIRST_PAUSE, String::new());
            }
            self.has_streamed |= had_streamed;
            if let Some(flow) = flow {
                self.ship_rest(flow).await?;
            }
            let error = match ended {
                Ok(End::Stopped) => return Ok(()),
                Ok(End::Anew | End::Timeline) => {
                    (self.tell)(&Event::CatchingUp);
                    *flow = None;
                    continue;
                }
                Err(Stumble::Removed(error)) => {
                    let at = flow.take().map(|flow| flow.receiving.position());
                    // The same place twice: nothing that the server has lies behind it.
                    if at.is_none() || at > self.removed {
                        self.removed = at;
                        continue;
                    }
                    EngineError::from(error).into()
                }
                Err(Stumble::Other(error)) => error,
            };
            let is_passing = matches!(error, OpsError::ServerBehind { .. });
            if is_final(&error) || !(self.has_streamed || is_passing) {
                return Err(error);
            }
            let why = with_causes(&error);
            if why != last_said {
                (self.tell)(&Event::Disconnected { why: why.clone() });
                last_said = why;
            }
            if !self.wait(flow, pause).await? {
                return Ok(());
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// One connection, from the first word to its end.
    async fn connection(&mut self, flow: &mut Option<Flow>) -> Result<End, Stumble> {
        let slot = self.request.slot.as_ref();
        let mut arrival = tokio::select! {
            arrival = arrive(self.server, slot, self.tell) => arrival?,
            () = cancelled(self.cx) => return Ok(End::Stopped),
        };
        let flow = match flow {
            Some(flow) => {
                self.go_on(flow, &mut arrival).await?;
                flow
            }
            none => none.insert(self.begin(&mut arrival).await?),
        };
        let mut replication = arrival.replication;
        loop {
            let (timeline, from) = (flow.receiving.timeline(), flow.receiving.position());
            let place = replication.place().to_owned();
            let next = match replication.start(slot, (timeline, from)).await? {
                Start::Ended(connection, next) => {
                    replication = connection;
                    next
                }
                Start::Stream(mut stream) => {
                    self.has_streamed = true;
                    (self.tell)(&Event::Receiving { place, timeline, from });
                    match self.stream(flow, &mut stream).await? {
                        End::Timeline => {}
                        end => return Ok(end),
                    }
                    let (connection, next) = stream.end().await?;
                    replication = connection;
                    next
                }
            };
            self.cross(flow, &mut replication, next).await?;
        }
    }

    /// Finds out where to begin: behind what the vaults have, and not before what the server has.
    async fn begin(&mut self, arrival: &mut Arrival) -> Result<Flow, Stumble> {
        let Arrival { replication, sender, identity } = arrival;
        let (size, source) = (sender.segment_size, &self.request.source);
        let lineage = Lineage {
            system_id: identity.system_id,
            segment_size: size,
            product: format!("PostgreSQL {}", sender.major.number()),
            registered_at: self.cx.now(),
        };
        let history = history_of(replication, identity.timeline).await?;
        let mut ends = Vec::new();
        for vault in self.vaults {
            settle(self.cx, vault, source, &lineage, NewLineage::Refuse).await?;
            let end = end_in(vault, source, lineage.system_id, (&history, size)).await;
            ends.push(end.map_err(OpsError::from)?);
        }
        let kept = sender.slot.and_then(|slot| slot.keeps_from).map(|at| floor(at, size));
        let flushed = floor(identity.flushed, size);
        let wanted = ends.iter().flatten().min().copied();
        let mut start = wanted.or(kept).unwrap_or(flushed);
        if let Some(removed) = self.removed.filter(|removed| start <= *removed) {
            let behind = kept.filter(|kept| *kept > removed).unwrap_or(flushed);
            if behind > removed {
                self.received.gaps += 1;
                (self.tell)(&Event::Gap { from: start, to: behind });
                start = behind;
            }
        }
        self.check_reached(identity.flushed, start)?;
        let timeline = history.timeline_at(start);
        let mut receiving = Receiving::new(timeline, start, size);
        let ancestors = history.ancestors.iter().map(|(ancestor, _)| *ancestor);
        for timeline in ancestors.chain([identity.timeline]).filter(|timeline| *timeline > Timeline::FIRST) {
            match replication.timeline_history(timeline).await? {
                Some(content) => receiving.push_history(timeline, content),
                None => tracing::warn!("the server has no history of timeline {timeline} any more"),
            }
        }
        let lanes = ends.into_iter().map(|end| end.unwrap_or(start).max(start));
        let lanes = lanes.map(|end| Lane::new((history.timeline_at(end), end)));
        let vaults = self.vaults.iter().cloned().zip(lanes);
        let shipping = Shipping::new(self.cx, (source, &lineage), self.request.rhythm, vaults);
        Ok(Flow { receiving, shipping })
    }

    /// Makes sure that this server goes on where the last connection ended.
    async fn go_on(&mut self, flow: &mut Flow, arrival: &mut Arrival) -> Result<(), Stumble> {
        let Arrival { replication, identity, .. } = arrival;
        let source_name = self.request.source.clone();
        let registered = flow.shipping.lineage().system_id;
        if registered != identity.system_id {
            return Err(OpsError::OtherLineage { source_name, registered, found: identity.system_id }.into());
        }
        let (followed, position) = (flow.receiving.timeline(), flow.receiving.position());
        if identity.timeline == followed {
            return Ok(self.check_reached(identity.flushed, position)?);
        }
        let history = history_of(replication, identity.timeline).await?;
        match history.left_at(followed) {
            // The server sends the rest of the old timeline, and says when it ends.
            Some(left_at) if left_at >= position => Ok(()),
            // We have more of it than the server that was promoted.
            Some(left_at) => {
                let next = history.timeline_at(left_at);
                self.cross(flow, replication, (next, left_at)).await
            }
            None => Err(OpsError::OtherTimeline { source_name, found: identity.timeline, followed }.into()),
        }
    }

    fn check_reached(&self, server: Lsn, wanted: Lsn) -> Result<(), OpsError> {
        let source_name = self.request.source.clone();
        if server < wanted { Err(OpsError::ServerBehind { source_name, server, wanted }) } else { Ok(()) }
    }

    /// Goes on with the next timeline. Its history goes first: without it nothing leads there.
    async fn cross(
        &mut self,
        flow: &mut Flow,
        replication: &mut Replication,
        (next, at): (Timeline, Lsn),
    ) -> Result<(), Stumble> {
        match replication.timeline_history(next).await? {
            Some(content) => flow.receiving.push_history(next, content),
            None => tracing::warn!("the server has no history of timeline {next}"),
        }
        (self.tell)(&Event::Timeline { ended: flow.receiving.timeline(), at, next });
        flow.receiving.switch(next, at);
        Ok(())
    }

    /// Takes WAL and gives it to the vaults until something ends it.
    async fn stream(&mut self, flow: &mut Flow, stream: &mut Stream) -> Result<End, Stumble> {
        let mut ticks = tokio::time::interval(TICK);
        self.heard_at = self.cx.now();
        loop {
            flow.give(self.is_asked);
            if flow.is_full() {
                flow.shipping.leave_behind(&mut flow.receiving);
            }
            let durable = flow.durable();
            tokio::select! {
                streamed = stream.next(), if !flow.is_full() => {
                    self.heard_at = self.cx.now();
                    match streamed? {
                        Streamed::Wal { bytes, server, .. } => {
                            self.server_at = server;
                            flow.receiving.push(&bytes);
                        }
                        Streamed::Alive { server, asks } => {
                            self.server_at = server;
                            if asks {
                                self.is_asked = true;
                                self.report(flow, stream, false).await?;
                            }
                        }
                        Streamed::EndOfTimeline => return Ok(End::Timeline),
                    }
                }
                Some(settled) = flow.shipping.next() => {
                    self.note(settled?);
                    if flow.durable() != durable {
                        self.report(flow, stream, false).await?;
                    }
                    if flow.shipping.is_someone_behind(&flow.receiving) {
                        return Ok(End::Anew);
                    }
                }
                _ = ticks.tick() => {
                    for vault in flow.shipping.fell_silent() {
                        (self.tell)(&Event::VaultDown { vault, why: "it does not answer".to_owned() });
                    }
                    if self.is_time_to_stop(flow) {
                        self.ship_rest(flow).await?;
                        self.report(flow, stream, false).await?;
                        return Ok(End::Stopped);
                    }
                    self.keep_in_touch(flow, stream).await?;
                }
            }
        }
    }

    fn is_time_to_stop(&mut self, flow: &Flow) -> bool {
        let limit = self.request.incomplete;
        self.received.again = limit.is_some_and(|limit| self.cx.now().since(self.began_at) >= limit);
        self.received.again
            || self.cx.check().is_err()
            || self.request.until.is_some_and(|until| flow.durable() >= until)
    }

    /// Lets neither side take the other for gone, and says how far we are.
    async fn keep_in_touch(&mut self, flow: &Flow, stream: &mut Stream) -> Result<(), Stumble> {
        let now = self.cx.now();
        if flow.is_full() {
            // We are the silent ones.
            self.heard_at = now;
        }
        let silence = now.since(self.heard_at);
        if silence >= GIVE_UP_AFTER {
            let what = "receive WAL: the server was silent for 90 s".to_owned();
            let hint = "is the server overloaded, or the network interrupted?".to_owned();
            return Err(OpsError::from(EngineError::Unreachable { what, hint, source: None }).into());
        }
        if now.since(self.reported_at) >= REPORT_EVERY {
            self.report(flow, stream, silence >= ASK_AFTER).await?;
        }
        let position = flow.receiving.position();
        let elapsed = now.since(self.pace.since);
        if elapsed >= Duration::from_secs(1) {
            let bytes = position.0.saturating_sub(self.pace.position.0) as f64;
            let rate = if self.pace.position == Lsn(0) { 0 } else { (bytes / elapsed.as_secs_f64()) as u64 };
            self.pace = Pace { since: now, position, rate };
        }
        let (timeline, rate) = (flow.receiving.timeline(), ByteSize(self.pace.rate));
        let behind = ByteSize(self.server_at.0.saturating_sub(flow.durable().0));
        let phase = format!(
            "receiving at {position} on timeline {timeline}, {rate}/s, vaults {behind} behind the server"
        );
        self.cx.progress.begin(&phase, 0);
        Ok(())
    }

    async fn report(&mut self, flow: &Flow, stream: &mut Stream, asks: bool) -> Result<(), Stumble> {
        self.reported_at = self.cx.now();
        let (received, durable) = (flow.receiving.position(), flow.durable());
        self.is_asked &= durable < received;
        // 0 says nothing about it.
        let durable = if self.request.incomplete.is_some() { Lsn(0) } else { durable };
        Ok(stream.report(Standing { received, durable, now: self.reported_at, asks }).await?)
    }

    /// Ships everything that was received, as far as vaults take it.
    async fn ship_rest(&mut self, flow: &mut Flow) -> Result<(), OpsError> {
        let (mut ticks, began_at) = (tokio::time::interval(TICK), self.cx.now());
        loop {
            flow.give(true);
            if flow.shipping.is_quiet() || self.cx.now().since(began_at) >= LAST_PARTS_WITHIN {
                return Ok(());
            }
            tokio::select! {
                Some(settled) = flow.shipping.next() => self.note(settled?),
                _ = ticks.tick() => {}
            }
        }
    }

    /// Waits before the next try to connect, and goes on shipping. `false` if the user asked to stop.
    async fn wait(&mut self, flow: &mut Option<Flow>, pause: Duration) -> Result<bool, OpsError> {
        let (mut ticks, began_at) = (tokio::time::interval(TICK), self.cx.now());
        while self.cx.now().since(began_at) < pause {
            if self.cx.check().is_err() {
                return Ok(false);
            }
            if let Some(flow) = flow {
                flow.give(true);
                tokio::select! {
                    Some(settled) = flow.shipping.next() => self.note(settled?),
                    _ = ticks.tick() => {}
                }
            } else {
                ticks.tick().await;
            }
        }
        Ok(true)
    }

    /// Counts what is durable, and says which vaults come and go.
    fn note(&mut self, settled: Settled) {
        match settled {
            Settled::Durable { work, back } => {
                match work {
                    Work::Segment(..) => self.received.segments += 1,
                    Work::Part(_) => self.received.parts += 1,
                    Work::History(..) => {}
                }
                if let Some(vault) = back {
                    (self.tell)(&Event::VaultBack { vault });
                }
            }
            Settled::Down { vault, why, is_new: true } => (self.tell)(&Event::VaultDown { vault, why }),
            Settled::Down { .. } => {}
        }
    }
}

/// Comes back when the user asks to stop.
async fn cancelled(cx: &Cx) {
    let mut ticks = tokio::time::interval(TICK);
    while cx.check().is_ok() {
        ticks.tick().await;
    }
}
