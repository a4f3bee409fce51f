//! Chains as pictures, and every way to spoil one.

use proptest::prelude::*;

use super::*;

/// A hash of nothing but what an entry says: enough to tell entries apart.
fn hash(entry: &Entry, salt: &str) -> String {
    let text = format!("{salt}{}", serde_json::to_string(entry).unwrap());
    let sum = |seed: u64| {
        text.bytes().fold(seed, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    };
    (0..4).map(|n| format!("{:016x}", sum(0xcbf2_9ce4_8422_2325 ^ n))).collect()
}

fn actor(name: &str) -> Actor {
    Actor { kind: ActorKind::User, name: name.into(), host: "h".into(), user: name.into(), sudo: None }
}

fn act(verb: &str) -> Act {
    Act { verb: verb.into(), source: None, point: None }
}

fn entry(number: u64, previous: Option<String>, stage: Stage) -> Entry {
    Entry {
        audit: SHAPE,
        id: format!("{number:032x}"),
        vault: "v".into(),
        number,
        previous,
        at: Timestamp::from_unix_seconds(1_795_176_000 + number as i64).unwrap(),
        actor: actor("ada"),
        act: act("expire"),
        stage,
        tool: "t".into(),
    }
}

fn link(entry: Entry) -> Link {
    let hash = hash(&entry, "");
    Link { name: name(entry.number), hash, entry: Ok(entry), texts: Texts::new(), voucher: Voucher::Sealed }
}

/// A sound chain of so many entries.
fn chain(length: u64) -> Vec<Link> {
    let mut links = Vec::<Link>::new();
    for number in 1..=length {
        let previous = links.last().map(|link| link.hash.clone());
        links.push(link(entry(number, previous, Stage::Begun)));
    }
    links
}

fn head(links: &[Link]) -> Head {
    let last = links.last().unwrap();
    Head { number: number(&last.name).unwrap(), hash: last.hash.clone() }
}

fn told(links: &[Link], noted: &[Head]) -> Vec<String> {
    findings(links, noted).iter().map(ToString::to_string).collect()
}

#[test]
fn a_whole_chain_is_sound_and_each_way_to_spoil_it_has_its_name() {
    let whole = chain(5);
    assert_eq!(told(&whole, &[head(&whole)]), [""; 0]);
    assert_eq!(told(&[], &[]), [""; 0]);
    let check = |spoil: &dyn Fn(&mut Vec<Link>), expected: &[&str]| {
        let mut links = whole.clone();
        spoil(&mut links);
        assert_eq!(told(&links, &[head(&whole)]), expected);
    };
    check(&|links| drop(links.remove(2)), &["entry 3 is missing"]);
    check(&|links| drop(links.drain(1..3)), &["entries 2 to 3 are missing"]);
    check(&|links| drop(links.remove(0)), &["entry 1 is missing"]);
    check(&|links| links.truncate(3), &["the log ends with entry 3, and entry 5 was noted as its head"]);
    check(&Vec::clear, &["the log ends with entry 0, and entry 5 was noted as its head"]);
    check(
        &|links| links[1].hash = "0".repeat(64),
        &["entry 2 is not the one that entry 3 was written after"],
    );
    check(&|links| links[4].hash = "0".repeat(64), &["entry 5 is not the one that was noted as the head"]);
    check(&|links| links[1].entry = Err("it is no JSON".into()), &["entry 2 does not read: it is no JSON"]);
    check(&|links| links.push(links[1].clone()), &["entry 2 is there twice"]);
    check(
        &|links| links[3] = Link { name: name(4), ..links[2].clone() },
        &[
            "the object of entry 4 says that it is entry 3",
            "entry 3 is not the one that entry 4 was written after",
            "entry 4 is not the one that entry 5 was written after",
        ],
    );
    check(&|links| links.push(Link { name: "7".into(), ..links[1].clone() }), &["7 is no entry of the log"]);
    check(
        &|links| links[2].voucher = Voucher::Forged("the signature is wrong".into()),
        &["entry 3 is forged: the signature is wrong"],
    );
    check(&|links| links[2].entry.as_mut().unwrap().vault = "w".into(), &["entry 3 is of another vault, w"]);
    check(
        &|links| links[0].entry.as_mut().unwrap().previous = Some("0".repeat(64)),
        &["entry 1 says that another one came before it"],
    );
}

#[test]
fn a_hole_that_was_filled_later_does_not_fit() {
    let mut links = chain(5);
    let previous = Some(links[1].hash.clone());
    let later = entry(3, previous, Stage::Ended { of: None, outcome: "ok".into(), exit_code: 0 });
    links[2] = link(later);
    assert_eq!(told(&links, &[]), ["entry 3 is not the one that entry 4 was written after"]);
}

#[test]
fn names_and_heads_read_back_and_nothing_else_does() {
    for n in [1, 42, 9_999_999_999_999_999] {
        assert_eq!(number(&name(n)), Some(n));
    }
    for wrong in
        ["", "0", "1", "0000000000000000", "00000000000000001", "000000000000000x", "+000000000000001"]
    {
        assert_eq!(number(wrong), None, "{wrong}");
    }
    let head = head(&chain(3));
    assert_eq!(head.to_string().parse(), Ok(head));
    for wrong in ["", "3", "3:", "3:abc", &format!("0:{}", "a".repeat(64)), &format!("3:{}", "A".repeat(64))]
    {
        assert!(wrong.parse::<Head>().is_err(), "{wrong}");
    }
}

#[test]
fn acts_have_one_line_and_one_without_an_end_says_so() {
    let ended = |of| Stage::Ended { of, outcome: "conflict".into(), exit_code: 12 };
    let mut links = chain(1);
    links.push(link(entry(2, None, Stage::Begun)));
    links.push(link(entry(3, None, ended(Some(1)))));
    links.push(link(entry(4, None, ended(None))));
    let show = |links: &[Link]| {
        let show = |line: Line| (line.number, line.exit_code, line.ended_at.is_some());
        lines(links).into_iter().map(show).collect::<Vec<_>>()
    };
    assert_eq!(show(&links), [(1, Some(12), true), (2, None, false), (4, Some(12), false)]);
    // Nobody ends an act of somebody else, or one that has ended.
    let mut other = entry(5, None, ended(Some(2)));
    other.actor = actor("eve");
    links.push(link(other));
    links.push(link(entry(6, None, ended(Some(1)))));
    let expected = [
        (1, Some(12), true),
        (2, None, false),
        (4, Some(12), false),
        (5, Some(12), false),
        (6, Some(12), false),
    ];
    assert_eq!(show(&links), expected);
    // The beginning may be older than what is looked at.
    assert_eq!(show(&links[2..3]), [(3, Some(12), false)]);
}

#[test]
fn an_entry_is_written_as_the_format_has_it() {
    let ended = Stage::Ended { of: Some(6), outcome: "ok".into(), exit_code: 0 };
    let text = serde_json::to_string(&entry(7, Some("ab".into()), ended.clone())).unwrap();
    assert_eq!(
        text,
        "{\"audit\":1,\"id\":\"00000000000000000000000000000007\",\"vault\":\"v\",\"number\":7,\"previous\":\"ab\",\
         \"at\":\"2026-11-20T12:00:07Z\",\"actor\":{\"kind\":\"user\",\"name\":\"ada\",\"host\":\"h\",\"user\":\"ada\"},\
         \"act\":{\"verb\":\"expire\"},\"stage\":\"ended\",\"of\":6,\"outcome\":\"ok\",\"exit_code\":0,\"tool\":\"t\"}"
    );
    assert_eq!(serde_json::from_str::<Entry>(&text).unwrap().stage, ended);
    let begun = serde_json::to_string(&entry(1, None, Stage::Begun)).unwrap();
    assert!(begun.contains("\"stage\":\"begun\"") && !begun.contains("previous"), "{begun}");
}

/// What may happen to copies of a log.
#[derive(Clone, Debug)]
enum Spoilt {
    Flipped(usize),
    Dropped(usize),
    Swapped(usize, usize),
    Inserted(usize),
    Cut(usize),
}

fn spoilt(length: usize) -> impl Strategy<Value = Spoilt> {
    prop_oneof![
        (0..length).prop_map(Spoilt::Flipped),
        (0..length).prop_map(Spoilt::Dropped),
        (0..length, 1..length).prop_map(move |(one, by)| Spoilt::Swapped(one, (one + by) % length)),
        (0..length).prop_map(Spoilt::Inserted),
        (1..length).prop_map(Spoilt::Cut),
    ]
}

proptest! {
    /// Whoever spoils a log, and even writes all names anew, is found out by who noted its head.
    #[test]
    fn whatever_is_done_to_a_log_is_found(
        (length, how) in (2usize..20).prop_flat_map(|length| (Just(length), spoilt(length))),
        shuffle in any::<u64>(),
    ) {
        let whole = chain(length as u64);
        let noted = head(&whole);
        let mut links = whole.clone();
        let is_end = match how.clone() {
            Spoilt::Flipped(at) => {
                let entry = links[at].entry.as_mut().unwrap();
                entry.actor.name = "eve".into();
                links[at].hash = hash(links[at].entry.as_ref().unwrap(), "");
                at == length - 1
            }
            Spoilt::Dropped(at) => {
                links.remove(at);
                at == length - 1
            }
            Spoilt::Swapped(one, other) => {
                links.swap(one, other);
                let names = whole.iter().map(|link| link.name.clone());
                links.iter_mut().zip(names).for_each(|(link, name)| link.name = name);
                false
            }
            Spoilt::Inserted(at) => {
                links.insert(at, link(entry(at as u64 + 1, None, Stage::Begun)));
                links.iter_mut().zip(1..).for_each(|(link, number)| link.name = name(number));
                false
            }
            Spoilt::Cut(at) => {
                links.truncate(at);
                true
            }
        };
        let by = shuffle as usize % links.len().max(1);
        links.rotate_left(by);
        prop_assert!(!findings(&links, std::slice::from_ref(&noted)).is_empty(), "{how:?}");
        // Without a noted head only its end can be changed or cut unseen.
        prop_assert!(is_end || !findings(&links, &[]).is_empty(), "{how:?} without a head");
    }
}
