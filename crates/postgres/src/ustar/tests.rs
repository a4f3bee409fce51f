//! Archives, whole and in pieces, and bytes that are none.

use proptest::prelude::*;

use super::*;

/// A header as a server writes it.
fn header(name: &str, kind: u8, size: u64) -> Vec<u8> {
    let mut header = vec![0; BLOCK];
    let mut put = |at: usize, bytes: &[u8]| header[at..at + bytes.len()].copy_from_slice(bytes);
    put(NAME.0, name.as_bytes());
    put(MODE.0, b"0000600 ");
    put(UID.0, b"0000032 ");
    put(GID.0, b"0000032 ");
    match size < 1 << 33 {
        true => put(SIZE.0, format!("{size:011o} ").as_bytes()),
        false => put(SIZE.0, &[&[128, 0, 0, 0][..], &size.to_be_bytes()].concat()),
    }
    put(MODIFIED.0, b"15021652000 ");
    put(KIND, &[kind]);
    put(MAGIC.0, b"ustar\x0000");
    put(USER.0, b"postgres");
    put(GROUP.0, b"postgres");
    let sum = checksum(&header);
    header[CHECKSUM.0..CHECKSUM.1].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

fn member(name: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(name, b'0', content.len() as u64);
    bytes.extend(content);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

/// Names and contents of what is in the archive, when it comes in pieces of these lengths, over and over.
fn read(archive: &[u8], lengths: &[usize]) -> Result<Vec<(Member, Vec<u8>)>, UstarError> {
    let (mut members, mut found) = (Members::default(), Vec::<(Member, Vec<u8>)>::new());
    let mut rest = archive;
    for length in lengths.iter().cycle() {
        let (piece, left) = rest.split_at((*length).min(rest.len()));
        let mut piece = Bytes::copy_from_slice(piece);
        while let Some(part) = members.next(&mut piece)? {
            match part {
                Part::Member(member) => found.push((member, Vec::new())),
                Part::Content(bytes) => found.last_mut().unwrap().1.extend_from_slice(&bytes),
            }
        }
        rest = left;
        if rest.is_empty() {
            break;
        }
    }
    members.finish().map(|()| found)
}

fn archive() -> Vec<u8> {
    [
        member("backup_label", b"START WAL LOCATION"),
        header("./base/", b'5', 0),
        member("base/1", &[7; 8192]),
        member("empty", b""),
        member("odd \u{f6}", &[9; 513]),
    ]
    .concat()
}

#[test]
fn members_are_read_with_and_without_zeros_at_the_end() {
    for zeros in [0, BLOCK, 2 * BLOCK] {
        let archive = [archive(), vec![0; zeros]].concat();
        let found = read(&archive, &[archive.len()]).unwrap();
        let names: Vec<_> = found.iter().map(|(member, _)| String::from_utf8_lossy(&member.name)).collect();
        assert_eq!(names, ["backup_label", "base", "base/1", "empty", "odd \u{f6}"]);
        let lengths: Vec<_> = found.iter().map(|(_, content)| content.len()).collect();
        assert_eq!(lengths, [18, 0, 8192, 0, 513]);
        let Member { kind, mode, uid, user, modified, .. } = &found[0].0;
        assert_eq!((kind, *mode, *uid), (&MemberKind::File(18), 0o600, 26));
        assert_eq!((user.as_deref(), *modified), (Some("postgres"), 0o15_021_652_000));
        assert_eq!(found[1].0.kind, MemberKind::Folder);
    }
}

#[test]
fn a_size_of_more_than_eight_gigabytes_is_read() {
    let mut members = Members::default();
    let mut bytes = Bytes::from(header("huge", b'0', 9 << 40));
    let Ok(Some(Part::Member(member))) = members.next(&mut bytes) else { panic!() };
    assert_eq!(member.kind, MemberKind::File(9 << 40));
    assert_eq!(members.finish(), Err(UstarError::Cut));
}

#[test]
fn what_no_server_sends_is_refused() {
    let spoilt = |at: usize| {
        let mut bytes = archive();
        bytes[at] ^= 1;
        read(&bytes, &[4096])
    };
    assert_eq!(spoilt(0), Err(UstarError::Checksum { name: "cackup_label".into() }));
    assert_eq!(spoilt(MAGIC.0), Err(UstarError::NoHeader));
    assert!(matches!(spoilt(CHECKSUM.0), Err(UstarError::Checksum { .. })));
    let long = header("././@LongLink", b'L', 0);
    assert_eq!(read(&long, &[512]), Err(UstarError::Kind { name: "./@LongLink".into(), kind: b'L' }));
    let after = [archive(), vec![0; BLOCK], member("more", b"")].concat();
    assert_eq!(read(&after, &[700]), Err(UstarError::AfterEnd));
    let whole = archive();
    for cut in [1, 511, 513, BLOCK + 18, whole.len() - 1] {
        assert_eq!(read(&whole[..cut], &[97]), Err(UstarError::Cut), "{cut}");
    }
}

proptest! {
    #[test]
    fn how_an_archive_is_cut_makes_no_difference(lengths in proptest::collection::vec(1usize..9000, 1..20)) {
        let archive = archive();
        prop_assert_eq!(read(&archive, &lengths), read(&archive, &[archive.len()]));
    }

    #[test]
    fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 1..1500), is_sealed: bool) {
        if is_sealed && bytes.len() >= BLOCK {
            bytes[MAGIC.0..MAGIC.1].copy_from_slice(b"ustar");
            let sum = checksum(&bytes[..BLOCK]);
            bytes[CHECKSUM.0..CHECKSUM.1].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        // Drawn bytes are no archive, but for short ones of zeros.
        let _ = read(&bytes, &[300]);
    }
}
