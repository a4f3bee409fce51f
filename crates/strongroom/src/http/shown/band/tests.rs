//! Windows become stretches and gaps.

#![allow(clippy::unwrap_used, reason = "a test")]

use strongroom_model::Lsn;

use super::*;
use crate::http::shown::listing::ListedWindow;

fn at(minute: i64) -> Timestamp {
    Timestamp::from_unix_seconds(1_800_000_000 + 60 * minute).unwrap()
}

/// Windows as `from..to`, with `!` where a segment is missing behind them, and `~` before how far WAL reaches where nothing is
/// written in its end.
fn listed(windows: &str) -> Listed {
    let window = |text: &str| {
        let (span, is_broken) = text.strip_suffix('!').map_or((text, false), |span| (span, true));
        let (span, reach) = span.split_once('~').map_or((span, None), |(span, reach)| (span, Some(reach)));
        let (from, to) = span.split_once("..").unwrap();
        let point = PointId::new(at(from.parse().unwrap()), [0; 4]);
        ListedWindow {
            point,
            timeline: 1,
            from: at(from.parse().unwrap()),
            to: to.parse().ok().map(at),
            from_lsn: Lsn(from.parse().unwrap()),
            to_lsn: Lsn(reach.map_or(to.parse().unwrap_or(0), |reach| reach.parse().unwrap())),
            gap: is_broken.then(|| "00000001000000000000000A".to_owned()),
        }
    };
    Listed { windows: windows.split_whitespace().map(window).collect(), ..Listed::default() }
}

fn minutes(time: Timestamp) -> i64 {
    (time.unix_seconds() - 1_800_000_000) / 60
}

#[test]
fn windows_that_touch_are_one_and_what_lies_between_is_a_gap() {
    for (windows, stretches, gaps) in [
        ("0..10", "0..10", ""),
        ("0..10 5..20", "0..20", ""),
        ("0..10 10..20", "0..20", ""),
        ("0..50 5..20", "0..50", ""),
        ("0..10 20..30", "0..10 20..30", "10..20"),
        ("0..10! 20..30", "0..10 20..30", "10..20!"),
        // Behind the end as well, up to when it was read.
        ("0..10!", "0..10", "10..60!"),
        // What an older point lacks a newer one makes up for.
        ("0..10! 5..20", "0..20", ""),
        ("0..30 5..20!", "0..30", ""),
        // A window whose end is not known is its first moment.
        ("0..? 20..30", "0..0 20..30", "0..20"),
        // WAL leads on to the next point, and has nothing in it.
        ("0..10~20 20..30", "0..30", ""),
        ("0..10~19 20..30", "0..10 20..30", "10..20"),
        ("0..10~20! 20..30", "0..10 20..30", "10..20!"),
        ("20..30 0..10", "0..10 20..30", "10..20"),
    ] {
        let band = band(&listed(windows), at(60)).unwrap();
        let shown: Vec<String> =
            band.stretches.iter().map(|of| format!("{}..{}", minutes(of.from), minutes(of.to))).collect();
        assert_eq!(shown.join(" "), stretches, "{windows}");
        let shown: Vec<String> = band
            .gaps
            .iter()
            .map(|gap| {
                let mark = if gap.segment.is_some() { "!" } else { "" };
                format!("{}..{}{mark}", minutes(gap.from), minutes(gap.to))
            })
            .collect();
        assert_eq!(shown.join(" "), gaps, "{windows}");
        assert_eq!((minutes(band.from), minutes(band.to)), (0, 60), "{windows}");
    }
}

#[test]
fn of_nothing_there_is_no_band() {
    assert_eq!(band(&Listed::default(), at(0)), None);
}
