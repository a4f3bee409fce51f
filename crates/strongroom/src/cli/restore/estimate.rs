//! How long a restore will take, in words of its plan.

use strongroom_model::ByteSize;
use strongroom_model::estimate::{Estimate, Expected};

/// A range is told as one when its ends are so far apart.
const WIDE: f64 = 1.5;

/// The plan's line.
pub fn describe(estimate: Option<&Estimate>) -> String {
    let text = match estimate {
        None => "unknown: what earlier restores took cannot be read now (-v says why)".to_owned(),
        Some(estimate) => in_words(estimate),
    };
    format!("  estimate   {text}")
}

fn in_words(estimate: &Estimate) -> String {
    let (Some(pages), Some([middle, least, most])) = (&estimate.pages, estimate.seconds()) else {
        return "none: no restore of this kind and size was measured yet".to_owned();
    };
    let time = match most > least * WIDE {
        true => format!("{} to {}", rounded(least), rounded(most)),
        false => format!("about {}", rounded(middle)),
    };
    let count = match pages.measures {
        1 => "1 restore".to_owned(),
        count => format!("{count} restores"),
    };
    let place = if pages.here { "here" } else { "on other hosts" };
    match &estimate.replay {
        Some(replay) => {
            let of_others = if replay.here == pages.here { "" } else { " on other hosts" };
            let rate = rate(replay);
            format!(
                "{time} ({count} measured {place}: {}; replay {rate} of WAL{of_others})",
                self::rate(pages)
            )
        }
        None => format!(
            "{time}, and replay of up to {} of WAL, of which no measure is large enough ({count} measured {place}: {})",
            ByteSize(estimate.replay_bytes),
            rate(pages)
        ),
    }
}

fn rate(expected: &Expected) -> String {
    let [middle, slowest, fastest] = expected.rates.map(ByteSize);
    match fastest.0 as f64 > slowest.0 as f64 * WIDE {
        true => format!("{slowest}/s to {fastest}/s"),
        false => format!("{middle}/s"),
    }
}

/// No more figures than an estimate has: `40 s`, `12 min`, `3 h 20 min`, `4 d`.
fn rounded(seconds: f64) -> String {
    let of = |unit: f64| (seconds / unit).ceil() as u64;
    match seconds {
        ..90.0 => format!("{} s", of(1.0).max(1)),
        ..5400.0 => format!("{} min", of(60.0)),
        ..172_800.0 => {
            let tens = of(600.0);
            format!("{} h {} min", tens / 6, tens % 6 * 10)
        }
        _ => format!("{} d", of(86_400.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn part(measures: usize, here: bool, [middle, slowest, fastest]: [u64; 3], mib: u64) -> Expected {
        let seconds = |rate: u64| mib as f64 / rate as f64;
        Expected {
            measures,
            here,
            rates: [middle * MIB, slowest * MIB, fastest * MIB],
            seconds: seconds(middle),
            least: seconds(fastest),
            most: seconds(slowest),
        }
    }

    #[test]
    fn a_plan_says_how_long_and_by_what() {
        let check = |pages, replay, text: &str| {
            let estimate = Estimate { pages, replay, replay_bytes: 4300 * MIB };
            assert_eq!(in_words(&estimate), text);
        };
        let narrow = part(4, true, [310, 300, 320], 200_000);
        check(None, None, "none: no restore of this kind and size was measured yet");
        check(
            Some(narrow),
            Some(part(2, true, [85, 85, 85], 4300)),
            "about 12 min (4 restores measured here: 310 MiB/s; replay 85.0 MiB/s of WAL)",
        );
        check(
            Some(narrow),
            Some(part(2, false, [85, 85, 85], 4300)),
            "about 12 min (4 restores measured here: 310 MiB/s; replay 85.0 MiB/s of WAL on other hosts)",
        );
        check(
            Some(part(1, false, [100, 100, 100], 1000)),
            None,
            "about 10 s, and replay of up to 4.2 GiB of WAL, of which no measure is large enough \
             (1 restore measured on other hosts: 100 MiB/s)",
        );
        check(
            Some(part(3, true, [200, 100, 400], 2_000_000)),
            Some(part(3, true, [50, 50, 50], 500)),
            "84 min to 5 h 40 min (3 restores measured here: 100 MiB/s to 400 MiB/s; replay 50.0 MiB/s of WAL)",
        );
        assert_eq!(rounded(0.0), "1 s");
        assert_eq!(rounded(1e6), "12 d");
    }
}
