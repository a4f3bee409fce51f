//! Sources as policy sees them: what they are called, what they are, what is promised for them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::name::SourceName;
use crate::retention::Retention;
use crate::span::Span;

/// Kinds of sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SourceKind {
    /// A PostgreSQL cluster: its files and WAL.
    Postgres,
    /// A PostgreSQL database that is dumped.
    PostgresLogical,
}

impl SourceKind {
    /// Whether it has a journal, so that it can be restored to any second.
    pub fn has_journal(self) -> bool {
        match self {
            SourceKind::Postgres => true,
            SourceKind::PostgresLogical => false,
        }
    }
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            SourceKind::Postgres => "postgres",
            SourceKind::PostgresLogical => "postgres-logical",
        })
    }
}

/// What is promised: how much may be lost, and how long a restore may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Objectives {
    /// Recovery point objective: the newest so much may be lost.
    pub rpo: Option<Span>,
    /// Recovery time objective: until the server is in production again.
    pub rto: Option<Span>,
}

impl Objectives {
    /// These, and what they leave open as `others` have it.
    pub fn or(self, others: Objectives) -> Objectives {
        Objectives { rpo: self.rpo.or(others.rpo), rto: self.rto.or(others.rto) }
    }

    /// The stricter of both.
    pub fn and(self, others: Objectives) -> Objectives {
        let least = |one: Option<Span>, other: Option<Span>| one.into_iter().chain(other).min();
        Objectives { rpo: least(self.rpo, others.rpo), rto: least(self.rto, others.rto) }
    }
}

/// How a source's journal reaches the vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shipping {
    /// It has none, or nobody said how often it is shipped.
    None,
    /// By the server, in segments that are open no longer than this (`archive_timeout`).
    Archived(Span),
    /// As it is written: what is new waits no longer than this.
    Streamed(Span),
}

/// A source as plans see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protected {
    /// Its name.
    pub name: SourceName,
    /// What it is.
    pub kind: SourceKind,
    /// What plans may choose it by.
    pub tags: BTreeMap<String, String>,
    /// What is promised for it, wherever it is.
    pub objectives: Objectives,
    /// How its journal is shipped.
    pub shipping: Shipping,
    /// What its own settings say is kept of it.
    pub retention: Option<Retention>,
}
