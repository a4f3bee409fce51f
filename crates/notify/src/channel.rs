//! A channel, whatever it is.

use strongroom_model::Timestamp;

use crate::letter::Letter;
use crate::mail::Mail;
use crate::message::Message;
use crate::pager_duty::PagerDuty;
use crate::post::{TellError, unsendable};
use crate::program::Program;
use crate::slack::Slack;
use crate::sns::Sns;
use crate::webhook::Webhook;

/// Where alerts go.
pub enum Channel {
    /// By mail.
    Mail(Mail),
    /// Into a chat.
    Slack(Slack),
    /// To a program elsewhere.
    Webhook(Webhook),
    /// To whoever is on call.
    PagerDuty(PagerDuty),
    /// To whoever subscribed.
    Sns(Sns),
    /// To a program here.
    Program(Program),
}

impl Channel {
    /// Tells it, once. `now` is what a signature says.
    pub async fn tell(&self, message: &Message<'_>, now: Timestamp) -> Result<(), TellError> {
        match self {
            Channel::Mail(mail) => mail.tell(message).await,
            Channel::Slack(slack) => slack.tell(message).await,
            Channel::Webhook(webhook) => webhook.tell(message, now).await,
            Channel::PagerDuty(pager_duty) => pager_duty.tell(message).await,
            Channel::Sns(sns) => sns.tell(message).await,
            Channel::Program(program) => program.tell(message).await,
        }
    }

    /// Hands a letter over, once. `now` is what a signature says. Who is on call is not woken by one: PagerDuty takes none.
    pub async fn hand(&self, letter: &Letter<'_>, now: Timestamp) -> Result<(), TellError> {
        match self {
            Channel::Mail(mail) => mail.hand(letter).await,
            Channel::Slack(slack) => slack.post(letter.subject, letter.text).await,
            Channel::Webhook(webhook) => webhook.post(letter.json, now).await,
            Channel::PagerDuty(_) => Err(unsendable(&"PagerDuty", "it takes alerts, and no reports")),
            Channel::Sns(sns) => sns.publish(letter.subject, letter.text).await,
            Channel::Program(program) => program.run(letter.json).await,
        }
    }
}
