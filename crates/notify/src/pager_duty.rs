//! PagerDuty (Events API v2): an alert opens an incident, its end resolves it.

use serde_json::json;
use strongroom_model::alert::news::Event;
use zeroize::Zeroizing;

use crate::message::Message;
use crate::post::{TellError, WebAddress, request, send};

/// The longest summary that PagerDuty takes, in characters.
const SUMMARY: usize = 1024;

/// An integration.
pub struct PagerDuty {
    /// Where events go: `https://events.pagerduty.com/v2/enqueue`, or that of the region.
    pub address: WebAddress,
    /// Its key.
    pub routing_key: Zeroizing<String>,
}

impl PagerDuty {
    pub(crate) async fn tell(&self, message: &Message<'_>) -> Result<(), TellError> {
        let condition = &message.news.condition;
        let action = match message.news.event {
            // A reminder of what was acknowledged would ring again.
            Event::Fired | Event::Reminded => "trigger",
            Event::Recovered => "resolve",
        };
        let summary: String =
            format!("{}: {}", message.news.headline(), condition.text).chars().take(SUMMARY).collect();
        let body = json!({
            "routing_key": self.routing_key.as_str(),
            "event_action": action,
            "dedup_key": condition.key(),
            "client": message.tool,
            "payload": {
                "summary": summary,
                "source": message.host,
                "severity": condition.severity,
                "timestamp": message.news.at.0.to_string(),
                "class": condition.kind,
                "component": condition.source.as_ref().map_or("vault", |source| source.as_str()),
                "custom_details": message.json(),
            },
        });
        let request = request(&self.address, ("POST", "application/json"), body.to_string())?;
        send(&self.address, request).await.map(drop)
    }
}
