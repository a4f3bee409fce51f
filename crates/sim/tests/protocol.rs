//! The commit and sweep protocol, checked in every order: two writers, two sweepers, retention, and readings that fail.
//!
//! This is the protocol and not the code: points are bits, a step is one store operation, and whoever is between two steps
//! may stay there for ever, which is a crash. The code that carries it out is `vault/src/{upload,roots,sweep}.rs`; the
//! simulations run that.
//!
//! ```text
//! writer     intent ▶ is the parent's tombstone there? ▶ pack ▶ manifest ▶ decision by put_new
//! retention  tombstone on a committed point, at any time
//! sweeper    packs ▶ tombstones ▶ intents ▶ decisions ▶ revoke what is stale ▶ read manifests ▶ delete
//! ```
//!
//! Why it is safe: a writer uses its parent only if, after its intent was written, the tombstone was not there. A sweeper
//! that takes the parent for expired has seen the tombstone, so it listed the intents later than that intent was written, and
//! spares what the parent reaches until the child is decided; then the child's own manifest counts. A pack a sweeper may
//! delete was listed before all that, so it belongs to an intent that it has seen.
//!
//! Six ways to get it wrong are tried as well, and each must lose data: a model that cannot fail proves nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]
#![allow(clippy::disallowed_macros, reason = "a test says how far it came")]

use stateright::{Checker, HasDiscoveries, Model, Property};

/// A point, and its own pack: 0 is there from the beginning, 1 and 2 are written.
type Point = usize;
const POINTS: [Point; 3] = [0, 1, 2];

/// A set of points or of packs.
type Set = u8;

fn has(set: Set, point: Point) -> bool {
    set & (1 << point) != 0
}

fn with(set: Set, point: Point) -> Set {
    set | 1 << point
}

fn without(set: Set, point: Point) -> Set {
    set & !(1 << point)
}

/// What is done wrong, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mistake {
    None,
    ParentNotChecked,
    PacksListedLast,
    IntentsListedBeforeTombstones,
    RevokedWithoutPut,
    DecisionDeleted,
    MissingManifestTakenAsEmpty,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Decision {
    Open,
    Commit,
    Revoked,
}

/// What lies in the store.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Store {
    intents: Set,
    packs: Set,
    manifests: Set,
    tombstones: Set,
    decisions: [Decision; 3],
    /// What each point's manifest refers to.
    refers: [Set; 3],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Step {
    Intent,
    LookAtParent,
    Pack,
    Manifest,
    Decide,
    Reported,
    Lost,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Writer {
    step: Step,
    parent: Point,
    uses_parent: bool,
}

/// The listings a sweeper makes, in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Listing {
    Packs,
    Tombstones,
    Intents,
    Decisions,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Sweeper {
    /// Listings made, points considered, then deletions; beyond: done or given up.
    at: u8,
    packs: Set,
    manifests: Set,
    tombstones: Set,
    intents: Set,
    decisions: [Decision; 3],
    /// Undecided and taken for alive: their parents' manifests stay.
    open: Set,
    live: Set,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    store: Store,
    writers: [Writer; 2],
    sweepers: [Sweeper; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Write(usize),
    /// The second writer's parent is the first one's point instead of the old one.
    WriteOnSibling,
    Expire(Point),
    /// A sweeper's next step; a stale point is revoked if the flag says so, and a manifest reads if it is there.
    Sweep(usize, bool),
    /// A manifest that is there does not read.
    SweepUnread(usize),
}

struct Protocol {
    mistake: Mistake,
}

const LISTINGS: u8 = 4;
const DELETIONS: u8 = LISTINGS + 3;
const END: u8 = DELETIONS + 1;

impl Protocol {
    fn listing(&self, at: u8) -> Listing {
        use Listing::{Decisions, Intents, Packs, Tombstones};
        let order = match self.mistake {
            Mistake::PacksListedLast => [Tombstones, Intents, Decisions, Packs],
            Mistake::IntentsListedBeforeTombstones => [Packs, Intents, Tombstones, Decisions],
            _ => [Packs, Tombstones, Intents, Decisions],
        };
        order[usize::from(at)]
    }

    fn write(&self, world: &mut World, number: usize) {
        let (store, writer, point) = (&mut world.store, &mut world.writers[number], number + 1);
        writer.step = match writer.step {
            Step::Intent => {
                store.intents = with(store.intents, point);
                Step::LookAtParent
            }
            Step::LookAtParent => {
                let gone = has(store.tombstones, writer.parent);
                writer.uses_parent = self.mistake == Mistake::ParentNotChecked || !gone;
                Step::Pack
            }
            Step::Pack => {
                store.packs = with(store.packs, point);
                Step::Manifest
            }
            Step::Manifest => {
                let inherited = if writer.uses_parent { store.refers[writer.parent] } else { 0 };
                store.refers[point] = with(inherited, point);
                store.manifests = with(store.manifests, point);
                Step::Decide
            }
            Step::Decide if store.decisions[point] == Decision::Open => {
                store.decisions[point] = Decision::Commit;
                Step::Reported
            }
            Step::Decide => Step::Lost,
            Step::Reported | Step::Lost => return,
        };
    }

    /// One step of a sweeper. `revokes`: what is undecided is taken for dead. `reads`: a manifest that is there reads.
    fn sweep(&self, world: &mut World, number: usize, (revokes, reads): (bool, bool)) {
        let (store, writers) = (&mut world.store, &world.writers);
        let sweeper = &mut world.sweepers[number];
        if sweeper.at < LISTINGS {
            match self.listing(sweeper.at) {
                Listing::Packs => (sweeper.packs, sweeper.manifests) = (store.packs, store.manifests),
                Listing::Tombstones => sweeper.tombstones = store.tombstones,
                Listing::Intents => sweeper.intents = store.intents,
                Listing::Decisions => sweeper.decisions = store.decisions,
            }
            sweeper.at += 1;
        } else if sweeper.at < DELETIONS {
            let point = usize::from(sweeper.at - LISTINGS);
            let parent = (point > 0).then(|| writers[point - 1].parent);
            match self.consider(store, sweeper, (point, parent), (revokes, reads)) {
                true => sweeper.at += 1,
                false => sweeper.at = END,
            }
        } else if sweeper.at == DELETIONS {
            for point in POINTS {
                let dead = match sweeper.decisions[point] {
                    Decision::Commit => has(sweeper.tombstones, point),
                    Decision::Revoked => true,
                    Decision::Open => false,
                };
                // A pack of which no intent was seen is garbage, too: copies leave such.
                let open = sweeper.decisions[point] == Decision::Open && has(sweeper.intents, point);
                if has(sweeper.packs, point) && !open && !has(sweeper.live, point) {
                    store.packs = without(store.packs, point);
                }
                let child =
                    (1..3).any(|child| has(sweeper.open, child) && writers[child - 1].parent == point);
                if has(sweeper.manifests, point) && dead && !child {
                    store.manifests = without(store.manifests, point);
                }
                if self.mistake == Mistake::DecisionDeleted && sweeper.decisions[point] == Decision::Revoked {
                    store.decisions[point] = Decision::Open;
                }
            }
            sweeper.at = END;
        }
    }

    /// Adds what must be spared for one point; `false` if the sweeper gives up because it cannot know.
    fn consider(
        &self,
        store: &mut Store,
        sweeper: &mut Sweeper,
        (point, parent): (Point, Option<Point>),
        (revokes, reads): (bool, bool),
    ) -> bool {
        if sweeper.decisions[point] == Decision::Open && has(sweeper.intents, point) {
            if !revokes {
                sweeper.open = with(sweeper.open, point);
                sweeper.live = with(sweeper.live, point);
                let Some(parent) = parent else { return true };
                let expired = has(sweeper.tombstones, parent);
                if expired && !has(store.manifests, parent) {
                    sweeper.decisions[point] = store.decisions[point];
                    let committed = store.decisions[point] == Decision::Commit;
                    return !committed || self.read(store, sweeper, point, reads);
                }
                return self.read(store, sweeper, parent, reads);
            }
            if self.mistake == Mistake::RevokedWithoutPut {
                sweeper.decisions[point] = Decision::Revoked;
                return true;
            }
            if store.decisions[point] == Decision::Open {
                store.decisions[point] = Decision::Revoked;
            }
            sweeper.decisions[point] = store.decisions[point];
        }
        match sweeper.decisions[point] {
            Decision::Commit if !has(sweeper.tombstones, point) => self.read(store, sweeper, point, reads),
            _ => true,
        }
    }

    fn read(&self, store: &Store, sweeper: &mut Sweeper, point: Point, reads: bool) -> bool {
        if has(store.manifests, point) && reads {
            sweeper.live |= store.refers[point];
            return true;
        }
        self.mistake == Mistake::MissingManifestTakenAsEmpty
    }
}

impl Model for Protocol {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let store = Store {
            intents: 1,
            packs: 1,
            manifests: 1,
            tombstones: 0,
            decisions: [Decision::Commit, Decision::Open, Decision::Open],
            refers: [1, 0, 0],
        };
        let writer = Writer { step: Step::Intent, parent: 0, uses_parent: false };
        let sweeper = Sweeper {
            at: 0,
            packs: 0,
            manifests: 0,
            tombstones: 0,
            intents: 0,
            decisions: [Decision::Open; 3],
            open: 0,
            live: 0,
        };
        vec![World { store, writers: [writer.clone(), writer], sweepers: [sweeper.clone(), sweeper] }]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (number, writer) in world.writers.iter().enumerate() {
            if !matches!(writer.step, Step::Reported | Step::Lost) {
                actions.push(Action::Write(number));
            }
        }
        let [first, second] = &world.writers;
        if second.step == Step::Intent && first.step == Step::Reported {
            actions.push(Action::WriteOnSibling);
        }
        for point in [0, 1] {
            if world.store.decisions[point] == Decision::Commit && !has(world.store.tombstones, point) {
                actions.push(Action::Expire(point));
            }
        }
        for (number, sweeper) in world.sweepers.iter().enumerate() {
            if sweeper.at == END {
                continue;
            }
            actions.push(Action::Sweep(number, false));
            if (LISTINGS..DELETIONS).contains(&sweeper.at) {
                actions.push(Action::Sweep(number, true));
                actions.push(Action::SweepUnread(number));
            }
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        match action {
            Action::Write(number) => self.write(&mut next, number),
            Action::WriteOnSibling => {
                next.writers[1].parent = 1;
                self.write(&mut next, 1);
            }
            Action::Expire(point) => next.store.tombstones = with(next.store.tombstones, point),
            Action::Sweep(number, revokes) => self.sweep(&mut next, number, (revokes, true)),
            Action::SweepUnread(number) => self.sweep(&mut next, number, (false, false)),
        }
        // Which of the two sweepers is which makes no difference.
        next.sweepers.sort();
        (next != *world).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        fn whole(world: &World, point: Point) -> bool {
            let Store { packs, refers, manifests, .. } = &world.store;
            refers[point] & !packs == 0 && has(*manifests, point)
        }
        vec![
            Property::always("what is committed and not expired is whole", |_, world: &World| {
                POINTS.into_iter().all(|point| {
                    let alive = world.store.decisions[point] == Decision::Commit
                        && !has(world.store.tombstones, point);
                    !alive || whole(world, point)
                })
            }),
            Property::always("what was reported is committed", |_, world: &World| {
                world.writers.iter().enumerate().all(|(number, writer)| {
                    writer.step != Step::Reported || world.store.decisions[number + 1] == Decision::Commit
                })
            }),
            // That something happens at all: sweeps delete, writers inherit, the dead are revoked.
            Property::sometimes("an expired point's pack is deleted", |_, world: &World| {
                !has(world.store.packs, 0)
            }),
            Property::sometimes("a child keeps an expired parent's pack", |_, world: &World| {
                has(world.store.tombstones, 0)
                    && world.sweepers.iter().all(|sweeper| sweeper.at == END && has(sweeper.tombstones, 0))
                    && world.store.decisions[1] == Decision::Commit
                    && has(world.store.refers[1], 0)
            }),
            Property::sometimes("a writer loses its point to a sweep", |_, world: &World| {
                world.writers[0].step == Step::Lost
            }),
        ]
    }
}

fn explore(mistake: Mistake) -> impl Checker<Protocol> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let until = if mistake == Mistake::None { HasDiscoveries::All } else { HasDiscoveries::AnyFailures };
    Protocol { mistake }.checker().threads(threads).finish_when(until).spawn_bfs().join()
}

#[test]
fn the_protocol_is_safe_in_every_order() {
    let checked = explore(Mistake::None);
    println!("{} states", checked.unique_state_count());
    checked.assert_properties();
    assert!(checked.unique_state_count() > 100_000, "{} states", checked.unique_state_count());
}

#[test]
fn each_of_six_mistakes_loses_data() {
    for mistake in [
        Mistake::ParentNotChecked,
        Mistake::PacksListedLast,
        Mistake::IntentsListedBeforeTombstones,
        Mistake::RevokedWithoutPut,
        Mistake::DecisionDeleted,
        Mistake::MissingManifestTakenAsEmpty,
    ] {
        let checked = explore(mistake);
        let whole = checked.discovery("what is committed and not expired is whole");
        let reported = checked.discovery("what was reported is committed");
        assert!(
            whole.is_some() || reported.is_some(),
            "{mistake:?} went unnoticed in {} states",
            checked.unique_state_count()
        );
    }
}
