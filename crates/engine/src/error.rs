//! Why an engine could not do what it was asked.

use strongroom_model::Cancelled;

/// What went wrong at the source or at the restore's target. The text names operation, object and place; `hint`
/// is the way out, as a question or a command.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The server or host could not be reached, or the connection broke.
    #[error("{what}")]
    Unreachable {
        /// Operation, object and place.
        what: String,
        /// The way out.
        hint: String,
        /// What was said.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// A right, a setting or a version stands in the way; the user can mend it.
    #[error("{what}")]
    Unfit {
        /// Operation, object and place.
        what: String,
        /// The way out.
        hint: String,
    },
    /// The source's own bytes are damaged.
    #[error("{what}")]
    Damaged {
        /// Operation, object and place.
        what: String,
        /// The way out.
        hint: String,
    },
    /// The server changed under the operation so that its result would be worthless (promotion, restart, lost session).
    #[error("{what}")]
    Overtaken {
        /// Operation, object and place.
        what: String,
        /// The way out.
        hint: String,
    },
    /// A file could not be read or written.
    #[error("{operation} {path}")]
    Io {
        /// `read`, `write`, `list`…
        operation: &'static str,
        /// Which file.
        path: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The user asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl EngineError {
    /// An `Io` error: `operation` on `path`.
    pub fn io(
        operation: &'static str,
        path: impl AsRef<std::path::Path>,
        source: std::io::Error,
    ) -> EngineError {
        EngineError::Io { operation, path: path.as_ref().display().to_string(), source }
    }

    /// The way out, if the error knows one.
    pub fn hint(&self) -> Option<&str> {
        match self {
            EngineError::Unreachable { hint, .. }
            | EngineError::Unfit { hint, .. }
            | EngineError::Damaged { hint, .. }
            | EngineError::Overtaken { hint, .. } => Some(hint),
            EngineError::Io { .. } | EngineError::Cancelled(_) => None,
        }
    }
}
