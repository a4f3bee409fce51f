//! `[watch]` and `[alert.NAME]`: of what people are told, and how.

use std::borrow::Borrow;

use serde::Deserialize;
use strongroom_model::ByteSize;
use strongroom_model::alert::Severity;
use strongroom_model::span::Span;
use strongroom_notify::{MailTls, WebAddress};

use crate::secret::Reference;

/// The longest name of a channel.
const LONGEST_NAME: usize = 64;

/// `[watch]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchSettings {
    /// Between two readings of the vault.
    #[serde(deserialize_with = "some_time")]
    pub every: Span,
    /// So long after it was due something is late.
    pub late_after: Span,
    /// What goes on is told again after so long.
    #[serde(deserialize_with = "some_time")]
    pub remind_after: Span,
    /// So much WAL a server may keep for a slot of ours that nobody reads from.
    #[serde(deserialize_with = "super::from_text")]
    pub slot_limit: ByteSize,
    /// So much the points in the vault are expected to hold.
    #[serde(deserialize_with = "super::some_from_text")]
    pub expected_storage: Option<ByteSize>,
    /// An address that is asked after each reading: a service there tells people when it is not asked any more.
    pub ping: Option<Place>,
}

impl Default for WatchSettings {
    fn default() -> WatchSettings {
        WatchSettings {
            every: Span::from_secs(60),
            late_after: Span::from_hours(1),
            remind_after: Span::from_hours(12),
            slot_limit: ByteSize(10 << 30),
            expected_storage: None,
            ping: None,
        }
    }
}

/// What must not be done without pause.
fn some_time<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
    match Span::deserialize(deserializer)? {
        span if span >= Span::from_secs(1) => Ok(span),
        _ => Err(serde::de::Error::custom("it must be at least 1s")),
    }
}

/// A channel's name: letters, digits, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct ChannelName(String);

/// A word that cannot name a channel.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' cannot name a channel: use letters, digits, - and _")]
pub struct ChannelNameError(String);

impl TryFrom<String> for ChannelName {
    type Error = ChannelNameError;

    fn try_from(text: String) -> Result<ChannelName, ChannelNameError> {
        let is_plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_');
        let is_sound = (1..=LONGEST_NAME).contains(&text.len()) && text.chars().all(is_plain);
        if is_sound { Ok(ChannelName(text)) } else { Err(ChannelNameError(text)) }
    }
}

impl Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl ChannelName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A web address, or where it is if it is a secret.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "String")]
pub enum Place {
    /// `https://…`
    Address(WebAddress),
    /// `env:NAME`, `file:/path` or `command:…`
    Secret(Reference),
}

/// Text that is neither. It is not shown: it may be a secret.
#[derive(Debug, thiserror::Error)]
#[error("it is neither an address (https://host/path) nor where one is (env:NAME, file:/path or command:…)")]
pub struct PlaceError;

impl TryFrom<String> for Place {
    type Error = PlaceError;

    fn try_from(text: String) -> Result<Place, PlaceError> {
        let secret = || text.parse().map(Place::Secret).map_err(|_| PlaceError);
        text.parse().map(Place::Address).or_else(|_| secret())
    }
}

/// `[alert.NAME]`
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AlertSettings {
    /// Mail.
    Smtp(SmtpSettings),
    /// A chat that takes what Slack takes.
    Slack(SlackSettings),
    /// An address that takes JSON.
    Webhook(WebhookSettings),
    /// PagerDuty.
    Pagerduty(PagerdutySettings),
    /// A topic of Amazon SNS.
    Sns(SnsSettings),
    /// A program on this host.
    Exec(ExecSettings),
}

impl AlertSettings {
    /// It is told of this, and worse.
    pub fn severity(&self) -> Severity {
        match self {
            AlertSettings::Smtp(of) => of.severity,
            AlertSettings::Slack(of) => of.severity,
            AlertSettings::Webhook(of) => of.severity,
            AlertSettings::Pagerduty(of) => of.severity,
            AlertSettings::Sns(of) => of.severity,
            AlertSettings::Exec(of) => of.severity,
        }
    }

    /// Its kind, as the settings spell it.
    pub fn kind(&self) -> &'static str {
        match self {
            AlertSettings::Smtp(_) => "smtp",
            AlertSettings::Slack(_) => "slack",
            AlertSettings::Webhook(_) => "webhook",
            AlertSettings::Pagerduty(_) => "pagerduty",
            AlertSettings::Sns(_) => "sns",
            AlertSettings::Exec(_) => "exec",
        }
    }
}

fn least() -> Severity {
    Severity::Warning
}

/// `kind = "smtp"`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmtpSettings {
    /// It is told of this, and worse.
    #[serde(default = "least")]
    pub severity: Severity,
    /// The relay.
    pub host: String,
    /// Its port.
    pub port: Option<u16>,
    /// How the connection is kept from others.
    #[serde(default)]
    pub tls: MailTls,
    /// The account.
    pub user: Option<String>,
    /// Where its password is.
    pub password: Option<Reference>,
    /// Who writes.
    pub from: String,
    /// Who is written to.
    pub to: Vec<String>,
}

/// `kind = "slack"`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlackSettings {
    /// It is told of this, and worse.
    #[serde(default = "least")]
    pub severity: Severity,
    /// Its incoming webhook.
    pub url: Place,
}

/// `kind = "webhook"`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// It is told of this, and worse.
    #[serde(default = "least")]
    pub severity: Severity,
    /// Where to.
    pub url: Place,
    /// Where the secret is that it is signed with.
    pub secret: Option<Reference>,
}

/// `kind = "pagerduty"`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PagerdutySettings {
    /// It is told of this, and worse.
    #[serde(default = "least")]
    pub severity: Severity,
    /// Where the integration's key is.
    pub routing_key: Reference,
    /// Where events go, if not to PagerDuty's usual place.
    pub url: Option<Place>,
}

/// `kind = "sns"`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnsSettings {
    /// It is told of this, and worse.
    #[serde(default = "least")]
    pub severity: Severity,
    /// Its ARN.
    pub topic: String,
    /// A profile of the shared AWS files.
    pub profile: Option<String>,
    /// Another endpoint than AWS's own.
    pub endpoint: Option<String>,
}

/// `kind = "exec"`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecSettings {
    /// It is told of this, and worse.
    #[serde(default = "least")]
    pub severity: Severity,
    /// A command of the shell.
    pub command: String,
}

#[cfg(test)]
mod tests {
    use crate::settings::Settings;

    fn read(text: &str) -> Result<Settings, String> {
        Settings::read(text, "f").map_err(|error| error.to_string())
    }

    #[test]
    fn channels_of_every_kind_read() {
        let text = r#"
            [watch]
            late_after = "30m"
            expected_storage = "2 TB"
            ping = "file:/run/ping"
            [alert.mail]
            kind = "smtp"
            host = "relay.example"
            from = "backup@example.org"
            to = ["dba@example.org"]
            [alert.chat]
            kind = "slack"
            severity = "critical"
            url = "env:SLACK"
            [alert.hook]
            kind = "webhook"
            url = "https://hook.example/x"
            secret = "file:/run/secret"
            [alert.duty]
            kind = "pagerduty"
            routing_key = "env:PD"
            [alert.topic]
            kind = "sns"
            topic = "arn:aws:sns:eu-west-1:1:backups"
            [alert.script]
            kind = "exec"
            command = "logger -t strongroom"
        "#;
        let settings = read(text).unwrap();
        let kinds: Vec<&str> = settings.alerts.values().map(super::AlertSettings::kind).collect();
        assert_eq!(kinds, ["slack", "pagerduty", "webhook", "smtp", "exec", "sns"]);
        assert_eq!(settings.alerts["chat"].severity(), super::Severity::Critical);
        assert_eq!(settings.alerts["mail"].severity(), super::Severity::Warning);
    }

    #[test]
    fn mistakes_are_named_and_secrets_are_not() {
        for (text, says) in [
            ("[alert.a]\nkind = \"pager\"\n", "unknown variant `pager`"),
            ("[alert.a]\nkind = \"slack\"\n", "missing field `url`"),
            ("[alert.a]\nkind = \"slack\"\nurl = \"canary\"\n", "neither an address"),
            ("[alert.a]\nkind = \"slack\"\nurl = \"ftp://canary\"\n", "neither an address"),
            ("[alert.a]\nkind = \"pagerduty\"\nrouting_key = \"canary\"\n", "not a reference to a secret"),
            ("[alert.a]\nkind = \"exec\"\ncommand = \"x\"\nurl = \"canary\"\n", "unknown field `url`"),
            ("[alert.\"a b\"]\nkind = \"exec\"\ncommand = \"x\"\n", "cannot name a channel"),
            ("[alert.a]\nkind = \"exec\"\ncommand = \"x\"\nseverity = \"bad\"\n", "unknown variant `bad`"),
            ("[watch]\nevery = \"0s\"\n", "at least 1s"),
            ("[watch]\nlate = \"1h\"\n", "unknown field `late`"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says) && !error.contains("canary"), "{text}: {error}");
        }
    }
}
