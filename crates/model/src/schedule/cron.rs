//! Cron expressions, of Unix (five fields) and of AWS (six, in `cron(…)`), as sets of local minutes.
//!
//! Unix as Vixie's cron has it: if both days are given, either is enough; if one of them begins with `*`, both must hold.
//! AWS as "Cron expressions reference" of the EventBridge User Guide has it: Sunday is 1, exactly one of the days is `?`,
//! `L` is the last day (of the month, or Saturday), `6L` the last Friday, `15W` the weekday nearest to the 15th within
//! its month, `3#2` the second Tuesday. A month without a 31st has no `31W`. `LW`, the last weekday, is Quartz's, from
//! which AWS took the rest.

use jiff::civil::{Date, DateTime, Weekday};

use super::field::{Fault, Field, Values};

const MONTHS: &[&str] = &["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
const DAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

const fn plain(name: &'static str, first: u16, last: u16, allowed: &'static str) -> Field {
    Field { name, first, last, names: &[], allowed, open_steps: false }
}

const MINUTE: Field = plain("minute", 0, 59, "0-59 with , - * /");
const HOUR: Field = plain("hour", 0, 23, "0-23 with , - * /");
const MONTH_DAY: Field = plain("day of month", 1, 31, "1-31 with , - * /");
const MONTH: Field = Field { names: MONTHS, ..plain("month", 1, 12, "1-12 or JAN-DEC with , - * /") };
const UNIX_WEEK_DAY: Field =
    Field { names: DAYS, ..plain("day of week", 0, 7, "0-7 (0 and 7 are Sunday) or SUN-SAT with , - * /") };
const AWS_MONTH_DAY: Field = plain("day of month", 1, 31, "1-31 with , - * ? / L W");
const AWS_WEEK_DAY: Field =
    Field { names: DAYS, ..plain("day of week", 1, 7, "1-7 (1 is Sunday) or SUN-SAT with , - * ? / L #") };
const YEAR: Field = plain("year", 1970, 2199, "1970-2199 with , - * /");

/// A field that does not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the {field} is '{text}', and {fault}: it may be {allowed}")]
pub struct FieldError {
    field: &'static str,
    text: String,
    fault: Fault,
    allowed: &'static str,
}

/// Local minutes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    pub(super) minutes: Values,
    pub(super) hours: Values,
    pub(super) month_days: Vec<MonthDay>,
    pub(super) months: Values,
    pub(super) week_days: Vec<WeekDay>,
    pub(super) years: Values,
    pub(super) both: bool,
}

/// Days of a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MonthDay {
    /// These.
    Of(Values),
    /// The last one.
    Last,
    /// The last one that is neither Saturday nor Sunday.
    LastWeekday,
    /// The weekday nearest to this one.
    NearestWeekday(u8),
}

/// Days of the week, which count from Sunday: that is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeekDay {
    /// These.
    Of([bool; 7]),
    /// The last such day of the month.
    Last(u8),
    /// The such day of the month with this number, from 1 on.
    Nth(u8, u8),
}

fn read<T>(
    field: &Field,
    text: &str,
    read: impl FnOnce(&Field) -> Result<T, Fault>,
) -> Result<T, FieldError> {
    read(field).map_err(|fault| FieldError {
        field: field.name,
        text: text.to_owned(),
        fault,
        allowed: field.allowed,
    })
}

impl Cron {
    /// Five fields: minute, hour, day of month, month, day of week.
    pub fn unix([minute, hour, month_day, month, week_day]: [&str; 5]) -> Result<Cron, FieldError> {
        let list = |field: &Field, text: &str| read(field, text, |field| field.list(text));
        let month_days = list(&MONTH_DAY, month_day)?;
        let week_days = list(&UNIX_WEEK_DAY, week_day)?;
        let on = |day: u16| week_days.contains(day) || (day == 0 && week_days.contains(7));
        Ok(Cron {
            minutes: list(&MINUTE, minute)?,
            hours: list(&HOUR, hour)?,
            month_days: vec![MonthDay::Of(month_days)],
            months: list(&MONTH, month)?,
            week_days: vec![WeekDay::Of([0, 1, 2, 3, 4, 5, 6].map(on))],
            years: Values::all(&YEAR),
            both: month_day.starts_with('*') || week_day.starts_with('*'),
        })
    }

    /// Six fields: minute, hour, day of month, month, day of week, year.
    pub fn aws([minute, hour, month_day, month, week_day, year]: [&str; 6]) -> Result<Cron, FieldError> {
        let list = |field: Field, text: &str| {
            read(&Field { open_steps: true, ..field }, text, |field| field.list(text))
        };
        let (month_days, week_days) = match (month_day, week_day) {
            ("?", "?") => return read(&AWS_WEEK_DAY, week_day, |_| Err(Fault::Days)),
            (_, "?") => {
                (read(&AWS_MONTH_DAY, month_day, |field| aws_month_days(field, month_day))?, Vec::new())
            }
            ("?", _) => (Vec::new(), read(&AWS_WEEK_DAY, week_day, |field| aws_week_days(field, week_day))?),
            _ => return read(&AWS_WEEK_DAY, week_day, |_| Err(Fault::Days)),
        };
        Ok(Cron {
            minutes: list(MINUTE, minute)?,
            hours: list(HOUR, hour)?,
            month_days,
            months: list(MONTH, month)?,
            week_days,
            years: list(YEAR, year)?,
            both: false,
        })
    }

    /// Whether it runs in each of the day's hours: then it counts hours that pass, not those a clock shows.
    pub fn is_hourly(&self) -> bool {
        self.hours.count() == 24
    }

    /// The first of its minutes that is not before `from`; `None` after the year 2199.
    pub fn at_or_after(&self, from: DateTime) -> Option<DateTime> {
        let mut year = self.years.at_or_above(u16::try_from(from.year()).unwrap_or(0))?;
        loop {
            let begin = if i32::from(year) == i32::from(from.year()) { from.month() as u16 } else { 1 };
            let mut month = self.months.at_or_above(begin);
            while let Some(of_year) = month {
                if let Some(found) = self.in_month(year as i16, of_year as i8, from) {
                    return Some(found);
                }
                month = self.months.at_or_above(of_year + 1);
            }
            year = self.years.at_or_above(year + 1)?;
        }
    }

    fn in_month(&self, year: i16, month: i8, from: DateTime) -> Option<DateTime> {
        let first = Date::new(year, month, 1).ok()?;
        let days = self.days_of(first);
        let is_same = (year, month) == (from.year(), from.month());
        let begin = if is_same { from.day() } else { 1 };
        for day in (begin..=first.days_in_month()).filter(|day| days >> day & 1 == 1) {
            let is_first = is_same && day == from.day();
            let (hour, minute) = if is_first { (from.hour(), from.minute()) } else { (0, 0) };
            if let Some((hour, minute)) = self.time_at_or_after(hour as u16, minute as u16) {
                return Some(Date::new(year, month, day).ok()?.at(hour as i8, minute as i8, 0, 0));
            }
        }
        None
    }

    fn time_at_or_after(&self, hour: u16, minute: u16) -> Option<(u16, u16)> {
        let this = self.minutes.at_or_above(minute).filter(|_| self.hours.contains(hour));
        if let Some(minute) = this {
            return Some((hour, minute));
        }
        Some((self.hours.at_or_above(hour + 1)?, self.minutes.at_or_above(0)?))
    }

    /// Its days in the month that begins with `first`: bit 1 for the 1st.
    fn days_of(&self, first: Date) -> u32 {
        let of_month = self.month_days.iter().fold(0, |days, rule| days | rule.days_of(first));
        let of_week = self.week_days.iter().fold(0, |days, rule| days | rule.days_of(first));
        if self.both { of_month & of_week } else { of_month | of_week }
    }
}

fn aws_month_days(field: &Field, text: &str) -> Result<Vec<MonthDay>, Fault> {
    let field = &Field { open_steps: true, ..*field };
    let day = |part: &str| match part {
        "L" => Ok(MonthDay::Last),
        "LW" => Ok(MonthDay::LastWeekday),
        _ => match part.strip_suffix('W') {
            Some(day) => field.value(day).map(|day| MonthDay::NearestWeekday(day as u8)),
            None => field.list(part).map(MonthDay::Of),
        },
    };
    text.split(',').map(day).collect()
}

fn aws_week_days(field: &Field, text: &str) -> Result<Vec<WeekDay>, Fault> {
    let field = &Field { open_steps: true, ..*field };
    let from_sunday = |day: &str| field.value(day).map(|day| day as u8 - 1);
    if let Some((day, number)) = text.split_once('#') {
        if text.contains(',') {
            return Err(Fault::Crowded);
        }
        let number: u8 = number.parse().map_err(|_| Fault::Unknown(number.to_owned()))?;
        return match number {
            1..=5 => Ok(vec![WeekDay::Nth(from_sunday(day)?, number)]),
            _ => Err(Fault::OutOfRange(u64::from(number))),
        };
    }
    let day = |part: &str| match part.strip_suffix('L') {
        Some("") => Ok(WeekDay::Of([false, false, false, false, false, false, true])),
        Some(day) => from_sunday(day).map(WeekDay::Last),
        None => {
            let days = field.list(part)?;
            Ok(WeekDay::Of([1, 2, 3, 4, 5, 6, 7].map(|day| days.contains(day))))
        }
    };
    text.split(',').map(day).collect()
}

fn is_weekend(date: Date) -> bool {
    matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday)
}

/// The weekday nearest to that day of the month, within it: bit 1 for the 1st. None if it has no such day.
fn nearest_weekday(first: Date, day: u8) -> u32 {
    let last = first.days_in_month();
    let Ok(date) = Date::new(first.year(), first.month(), day as i8) else { return 0 };
    let moved = match date.weekday() {
        Weekday::Saturday if date.day() == 1 => 3,
        Weekday::Saturday => date.day() - 1,
        Weekday::Sunday if date.day() == last => last - 2,
        Weekday::Sunday => date.day() + 1,
        _ => date.day(),
    };
    1 << moved
}

impl MonthDay {
    fn days_of(self, first: Date) -> u32 {
        let last = first.days_in_month();
        match self {
            MonthDay::Of(days) => {
                (1..=last).filter(|day| days.contains(*day as u16)).fold(0, |mask, day| mask | 1 << day)
            }
            MonthDay::Last => 1 << last,
            MonthDay::LastWeekday => {
                let is_weekday = |day: &i8| {
                    Date::new(first.year(), first.month(), *day).is_ok_and(|date| !is_weekend(date))
                };
                (1..=last).rev().find(is_weekday).map_or(0, |day| 1 << day)
            }
            MonthDay::NearestWeekday(day) => nearest_weekday(first, day),
        }
    }
}

impl WeekDay {
    fn days_of(self, first: Date) -> u32 {
        let last = first.days_in_month();
        let begins = first.weekday().to_sunday_zero_offset();
        let of_week = |day: &i8| (begins + day - 1) % 7;
        let mask = |days: &mut dyn Iterator<Item = i8>| days.fold(0, |mask, day| mask | 1 << day);
        match self {
            WeekDay::Of(on) => mask(&mut (1..=last).filter(|day| on[of_week(day) as usize])),
            WeekDay::Last(on) => mask(&mut (last - 6..=last).filter(|day| of_week(day) == on as i8)),
            WeekDay::Nth(on, number) => {
                let begin = 7 * (number as i8 - 1) + 1;
                mask(&mut (begin..=last.min(begin + 6)).filter(|day| of_week(day) == on as i8))
            }
        }
    }
}
