//! What pages are put together from: times, lengths, sizes, standings, tables.
//!
//! **Invariants**
//! - A state is told by a word and a shape, never by a colour alone.
//! - Text from outside goes in as text: `maud` escapes it, and nothing here says otherwise.

use std::fmt::Display;
use std::time::Duration;

use maud::{Markup, html};
use strongroom_model::{ByteSize, Timestamp};

use crate::http::shown::jobs::Tone;
use crate::http::shown::line::{Measure, Standing};
use crate::http::shown::source::Knowledge;

/// A length of time as pages have it: whole seconds, and no more than two units. The script counts on in the same words.
pub fn in_words(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => two((seconds / 3600, "h"), (seconds % 3600 / 60, "min")),
        _ => two((seconds / 86_400, "d"), (seconds % 86_400 / 3600, "h")),
    }
}

fn two((large, its): (u64, &str), (small, unit): (u64, &str)) -> String {
    if small == 0 { format!("{large} {its}") } else { format!("{large} {its} {small} {unit}") }
}

/// Seconds, likewise; fractions where they matter.
pub fn seconds(seconds: f64) -> String {
    match Duration::try_from_secs_f64(seconds) {
        Ok(span) if span.as_millis() < 100 => format!("{} ms", span.as_millis()),
        Ok(span) if span.as_secs() < 10 => format!("{:.1} s", span.as_secs_f64()),
        Ok(span) => in_words(span),
        Err(_) => "not known".to_owned(),
    }
}

/// Seconds since 1970, or a dash where there are none.
pub fn some_seconds(some: Option<f64>) -> String {
    some.map_or_else(|| "–".to_owned(), seconds)
}

/// Bytes, or a dash.
pub fn bytes(some: Option<u64>) -> String {
    some.map_or_else(|| "–".to_owned(), |bytes| ByteSize(bytes).to_string())
}

fn machine(at: Timestamp) -> String {
    at.0.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// An instant to the second, in UTC: the date less loud than the time of the day.
pub fn instant(at: Timestamp) -> Markup {
    html! {
        time.instant datetime=(machine(at)) {
            span.date { (at.0.strftime("%Y-%m-%d").to_string()) } " "
            span.clock { (at.0.strftime("%H:%M:%S").to_string()) } " "
            abbr title="Coordinated Universal Time" { "UTC" }
        }
    }
}

/// An instant, or words where there is none.
pub fn instant_or(at: Option<Timestamp>, words: &str) -> Markup {
    match at {
        Some(at) => instant(at),
        None => html! { span.none { (words) } },
    }
}

/// How long ago something was. Counts on by itself where there is a script.
pub fn ago(at: Timestamp, now: Timestamp) -> Markup {
    html! { time data-ago datetime=(machine(at)) title=(at) { (in_words(now.since(at))) " ago" } }
}

/// How long it is until something is due, likewise.
pub fn until(at: Timestamp, now: Timestamp) -> Markup {
    html! { time data-until datetime=(machine(at)) title=(at) { "in " (in_words(at.since(now))) } }
}

/// A standing, as a shape and a word.
pub fn standing(of: Standing) -> Markup {
    let (class, words) = match of {
        Standing::Broken => ("bad", "broken"),
        Standing::Doubtful => ("look", "needs a look"),
        Standing::Unknown => ("unknown", "not known"),
        Standing::Unproven => ("unproven", "not proven"),
        Standing::Proven => ("good", "proven"),
    };
    mark(class, words)
}

/// The words of a standing.
pub fn standing_words(of: Standing) -> &'static str {
    match of {
        Standing::Broken => "broken",
        Standing::Doubtful => "need a look",
        Standing::Unknown => "not known",
        Standing::Unproven => "not proven",
        Standing::Proven => "proven",
    }
}

/// How a job ended, as a shape and a word.
pub fn tone(of: Tone, words: &str) -> Markup {
    let class = match of {
        Tone::Good => "good",
        Tone::Look => "look",
        Tone::Bad => "bad",
        Tone::Going => "going",
    };
    mark(class, words)
}

/// A word with the shape of its class.
pub fn mark(class: &str, words: impl Display) -> Markup {
    html! {
        span class={ "mark " (class) } {
            svg viewBox="0 0 12 12" width="12" height="12" aria-hidden="true" { (shape(class)) }
            (words)
        }
    }
}

/// A seal that is whole, a seal that is open, a broken one, a warning, a question.
fn shape(class: &str) -> Markup {
    match class {
        "good" => html! { circle cx="6" cy="6" r="5.5" {} path.cut d="M3.2 6.2 5.2 8.2 8.9 4.2" {} },
        "bad" => {
            html! { rect x="0.5" y="0.5" width="11" height="11" {} path.cut d="M3.5 3.5 8.5 8.5M8.5 3.5 3.5 8.5" {} }
        }
        "look" => html! { path d="M6 0.3 11.8 11.3H0.2Z" {} path.cut d="M6 4V7.6M6 9V10" {} },
        "going" => html! { circle.open cx="6" cy="6" r="4.8" {} circle cx="6" cy="6" r="2" {} },
        "unproven" => html! { circle.open cx="6" cy="6" r="4.8" {} },
        _ => html! { circle.open cx="6" cy="6" r="4.8" stroke-dasharray="2 2" {} },
    }
}

/// What is, beside what was promised, with a bar where both are known.
pub fn measure(of: Measure, unknown: &str) -> Markup {
    let words = match of.is_met {
        Some(true) => "kept",
        Some(false) => "broken",
        None => "",
    };
    html! {
        span.measure {
            @match of.seconds {
                Some(found) => strong.broken[of.is_met == Some(false)] { (seconds(found)) },
                None => span.none { (unknown) },
            }
            @match of.objective_seconds {
                Some(most) => span.of { " of " (seconds(most)) },
                None => span.of { " no objective" },
            }
        }
        @if let (Some(found), Some(most)) = (of.seconds, of.objective_seconds) {
            svg.bar role="img" aria-label=(words) width="100%" height="5" {
                rect.track width="100%" height="5" {}
                rect.fill.broken[of.is_met == Some(false)] width=(percent(found / most.max(f64::MIN_POSITIVE))) height="5" {}
            }
        }
    }
}

/// A part of a whole, as attributes have it; no less than nothing and no more than all.
pub fn percent(part: f64) -> String {
    let part = if part.is_finite() { part.clamp(0.0, 1.0) } else { 1.0 };
    format!("{:.3}%", part * 100.0)
}

/// How what follows is known: nothing if it was just read.
pub fn knowledge(of: &Knowledge, now: Timestamp) -> Markup {
    html! {
        @match of {
            Knowledge::Read { at } => p.note { "Read from the vault " (ago(*at, now)) "." },
            Knowledge::Asking => p.note.look { "The vault is being read: load this page again in some seconds." },
            Knowledge::NotRead { why } => p.note.bad { "Not known, for the vault could not be read: " (why) },
        }
    }
}

/// A table that scrolls within itself where it is too wide. A name that begins with `>` stands above figures, at the right.
pub fn table(caption: &str, head: &[&str], rows: &[Markup]) -> Markup {
    html! {
        div.scroll role="region" tabindex="0" aria-label=(caption) {
            table {
                caption { (caption) }
                thead { tr { @for name in head {
                    @match name.strip_prefix('>') {
                        Some(name) => th.number scope="col" { (name) },
                        None => th scope="col" { (name) },
                    }
                } } }
                tbody { @for row in rows { (row) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_two_units_at_most() {
        for (length, words) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (3600, "1 h"),
            (86_399, "23 h 59 min"),
            (86_400, "1 d"),
            (180_000, "2 d 2 h"),
        ] {
            assert_eq!(in_words(Duration::from_secs(length)), words);
        }
        assert_eq!(seconds(1.26), "1.3 s");
        assert_eq!(seconds(0.001), "1 ms");
        assert_eq!(seconds(f64::NAN), "not known");
    }

    #[test]
    fn parts_stay_within_their_whole() {
        for (part, expected) in
            [(0.5, "50.000%"), (-1.0, "0.000%"), (7.0, "100.000%"), (f64::NAN, "100.000%")]
        {
            assert_eq!(percent(part), expected);
        }
    }

    #[test]
    fn what_comes_from_outside_is_text() {
        let hostile = "<script>alert('x')</script>\u{202e}\"";
        let marked = mark("bad", hostile).into_string();
        assert!(!marked.contains("<script>") && marked.contains("&lt;script&gt;"), "{marked}");
        let table = table(hostile, &[hostile], &[html! { tr { td { (hostile) } } }]).into_string();
        assert!(!table.contains("<script>") && table.contains("aria-label=\"&lt;script&gt;"), "{table}");
    }
}
