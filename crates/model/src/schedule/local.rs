//! From local minutes to instants, on days with summer time as well.
//!
//! **The rule.** A time that a clock passes over (a gap) runs at the first instant after the gap; a time that a clock shows
//! twice (a fold) runs the first time only. So a job at 02:30 is neither lost nor doubled. An expression that names every
//! hour of the day means an interval: it runs by the hours that pass, not those that a clock shows, so that nothing is
//! added in a gap and no hour is left out in a fold.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};

use super::cron::Cron;

/// The first instant after `after`; `None` after the year 2199.
pub fn next_after(cron: &Cron, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    match cron.is_hourly() {
        true => by_hours_that_pass(cron, zone, after),
        false => by_the_clock(cron, zone, after),
    }
}

/// First instants of local minutes come in the order of the minutes, so the minute of `after` is early enough to begin with.
fn by_the_clock(cron: &Cron, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    let mut from = minute_of(zone.to_datetime(after))?;
    loop {
        let local = cron.at_or_after(from)?;
        match first_instant(zone, local)? {
            instant if instant > after => return Some(instant),
            _ => from = local.checked_add(1.minute()).ok()?,
        }
    }
}

/// Between two changes of the offset, local minutes and instants go side by side.
fn by_hours_that_pass(cron: &Cron, zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    let mut offset = zone.to_offset(after);
    let mut from = minute_of(offset.to_datetime(after))?.checked_add(1.minute()).ok()?;
    for change in zone.following(after) {
        let instant = offset.to_timestamp(cron.at_or_after(from)?).ok()?;
        if instant < change.timestamp() {
            return Some(instant);
        }
        offset = change.offset();
        from = minute_from(offset.to_datetime(change.timestamp()))?;
    }
    offset.to_timestamp(cron.at_or_after(from)?).ok()
}

fn minute_of(local: DateTime) -> Option<DateTime> {
    local.with().second(0).subsec_nanosecond(0).build().ok()
}

/// The same minute if it begins there, else the next.
fn minute_from(local: DateTime) -> Option<DateTime> {
    let minute = minute_of(local)?;
    if minute == local { Some(minute) } else { minute.checked_add(1.minute()).ok() }
}

fn first_instant(zone: &TimeZone, local: DateTime) -> Option<Timestamp> {
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok(),
        AmbiguousOffset::Gap { after, .. } => {
            // By the later offset it lies before the gap, by less than the gap is long.
            let before = after.to_timestamp(local).ok()?;
            zone.following(before).next().map(|change| change.timestamp())
        }
    }
}
