//! Plans, drawn.
