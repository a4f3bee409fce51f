//! A web address that takes JSON. Who has the secret can tell that it comes from here, and when:
//!
//! ```text
//! x-strongroom-timestamp: 1800000000
//! x-strongroom-signature: sha256=hex(HMAC-SHA-256(secret, timestamp "." body))
//! ```

use std::fmt::Write;

use aws_lc_rs::hmac;
use strongroom_model::Timestamp;
use zeroize::Zeroizing;

use crate::message::Message;
use crate::post::{TellError, WebAddress, request, send, unsendable};

/// An address, and the secret that it shares with us.
pub struct Webhook {
    /// Where to.
    pub address: WebAddress,
    /// With which it is signed; not at all without it.
    pub secret: Option<Zeroizing<String>>,
}

impl Webhook {
    pub(crate) async fn tell(&self, message: &Message<'_>, now: Timestamp) -> Result<(), TellError> {
        self.post(&message.json(), now).await
    }

    /// Posts a document, signed.
    pub(crate) async fn post(&self, document: &serde_json::Value, now: Timestamp) -> Result<(), TellError> {
        let body = document.to_string();
        let stamp = now.unix_seconds().to_string();
        let signature = self.secret.as_ref().map(|secret| signature(secret, &stamp, &body));
        let mut request = request(&self.address, ("POST", "application/json"), body)?;
        let headers = [("x-strongroom-timestamp", Some(stamp)), ("x-strongroom-signature", signature)];
        for (name, value) in headers.into_iter().filter_map(|(name, value)| Some((name, value?))) {
            let value = value.parse().map_err(|_| unsendable(&self.address, "its signature is no header"))?;
            request.headers_mut().insert(name, value);
        }
        send(&self.address, request).await.map(drop)
    }
}

fn signature(secret: &str, stamp: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let tag = hmac::sign(&key, format!("{stamp}.{body}").as_bytes());
    tag.as_ref().iter().fold("sha256=".to_owned(), |mut text, byte| {
        // Writing into a string does not end in an error.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `printf '1800000000.{"a":1}' | openssl dgst -sha256 -hmac secret`
    #[test]
    fn signatures_are_those_of_other_tools() {
        let expected = "sha256=440dfbb83aabca24d9e5027629cfd81cb45254690f8d410bb28f1cc17c990dbc";
        assert_eq!(signature("secret", "1800000000", "{\"a\":1}"), expected);
    }
}
