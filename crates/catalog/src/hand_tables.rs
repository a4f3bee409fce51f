//! What a catalog holds of orders by hand: who ordered what, and what waits for a second person.

/// What version 3 of a catalog adds.
pub(crate) const TABLES: &[&str] = &[
    "alter table jobs add column person text",
    "alter table jobs add column act text",
    "create table requests (
        id {numbered},
        key text not null unique,
        kind text not null,
        source text,
        seat text not null,
        act text not null,
        person text not null,
        asked_at bigint not null,
        lapses_at bigint not null,
        state text not null,
        decided_by text,
        decided_at bigint,
        job bigint)",
];
