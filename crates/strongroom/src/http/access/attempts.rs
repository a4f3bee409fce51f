//! How often somebody may be wrong, and how often somebody may ask.
//!
//! ```text
//! sign-ins   some are free, then each wrong one doubles the wait, by user and address, by address, and by user
//! requests   a bucket for each address: so many at once, refilled by so many a second
//! ```
//!
//! **Invariants**
//! - What is remembered is bounded: when there are too many, those longest ago are forgotten.
//! - Nobody can lock a person out for long from elsewhere: the wait by user alone is short.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use strongroom_model::Timestamp;

/// Users and addresses that are remembered at most.
const REMEMBERED: usize = 10_000;

/// A wrong password is forgotten after so long.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// Requests of one address at once, and per second in the long run.
const BURST: f64 = 600.0;
const A_SECOND: f64 = 100.0;

/// Whose wrong passwords are counted together, how many are free, and how long the wait grows to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Who {
    UserAt(String, IpAddr),
    At(IpAddr),
    User(String),
}

impl Who {
    fn free(&self) -> u32 {
        match self {
            Who::UserAt(..) => 5,
            Who::At(_) => 20,
            Who::User(_) => 50,
        }
    }

    fn longest(&self) -> Duration {
        match self {
            Who::UserAt(..) | Who::At(_) => Duration::from_secs(900),
            Who::User(_) => Duration::from_secs(10),
        }
    }
}

/// Wrong passwords.
#[derive(Default)]
pub struct Attempts(Mutex<HashMap<Who, (u32, Timestamp)>>);

impl Attempts {
    /// How long this one must wait before the next try; `None`: not at all. A try counts as wrong until it is known to be right,
    /// so that many at once are no way around it.
    pub fn begin(&self, user: &str, address: IpAddr, now: Timestamp) -> Option<Duration> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let all = whose(user, address);
        let wait = all.iter().filter_map(|who| known.get(who).and_then(|wrong| wait(who, *wrong, now))).max();
        if wait.is_none() {
            forget(&mut known, |(_, at)| *at);
            for who in all {
                let (count, at) = known.entry(who).or_insert((0, now));
                let is_old = now.since(*at) > FORGOTTEN;
                (*count, *at) = (if is_old { 1 } else { count.saturating_add(1) }, now);
            }
        }
        wait
    }

    /// It was right.
    pub fn passed(&self, user: &str, address: IpAddr) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for who in &whose(user, address) {
            known.remove(who);
        }
    }
}

fn whose(user: &str, address: IpAddr) -> [Who; 3] {
    [Who::UserAt(user.to_owned(), address), Who::At(address), Who::User(user.to_owned())]
}

fn wait(who: &Who, (count, at): (u32, Timestamp), now: Timestamp) -> Option<Duration> {
    let over = count.checked_sub(who.free())?;
    let pause = Duration::from_secs(1).saturating_mul(1 << over.min(20)).min(who.longest());
    pause.checked_sub(now.since(at)).filter(|left| !left.is_zero())
}

fn forget<K: Clone + Eq + Hash, V>(known: &mut HashMap<K, V>, at: impl Fn(&V) -> Timestamp) {
    if known.len() < REMEMBERED {
        return;
    }
    let mut times: Vec<Timestamp> = known.values().map(&at).collect();
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    let median = *median;
    known.retain(|_, value| at(value) > median);
}

/// Requests by address.
#[derive(Default)]
pub struct Buckets(Mutex<HashMap<IpAddr, (f64, Timestamp)>>);

impl Buckets {
    /// Whether this address may ask once more.
    pub fn take(&self, address: IpAddr, now: Timestamp) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        forget(&mut known, |(_, at)| *at);
        let (left, at) = known.entry(address).or_insert((BURST, now));
        *left = (*left + now.since(*at).as_secs_f64() * A_SECOND).min(BURST);
        *at = now;
        let may = *left >= 1.0;
        if may {
            *left -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(1_800_000_000 + seconds).unwrap()
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn each_wrong_password_after_the_fifth_doubles_the_wait() {
        let attempts = Attempts::default();
        for _ in 0..5 {
            assert_eq!(attempts.begin("ada", address(1), at(0)), None);
        }
        let mut now = 0;
        for pause in [1, 2, 4, 8, 16] {
            assert_eq!(attempts.begin("ada", address(1), at(now)), Some(Duration::from_secs(pause)));
            now += pause as i64;
            assert_eq!(attempts.begin("ada", address(1), at(now)), None);
        }
        // From elsewhere she still can.
        assert_eq!(attempts.begin("ada", address(2), at(now)), None);
        // What was right wipes the slate.
        attempts.passed("ada", address(1));
        assert_eq!(attempts.begin("ada", address(1), at(now)), None);
    }

    #[test]
    fn one_address_tries_no_names_in_turn_and_a_person_is_not_locked_out_for_long() {
        let attempts = Attempts::default();
        for name in 0..20 {
            assert_eq!(attempts.begin(&format!("user{name}"), address(1), at(0)), None);
        }
        assert!(attempts.begin("user20", address(1), at(0)).is_some());
        let attempts = Attempts::default();
        for host in 0..60 {
            attempts.begin("ada", address(host), at(0));
        }
        assert!(
            attempts.begin("ada", address(99), at(0)).is_some_and(|wait| wait <= Duration::from_secs(10))
        );
        assert_eq!(attempts.begin("ada", address(99), at(10)), None);
    }

    #[test]
    fn an_hour_later_it_is_forgotten_and_so_are_too_many() {
        let attempts = Attempts::default();
        for _ in 0..8 {
            attempts.begin("ada", address(1), at(0));
        }
        assert_eq!(attempts.begin("ada", address(1), at(3601)), None);
        assert_eq!(attempts.begin("ada", address(1), at(3601)), None);
        for name in 0..2 * REMEMBERED {
            let host = IpAddr::from((name as u128).to_be_bytes());
            attempts.begin(&name.to_string(), host, at(name as i64));
        }
        assert!(attempts.0.lock().unwrap().len() <= REMEMBERED + 3);
    }

    #[test]
    fn an_address_may_ask_so_often() {
        let buckets = Buckets::default();
        let taken = (0..2000).filter(|_| buckets.take(address(1), at(0))).count();
        assert_eq!(taken, BURST as usize);
        assert!(buckets.take(address(2), at(0)));
        let later = (0..2000).filter(|_| buckets.take(address(1), at(1))).count();
        assert_eq!(later, A_SECOND as usize);
    }
}
