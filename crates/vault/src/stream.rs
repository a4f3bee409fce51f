//! Reading a stream of a point, from its beginning to its end.
//!
//! ```text
//! runs, in the stream's order ▶ steps: pages of one frame ▶ spans: frames fetched together, several under way
//!                             ▶ open, check every page ▶ give pages in order
//! ```
//!
//! A stream that shares pages with earlier points goes to and fro between packs. So the last frames are kept, and which are
//! kept follows from the order of the steps alone: it is known before anything is fetched what need not be fetched again.
//!
//! Memory: up to 16 MiB of spans under way and 4 being decoded, 64 frames of 128 KiB, and the row's own runs.
//!
//! What no vault has whole is an error that names the stream: half a stream is of no use.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use strongroom_codec::pack::PackReader;
use strongroom_model::Cx;
use strongroom_model::page::{Place, Run};
use strongroom_model::point::FileRow;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::error::{VaultError, damaged};
use crate::point::Point;

/// Bytes fetched in one request at most, and bytes and requests under way ahead of what is being decoded.
const FETCH: u64 = 4 << 20;
const AHEAD: u64 = 3 * FETCH;
const REQUESTS: usize = 16;

/// Frames kept: 8 MiB.
const KEPT: usize = 64;

/// A frame of a pack, by both numbers.
type FrameName = (u32, usize);

/// Pages of the stream that lie side by side in one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    frame: FrameName,
    /// The first, as the pack counts, and how many.
    page: u32,
    count: u32,
    /// Whether the frame must be fetched for it: none of the last ones is that frame.
    fetched: bool,
}

/// Frames of one pack that are fetched together.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    pack: u32,
    frames: Range<usize>,
    bytes: Range<u64>,
}

/// A span on its way. Nobody waits for it once it is dropped.
struct UnderWay {
    span: Span,
    fetch: JoinHandle<Result<Bytes, VaultError>>,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.fetch.abort();
    }
}

/// What takes a stream: its pages, in order.
pub type TakeStream<'a, E> = dyn FnMut(&[u8]) -> Result<(), E> + 'a;

impl Point {
    /// Reads the stream of `row` and gives it to `take`, page by page in its order, each checked against its fingerprint.
    /// Blocks: call it on a worker thread, with the runtime that fetches.
    pub fn read_stream<E: From<VaultError>>(
        &self,
        (cx, runtime): (&Cx, &Handle),
        row: &FileRow,
        take: &mut TakeStream<'_, E>,
    ) -> Result<(), E> {
        self.packs().vault().check_may_read()?;
        let mut reading = Reading::new(self, runtime, &row.map);
        let mut given = 0;
        while let Some(step) = reading.next_step().map_err(|why| self.broken(row, why))? {
            cx.check().map_err(VaultError::from)?;
            let frame = reading.frame(&step).map_err(|why| self.broken(row, why))?;
            for page in step.page..step.page + step.count {
                let page = frame.page(page).ok_or_else(|| self.broken(row, self.beyond(step.frame.0)))?;
                given += page.len() as u64;
                take(page)?;
            }
        }
        if given == row.entry.size() {
            return Ok(());
        }
        let why = format!("its pages have {given} bytes and its row says {}", row.entry.size());
        Err(self.broken(row, damaged(self.path(), self.packs().vault().place(), why)).into())
    }

    /// Damage, with the stream that is lost with it.
    fn broken(&self, row: &FileRow, error: VaultError) -> VaultError {
        let named = |why: String| format!("stream {} does not read: {why}", row.entry.path);
        match error {
            VaultError::Damaged { key, place, why } => VaultError::Damaged { key, place, why: named(why) },
            VaultError::Missing { key, place } => {
                VaultError::Damaged { key, place, why: named("it is missing".to_owned()) }
            }
            other => other,
        }
    }

    /// A pack that ends before a page that the manifest says it has.
    fn beyond(&self, pack: u32) -> VaultError {
        let key = self.packs().all().get(pack as usize).map(|pack| self.packs().key(pack).to_string());
        let why = "it has fewer pages than its manifest says".to_owned();
        damaged(key.unwrap_or_default(), self.packs().vault().place(), why)
    }
}

/// A decoded frame.
struct Frame {
    name: FrameName,
    reader: Arc<PackReader>,
    raw: Vec<u8>,
}

impl Frame {
    /// The page with this number in the pack.
    fn page(&self, page: u32) -> Option<&[u8]> {
        let frame = self.reader.frames().get(self.name.1)?;
        self.raw.get(frame.page_range(page.checked_sub(frame.first_page)?)?)
    }
}

/// A stream that is being read: what is planned, what is fetched, what is kept.
struct Reading<'a> {
    point: &'a Point,
    runtime: &'a Handle,
    runs: std::slice::Iter<'a, Run>,
    /// What is left of the run that is being planned: its pack, and pages of it.
    run: (u32, Range<u32>),
    /// Planned, in order.
    steps: VecDeque<Step>,
    /// Frames in the order in which they are fetched, as far as planned: the last of them are kept.
    planned: VecDeque<FrameName>,
    /// Planned, and not yet asked for: what comes next may still be fetched with it.
    open_span: Option<Span>,
    under_way: VecDeque<UnderWay>,
    /// The span whose frames are being decoded, and the next of them.
    arrived: Option<(Span, Vec<u8>)>,
    /// The last ones, oldest first.
    kept: VecDeque<Frame>,
}

impl<'a> Reading<'a> {
    fn new(point: &'a Point, runtime: &'a Handle, map: &'a [Run]) -> Reading<'a> {
        Reading {
            point,
            runtime,
            runs: map.iter(),
            run: (0, 0..0),
            steps: VecDeque::new(),
            planned: VecDeque::new(),
            open_span: None,
            under_way: VecDeque::new(),
            arrived: None,
            kept: VecDeque::new(),
        }
    }

    /// The next step, after having asked for what comes behind it.
    fn next_step(&mut self) -> Result<Option<Step>, VaultError> {
        while !self.is_enough_under_way() {
            if self.run.1.is_empty() {
                match self.runs.next().map(|run| (run.place, run.count)) {
                    Some((Place::Pack { pack, page }, count)) => {
                        self.run = (pack, page..page.saturating_add(count));
                    }
                    // No decoder lets zeros into a stream's map.
                    Some((Place::Zero, _)) => {}
                    None => {
                        self.ask();
                        break;
                    }
                }
            } else {
                let step = self.plan()?;
                self.steps.push_back(step);
            }
        }
        Ok(self.steps.pop_front())
    }

    /// A few spans are under way, or so many steps planned that their list should not grow.
    fn is_enough_under_way(&self) -> bool {
        let bytes: u64 = self.under_way.iter().map(|under_way| under_way.span.len()).sum();
        bytes >= AHEAD || self.under_way.len() >= REQUESTS || self.steps.len() >= REQUESTS * KEPT
    }

    /// Cuts a step from the run, and adds its frame to the span that is open unless it is kept then.
    fn plan(&mut self) -> Result<Step, VaultError> {
        let (pack, Range { start: page, end }) = self.run.clone();
        let reader = self.runtime.block_on(self.point.packs().open(pack))?;
        let index = reader.frame_of(page).ok_or_else(|| self.point.beyond(pack))?;
        let frame = &reader.frames()[index];
        let count = end.min(frame.first_page + frame.prints.len() as u32) - page;
        let name = (pack, index);
        let fetched = !self.planned.contains(&name);
        if fetched {
            self.planned.push_back(name);
            if self.planned.len() > KEPT {
                self.planned.pop_front();
            }
            self.add_to_span(name, frame.range());
        }
        self.run.1.start = page + count;
        Ok(Step { frame: name, page, count, fetched })
    }

    fn add_to_span(&mut self, (pack, index): FrameName, bytes: Range<u64>) {
        match &mut self.open_span {
            Some(span) if span.pack == pack && span.frames.end == index && span.len() < FETCH => {
                span.frames.end += 1;
                span.bytes.end = bytes.end;
            }
            _ => {
                self.ask();
                self.open_span = Some(Span { pack, frames: index..index + 1, bytes });
            }
        }
    }

    /// Asks for the span that is open.
    fn ask(&mut self) {
        let Some(span) = self.open_span.take() else { return };
        // `plan` has just opened it.
        let Some(pack) = self.point.packs().all().get(span.pack as usize) else { return };
        let (lender, bytes) = (self.point.packs().lender(pack), span.bytes.clone());
        let fetch = self.runtime.spawn(async move { lender.fetch(bytes).await });
        self.under_way.push_back(UnderWay { span, fetch });
    }

    /// The step's frame: one of those that are kept, or the next one that was fetched.
    fn frame(&mut self, step: &Step) -> Result<&Frame, VaultError> {
        if step.fetched {
            let frame = self.decode(step.frame)?;
            self.kept.push_back(frame);
            if self.kept.len() > KEPT {
                self.kept.pop_front();
            }
        }
        let kept = self.kept.iter().find(|frame| frame.name == step.frame);
        Ok(kept.unwrap_or_else(|| unreachable!("frame {:?} was planned to be kept", step.frame)))
    }

    /// Opens the next frame of what was fetched, from a replica if need be.
    fn decode(&mut self, name: FrameName) -> Result<Frame, VaultError> {
        let packs = self.point.packs();
        let reader = self.runtime.block_on(packs.open(name.0))?;
        let Some(pack) = packs.all().get(name.0 as usize) else { return Err(self.point.beyond(name.0)) };
        let range = reader.frames()[name.1].range();
        let (span, bytes) = self.arrived_with(name)?;
        let start = (range.start - span.bytes.start) as usize;
        let whole = bytes.len() as u64 == span.len();
        let stored = bytes.get_mut(start..start + (range.end - range.start) as usize).filter(|_| whole);
        let mut raw = Vec::new();
        let read = match stored {
            Some(stored) => reader.read_frame(name.1, stored, &mut raw).map_err(|why| why.to_string()),
            None => Err(format!("{} bytes came back of {:?}", bytes.len(), span.bytes)),
        };
        if let Err(why) = read {
            let error = damaged(packs.key(pack), packs.vault().place(), why);
            self.point.mend(self.runtime, (&reader, pack, name.1), error, &mut raw)?;
        }
        Ok(Frame { name, reader, raw })
    }

    /// The span that this frame came with, and its bytes. Waits for it.
    fn arrived_with(&mut self, (pack, index): FrameName) -> Result<(&Span, &mut Vec<u8>), VaultError> {
        let is_here = |span: &Span| span.pack == pack && span.frames.contains(&index);
        if !self.arrived.as_ref().is_some_and(|(span, _)| is_here(span)) {
            self.arrived = None;
            if self.under_way.is_empty() {
                self.ask();
            }
            let next = self.under_way.pop_front().filter(|next| is_here(&next.span));
            let mut next =
                next.unwrap_or_else(|| unreachable!("frame {index} of pack {pack} was not asked for"));
            let bytes = self.runtime.block_on(&mut next.fetch);
            let bytes = bytes.unwrap_or_else(|why| match why.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(why) => unreachable!("a fetch ended without an answer: {why}"),
            })?;
            self.arrived = Some((next.span.clone(), bytes.into()));
        }
        match &mut self.arrived {
            Some((span, bytes)) => Ok((span, bytes)),
            None => unreachable!("what arrived was put there"),
        }
    }
}

impl Span {
    fn len(&self) -> u64 {
        self.bytes.end - self.bytes.start
    }
}
