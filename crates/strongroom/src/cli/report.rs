//! `strongroom report`: one kind a file.

use std::sync::Arc;

use clap::{Subcommand, ValueEnum};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::Outcome;

mod sheet;
mod rto_rpo;

/// Report what the vault can prove, for those who must answer for it
#[derive(Subcommand)]
pub enum Kind {
    RtoRpo(rto_rpo::Arguments),
}

/// How a report is written for people and their programs; JSON is `--output json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Sheet {
    /// As a table
    #[default]
    Text,
    /// As comma-separated values (RFC 4180), with a head
    Csv,
    /// As a page that needs nothing beside it
    Html,
}

pub async fn run(context: &Arc<Context>, kind: &Kind) -> Result<Outcome, Failure> {
    match kind {
        Kind::RtoRpo(arguments) => rto_rpo::run(context, arguments).await,
    }
}
