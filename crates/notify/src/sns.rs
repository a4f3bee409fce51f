//! Amazon SNS (API Reference, `Publish`), signed as requests to a bucket are.

use object_store::aws::AwsAuthorizer;
use strongroom_store::aws_credentials;

use crate::message::Message;
use crate::post::{TellError, WebAddress, request, send, unsendable};

/// The longest subject that SNS takes, in ASCII characters.
const SUBJECT: usize = 100;

/// A topic.
#[derive(Clone, Debug, Default)]
pub struct Sns {
    /// Its ARN: `arn:aws:sns:REGION:ACCOUNT:NAME`.
    pub topic: String,
    /// A profile of the shared AWS files.
    pub profile: Option<String>,
    /// Another endpoint than AWS's own.
    pub endpoint: Option<String>,
}

impl Sns {
    fn shown(&self) -> String {
        format!("the topic {}", self.topic)
    }

    pub(crate) async fn tell(&self, message: &Message<'_>) -> Result<(), TellError> {
        self.publish(&message.subject(), &message.text()).await
    }

    /// Publishes a few lines under a subject.
    pub(crate) async fn publish(&self, subject: &str, text: &str) -> Result<(), TellError> {
        let region = self.topic.strip_prefix("arn:").and_then(|rest| rest.split(':').nth(2));
        let region = region.ok_or_else(|| {
            unsendable(&self.shown(), "it is no ARN: write it as arn:aws:sns:REGION:ACCOUNT:NAME")
        })?;
        let aws = || format!("https://sns.{region}.amazonaws.com");
        let endpoint = format!("{}/", self.endpoint.clone().unwrap_or_else(aws).trim_end_matches('/'));
        let address: WebAddress =
            endpoint.parse().map_err(|_| unsendable(&self.shown(), "its endpoint is no address"))?;
        let (credentials, region) = aws_credentials(self.profile.as_deref(), Some(region))
            .map_err(|error| unsendable(&self.shown(), error.to_string()))?;
        let mut request =
            request(&address, ("POST", "application/x-www-form-urlencoded"), self.form(subject, text))?;
        let credential = credentials.get_credential().await;
        let credential =
            credential.map_err(|error| TellError::Silent { by: self.shown(), why: error.to_string() })?;
        let signed = AwsAuthorizer::new(&credential, "sns", &region).try_authorize(&mut request, None);
        signed.map_err(|error| unsendable(&self.shown(), error.to_string()))?;
        send(&address, request).await.map(drop)
    }

    fn form(&self, subject: &str, text: &str) -> String {
        let subject: String = subject
            .chars()
            .map(|letter| if letter.is_ascii_graphic() { letter } else { ' ' })
            .take(SUBJECT)
            .collect();
        let fields = [
            ("Action", "Publish"),
            ("Version", "2010-03-31"),
            ("TopicArn", &self.topic),
            ("Subject", &subject),
            ("Message", text),
        ];
        let field = |(name, value): (&str, &str)| format!("{name}={}", encoded(value));
        fields.map(field).join("&")
    }
}

/// As forms write it: every byte that is not surely plain as `%XX`.
fn encoded(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(one).collect()
}
