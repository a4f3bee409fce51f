//! Schedules as tables, and against a walker that looks at every minute.

use jiff::civil::{Date, date};
use jiff::{ToSpan, Zoned};
use proptest::prelude::*;

use super::*;

fn instant(text: &str) -> Timestamp {
    Timestamp(text.parse().unwrap())
}

/// A Thursday.
const NEW_YEAR: &str = "2026-01-01T00:00:00Z";

/// The next runs after a local time, as local times.
fn check(schedule: &str, zone: &str, after: &str, expected: &[&str]) {
    let (parsed, zone): (Schedule, Zone) = (schedule.parse().unwrap(), zone.parse().unwrap());
    let mut at =
        Timestamp(after.parse::<Zoned>().map_or_else(|_| after.parse().unwrap(), |at| at.timestamp()));
    for run in expected {
        let found = parsed.next_after(at, &zone);
        let shown = found.map_or_else(|| "never".to_owned(), |at| zone.shown(at));
        assert_eq!(shown, *run, "{schedule} after {}", zone.shown(at));
        let Some(found) = found else { return };
        at = found;
    }
}

#[test]
fn five_fields_mean_what_they_say() {
    for (schedule, runs) in [
        ("30 2 * * *", &["2026-01-01 02:30 +0000", "2026-01-02 02:30 +0000"][..]),
        ("0 3 * * 0", &["2026-01-04 03:00 +0000"]),
        ("0 3 * * 7", &["2026-01-04 03:00 +0000"]),
        ("0 3 * * sun", &["2026-01-04 03:00 +0000"]),
        (
            "0 3 * * 5-7",
            &[
                "2026-01-02 03:00 +0000",
                "2026-01-03 03:00 +0000",
                "2026-01-04 03:00 +0000",
                "2026-01-09 03:00 +0000",
            ],
        ),
        ("0 2,14 * * *", &["2026-01-01 02:00 +0000", "2026-01-01 14:00 +0000"]),
        ("*/20 * * * *", &["2026-01-01 00:20 +0000", "2026-01-01 00:40 +0000", "2026-01-01 01:00 +0000"]),
        (
            "10-40/15 5 * * *",
            &[
                "2026-01-01 05:10 +0000",
                "2026-01-01 05:25 +0000",
                "2026-01-01 05:40 +0000",
                "2026-01-02 05:10 +0000",
            ],
        ),
        // Either day is enough, unless one begins with a star.
        ("0 0 13 * FRI", &["2026-01-02 00:00 +0000", "2026-01-09 00:00 +0000", "2026-01-13 00:00 +0000"]),
        ("0 0 */2 * MON", &["2026-01-05 00:00 +0000", "2026-01-19 00:00 +0000"]),
        ("0 0 29 2 *", &["2028-02-29 00:00 +0000", "2032-02-29 00:00 +0000"]),
        ("@weekly", &["2026-01-04 00:00 +0000"]),
        ("@yearly", &["2027-01-01 00:00 +0000"]),
    ] {
        check(schedule, "UTC", NEW_YEAR, runs);
    }
}

#[test]
fn the_forms_of_aws_mean_what_aws_says() {
    for (schedule, runs) in [
        ("cron(0 2,14 * * ? *)", &["2026-01-01 02:00 +0000", "2026-01-01 14:00 +0000"][..]),
        // Sunday is 1 here, not 0.
        ("cron(0 3 ? * SUN *)", &["2026-01-04 03:00 +0000"]),
        ("cron(0 3 ? * 1 *)", &["2026-01-04 03:00 +0000"]),
        (
            "cron(0 3 ? * 2-6 *)",
            &["2026-01-01 03:00 +0000", "2026-01-02 03:00 +0000", "2026-01-05 03:00 +0000"],
        ),
        (
            "cron(5/25 10 * * ? *)",
            &[
                "2026-01-01 10:05 +0000",
                "2026-01-01 10:30 +0000",
                "2026-01-01 10:55 +0000",
                "2026-01-02 10:05 +0000",
            ],
        ),
        ("cron(0 0 L * ? *)", &["2026-01-31 00:00 +0000", "2026-02-28 00:00 +0000"]),
        (
            "cron(0 0 1,L * ? *)",
            &["2026-01-31 00:00 +0000", "2026-02-01 00:00 +0000", "2026-02-28 00:00 +0000"],
        ),
        (
            "cron(0 0 LW * ? *)",
            &["2026-01-30 00:00 +0000", "2026-02-27 00:00 +0000", "2026-03-31 00:00 +0000"],
        ),
        // 2026-02-15 is a Sunday, 2026-08-15 a Saturday, 2026-11-01 a Sunday.
        ("cron(0 0 15W 2,8 ? *)", &["2026-02-16 00:00 +0000", "2026-08-14 00:00 +0000"]),
        ("cron(0 0 1W 8,11 ? *)", &["2026-08-03 00:00 +0000", "2026-11-02 00:00 +0000"]),
        (
            "cron(0 0 31W 1-5 ? 2026)",
            &["2026-01-30 00:00 +0000", "2026-03-31 00:00 +0000", "2026-05-29 00:00 +0000", "never"],
        ),
        ("cron(0 0 ? * L *)", &["2026-01-03 00:00 +0000", "2026-01-10 00:00 +0000"]),
        ("cron(15 10 ? * 6L *)", &["2026-01-30 10:15 +0000", "2026-02-27 10:15 +0000"]),
        ("cron(15 10 ? * 3#2 *)", &["2026-01-13 10:15 +0000", "2026-02-10 10:15 +0000"]),
        ("cron(15 10 ? * FRI#5 *)", &["2026-01-30 10:15 +0000", "2026-05-29 10:15 +0000"]),
        ("cron(0 0 1 1 ? 2027,2199)", &["2027-01-01 00:00 +0000", "2199-01-01 00:00 +0000", "never"]),
        ("cron(0 0 1 1 ? 2020)", &["never"]),
        ("rate(5 minutes)", &["2026-01-01 00:05 +0000", "2026-01-01 00:10 +0000"]),
        ("rate(1 day)", &["2026-01-02 00:00 +0000"]),
        // 1970-01-01 was a Thursday, as this one is.
        ("rate(7 days)", &["2026-01-08 00:00 +0000"]),
    ] {
        check(schedule, "UTC", NEW_YEAR, runs);
    }
}

#[test]
fn a_night_job_is_neither_lost_nor_doubled_when_clocks_change() {
    // Berlin: 2026-03-29 02:00 becomes 03:00; 2026-10-25 03:00 becomes 02:00.
    let spring = "2026-03-28 12:00[Europe/Berlin]";
    let autumn = "2026-10-24 12:00[Europe/Berlin]";
    check("30 2 * * *", "Europe/Berlin", spring, &["2026-03-29 03:00 +0200", "2026-03-30 02:30 +0200"]);
    check("30 2 * * *", "Europe/Berlin", autumn, &["2026-10-25 02:30 +0200", "2026-10-26 02:30 +0100"]);
    // Several times of a gap are one run, and one with a job at its end.
    check("0,30 2,3 * * *", "Europe/Berlin", spring, &["2026-03-29 03:00 +0200", "2026-03-29 03:30 +0200"]);
    check(
        "cron(30 2 29 3 ? *)",
        "Europe/Berlin",
        spring,
        &["2026-03-29 03:00 +0200", "2027-03-29 02:30 +0200"],
    );
    // What runs every hour goes by the hours that pass.
    check(
        "30 * * * *",
        "Europe/Berlin",
        "2026-03-29 01:00[Europe/Berlin]",
        &["2026-03-29 01:30 +0100", "2026-03-29 03:30 +0200"],
    );
    check(
        "30 * * * *",
        "Europe/Berlin",
        "2026-10-25 01:45[Europe/Berlin]",
        &["2026-10-25 02:30 +0200", "2026-10-25 02:30 +0100", "2026-10-25 03:30 +0100"],
    );
    // Asked within the second showing of an hour.
    check("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10:00Z", &["2026-10-26 02:30 +0100"]);
    // Half an hour (Lord Howe), at midnight (Havana), and a whole day that Apia never had.
    check(
        "15 2 * * *",
        "Australia/Lord_Howe",
        "2026-10-03 12:00[Australia/Lord_Howe]",
        &["2026-10-04 02:30 +1100", "2026-10-05 02:15 +1100"],
    );
    check(
        "30 0 * * *",
        "America/Havana",
        "2026-10-31 12:00[America/Havana]",
        &["2026-11-01 00:30 -0400", "2026-11-02 00:30 -0500"],
    );
    check(
        "30 2 * * *",
        "Pacific/Apia",
        "2011-12-29 12:00[Pacific/Apia]",
        &["2011-12-31 00:00 +1400", "2011-12-31 02:30 +1400"],
    );
    // A rate knows no zone.
    check(
        "rate(12 hours)",
        "Europe/Berlin",
        spring,
        &["2026-03-28 13:00 +0100", "2026-03-29 01:00 +0100", "2026-03-29 14:00 +0200"],
    );
}

#[test]
fn an_error_names_the_field_and_what_it_may_be() {
    for (text, says) in [
        ("61 2 * * *", "the minute is '61', and 61 is out of range: it may be 0-59 with , - * /"),
        ("0 2 * * FUN", "the day of week is 'FUN', and 'FUN' is no number or name of it: it may be 0-7"),
        ("0 2 0 * *", "the day of month is '0', and 0 is out of range"),
        ("0 2 * 13 *", "the month is '13', and 13 is out of range: it may be 1-12 or JAN-DEC"),
        ("0 5-2 * * *", "the hour is '5-2', and '5-2' ends before it begins"),
        ("5/10 * * * *", "'5/10' may mean different things: write the range, such as 5-59/10"),
        ("*/0 * * * *", "a step must be a whole number from 1 on"),
        ("1,,2 * * * *", "the minute is '1,,2', and something is missing"),
        ("0 2 L * *", "'L' is no number or name of it"),
        ("0 2 -1 * *", "something is missing"),
        ("0 2 +1 * *", "'+1' is no number"),
        ("99999999999999999999999 2 1 * *", "is no number"),
        ("0 2 * *", "has 4 fields"),
        ("0 0 2 * * *", "has 6 fields"),
        ("", "has 0 fields"),
        ("@fortnightly", "has 1 fields"),
        ("cron(0 2 * * *)", "has 5 fields"),
        ("cron(0 2 * * * *)", "exactly one of day of month and day of week must be '?'"),
        ("cron(0 2 ? * ? *)", "exactly one of day of month and day of week must be '?'"),
        ("cron(0 2 ? * 0 *)", "the day of week is '0', and 0 is out of range: it may be 1-7 (1 is Sunday)"),
        ("cron(0 2 ? * 3#1,6#3 *)", "'#' must stand alone"),
        ("cron(0 2 ? * 3#6 *)", "6 is out of range"),
        ("cron(0 2 32W * ? *)", "32 is out of range"),
        ("cron(0 2 * * ? 1969)", "the year is '1969', and 1969 is out of range: it may be 1970-2199"),
        ("cron(0 2 ? * SAT-SUN *)", "'SAT-SUN' ends before it begins"),
        ("rate(0 minutes)", "is no rate"),
        ("rate(5 seconds)", "is no rate"),
        ("rate(5)", "is no rate"),
        ("rate(-5 minutes)", "is no rate"),
        ("rate(99999999999999 days)", "is no rate"),
        ("0 0 30 2 *", "never runs"),
        ("0 0 31 4,6,9,11 *", "never runs"),
    ] {
        let error = text.parse::<Schedule>().map(|schedule| schedule.to_string()).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn the_last_run_of_a_long_absence_is_found() {
    let (begin, end) = (instant("2026-01-01T00:00:00Z"), instant("2027-06-01T00:00:30Z"));
    for (schedule, last) in [
        ("* * * * *", Some("2027-06-01T00:00:00Z")),
        ("30 2 * * *", Some("2027-05-31T02:30:00Z")),
        ("0 0 29 2 *", None),
        ("0 0 1 1 *", Some("2027-01-01T00:00:00Z")),
        ("cron(0 0 1 2 ? 2026)", Some("2026-02-01T00:00:00Z")),
        ("rate(7 days)", Some("2027-05-27T00:00:00Z")),
    ] {
        let parsed: Schedule = schedule.parse().unwrap();
        assert_eq!(parsed.last_in((begin, end), &Zone::UTC), last.map(instant), "{schedule}");
    }
}

/// Days of AWS's day fields, by their definitions.
#[test]
fn special_days_are_those_of_their_definitions() {
    type Rule<'a> = (&'a str, &'a dyn Fn(Date) -> bool);
    let is_weekday = |day: Date| !matches!(day.weekday().to_sunday_zero_offset(), 0 | 6);
    let nearest = |day: Date, wanted: i8| {
        let of_month = |number: i8| Date::new(day.year(), day.month(), number).ok();
        let distance = |number: i8| (number - wanted).abs();
        let weekdays = (1..=31).filter(|number| of_month(*number).is_some_and(is_weekday));
        of_month(wanted).is_some() && weekdays.min_by_key(|number| distance(*number)) == Some(day.day())
    };
    let is = |day: Date, weekday: i8| day.weekday().to_sunday_zero_offset() == weekday;
    let rules: [Rule<'_>; 8] = [
        ("L * ?", &|day| day.tomorrow().unwrap().month() != day.month()),
        ("15W * ?", &|day| nearest(day, 15)),
        ("1W * ?", &|day| nearest(day, 1)),
        ("31W * ?", &|day| nearest(day, 31)),
        ("? * L", &|day| is(day, 6)),
        ("? * 2L", &|day| is(day, 1) && (day + 7.days()).month() != day.month()),
        ("? * 7#1", &|day| is(day, 6) && day.day() <= 7),
        ("? * SUN#5", &|day| is(day, 0) && day.day() > 28),
    ];
    for (fields, holds) in rules {
        let schedule: Schedule = format!("cron(0 0 {fields} *)").parse().unwrap();
        let (mut day, mut runs) = (date(2024, 1, 1), Vec::new());
        while day < date(2029, 1, 1) {
            runs.extend(holds(day).then(|| instant(&format!("{day}T00:00:00Z"))));
            day = day.tomorrow().unwrap();
        }
        let window = (instant("2023-12-31T23:59:00Z"), instant("2028-12-31T23:59:00Z"));
        assert_eq!(schedule.times(window, &Zone::UTC).collect::<Vec<_>>(), runs, "{fields}");
    }
}

/// A cron as the walker knows it: minutes, hours, days of the month.
#[derive(Clone, Debug)]
struct Wanted {
    minutes: Vec<i8>,
    hours: Vec<i8>,
    days: Vec<i8>,
}

impl Wanted {
    fn text(&self) -> String {
        let list = |values: &[i8]| values.iter().map(i8::to_string).collect::<Vec<_>>().join(",");
        format!("{} {} {} * *", list(&self.minutes), list(&self.hours), list(&self.days))
    }

    fn holds(&self, local: DateTime) -> bool {
        self.minutes.contains(&local.minute())
            && self.hours.contains(&local.hour())
            && self.days.contains(&local.day())
    }

    /// Looks at every minute: one that a clock shows for the first time runs, and so does the first one after a gap that
    /// swallowed one. What is for every hour runs whenever a clock shows it.
    fn walk(&self, zone: &Zone, from: Timestamp, minutes: i64) -> Vec<Timestamp> {
        let is_hourly = self.hours.len() == 24;
        let local = |at: Timestamp| zone.rules().to_datetime(at.0);
        let (mut runs, mut latest) = (Vec::new(), local(from));
        for number in 1..=minutes {
            let at = Timestamp::from_unix_seconds(from.unix_seconds() + number * 60).unwrap();
            let now = local(at);
            let mut due = is_hourly && self.holds(now);
            while latest < now {
                latest += 1.minute();
                due |= !is_hourly && self.holds(latest);
            }
            runs.extend(due.then_some(at));
        }
        runs
    }
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let some = |values: Vec<i8>, most: usize| prop::sample::subsequence(values, 1..=most);
    let hours = prop_oneof![some((0..24).collect(), 6), some((0..4).collect(), 3), Just((0..24).collect())];
    (some((0..60).collect(), 4), hours, some((1..=31).collect(), 31))
        .prop_map(|(minutes, hours, days)| Wanted { minutes, hours, days })
}

const ZONES: [&str; 10] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Havana",
    "America/St_Johns",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Pacific/Apia",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_run_is_one_that_the_walker_finds(
        wanted in wanted(),
        zone in prop::sample::select(&ZONES[..]),
        // From 2007 to 2037, 70 days each: most hold a change of clocks.
        begin in 1_167_609_600_i64 / 60..2_114_380_800 / 60,
    ) {
        let (zone, minutes): (Zone, _) = (zone.parse().unwrap(), 70 * 24 * 60);
        let begin = Timestamp::from_unix_seconds(begin * 60).unwrap();
        let until = Timestamp::from_unix_seconds(begin.unix_seconds() + minutes * 60).unwrap();
        let schedule: Schedule = wanted.text().parse().unwrap();
        let runs: Vec<Timestamp> = schedule.times((begin, until), &zone).collect();
        prop_assert!(runs.windows(2).all(|pair| pair[0] < pair[1]));
        prop_assert_eq!(&runs, &wanted.walk(&zone, begin, minutes));
        prop_assert_eq!(schedule.last_in((begin, until), &zone), runs.last().copied());
    }

    #[test]
    fn any_text_is_refused_or_goes_forward(
        text in "(cron\\(|rate\\(|)[0-9A-Z*?/,#LW @-]{0,24}\\)?",
        at in -4_000_000_000_i64..8_000_000_000,
        zone in prop::sample::select(&ZONES[..]),
    ) {
        let Ok(schedule) = text.parse::<Schedule>() else { return Ok(()) };
        let (zone, mut at): (Zone, _) = (zone.parse().unwrap(), Timestamp::from_unix_seconds(at).unwrap());
        for _ in 0..10 {
            let Some(next) = schedule.next_after(at, &zone) else { break };
            prop_assert!(next > at);
            at = next;
        }
        prop_assert_eq!(schedule.to_string().parse(), Ok(schedule));
    }
}

/// What five fields have no sign for is empty here.
#[test]
fn other_programs_are_told_the_same_or_nothing() {
    for (schedule, fields, calendars) in [
        ("30 2 1 * *", "30 2 1 * *", &["*-*-1 2:30:00 Asia/Tokyo"][..]),
        ("@daily", "0 0 * * *", &["*-*-* 0:0:00 Asia/Tokyo"]),
        ("*/15 * * * *", "*/15 * * * *", &["*-*-* *:0,15,30,45:00 Asia/Tokyo"]),
        ("0 3 * JAN-MAR 5-7", "0 3 * 1-3 0,5,6", &["Sun,Fri,Sat *-1..3-* 3:0:00 Asia/Tokyo"]),
        ("0 0 13 * FRI", "0 0 13 * 5", &["*-*-13 0:0:00 Asia/Tokyo", "Fri *-*-* 0:0:00 Asia/Tokyo"]),
        // Either day is enough, and each is the 1st to the 31st.
        ("0 0 1-31 * FRI", "0 0 * * *", &["*-*-* 0:0:00 Asia/Tokyo", "Fri *-*-* 0:0:00 Asia/Tokyo"]),
        ("cron(0 3 ? * SUN *)", "0 3 * * 0", &["Sun *-*-* 3:0:00 Asia/Tokyo"]),
        ("cron(0 3 * * ? *)", "0 3 * * *", &["*-*-* 3:0:00 Asia/Tokyo"]),
        ("cron(0 3 L * ? *)", "", &["*-*~1 3:0:00 Asia/Tokyo"]),
        ("cron(0 3 1,L * ? *)", "", &["*-*-1 3:0:00 Asia/Tokyo", "*-*~1 3:0:00 Asia/Tokyo"]),
        ("cron(0 3 ? * 6L *)", "", &["Fri *-*~7/1 3:0:00 Asia/Tokyo"]),
        ("cron(0 3 ? * 3#2 *)", "", &["Tue *-*-8..14 3:0:00 Asia/Tokyo"]),
        ("cron(0 3 ? * 3#5 *)", "", &["Tue *-*-29..31 3:0:00 Asia/Tokyo"]),
        ("cron(0 3 15W * ? *)", "", &[]),
        ("cron(0 3 1 1 ? 2027-2029)", "", &["2027..2029-1-1 3:0:00 Asia/Tokyo"]),
        ("0 0 */2 * MON", "", &["Mon *-*-1,3,5,7,9,11,13,15,17,19,21,23,25,27,29,31 0:0:00 Asia/Tokyo"]),
        ("rate(15 minutes)", "*/15 * * * *", &["*-*-* *:0,15,30,45:00 UTC"]),
        ("rate(1 hour)", "0 * * * *", &["*-*-* *:0:00 UTC"]),
        ("rate(6 hours)", "0 */6 * * *", &["*-*-* 0,6,12,18:0:00 UTC"]),
        ("rate(1 day)", "0 0 * * *", &["*-*-* 0:0:00 UTC"]),
        ("rate(7 hours)", "", &[]),
        ("rate(90 minutes)", "", &[]),
        ("rate(2 days)", "", &[]),
    ] {
        let parsed: Schedule = schedule.parse().unwrap();
        assert_eq!(parsed.five_fields().unwrap_or_default(), fields, "{schedule}");
        let zone: Zone = "Asia/Tokyo".parse().unwrap();
        assert_eq!(parsed.calendars(&zone).unwrap_or_default(), calendars, "{schedule}");
    }
}

proptest! {
    #[test]
    fn five_fields_run_when_the_schedule_does(
        minute in "\\*|\\*/[1-9]|[0-5]?[0-9]|[0-2]?[0-9]-[3-5][0-9]",
        hour in "\\*|\\*/[1-9]|1?[0-9]|1?[0-9],2[0-3]",
        day in "\\*|\\*/[1-9]|[1-9]|[1-9],2[0-8]|1-31",
        month in "\\*|[1-9]|[1-4]-[6-9]",
        week in "\\*|[0-7]|[0-3]-[4-7]|MON,FRI",
    ) {
        let schedule: Schedule = format!("{minute} {hour} {day} {month} {week}").parse().unwrap();
        if let Ok(fields) = schedule.five_fields() {
            let told: Schedule = fields.parse().unwrap();
            let mut at = instant(NEW_YEAR);
            for _ in 0..50 {
                let next = schedule.next_after(at, &Zone::UTC);
                prop_assert_eq!(next, told.next_after(at, &Zone::UTC), "{} and {}", schedule, fields);
                at = next.unwrap();
            }
        }
    }
}
