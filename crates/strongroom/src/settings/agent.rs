//! `[agent]` and `[catalog]`: how `strongroom run` is reached and works, and where its jobs are kept.

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use serde::Deserialize;
use strongroom_model::ByteSize;
use strongroom_model::plan::Chore;
use strongroom_model::span::Span;

use super::parse_duration;
use crate::secret::Reference;

/// `[agent]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentSettings {
    /// The unix socket it listens on, absolute.
    pub socket: Option<PathBuf>,
    /// Jobs at a time.
    pub jobs: NonZeroUsize,
    /// How long jobs may go on once it is to stop.
    pub grace: Span,
    /// How much a job that verifies reads.
    pub verify_budget: BudgetText,
    /// When what nothing needs any more is deleted. Without it the agent deletes nothing.
    pub sweep: Option<Chore>,
}

impl Default for AgentSettings {
    fn default() -> AgentSettings {
        AgentSettings {
            socket: None,
            jobs: NonZeroUsize::MIN.saturating_add(1),
            grace: Span::from_secs(30),
            verify_budget: BudgetText("1h".to_owned()),
            sweep: None,
        }
    }
}

/// What `--budget` of `verify` takes: `10GB`, or `1h`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct BudgetText(String);

impl TryFrom<String> for BudgetText {
    type Error = &'static str;

    fn try_from(text: String) -> Result<BudgetText, &'static str> {
        match text.parse::<ByteSize>().is_ok() || parse_duration(&text).is_ok() {
            true => Ok(BudgetText(text)),
            false => Err("it is neither a size nor a length of time: write it as 10GB or 1h"),
        }
    }
}

impl fmt::Display for BudgetText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// `[catalog]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogSettings {
    /// A file, or `postgres://…`; a file in the state folder if left out.
    pub url: Option<String>,
    /// Where the password for it is.
    pub password: Option<Reference>,
}
