//! A seeded world for tests: a clock and chance that replay, a store that fails on command, a toy source.
//!
//! Nothing here runs in production. What the vault and the verbs do in this world they do in the real one: the same
//! code, handed other surroundings.
//!
//! Modules are in flow order; each may name only those above it.

pub mod world;
pub mod store;
pub mod turns;
pub mod engine;
pub mod dump;
pub mod decoders;

pub use dump::{ToyDatabase, ToyDump};
pub use engine::{ToyEngine, ToyTarget};
pub use store::{Fault, SimStore};
pub use turns::Turns;
pub use world::{world, world_at};
