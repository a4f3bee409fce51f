//! What is around every page: its head, where one can go, how old what is shown is.

use maud::{DOCTYPE, Markup, html};
use strongroom_model::Timestamp;

use crate::http::page::assets::{mark, script, style};
use crate::http::page::pieces::ago;

/// Where one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The overview, or a source.
    Sources,
    /// Jobs.
    Jobs,
    /// Drills.
    Drills,
    /// Storage and cost.
    Storage,
    /// Plans.
    Plans,
    /// Alerts.
    Alerts,
    /// The audit log.
    Audit,
    /// None of them.
    Elsewhere,
}

/// Where one can go.
const PLACES: [(Place, &str, &str); 7] = [
    (Place::Sources, "/", "Sources"),
    (Place::Jobs, "/jobs", "Jobs"),
    (Place::Drills, "/drills", "Drills"),
    (Place::Storage, "/storage", "Storage"),
    (Place::Plans, "/plans", "Plans"),
    (Place::Alerts, "/alerts", "Alerts"),
    (Place::Audit, "/audit", "Audit"),
];

/// When the vault last said what it holds, and why that may no longer hold.
pub type Freshness<'a> = (Option<Timestamp>, Option<&'a str>);

/// What the frame says.
pub struct Frame<'a> {
    /// The page's title.
    pub title: &'a str,
    /// Where it is.
    pub place: Place,
    /// The moment it is shown.
    pub now: Timestamp,
    /// How old what is shown is; `None` where the page is not about what the vault holds.
    pub freshness: Option<Freshness<'a>>,
    /// Alerts that fire.
    pub alerts: usize,
    /// Whether somebody looks who may: others can go nowhere.
    pub is_inside: bool,
    /// Whether they may see who did what.
    pub sees_audit: bool,
    /// Who looks at it, and how one signs in or out.
    pub person: Markup,
}

/// The page with its content.
pub fn framed(frame: &Frame<'_>, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" data-now=(frame.now.0.as_millisecond()) {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (frame.title) " · Strongroom" }
                link rel="icon" type="image/svg+xml" href=(mark());
                link rel="stylesheet" href=(style());
                script src=(script()) defer {}
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header {
                    a.brand href="/" {
                        svg viewBox="0 0 24 24" width="22" height="22" aria-hidden="true" {
                            rect x="1.5" y="1.5" width="21" height="21" rx="3" {}
                            circle cx="12" cy="12" r="5.5" {} path d="M12 6.5V12L15.8 15.8" {}
                        }
                        "Strongroom"
                    }
                    @if frame.is_inside { nav aria-label="Pages" {
                        ul {
                            @for (place, address, name) in PLACES.into_iter().filter(|(place, ..)| *place != Place::Audit || frame.sees_audit) {
                                li {
                                    a href=(address) aria-current=[(place == frame.place).then_some("page")] {
                                        (name)
                                        @if place == Place::Alerts && frame.alerts > 0 {
                                            " " span.count { (frame.alerts) span.unseen { " firing" } }
                                        }
                                    }
                                }
                            }
                        }
                    }
                    }
                    div.person { (frame.person) }
                }
                @if let Some((read_at, stale)) = frame.freshness { (freshness(read_at, stale, frame.now)) }
                main id="main" tabindex="-1" { (content) }
                footer {
                    p { "Times are UTC. Nothing here asks the vault while you look: it shows what was read last." }
                }
            }
        }
    }
}

fn freshness(read_at: Option<Timestamp>, stale: Option<&str>, now: Timestamp) -> Markup {
    html! {
        div.freshness.stale[stale.is_some()] role="status" {
            p {
                @match read_at {
                    Some(at) => { "The vault was read " (ago(at, now)) "." },
                    None => "The vault was not read yet.",
                }
                @if let Some(why) = stale { " " strong { "What is shown may no longer hold: " (why) "." } }
            }
        }
    }
}
