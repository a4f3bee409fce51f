//! The tables of alerts: which fire, what is to be told to whom, who watches, and how channels are.

/// What version 2 of a catalog adds.
pub(crate) const TABLES: &[&str] = &[
    "create table alerts (
        key text primary key,
        source text,
        condition text not null,
        fired_at bigint not null,
        told_at bigint not null)",
    "create table tellings (
        id {numbered},
        key text not null unique,
        channel text not null,
        news text not null,
        attempt bigint not null default 0,
        made_at bigint not null,
        run_at bigint not null)",
    "create index tellings_due on tellings (run_at, id)",
    "create table watches (
        subject text primary key,
        owner text,
        until bigint not null,
        known_since bigint not null)",
    "create table channels (
        name text primary key,
        failing_since bigint,
        why text,
        told bigint not null default 0,
        refused bigint not null default 0)",
];
