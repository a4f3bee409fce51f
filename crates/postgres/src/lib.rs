//! Placeholder.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod conninfo;
pub mod tls;
pub mod connect;
pub mod inspect;
pub mod advice;
