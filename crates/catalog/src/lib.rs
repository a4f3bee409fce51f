//! The catalog: the history and the queue of jobs. An SQLite file on one machine, PostgreSQL for a fleet.
//!
//! ```text
//! a rule is due ▶ queue (ordered once, by its instant) ▶ lease (one agent, one job of a source) ▶ worker ▶ Runner ▶ finish
//!                                                          ▲ heartbeats; a lease that ran out goes to the next ──┘
//! ```
//!
//! It is derived: what protects is in the vault, and a catalog that is lost costs history, never a recovery point. Nor does it
//! decide whether a recovery point exists; only the vault's `decision` does. What it gives is that each instant of a rule leads to
//! one job, that one agent at a time works on it, and that it comes to an end that is told.
//!
//! Time and chance come in from outside ([`strongroom_model::Cx`]), so that tests drive both. Modules are in flow order; each may
//! name only those above it.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on should stop"))]

mod database;
mod sqlite;
mod server;
pub mod job;
pub mod retry;
mod alert_tables;
mod hand_tables;
pub mod catalog;
pub mod queue;
pub mod history;
pub mod outcomes;
pub mod by_hand;
pub mod requests;
pub mod lease;
pub mod worker;
pub mod alerts;

pub use catalog::{Catalog, CatalogError, Place};
pub use database::DatabaseError;
pub use job::{Job, JobId, Kind, Order, State};
