//! `strongroom report`: what the vault can prove, put together for those who must answer for it. One kind a file.
//!
//! **Invariant**: no figure is typed in: each comes from the vault, the settings or the catalog, and says what it was measured by; where there
//! is none, it says so.

pub mod rto_rpo;
pub mod status;
pub mod coverage;
pub mod architecture;
pub mod compliance;
pub mod cost;
pub mod jobs;
