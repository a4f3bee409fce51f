//! Mail, by SMTP (RFC 5321), over TLS unless the settings say that it is not wanted.

use lettre::message::header::ContentType;
use lettre::message::{Attachment, Mailbox, MessageBuilder, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::{AsyncSmtpTransport, AsyncTransport, Tokio1Executor};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::letter::Letter;
use crate::message::Message;
use crate::post::{PATIENCE, TellError, unsendable};

/// How the connection is kept from others' eyes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MailTls {
    /// It begins in the clear and must change over: port 587.
    #[default]
    Starttls,
    /// From the first byte on: port 465.
    Tls,
    /// Never: only for a relay on this host.
    None,
}

/// Where mail is handed in, and who gets it.
pub struct Mail {
    /// The relay.
    pub host: String,
    /// Its port; the usual one of its kind if `None`.
    pub port: Option<u16>,
    /// How the connection is kept from others.
    pub tls: MailTls,
    /// The account and its password, where the relay wants one.
    pub login: Option<(String, Zeroizing<String>)>,
    /// Who writes.
    pub from: String,
    /// Who is written to.
    pub to: Vec<String>,
}

impl Mail {
    fn shown(&self) -> String {
        format!("the mail relay {}", self.host)
    }

    pub(crate) async fn tell(&self, message: &Message<'_>) -> Result<(), TellError> {
        self.send(self.compose(message)?).await
    }

    /// Hands a letter over, with its file.
    pub(crate) async fn hand(&self, letter: &Letter<'_>) -> Result<(), TellError> {
        let unsent = |why: String| unsendable(&self.shown(), why);
        let content_type =
            ContentType::parse(letter.attached.content_type).map_err(|error| unsent(error.to_string()))?;
        let file = Attachment::new(letter.attached.name.clone());
        let file = file.body(letter.attached.bytes.clone(), content_type);
        let parts = MultiPart::mixed().singlepart(SinglePart::plain(letter.text.to_owned())).singlepart(file);
        let mail = self.addressed()?.subject(letter.subject).multipart(parts);
        self.send(mail.map_err(|error| unsent(error.to_string()))?).await
    }

    async fn send(&self, mail: lettre::Message) -> Result<(), TellError> {
        let sent = tokio::time::timeout(PATIENCE, self.relay()?.send(mail)).await;
        let silent = |why: String| TellError::Silent { by: self.shown(), why };
        match sent {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.is_permanent() => {
                Err(TellError::Refused { by: self.shown(), said: self.with_way_out(&error) })
            }
            Ok(Err(error)) => Err(silent(self.with_way_out(&error))),
            Err(_) => Err(silent("it does not answer in time".to_owned())),
        }
    }

    /// An error and its causes, and what to do where the settings or this host can be mended.
    fn with_way_out(&self, error: &lettre::transport::smtp::Error) -> String {
        let said = told(error);
        let code = error.status().map(|code| code.to_string());
        let way_out = match (code.as_deref(), &self.login) {
            (Some("535" | "534"), _) => "are user and password of the channel what the relay knows?",
            (Some("530" | "538"), None) => "it wants user and password: the channel has none",
            _ if said.contains("No compatible authentication") && matches!(self.tls, MailTls::None) => {
                "it takes no login without TLS: say tls = \"starttls\""
            }
            _ if said.contains("UnknownIssuer") => {
                "this host does not trust who signed its certificate: add that authority to the system's, or to a file that SSL_CERT_FILE names"
            }
            _ if said.contains("certificate not valid for name") => {
                "host must be the name in its certificate"
            }
            _ if said.contains("STARTTLS") => "it has no STARTTLS: tls = \"tls\" is for port 465",
            _ => return said,
        };
        format!("{said}; {way_out}")
    }

    fn addressed(&self) -> Result<MessageBuilder, TellError> {
        let mailbox = |text: &str| {
            let wrong = |_| unsendable(&self.shown(), format!("'{text}' is no mail address"));
            text.parse::<Mailbox>().map_err(wrong)
        };
        let mut mail: MessageBuilder = lettre::Message::builder().from(mailbox(&self.from)?);
        for to in &self.to {
            mail = mail.to(mailbox(to)?);
        }
        Ok(mail)
    }

    fn compose(&self, message: &Message<'_>) -> Result<lettre::Message, TellError> {
        // What belongs together is shown together: all mails of an occasion answer one that was never sent.
        let thread = format!("<{}@strongroom>", message.news.occasion().replace(['<', '>', '*', ' '], "-"));
        let mail =
            self.addressed()?.subject(message.subject()).references(thread).header(ContentType::TEXT_PLAIN);
        mail.body(message.text()).map_err(|error| unsendable(&self.shown(), error.to_string()))
    }

    fn relay(&self) -> Result<AsyncSmtpTransport<Tokio1Executor>, TellError> {
        let wrong = |error| unsendable(&self.shown(), told(&error));
        let builder = match self.tls {
            MailTls::Starttls => {
                AsyncSmtpTransport::<Tokio1Executor>::starttls_relay(&self.host).map_err(wrong)?
            }
            MailTls::Tls => AsyncSmtpTransport::<Tokio1Executor>::relay(&self.host).map_err(wrong)?,
            MailTls::None => AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&self.host),
        };
        let builder = self.port.into_iter().fold(builder, |builder, port| builder.port(port));
        let login =
            self.login.iter().map(|(user, password)| Credentials::new(user.clone(), password.to_string()));
        Ok(login.fold(builder, |builder, login| builder.credentials(login)).timeout(Some(PATIENCE)).build())
    }
}

/// An error and its causes.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // It may have said so already.
        if !text.contains(&said) {
            text.push_str(&format!(": {said}"));
        }
        cause = error.source();
    }
    text
}
