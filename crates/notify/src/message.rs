//! What is told, in words and as JSON. All channels say the same.

use serde::Serialize;
use strongroom_model::alert::Condition;
use strongroom_model::alert::news::{Event, News};
use strongroom_model::time::human_duration;

/// News, and who tells it.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// What happened.
    pub news: &'a News,
    /// The host that tells it.
    pub host: &'a str,
    /// The build that tells it: `strongroom 0.1.0`.
    pub tool: &'a str,
}

/// What programs read: webhooks, and programs on this host. A promise (`docs/alerts.md`).
#[derive(Serialize)]
struct Document<'a> {
    event: Event,
    key: String,
    occasion: String,
    headline: String,
    #[serde(flatten)]
    condition: &'a Condition,
    fired_at: String,
    at: String,
    host: &'a str,
    tool: &'a str,
}

impl Message<'_> {
    /// For a subject line, without line breaks.
    pub fn subject(&self) -> String {
        format!("[strongroom] {}", self.news.headline())
    }

    /// For people, some lines.
    pub fn text(&self) -> String {
        let News { event, condition, fired_at, at } = self.news;
        let mut text = match event {
            Event::Fired | Event::Reminded => format!("{}\n", condition.text),
            Event::Recovered => {
                format!("This is over, after {}: {}\n", human_duration(at.since(*fired_at)), condition.text)
            }
        };
        text.push_str(&format!("\nsince    {}\n", condition.since));
        if *event != Event::Recovered && !condition.command.is_empty() {
            text.push_str(&format!("next     {}\n", condition.command));
        }
        text.push_str(&format!(
            "alert    {}\ntold by  {} on {}, at {at}\n",
            condition.key(),
            self.tool,
            self.host
        ));
        text
    }

    /// For programs.
    pub fn json(&self) -> serde_json::Value {
        let News { event, condition, fired_at, at } = self.news;
        let document = Document {
            event: *event,
            key: condition.key(),
            occasion: self.news.occasion(),
            headline: self.news.headline(),
            condition,
            fired_at: fired_at.to_string(),
            at: at.to_string(),
            host: self.host,
            tool: self.tool,
        };
        // Our own values, which JSON cannot refuse.
        serde_json::to_value(document).unwrap_or_default()
    }
}
