//! By whose hand: what records of a vault say of who wrote them.

/// A host and a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hand {
    /// The host's name.
    pub host: String,
    /// The build: `strongroom 0.1.0`.
    pub tool: String,
}
