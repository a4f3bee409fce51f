//! Slack's incoming webhooks, which Mattermost, Rocket.Chat and others take as well: JSON with `text`.

use serde_json::json;
use strongroom_model::alert::Severity;
use strongroom_model::alert::news::Event;

use crate::message::Message;
use crate::post::{TellError, WebAddress, request, send};

/// An incoming webhook.
pub struct Slack {
    /// Its address, all of which is a secret.
    pub address: WebAddress,
}

impl Slack {
    pub(crate) async fn tell(&self, message: &Message<'_>) -> Result<(), TellError> {
        let sign = match (message.news.event, message.news.condition.severity) {
            (Event::Recovered, _) => ":white_check_mark:",
            (_, Severity::Critical) => ":red_circle:",
            (_, Severity::Warning) => ":large_orange_circle:",
            (_, Severity::Info) => ":large_blue_circle:",
        };
        let headline = format!("{sign} *{}*", escaped(&message.news.headline()));
        self.post_text(&format!("{headline}\n{}", escaped(&message.text()))).await
    }

    /// Posts a few lines under a headline.
    pub(crate) async fn post(&self, headline: &str, text: &str) -> Result<(), TellError> {
        self.post_text(&format!("*{}*\n{}", escaped(headline), escaped(text))).await
    }

    async fn post_text(&self, text: &str) -> Result<(), TellError> {
        let request =
            request(&self.address, ("POST", "application/json"), json!({ "text": text }).to_string())?;
        send(&self.address, request).await.map(drop)
    }
}

/// The three characters that mean something to Slack: a text of ours must neither link nor call anybody.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
