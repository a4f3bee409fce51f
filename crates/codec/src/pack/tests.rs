//! Packs read back page for page, and no damage goes unseen.

use proptest::prelude::*;

use super::*;
use crate::digest::object_hash;
use crate::header::SUITES;
use crate::keys::{Keyring, VaultKey};

fn scope<'a>(key: &'a PointKey, prints: &'a FingerprintKey, vault: &'a VaultId) -> PackScope<'a> {
    PackScope { key, fingerprints: prints, vault, path: "packs/0" }
}

/// A file's content, and the map its pages got.
type Filed = (Vec<u8>, Vec<Run>);

/// The point's key, as its writer and as any reader has it.
fn point_key(suite: Suite) -> PointKey {
    let keys = Keyring::whole(suite, VaultKey::new([5; 32]));
    PointKey::new([1; 32], keys.new_content_key([6; 32]))
}

fn write(files: &[Vec<u8>], suite: Suite, compression: Compression) -> (Vec<u8>, PackDigest, Vec<Filed>) {
    let (key, prints, vault) = (point_key(suite), FingerprintKey::new(suite, [2; 32]), VaultId::new([3; 16]));
    let header = pack_header(suite, [4; 16]);
    let mut writer = PackWriter::new(scope(&key, &prints, &vault), header, compression, 7, Vec::new());
    let mut filed = Vec::new();
    for (file, content) in files.iter().enumerate() {
        let mut map = Vec::new();
        writer.add(file as u32, 0, content, &mut map);
        filed.push((content.clone(), map));
    }
    let (object, digest) = writer.finish();
    (object, digest, filed)
}

fn open(object: &[u8]) -> Result<PackReader, PackError> {
    let suite = SUITES.into_iter().find(|suite| object.get(11) == Some(&(*suite as u8)));
    let suite = suite.unwrap_or(Suite::Aes256Gcm);
    let (key, prints, vault) = (point_key(suite), FingerprintKey::new(suite, [2; 32]), VaultId::new([3; 16]));
    let tail = object.len().checked_sub(TRAILER_SIZE).ok_or(Malformed { what: "pack" })?;
    let trailer = Trailer::read(&object[tail..], object.len() as u64)?;
    let footer = trailer.footer();
    let footer = object.get(footer.start as usize..footer.end as usize).ok_or(Malformed { what: "pack" })?;
    PackReader::open(scope(&key, &prints, &vault), object, &trailer, footer)
}

/// Every page of the pack, by its number.
fn pages(object: &[u8]) -> Result<Vec<Vec<u8>>, PackError> {
    let reader = open(object)?;
    let (mut pages, mut raw) = (Vec::new(), Vec::new());
    for (index, frame) in reader.frames().iter().enumerate() {
        let range = frame.range();
        let mut stored = object[range.start as usize..range.end as usize].to_vec();
        reader.read_frame(index, &mut stored, &mut raw)?;
        for slot in 0..frame.prints.len() as u32 {
            assert_eq!(reader.frame_of(frame.first_page + slot), Some(index));
            pages.push(raw[frame.page_range(slot).unwrap()].to_vec());
        }
    }
    assert_eq!(reader.frame_of(reader.pages()), None);
    Ok(pages)
}

fn check(files: &[Vec<u8>], suite: Suite, compression: Compression) {
    let (object, digest, filed) = write(files, suite, compression);
    assert_eq!((digest.size, digest.hash), (object.len() as u64, object_hash(suite, &object)));
    let pages = pages(&object).unwrap();
    assert_eq!(pages.len(), digest.pages as usize);
    assert_eq!(digest.raw, pages.iter().map(|page| page.len() as u64).sum::<u64>());
    for (content, map) in filed {
        let mut back = vec![0; content.len()];
        for run in map {
            for n in 0..run.count {
                let Place::Pack { pack, page } = run.place else { continue };
                assert_eq!(pack, 7);
                let at = (run.first + n) as usize * PAGE_SIZE;
                let page = &pages[(page + n) as usize];
                back[at..at + page.len()].copy_from_slice(page);
            }
        }
        assert_eq!(back, content);
    }
}

/// Streams' pages, and files' between them.
fn write_streams(streams: &[Vec<Vec<u8>>], suite: Suite) -> (Vec<u8>, Vec<Vec<Run>>) {
    let (key, prints, vault) = (point_key(suite), FingerprintKey::new(suite, [2; 32]), VaultId::new([3; 16]));
    let header = pack_header(suite, [4; 16]);
    let mut writer =
        PackWriter::new(scope(&key, &prints, &vault), header, Compression::default(), 7, Vec::new());
    let mut maps = Vec::new();
    for (file, stream) in streams.iter().enumerate() {
        let mut map = Vec::new();
        for (at, page) in stream.iter().enumerate() {
            writer.add_of_stream(file as u32, at as u32, (page, &prints.page_hash(page)), &mut map);
        }
        writer.add(99, 0, &[file as u8 + 1; 10][..file % 2 * 10], &mut Vec::new());
        maps.push(map);
    }
    (writer.finish().0, maps)
}

fn stream() -> impl Strategy<Value = Vec<Vec<u8>>> {
    prop::collection::vec((any::<u8>(), 1..=PAGE_SIZE).prop_map(|(fill, len)| vec![fill; len]), 0..150)
}

/// A file: a few pages, some of them all zeros, the last perhaps short.
fn file() -> impl Strategy<Value = Vec<u8>> {
    (prop::collection::vec(0u8..4, 0..40), 0usize..PAGE_SIZE).prop_map(|(pages, tail)| {
        let mut content: Vec<u8> = pages.iter().flat_map(|fill| vec![*fill; PAGE_SIZE]).collect();
        content.extend(vec![9; tail]);
        content
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn pages_read_back(files in prop::collection::vec(file(), 0..6), plain: bool, codec in 0..3) {
        let compression = [Compression::None, Compression::Lz4, Compression::Zstd(1)][codec as usize];
        check(&files, if plain { Suite::Plain } else { Suite::Aes256Gcm }, compression);
    }

    #[test]
    fn pages_of_streams_read_back(streams in prop::collection::vec(stream(), 0..4)) {
        let (object, maps) = write_streams(&streams, Suite::Plain);
        let (pages, reader) = (pages(&object).unwrap(), open(&object).unwrap());
        let prints = FingerprintKey::new(Suite::Plain, [2; 32]);
        for (stream, map) in streams.iter().zip(maps) {
            let mut back = Vec::new();
            for run in map {
                let Place::Pack { pack: 7, page } = run.place else { unreachable!("zeros of streams are stored") };
                for page in page..page + run.count {
                    let frame = &reader.frames()[reader.frame_of(page).unwrap()];
                    let print = frame.stream_print(page - frame.first_page);
                    prop_assert_eq!(print, Some(prints.page_hash(&pages[page as usize]).stream_print()));
                    back.push(pages[page as usize].clone());
                }
            }
            prop_assert_eq!(&back, stream);
        }
        for frame in reader.frames() {
            prop_assert!(frame.raw_len as usize <= FRAME_SIZE && frame.prints.len() <= STREAM_FRAME_PAGES);
        }
    }

    #[test]
    fn any_bytes_as_a_footer_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let trailer = Trailer { offset: 32, stored_len: 0, raw_len: 0, frames: 1, codec: Codec::Raw };
        let _ = read_footer(&bytes, &trailer);
    }

    #[test]
    fn any_bytes_as_a_trailer_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..40), size: u64) {
        let _ = Trailer::read(&bytes, size);
    }
}

#[test]
fn an_empty_pack_and_zero_pages_take_no_frame() {
    let (object, digest, filed) =
        write(&[vec![], vec![0; 3 * PAGE_SIZE + 5]], Suite::Aes256Gcm, Compression::Zstd(1));
    assert_eq!((digest.pages, digest.raw), (0, 0));
    assert_eq!(filed[1].1, vec![Run { first: 0, count: 4, place: Place::Zero }]);
    assert_eq!(open(&object).unwrap().frames(), &[]);
}

#[test]
fn a_whole_segment_of_one_file_is_one_run() {
    let content: Vec<u8> = (0..100u32).flat_map(|page| vec![page as u8 + 1; PAGE_SIZE]).collect();
    let (_, _, filed) = write(&[content], Suite::Aes256Gcm, Compression::Zstd(1));
    assert_eq!(filed[0].1, vec![Run { first: 0, count: 100, place: Place::Pack { pack: 7, page: 0 } }]);
}

#[test]
fn every_flipped_byte_and_truncation_is_noticed() {
    for suite in SUITES {
        let files = [vec![1; PAGE_SIZE], vec![2; 3 * PAGE_SIZE / 2]];
        let (object, _, _) = write(&files, suite, Compression::Zstd(1));
        assert!(pages(&object).is_ok());
        for at in 0..object.len() {
            let mut wrong = object.clone();
            wrong[at] ^= 1;
            assert!(pages(&wrong).is_err(), "byte {at} of {}", object.len());
        }
        for len in 0..object.len() {
            assert!(pages(&object[..len]).is_err(), "length {len}");
        }
    }
}

#[test]
fn every_flipped_byte_of_a_pack_of_streams_is_noticed() {
    for suite in SUITES {
        let (object, _) = write_streams(&[vec![vec![1; 3000], vec![0; PAGE_SIZE], vec![2; 17]]], suite);
        assert_eq!(pages(&object).unwrap(), [vec![1; 3000], vec![0; PAGE_SIZE], vec![2; 17]]);
        for at in 0..object.len() {
            let mut wrong = object.clone();
            wrong[at] ^= 1;
            assert!(pages(&wrong).is_err(), "byte {at} of {}", object.len());
        }
    }
}

/// What tells pages of streams apart costs less than an eleventh of what they take, their lengths a seventh of that.
#[test]
fn a_footer_of_streams_is_small() {
    let text: String =
        (0..60_000u64).map(|n| format!("{n}\t{:x}\t2026-11-21\n", n.wrapping_mul(n * n))).collect();
    let (mut rest, mut stream) = (text.as_bytes(), Vec::new());
    while let Some(length) = crate::cut::first_page(rest) {
        stream.push(rest[..length].to_vec());
        rest = &rest[length..];
    }
    let (object, _) = write_streams(&[stream], Suite::Plain);
    let trailer = Trailer::read(&object[object.len() - TRAILER_SIZE..], object.len() as u64).unwrap();
    let footer = trailer.footer();
    let share = |bytes: u64| bytes as f64 / object.len() as f64;
    let prints = u64::from(open(&object).unwrap().pages()) * 16;
    let whole = footer.end - footer.start;
    assert!(
        share(whole) < 1.0 / 11.0 && share(whole - prints) < 1.0 / 80.0,
        "{whole} and {prints} of {}",
        object.len()
    );
}

/// A footer says whose pages its frames hold: neighbours in one run, whatever is not one in another.
#[test]
fn a_footer_says_whose_pages_a_frame_holds() {
    let suite = Suite::Aes256Gcm;
    let (key, prints, vault) = (point_key(suite), FingerprintKey::new(suite, [2; 32]), VaultId::new([3; 16]));
    let header = pack_header(suite, [4; 16]);
    let mut writer =
        PackWriter::new(scope(&key, &prints, &vault), header, Compression::default(), 0, Vec::new());
    let pages = [7; 2 * PAGE_SIZE];
    for (file, first) in [(3, 5), (3, 7), (3, 10), (4, 12), (5, 0)] {
        writer.add(file, first, &pages, &mut Vec::new());
    }
    writer.add(6, 2, &pages[..PAGE_SIZE + 9], &mut Vec::new());
    writer.add(6, 4, &pages[..9], &mut Vec::new());
    let reader = open(&writer.finish().0).unwrap();
    let runs = [(3, 5, 4), (3, 10, 2), (4, 12, 2), (5, 0, 2), (6, 2, 2), (6, 4, 1)];
    let runs = runs.map(|(file, first, count)| {
        let last_len = if file == 6 { 9 } else { PAGE_SIZE as u32 };
        FrameRun { file, first, count, last_len }
    });
    assert_eq!(reader.frames()[0].runs, runs);
}

/// A seal only shows that a writer of this vault sealed it: its own mistake, or its memory's, the fingerprints find.
#[test]
fn pages_that_are_not_those_of_their_fingerprints_are_refused() {
    let noise: Vec<u8> =
        (0..32 * PAGE_SIZE as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let (object, ..) = write(&[noise], Suite::Aes256GcmX25519, Compression::default());
    let read = |spoil: fn(&mut FrameRow)| {
        let mut reader = open(&object).unwrap();
        spoil(&mut reader.frames[1]);
        let range = reader.frames()[1].range();
        let mut stored = object[range.start as usize..range.end as usize].to_vec();
        reader.read_frame(1, &mut stored, &mut Vec::new())
    };
    assert_eq!(read(|_| ()), Ok(()));
    assert_eq!(read(|frame| frame.prints[3].0[0] ^= 1), Err(PackError::Fingerprint { page: 16 + 3 }));
    assert_eq!(read(|frame| frame.hash[0] ^= 1), Err(PackError::Fingerprint { page: 16 }));
    let (object, _) = write_streams(&[vec![vec![1; 3000], vec![2; 4000]]], Suite::Aes256GcmX25519);
    let mut reader = open(&object).unwrap();
    reader.frames[0].second_halves[1][7] ^= 1;
    let range = reader.frames()[0].range();
    let mut stored = object[range.start as usize..range.end as usize].to_vec();
    assert_eq!(reader.read_frame(0, &mut stored, &mut Vec::new()), Err(PackError::Fingerprint { page: 1 }));
}

/// Whoever has a host's keys can seal a footer of their own.
#[test]
fn a_frame_that_is_none_is_refused() {
    let read = |stored_len: usize, raw_len: usize, run: Option<u32>| {
        let mut out = Vec::new();
        put_varint(&mut out, stored_len as u64);
        put_varint(&mut out, raw_len as u64);
        out.push(Codec::Raw as u8);
        out.extend_from_slice(&[0; 16]);
        put_varint(&mut out, u64::from(run.is_some()));
        if let Some(last_len) = run {
            [0, 0, 1, last_len].iter().for_each(|number| put_varint(&mut out, u64::from(*number)));
            out.extend_from_slice(&[0; 8]);
        }
        let mut reader = WireReader::new(&out, "frame");
        read_frame_row(&mut reader, 0, 0).and_then(|_| reader.end())
    };
    let longest = FRAME_SIZE + TAG_SIZE;
    assert_eq!((read(20, 9, Some(9)), read(longest, 9, Some(9))), (Ok(()), Ok(())));
    assert!(read(20, 10, Some(9)).is_err(), "another length than its pages have");
    assert!(read(longest + 1, 9, Some(9)).is_err(), "longer than a frame can be");
    assert!(read(20, 0, None).is_err(), "no page");
}
