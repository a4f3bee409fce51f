//! Channels as the settings name them, with their secrets read: anew each time, since they may have been changed.

use strongroom_model::alert::news::News;
use strongroom_notify::{
    Channel, Letter, Mail, Message, PagerDuty, Program, Slack, Sns, WebAddress, Webhook,
};
use zeroize::Zeroizing;

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::secret::Reference;
use crate::settings::watching::{AlertSettings, Place, SmtpSettings};
use crate::surroundings::{host, tool};

/// Where PagerDuty takes events.
const PAGER_DUTY: &str = "https://events.pagerduty.com/v2/enqueue";

/// Tells `news` by the channel of this name.
pub async fn tell(context: &Context, name: &str, news: &News) -> Result<(), ChannelFailure> {
    let channel = channel(context, name)?;
    let (host, tool) = (host(), tool());
    let message = Message { news, host: &host, tool: &tool };
    channel.tell(&message, context.cx.now()).await.map_err(ChannelFailure::Told)
}

/// Hands a report to the channel of this name.
pub async fn hand(context: &Context, name: &str, letter: &Letter<'_>) -> Result<(), ChannelFailure> {
    let channel = channel(context, name)?;
    channel.hand(letter, context.cx.now()).await.map_err(ChannelFailure::Told)
}

/// Why a channel was not told.
#[derive(Debug, thiserror::Error)]
pub enum ChannelFailure {
    /// Its settings or secrets are not what they should be.
    #[error("{0}")]
    Settings(String),
    /// It did not take it.
    #[error(transparent)]
    Told(strongroom_notify::TellError),
}

impl From<Failure> for ChannelFailure {
    fn from(failure: Failure) -> ChannelFailure {
        ChannelFailure::Settings(failure.on_one_line())
    }
}

impl ChannelFailure {
    /// Whether another message would be taken no sooner.
    pub fn is_of_channel(&self) -> bool {
        !matches!(self, ChannelFailure::Told(strongroom_notify::TellError::Refused { .. }))
    }
}

fn channel(context: &Context, name: &str) -> Result<Channel, Failure> {
    let missing = || Failure::new(Code::Settings, format!("there is no [alert.{name}] in the settings"));
    let secrets = Secrets { context, name };
    Ok(match context.settings.alerts.get(name).ok_or_else(missing)? {
        AlertSettings::Smtp(of) => Channel::Mail(secrets.mail(of)?),
        AlertSettings::Slack(of) => Channel::Slack(Slack { address: secrets.address("url", &of.url)? }),
        AlertSettings::Webhook(of) => Channel::Webhook(Webhook {
            address: secrets.address("url", &of.url)?,
            secret: of.secret.as_ref().map(|secret| secrets.read("secret", secret)).transpose()?,
        }),
        AlertSettings::Pagerduty(of) => Channel::PagerDuty(PagerDuty {
            address: match &of.url {
                Some(url) => secrets.address("url", url)?,
                None => secrets.parse("url", PAGER_DUTY)?,
            },
            routing_key: secrets.read("routing_key", &of.routing_key)?,
        }),
        AlertSettings::Sns(of) => {
            let (topic, profile, endpoint) = (of.topic.clone(), of.profile.clone(), of.endpoint.clone());
            Channel::Sns(Sns { topic, profile, endpoint })
        }
        AlertSettings::Exec(of) => Channel::Program(Program { command: of.command.clone() }),
    })
}

/// The address that the settings name to be asked while the agent lives.
pub fn ping_address(context: &Context) -> Result<Option<WebAddress>, Failure> {
    let of = |place: &Place| address(context, "ping of [watch]", place);
    context.settings.watch.ping.as_ref().map(of).transpose()
}

/// What the settings of a channel refer to.
struct Secrets<'a> {
    context: &'a Context,
    name: &'a str,
}

impl Secrets<'_> {
    fn read(&self, key: &str, reference: &Reference) -> Result<Zeroizing<String>, Failure> {
        read(self.context, &format!("{key} of [alert.{}]", self.name), reference)
    }

    fn address(&self, key: &str, place: &Place) -> Result<WebAddress, Failure> {
        address(self.context, &format!("{key} of [alert.{}]", self.name), place)
    }

    fn parse(&self, key: &str, text: &str) -> Result<WebAddress, Failure> {
        parse(&format!("{key} of [alert.{}]", self.name), text)
    }

    fn mail(&self, of: &SmtpSettings) -> Result<Mail, Failure> {
        let login = match (&of.user, &of.password) {
            (Some(user), Some(password)) => Some((user.clone(), self.read("password", password)?)),
            (None, None) => None,
            _ => {
                let what = format!("[alert.{}] says one of user and password", self.name);
                return Err(Failure::new(Code::Settings, what).hint("say both, or neither"));
            }
        };
        let (host, from, to) = (of.host.clone(), of.from.clone(), of.to.clone());
        Ok(Mail { host, port: of.port, tls: of.tls, login, from, to })
    }
}

fn read(context: &Context, what: &str, reference: &Reference) -> Result<Zeroizing<String>, Failure> {
    let secret = reference.beside(|path| context.beside_file(path)).read();
    secret.map_err(|error| Failure::from(error).under(what))
}

fn address(context: &Context, what: &str, place: &Place) -> Result<WebAddress, Failure> {
    match place {
        Place::Address(address) => Ok(address.clone()),
        Place::Secret(reference) => parse(what, &read(context, what, reference)?),
    }
}

fn parse(what: &str, text: &str) -> Result<WebAddress, Failure> {
    text.parse().map_err(|error| Failure::new(Code::Settings, format!("{what}: {error}")))
}
