//! The replication protocol against real servers: who is let in, what comes, and what is refused.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![allow(clippy::disallowed_methods, reason = "a test runs programs and touches files")]

mod harness;

use std::sync::{Arc, Mutex};

use harness::{Server, cx, openssl};
use strongroom_model::{Lsn, SegmentSize, Timeline};
use strongroom_postgres::conninfo::Conninfo;
use strongroom_postgres::refusal::ConnectError;
use strongroom_postgres::replication::{Replication, ReplicationError, Standing, Start, Stream, Streamed};
use strongroom_postgres::sender::{SenderError, SlotName, idle_slots, look};

fn slot(name: &str) -> SlotName {
    name.parse().unwrap()
}

async fn enter(server: &Server, more: &str) -> Result<Replication, ReplicationError> {
    Replication::connect(&server.conninfo(more)).await
}

/// The error of an attempt that must fail.
async fn refused(conninfo: &Conninfo) -> ConnectError {
    match Replication::connect(conninfo).await {
        Err(ReplicationError::Connect(error)) => error,
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("let in"),
    }
}

async fn stream(replication: Replication, slot: Option<&SlotName>, from: (Timeline, Lsn)) -> Box<Stream> {
    match replication.start(slot, from).await.unwrap() {
        Start::Stream(stream) => stream,
        Start::Ended(_, next) => panic!("the timeline ends: {next:?}"),
    }
}

fn floor(lsn: Lsn) -> Lsn {
    let size = SegmentSize::DEFAULT.bytes();
    Lsn(lsn.0 / size * size)
}

fn standing(durable: Lsn) -> Standing {
    Standing { received: durable, durable, now: cx().now(), asks: true }
}

/// Reads up to `end` and gives the bytes.
async fn read_to(stream: &mut Stream, end: Lsn) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        if let Streamed::Wal { at, bytes, .. } = stream.next().await.unwrap() {
            all.extend_from_slice(&bytes);
            if at.0 + bytes.len() as u64 >= end.0 {
                return all;
            }
        }
    }
}

async fn flushed(server: &Server) -> Lsn {
    server.ask("SELECT pg_catalog.pg_current_wal_flush_lsn()::text").await.parse().unwrap()
}

#[tokio::test]
async fn wal_comes_byte_for_byte_and_the_slot_follows_what_is_durable() {
    let server = Server::start("");
    let mut replication = enter(&server, "").await.unwrap();
    let identity = replication.identify().await.unwrap();
    let ours = slot("strongroom_test");
    assert!(replication.create_slot(&ours).await.unwrap());
    assert!(!replication.create_slot(&ours).await.unwrap());
    let client = server.connect("").await;
    let sender = look(&client, Some(&ours)).await.unwrap();
    assert_eq!((sender.system_id, sender.segment_size), (identity.system_id, SegmentSize::DEFAULT));
    let keeps_from = sender.slot.unwrap().keeps_from.unwrap();
    assert!(keeps_from <= identity.flushed);
    assert_eq!(idle_slots(&client).await.unwrap()[0].name, "strongroom_test");
    let from = floor(keeps_from);
    server.sql(&["CREATE TABLE public.t AS SELECT n FROM generate_series(1, 100000) n"]).await;
    let end = flushed(&server).await;
    let mut stream = stream(replication, Some(&ours), (identity.timeline, from)).await;
    let bytes = read_to(&mut stream, end).await;
    let name = server.ask("SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_flush_lsn())").await;
    let file = std::fs::read(server.data().join("pg_wal").join(name)).unwrap();
    let tail = (end.0 - floor(end).0) as usize;
    let known = (floor(end).0 - from.0) as usize;
    assert!(bytes[known..known + tail] == file[..tail], "the stream differs from the server's file");
    // Somebody else is told who has it.
    let error = look(&client, Some(&ours)).await.unwrap_err();
    assert!(matches!(&error, SenderError::SlotTaken { .. }), "{error:?}");
    assert_eq!(idle_slots(&client).await.unwrap(), []);
    stream.report(standing(end)).await.unwrap();
    // The answer that was asked for shows that the report was read.
    while !matches!(stream.next().await.unwrap(), Streamed::Alive { .. }) {}
    let kept = server.ask("SELECT restart_lsn::text FROM pg_catalog.pg_replication_slots").await;
    assert_eq!(kept.parse::<Lsn>().unwrap(), end);
}

#[tokio::test]
async fn what_is_not_there_is_said_so() {
    let server = Server::start("");
    let mut replication = enter(&server, "").await.unwrap();
    let identity = replication.identify().await.unwrap();
    assert!(replication.timeline_history(Timeline::new(7).unwrap()).await.unwrap().is_none());
    assert!(!replication.drop_slot(&slot("nobody")).await.unwrap());
    // The same connection goes on after what was refused.
    assert_eq!(replication.identify().await.unwrap().system_id, identity.system_id);
    let mut stream = match replication.start(None, (Timeline::FIRST, Lsn(0))).await {
        Ok(Start::Stream(stream)) => stream,
        Err(ReplicationError::Removed { .. }) => return,
        _ => panic!("WAL that never was"),
    };
    let error = stream.next().await.unwrap_err();
    assert!(matches!(error, ReplicationError::Removed { .. }), "{error:?}");
}

#[tokio::test]
async fn a_timeline_ends_where_the_next_one_begins() {
    let primary = Server::start("");
    let standby = primary.standby();
    let mut replication = enter(&standby, "").await.unwrap();
    let identity = replication.identify().await.unwrap();
    replication.create_slot(&slot("strongroom_test")).await.unwrap();
    let mut old = stream(replication, None, (identity.timeline, floor(identity.flushed))).await;
    standby.cluster.promote().unwrap();
    let ended = loop {
        if old.next().await.unwrap() == Streamed::EndOfTimeline {
            break old.end().await.unwrap();
        }
    };
    let (mut replication, (next, at)) = ended;
    assert_eq!(next, Timeline::new(2).unwrap());
    let history = replication.timeline_history(next).await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&history).starts_with(&format!("1\t{at}\t")));
    // From right there on, the old one has nothing at all.
    let again = enter(&standby, "").await.unwrap().start(None, (identity.timeline, at)).await.unwrap();
    assert!(matches!(again, Start::Ended(_, next) if next == (Timeline::new(2).unwrap(), at)));
    let mut new = stream(replication, Some(&slot("strongroom_test")), (next, floor(at))).await;
    let end = flushed(&standby).await;
    read_to(&mut new, end).await;
}

/// A server that lets replication in by TLS and password alone.
async fn encrypted() -> Server {
    let mut server = Server::start("");
    let folder = server.socket();
    openssl(
        &folder,
        "req -x509 -newkey rsa:2048 -nodes -days 2 -keyout s.key -out s.crt -subj /CN=localhost -addext subjectAltName=DNS:localhost",
    );
    for file in ["s.key", "s.crt"] {
        server.own(file);
    }
    let file = |end: &str| format!("{folder}/s.{end}");
    server
        .sql(&[
            "CREATE ROLE scram LOGIN REPLICATION PASSWORD 's3cret'",
            "CREATE ROLE plain LOGIN PASSWORD 's3cret'",
            "CREATE ROLE clear LOGIN REPLICATION PASSWORD 's3cret'",
            "SET password_encryption = 'md5'",
            "CREATE ROLE md5 LOGIN REPLICATION PASSWORD 's3cret'",
            &format!("ALTER SYSTEM SET ssl_cert_file = '{}'", file("crt")),
            &format!("ALTER SYSTEM SET ssl_key_file = '{}'", file("key")),
            "ALTER SYSTEM SET ssl = on",
        ])
        .await;
    server.write(
        "pg_hba.conf",
        "local all postgres trust\nhostssl replication md5 127.0.0.1/32 md5\nhostssl replication clear 127.0.0.1/32 password\n\
         hostssl replication scram,plain 127.0.0.1/32 scram-sha-256\n",
    );
    server.restart();
    server
}

fn by_network(server: &Server, more: &str) -> Conninfo {
    let text = format!("host=localhost hostaddr=127.0.0.1 port={} {more}", server.cluster.port());
    Conninfo::read(&text, &|_| None).unwrap()
}

/// Changed while somebody goes on connecting: it is read when it is refused, and at no other time.
#[tokio::test]
async fn a_password_that_was_changed_meanwhile_is_read_once_more() {
    let server = encrypted().await;
    let kept = Arc::new(Mutex::new(("s3cret", 0)));
    let there = Arc::clone(&kept);
    let read = move || {
        let mut kept = there.lock().unwrap();
        kept.1 += 1;
        Ok(kept.0.to_owned().into())
    };
    let conninfo = by_network(&server, "user=scram").with_password(Arc::new(read)).unwrap();
    let other = conninfo.clone();
    Replication::connect(&conninfo).await.unwrap();
    server.sql(&["ALTER ROLE scram PASSWORD 'n3w'"]).await;
    // Where it is kept nobody knows yet.
    let error = refused(&conninfo).await;
    assert!(matches!(error, ConnectError::WrongPassword { .. }), "{error:?}");
    assert_eq!(kept.lock().unwrap().1, 2);
    kept.lock().unwrap().0 = "n3w";
    Replication::connect(&conninfo).await.unwrap();
    Replication::connect(&other).await.unwrap();
    assert_eq!(kept.lock().unwrap().1, 3, "what one connection found out the others know");
    assert!(!format!("{conninfo:?}").contains("n3w"));
}

#[tokio::test]
async fn passwords_and_certificates_are_proved_as_for_any_connection() {
    let server = encrypted().await;
    let root = format!("{}/s.crt", server.socket());
    for good in [
        "user=scram password=s3cret",
        "user=scram password=s3cret sslmode=require channel_binding=require",
        &format!("user=scram password=s3cret sslmode=verify-full sslrootcert={root} channel_binding=require"),
        "user=scram password=s3cret channel_binding=disable",
        "user=md5 password=s3cret",
        "user=clear password=s3cret",
    ] {
        let entered = Replication::connect(&by_network(&server, good)).await;
        entered.unwrap_or_else(|error| panic!("{good}: {error:?}")).identify().await.unwrap();
    }
    let error = refused(&by_network(&server, "user=scram password=wrong")).await;
    assert!(matches!(error, ConnectError::WrongPassword { .. }), "{error:?}");
    let error = refused(&by_network(&server, "user=scram")).await;
    assert!(matches!(error, ConnectError::PasswordMissing { .. }), "{error:?}");
    let error = refused(&by_network(&server, "user=plain password=s3cret")).await;
    assert!(matches!(error, ConnectError::NotAReplicator { .. }), "{error:?}");
    let error = refused(&by_network(&server, "user=scram password=s3cret sslmode=disable")).await;
    assert!(matches!(error, ConnectError::NotLetIn { .. }), "{error:?}");
    assert!(error.hint().contains("database replication"), "{}", error.hint());
    for unbound in ["md5", "clear"] {
        let more = format!("user={unbound} password=s3cret sslmode=require channel_binding=require");
        let error = refused(&by_network(&server, &more)).await;
        assert!(matches!(error, ConnectError::Refused { .. }), "{error:?}");
    }
    let error =
        refused(&by_network(&server, "user=scram password=s3cret sslmode=verify-full sslrootcert=/nowhere"))
            .await;
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
    let elsewhere = format!("user=scram password=s3cret sslmode=verify-full sslrootcert={root}");
    let by_address =
        Conninfo::read(&format!("hostaddr=127.0.0.1 port={} {elsewhere}", server.cluster.port()), &|_| None);
    let error = refused(&by_address.unwrap()).await;
    assert!(matches!(error, ConnectError::Handshake { .. }), "{error:?}");
}

#[tokio::test]
async fn servers_that_are_not_there_or_not_postgres_are_refused() {
    let nobody = Conninfo::read("host=127.0.0.1 port=1 user=x", &|_| None).unwrap();
    assert!(matches!(refused(&nobody).await, ConnectError::Unreachable { .. }));
    // One that answers with something else.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let other = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let (mut socket, _) = listener.accept().await.unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let conninfo = format!("host=127.0.0.1 port={port} user=x sslmode=disable");
    let error = refused(&Conninfo::read(&conninfo, &|_| None).unwrap()).await;
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
    other.await.unwrap();
}
