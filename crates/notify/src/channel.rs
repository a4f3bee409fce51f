//! A channel, whatever it is.

use strongroom_model::Timestamp;

use crate::mail::Mail;
use crate::message::Message;
use crate::pager_duty::PagerDuty;
use crate::post::TellError;
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
}
