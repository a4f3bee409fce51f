//! Schedules as other programs write them: five fields of numbers for crons, calendar events for systemd.
//!
//! **Invariant**: what is written runs at the same local minutes, or it is not written. Crons differ in names, in `7` for
//! Sunday and in whether `*/2` counts as a star: none of these is used.

use super::cron::{Cron, MonthDay, WeekDay};
use super::field::Values;

/// A schedule that another program has no words for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsayable {
    /// Five fields cannot say it.
    #[error(
        "five fields cannot say '{0}': they have no L, W, # or year, and take either of two days for enough"
    )]
    Fields(String),
    /// `OnCalendar=` cannot say it.
    #[error("systemd's calendar cannot say '{0}': it has no weekday nearest to a day")]
    Calendar(String),
    /// A rate that runs at other times each day.
    #[error("'{0}' runs at other times each day, which only the agent can: choose a rate that divides a day")]
    Rate(String),
}

/// How many days a month may have, months a year has, and years are told apart.
const DAYS: u32 = 31;
const MONTHS: u32 = 12;
const YEARS: u32 = 230;

/// As systemd calls the days of the week, from Sunday on.
const NAMES: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

/// Minute, hour, day of month, month, day of week; `None` if they cannot say it.
pub fn five_fields(cron: &Cron) -> Option<String> {
    if cron.years.count() != YEARS {
        return None;
    }
    let star = || "*".to_owned();
    let (month_day, week_day) = match (month_days(cron)?, week_days(cron)?) {
        (of_month, None) => (of_month.unwrap_or_else(star), star()),
        (None, Some(of_week)) => (star(), of_week),
        (Some(of_month), Some(of_week)) => match (cron.both, of_month == "*" || of_week == "*") {
            (true, true) | (false, false) => (of_month, of_week),
            // Either is enough, and one is every day.
            (false, true) => (star(), star()),
            (true, false) => return None,
        },
    };
    let (minute, hour) = (steps(&cron.minutes, 60), steps(&cron.hours, 24));
    Some(format!("{minute} {hour} {month_day} {} {week_day}", list(&cron.months, MONTHS, "-")))
}

/// The field, if the expression looks at it at all; nothing if it has no sign for what it says.
fn month_days(cron: &Cron) -> Option<Option<String>> {
    match cron.month_days[..] {
        [] => Some(None),
        [MonthDay::Of(days)] => Some(Some(list(&days, DAYS, "-"))),
        _ => None,
    }
}

/// The same.
fn week_days(cron: &Cron) -> Option<Option<String>> {
    let on = match cron.week_days[..] {
        [] => return Some(None),
        [WeekDay::Of(on)] => on,
        _ => return None,
    };
    let days: Vec<String> = (0..7).filter(|day| on[*day]).map(|day| day.to_string()).collect();
    Some(Some(if days.len() == on.len() { "*".to_owned() } else { days.join(",") }))
}

/// `*`, `0-6,12`.
fn list(values: &Values, all: u32, range: &str) -> String {
    if values.count() == all {
        return "*".to_owned();
    }
    let shown = |(first, last): (u16, u16)| match last - first {
        0 => first.to_string(),
        _ => format!("{first}{range}{last}"),
    };
    values.stretches().into_iter().map(shown).collect::<Vec<_>>().join(",")
}

/// The same, and `*/15` where it is that.
fn steps(values: &Values, all: u32) -> String {
    let step = all / values.count().max(1);
    let is_step = step > 1
        && values.count() > 1
        && all.is_multiple_of(step)
        && (0..all).all(|value| values.contains(value as u16) == (value % step == 0));
    if is_step { format!("*/{step}") } else { list(values, all, "-") }
}

/// Calendar events; `None` if there is no sign for one of the days.
pub fn calendars(cron: &Cron, zone: &str) -> Option<Vec<String>> {
    let (year, month) = (list(&cron.years, YEARS, ".."), list(&cron.months, MONTHS, ".."));
    let time = format!("{}:{}:00 {zone}", list(&cron.hours, 24, ".."), list(&cron.minutes, 60, ".."));
    let event = |week: &str, days: &str| format!("{week}{year}-{month}{days} {time}");
    let of_month = cron.month_days.iter().map(month_calendar).collect::<Option<Vec<_>>>()?;
    let of_week: Vec<(String, String)> = cron.week_days.iter().map(week_calendar).collect();
    if let (true, [days], [(week, _)]) = (cron.both, &of_month[..], &of_week[..]) {
        return Some(vec![event(week, days)]);
    }
    let of_month = of_month.iter().map(|days| event("", days));
    Some(of_month.chain(of_week.iter().map(|(week, days)| event(week, days))).collect())
}

fn month_calendar(rule: &MonthDay) -> Option<String> {
    match rule {
        MonthDay::Of(days) => Some(format!("-{}", list(days, DAYS, ".."))),
        MonthDay::Last => Some("~1".to_owned()),
        MonthDay::LastWeekday | MonthDay::NearestWeekday(_) => None,
    }
}

/// The day of the week, and in which days of the month.
fn week_calendar(rule: &WeekDay) -> (String, String) {
    let named = |day: u8| format!("{} ", NAMES[usize::from(day % 7)]);
    match rule {
        WeekDay::Of(on) if on.iter().all(|on| *on) => (String::new(), "-*".to_owned()),
        WeekDay::Of(on) => {
            let days: Vec<&str> =
                NAMES.into_iter().zip(on).filter(|(_, on)| **on).map(|(name, _)| name).collect();
            (format!("{} ", days.join(",")), "-*".to_owned())
        }
        WeekDay::Last(day) => (named(*day), "~7/1".to_owned()),
        WeekDay::Nth(day, number) => {
            let first = 7 * (u16::from(*number) - 1) + 1;
            (named(*day), format!("-{first}..{}", (first + 6).min(31)))
        }
    }
}
