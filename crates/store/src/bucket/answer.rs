//! What a bucket's error means. `object_store` tells some kinds apart; the rest is in the status and in the error
//! code of the answer's body, which it gives only in its text.
//!
//! **Invariant**: "no such key" and "taken" are said only if the store itself said so, in its own words. A proxy's error
//! page, a mistyped bucket or a conflict between writers is neither.

use object_store::Error;

/// What an error means to who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The store says that there is no such object.
    NoSuchKey,
    /// The store says that the key is taken.
    Taken,
    /// Credentials or rights.
    Denied,
    /// No room, or no quota.
    Full,
    /// Asking again may help.
    Passing,
    /// Asking again will not help.
    Broken,
}

/// What `error` means.
pub(super) fn meaning(error: &Error) -> Meaning {
    let text = match error {
        // A 412 arrives wrapped twice. A 409 does not: two writers met, and who won is still open.
        Error::AlreadyExists { source, .. } => match source.downcast_ref::<Error>() {
            Some(Error::Precondition { .. } | Error::NotModified { .. }) => return Meaning::Taken,
            // Google's arrives wrapped once; Azure says it with a 409 and in words.
            _ if status(&source.to_string()) == Some(412) => return Meaning::Taken,
            _ if code(&source.to_string()) == Some("BlobAlreadyExists") => return Meaning::Taken,
            _ => return Meaning::Passing,
        },
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => return Meaning::Denied,
        Error::NotFound { source, .. } => {
            let said = source.to_string();
            let no_such_key = matches!(code(&said), Some("NoSuchKey" | "BlobNotFound"))
                // Azure deletes in batches, whose answers have words and no code.
                || format!("{source:?}").contains("The specified blob does not exist");
            return if no_such_key { Meaning::NoSuchKey } else { Meaning::Broken };
        }
        // Azure's answer is not to the letter, and the client says so in a kind of its own: the range is beyond the end.
        Error::Generic { source, .. } if format!("{source:?}").contains("InvalidRange") => {
            return Meaning::Broken;
        }
        Error::Generic { source, .. } => source.to_string(),
        _ => return Meaning::Broken,
    };
    match (status(&text), code(&text).unwrap_or_default()) {
        (_, "RequestTimeout") => Meaning::Passing,
        (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => Meaning::Denied,
        (_, code) if code.contains("QuotaExceeded") || code.contains("StorageFull") => Meaning::Full,
        (Some(507), _) => Meaning::Full,
        (Some(401 | 403), _) => Meaning::Denied,
        (Some(408 | 409 | 429 | 500 | 502..=599), _) => Meaning::Passing,
        (Some(_), _) => Meaning::Broken,
        // A redirect to nowhere is how a store says that its bucket is in another region.
        (None, _) if text.contains("redirect without LOCATION") => Meaning::Broken,
        // No answer at all, or half of one: a time-out, a broken connection.
        (None, _) => Meaning::Passing,
    }
}

/// The HTTP status in the client's text.
fn status(text: &str) -> Option<u16> {
    text.split_once("status code: ")?.1.get(..3)?.parse().ok()
}

/// The error code in the answer's body: `<Error><Code>NoSuchKey</Code>…`.
pub(super) fn code(text: &str) -> Option<&str> {
    Some(text.split_once("<Code>")?.1.split_once("</Code>")?.0)
}
