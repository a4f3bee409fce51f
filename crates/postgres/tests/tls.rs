//! `sslmode` against a real server with a real certificate.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
#![allow(clippy::disallowed_methods, reason = "a test runs programs and touches files")]

mod harness;

use harness::{Server, openssl};
use strongroom_engine::{DumpEngine, EngineError};
use strongroom_postgres::connect::{self, Client};
use strongroom_postgres::conninfo::Conninfo;
use strongroom_postgres::logical::dump::Logical;
use strongroom_postgres::logical::program::Programs;
use strongroom_postgres::refusal::ConnectError;

/// A server on 127.0.0.1 whose certificate, for `localhost`, is signed by `ca.crt`; `self.crt` is a stranger's. Every
/// connection but the superuser's own must be encrypted.
async fn encrypted() -> Server {
    let mut server = Server::start("");
    let folder = server.socket();
    let new = "req -x509 -newkey rsa:2048 -nodes -days 2";
    openssl(&folder, &format!("{new} -keyout ca.key -out ca.crt -subj /CN=authority"));
    openssl(
        &folder,
        &format!(
            "{new} -keyout self.key -out self.crt -subj /CN=localhost -addext subjectAltName=DNS:localhost"
        ),
    );
    openssl(
        &folder,
        &format!(
            "{new} -CA ca.crt -CAkey ca.key -keyout server.key -out server.crt -subj /CN=localhost \
             -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE"
        ),
    );
    for file in ["server.key", "server.crt", "self.key", "self.crt"] {
        server.own(file);
    }
    server.write("pg_hba.conf", "local all postgres trust\nhostnossl all plain 127.0.0.1/32 trust\nhostssl all plain 127.0.0.1/32 reject\nhostssl all all 127.0.0.1/32 scram-sha-256\n");
    server.sql(&["CREATE ROLE backup LOGIN PASSWORD 's3cret'", "CREATE ROLE plain LOGIN"]).await;
    use_certificate(&mut server, "server").await;
    server
}

async fn use_certificate(server: &mut Server, name: &str) {
    let file = |end: &str| format!("{}/{name}.{end}", server.socket());
    server
        .sql(&[
            &format!("ALTER SYSTEM SET ssl_cert_file = '{}'", file("crt")),
            &format!("ALTER SYSTEM SET ssl_key_file = '{}'", file("key")),
            "ALTER SYSTEM SET ssl = on",
        ])
        .await;
    server.restart();
}

async fn connect_to(server: &Server, host: &str, more: &str) -> Result<Client, ConnectError> {
    let text = format!("host={host} port={} user=backup password=s3cret {more}", server.cluster.port());
    connect::connect(&Conninfo::read(&text, &|_| None).unwrap()).await
}

async fn is_encrypted(client: &Client) -> bool {
    let sql = "SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()";
    client.row("look", sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn each_sslmode_trusts_what_it_should() {
    let server = encrypted().await;
    let root = |file: &str| format!("sslrootcert={}/{file}", server.socket());
    let (ca, stranger) = (root("ca.crt"), root("self.crt"));
    for good in [
        "sslmode=prefer".to_owned(),
        "sslmode=require channel_binding=require".to_owned(),
        format!("sslmode=require {ca}"),
        format!("sslmode=verify-ca {ca}"),
        format!("sslmode=verify-full {ca} channel_binding=require"),
    ] {
        let client =
            connect_to(&server, "localhost", &good).await.unwrap_or_else(|error| panic!("{good}: {error:?}"));
        assert!(is_encrypted(&client).await, "{good}");
    }
    // By address the certificate's name does not fit: that matters to verify-full alone.
    connect_to(&server, "127.0.0.1", &format!("sslmode=verify-ca {ca}")).await.unwrap();
    for (host, bad, hint) in [
        ("127.0.0.1", format!("sslmode=verify-full {ca}"), "name in the server's certificate"),
        ("localhost", format!("sslmode=require {stranger}"), "sslrootcert"),
        ("localhost", format!("sslmode=verify-ca {stranger}"), "sslrootcert"),
        ("localhost", format!("sslmode=verify-full {stranger}"), "sslrootcert"),
    ] {
        let error = connect_to(&server, host, &bad).await.unwrap_err();
        assert!(matches!(error, ConnectError::Handshake { .. }), "{bad}: {error:?}");
        assert!(error.hint().contains(hint), "{bad}: {}", error.hint());
    }
    let error = connect_to(&server, "localhost", "sslmode=disable").await.unwrap_err();
    assert!(matches!(error, ConnectError::NotLetIn { .. }), "{error:?}");
    // A role that must not use TLS gets in under prefer, which tries without.
    let plain = connect_to(&server, "localhost", "sslmode=prefer user=plain").await.unwrap();
    assert!(!is_encrypted(&plain).await);
}

#[tokio::test]
async fn a_self_signed_certificate_is_its_own_authority() {
    let mut server = encrypted().await;
    use_certificate(&mut server, "self").await;
    let root = |file: &str| format!("sslrootcert={}/{file}", server.socket());
    connect_to(&server, "localhost", &format!("sslmode=verify-full {}", root("self.crt"))).await.unwrap();
    let error = connect_to(&server, "127.0.0.1", &format!("sslmode=verify-full {}", root("self.crt")))
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Handshake { .. }), "{error:?}");
    let error =
        connect_to(&server, "localhost", &format!("sslmode=verify-ca {}", root("ca.crt"))).await.unwrap_err();
    assert!(matches!(error, ConnectError::Handshake { .. }), "{error:?}");
}

#[tokio::test]
async fn files_and_servers_without_tls_are_named() {
    let server = Server::start("");
    let error = connect_to(&server, "127.0.0.1", "sslmode=require user=postgres").await.unwrap_err();
    assert!(
        matches!(&error, ConnectError::Handshake { hint, .. } if hint.contains("switch ssl on")),
        "{error:?}"
    );
    connect_to(&server, "127.0.0.1", "sslmode=prefer user=postgres").await.unwrap();
    for missing in
        ["sslrootcert=/nowhere/root.crt sslmode=verify-full", "sslcert=/nowhere/a sslkey=/nowhere/b"]
    {
        let error = connect_to(&server, "127.0.0.1", missing).await.unwrap_err();
        assert!(matches!(&error, ConnectError::Tls { .. }), "{error:?}");
        let EngineError::Unfit { what, .. } = EngineError::from(error) else { panic!("{missing}") };
        assert!(what.contains("/nowhere/"), "{what}");
    }
}

#[tokio::test]
async fn a_database_is_dumped_over_tls_with_a_password_and_by_nobody_else() {
    let server = encrypted().await;
    server.sql(&["CREATE TABLE public.t AS SELECT 1 AS a", "GRANT SELECT ON public.t TO backup"]).await;
    let text = |password: &str, root: &str| {
        format!(
            "host=localhost port={} user=backup password={password} dbname=postgres sslmode=verify-full sslrootcert={}/{root} \
             channel_binding=require",
            server.cluster.port(),
            server.socket()
        )
    };
    let engine = |text: &str| Logical::new(Conninfo::read(text, &|_| None).unwrap(), Programs::default());
    let cx = harness::cx();
    let session = engine(&text("s3cret", "ca.crt")).start(&cx).await.unwrap();
    for part in 0..session.parts().len() {
        let (mut reader, mut bytes) = (session.open(&cx, part).await.unwrap(), 0);
        while let Some(piece) = reader.next(&cx).await.unwrap() {
            bytes += piece.len();
        }
        assert!(bytes > 0, "{:?}", session.parts()[part]);
    }
    let dumped = session.stop(&cx).await.unwrap();
    assert!(!dumped.facts.to_string().contains("s3cret"));
    for (password, root) in [("wr0ng", "ca.crt"), ("s3cret", "self.crt")] {
        let error = engine(&text(password, root)).start(&cx).await.err().unwrap();
        let said = format!("{error:?}");
        assert!(!said.contains(password) && error.hint().is_some(), "{said}");
    }
}
