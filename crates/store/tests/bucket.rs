//! What a bucket makes of answers that a real S3 server does not give on request: conflicts, throttling, refusals, a
//! proxy's error page, listings out of order, a body cut short.
//!
//! The server here knows nothing but one answer. The contract itself is tested on a real server, in `conformance.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use strongroom_store::{Body, Bucket, BucketOptions, Key, PutError, Store, StoreError};

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// A bucket whose server gives every request this answer: status line, then body.
fn answering(status: &'static str, body: &'static str) -> Bucket {
    answering_cut(status, body, body.len())
}

/// As [`answering`], but the connection ends after `sent` bytes of the body.
fn answering_cut(status: &'static str, body: &'static str, sent: usize) -> Bucket {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A client that hangs up early is the client's affair.
            let _ = answer(stream.unwrap(), status, body, sent);
        }
    });
    let options = BucketOptions {
        bucket: "vaults".into(),
        endpoint: Some(endpoint),
        region: Some("us-east-1".into()),
        path_style: true,
        allow_http: true,
        ..BucketOptions::default()
    };
    Bucket::with_keys(options, "test", "test").unwrap()
}

fn answer(mut stream: TcpStream, status: &str, body: &str, sent: usize) -> std::io::Result<()> {
    let mut request = BufReader::new(stream.try_clone()?);
    let (mut first, mut length) = (String::new(), 0);
    request.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        request.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((_, value)) =
            line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        {
            length = value.trim().parse().unwrap();
        }
    }
    request.take(length).read_to_end(&mut Vec::new())?;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"e\"\r\nLast-Modified: Fri, 20 Nov 2026 12:00:00 GMT\r\n\
         Connection: close\r\n\r\n",
        body.len()
    )?;
    if !first.starts_with("HEAD") {
        stream.write_all(&body.as_bytes()[..sent])?;
    }
    Ok(())
}

fn kind(error: &StoreError) -> &'static str {
    match error {
        StoreError::NotFound { .. } => "not found",
        StoreError::Denied { .. } => "denied",
        StoreError::Full { .. } => "full",
        StoreError::Passing { .. } => "passing",
        StoreError::Broken { .. } => "broken",
    }
}

const NO_KEY: &str = "<Error><Code>NoSuchKey</Code></Error>";
const NO_BUCKET: &str = "<Error><Code>NoSuchBucket</Code></Error>";
const DENIED: &str = "<Error><Code>AccessDenied</Code></Error>";
const PAGE: &str = "<html>404: there is no such page</html>";

#[tokio::test]
async fn a_put_says_exists_only_where_the_store_says_so() {
    for (status, body, expected) in [
        ("200 OK", "", "written"),
        ("412 Precondition Failed", "<Error><Code>PreconditionFailed</Code></Error>", "exists"),
        // Two writers met; which of them won is not said.
        ("409 Conflict", "<Error><Code>ConditionalRequestConflict</Code></Error>", "passing"),
        ("404 Not Found", NO_BUCKET, "broken"),
        ("404 Not Found", PAGE, "broken"),
        ("403 Forbidden", DENIED, "denied"),
        ("507 Insufficient Storage", "<Error><Code>XMinioStorageFull</Code></Error>", "full"),
        ("400 Bad Request", "<Error><Code>QuotaExceeded</Code></Error>", "full"),
        ("400 Bad Request", "<Error><Code>EntityTooLarge</Code></Error>", "broken"),
        ("501 Not Implemented", "<Error><Code>NotImplemented</Code></Error>", "broken"),
        ("503 Slow Down", "<Error><Code>SlowDown</Code></Error>", "passing"),
    ] {
        let outcome = answering(status, body).put_new(&key("a"), Body::from(b"bytes".to_vec())).await;
        let found = match &outcome {
            Ok(()) => "written",
            Err(PutError::Exists { .. }) => "exists",
            Err(PutError::Store(error)) => kind(error),
        };
        assert_eq!(found, expected, "{status} {body}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_read_says_not_found_only_where_the_store_says_so() {
    for (status, body, expected) in [
        ("404 Not Found", NO_KEY, "not found"),
        ("404 Not Found", NO_BUCKET, "broken"),
        // Somebody else's 404: a wrong endpoint, or a proxy whose server is down.
        ("404 Not Found", PAGE, "broken"),
        ("404 Not Found", "", "broken"),
        ("401 Unauthorized", DENIED, "denied"),
        ("403 Forbidden", DENIED, "denied"),
        ("400 Bad Request", "<Error><Code>ExpiredToken</Code></Error>", "denied"),
        ("400 Bad Request", "<Error><Code>RequestTimeout</Code></Error>", "passing"),
        ("400 Bad Request", "<Error><Code>InvalidArgument</Code></Error>", "broken"),
        ("416 Range Not Satisfiable", "<Error><Code>InvalidRange</Code></Error>", "broken"),
        ("301 Moved Permanently", "<Error><Code>PermanentRedirect</Code></Error>", "broken"),
        ("408 Request Timeout", "", "passing"),
        ("429 Too Many Requests", "", "passing"),
        ("500 Internal Server Error", "", "passing"),
        ("502 Bad Gateway", PAGE, "passing"),
        ("503 Service Unavailable", "", "passing"),
    ] {
        let store = answering(status, body);
        let error = store.get(&key("a")).await.unwrap_err();
        assert_eq!(kind(&error), expected, "get: {status} {body}: {error:?}");
        let error = store.get_range(&key("a"), 0..1).await.unwrap_err();
        assert_eq!(kind(&error), expected, "get_range: {status} {body}: {error:?}");
        if !body.is_empty() && !status.starts_with("400") && !status.starts_with("416") {
            // An answer to HEAD has no body: what it means comes from asking again with GET.
            let error = store.head(&key("a")).await.unwrap_err();
            assert_eq!(kind(&error), expected, "head: {status} {body}: {error:?}");
        }
    }
}

#[tokio::test]
async fn a_listing_that_is_refused_is_no_empty_listing() {
    for (status, body, expected) in [
        ("404 Not Found", NO_BUCKET, "broken"),
        ("404 Not Found", NO_KEY, "broken"),
        ("403 Forbidden", DENIED, "denied"),
        ("503 Slow Down", "<Error><Code>SlowDown</Code></Error>", "passing"),
    ] {
        let error = answering(status, body).list("a", None).await.unwrap_err();
        assert_eq!(kind(&error), expected, "{status} {body}: {error:?}");
    }
}

#[tokio::test]
async fn a_listing_that_is_not_in_order_is_refused() {
    const LISTING: &str = "<ListBucketResult><IsTruncated>false</IsTruncated>\
        <Contents><Key>a/3</Key><Size>1</Size><LastModified>2026-11-20T12:00:00.000Z</LastModified></Contents>\
        <Contents><Key>a/2</Key><Size>1</Size><LastModified>2026-11-20T12:00:00.000Z</LastModified></Contents>\
        </ListBucketResult>";
    const ONE: &str = "<ListBucketResult><IsTruncated>false</IsTruncated>\
        <Contents><Key>a/3</Key><Size>1</Size><LastModified>2026-11-20T12:00:00.000Z</LastModified></Contents>\
        </ListBucketResult>";
    let error = answering("200 OK", LISTING).list("a", None).await.unwrap_err();
    assert_eq!(kind(&error), "broken", "{error:?}");
    let page = answering("200 OK", ONE).list("a", Some(&key("a/2"))).await.unwrap();
    assert_eq!(page.objects.len(), 1);
    // A store that does not know `start-after` would give the first page for ever.
    let error = answering("200 OK", ONE).list("a", Some(&key("a/3"))).await.unwrap_err();
    assert_eq!(kind(&error), "broken", "{error:?}");
}

/// "Create folder" of a console leaves an empty object "a/", which the client gives as "a".
#[tokio::test]
async fn a_folders_mark_is_not_listed() {
    const LISTING: &str = "<ListBucketResult><IsTruncated>false</IsTruncated>\
        <Contents><Key>a/</Key><Size>0</Size><LastModified>2026-11-20T12:00:00.000Z</LastModified></Contents>\
        <Contents><Key>a/2</Key><Size>1</Size><LastModified>2026-11-20T12:00:00.000Z</LastModified></Contents>\
        </ListBucketResult>";
    let page = answering("200 OK", LISTING).list("a", None).await.unwrap();
    assert_eq!(page.objects.iter().map(|head| head.key.as_str()).collect::<Vec<_>>(), ["a/2"]);
}

#[tokio::test]
async fn a_delete_that_is_refused_says_so() {
    for (status, body, expected) in [
        ("204 No Content", "", None),
        ("404 Not Found", NO_KEY, None),
        ("404 Not Found", NO_BUCKET, Some("broken")),
        ("404 Not Found", PAGE, Some("broken")),
        ("403 Forbidden", DENIED, Some("denied")),
        ("503 Slow Down", "", Some("passing")),
    ] {
        let outcome = answering(status, body).delete(&key("a")).await;
        assert_eq!(outcome.as_ref().err().map(kind), expected, "{status} {body}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_body_that_is_cut_short_is_no_object() {
    let error = answering_cut("200 OK", "0123456789", 4).get(&key("a")).await.unwrap_err();
    assert_eq!(kind(&error), "passing", "{error:?}");
}

/// Whatever answers here does not speak TLS: an error like any other, where a missing provider of ciphers would panic.
#[tokio::test]
async fn a_server_without_tls_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let _ = stream.unwrap().write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let options =
        BucketOptions { bucket: "vaults".into(), endpoint: Some(endpoint), ..BucketOptions::default() };
    let store = Bucket::with_keys(options, "test", "test").unwrap();
    let error = store.get(&key("a")).await.unwrap_err();
    assert_eq!(kind(&error), "passing", "{error:?}");
}
