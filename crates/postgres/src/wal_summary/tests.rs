//! Summaries written here and read back, and none that is written otherwise.

use proptest::prelude::*;

use super::*;

const TABLE: Relation = Relation { tablespace: 1663, database: 5, number: 16384 };

/// A summary as the server writes it: relation, fork, limit, blocks that changed.
pub(crate) fn summary(entries: &[(Relation, u32, Option<u32>, Vec<u32>)]) -> Vec<u8> {
    let mut out = MAGIC.to_le_bytes().to_vec();
    for (relation, fork, limit, blocks) in entries {
        let mut chunks: Vec<Vec<u16>> = Vec::new();
        for block in blocks {
            let number = (block / CHUNK_BLOCKS) as usize;
            chunks.resize(chunks.len().max(number + 1), Vec::new());
            chunks[number].push((block % CHUNK_BLOCKS) as u16);
        }
        let front = [relation.tablespace, relation.database, relation.number, *fork];
        let back = [limit.unwrap_or(u32::MAX), chunks.len() as u32];
        front.iter().chain(&back).for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
        let chunks: Vec<Vec<u16>> = chunks.into_iter().map(as_written).collect();
        chunks.iter().for_each(|chunk| out.extend_from_slice(&(chunk.len() as u16).to_le_bytes()));
        chunks.iter().flatten().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
    }
    out.extend_from_slice(&[0; ENTRY]);
    signed(out)
}

fn signed(mut content: Vec<u8>) -> Vec<u8> {
    let sum = crc32c::crc32c(&content);
    content.extend_from_slice(&sum.to_le_bytes());
    content
}

fn as_written(offsets: Vec<u16>) -> Vec<u16> {
    if offsets.len() < BITMAP {
        return offsets;
    }
    let mut words = vec![0; BITMAP];
    offsets.iter().for_each(|offset| words[usize::from(offset / 16)] |= 1 << (offset % 16));
    words
}

#[test]
fn names_read_back_as_themselves() {
    let name = "00000001000000000100002800000000010B3098.summary";
    let read = SummaryName::parse(name.as_bytes()).unwrap();
    assert_eq!((read.start, read.end), (Lsn(0x0100_0028), Lsn(0x010B_3098)));
    assert_eq!(read.to_string(), name);
    for wrong in [
        "temp.summary",
        "00000000000000000100002800000000010B3098.summary",
        "00000001000000000100002800000000010b3098.summary",
        "00000001000000000100002800000000010B3098",
        "0000000100000000010000280000000001000028.summary",
        "+0000001000000000100002800000000010B3098.summary",
        "00000001000000000100002800000000010B309.summary",
    ] {
        assert_eq!(SummaryName::parse(wrong.as_bytes()), None, "{wrong}");
    }
}

#[test]
fn summaries_add_up() {
    let other = Relation { number: 16385, ..TABLE };
    let dropped = Relation { database: 6, number: 0, ..TABLE };
    let mut changed = ChangedBlocks::default();
    changed.add(&summary(&[(TABLE, 0, None, vec![3, 70_000]), (other, 0, None, vec![1])])).unwrap();
    let cut = (other, 0, Some(8), vec![]);
    changed.add(&summary(&[(TABLE, 0, None, vec![2, 3]), (TABLE, 2, Some(0), vec![9]), cut])).unwrap();
    changed.add(&summary(&[(dropped, 0, Some(0), vec![])])).unwrap();
    assert_eq!(changed.of(TABLE, 0..131_072), Some(vec![2, 3, 70_000]));
    assert_eq!(changed.of(TABLE, 3..70_000), Some(vec![3]));
    assert_eq!(changed.of(TABLE, 5..5), Some(vec![]));
    // Cut, whatever came before; of a database that is another now; never heard of.
    assert_eq!(changed.of(other, 0..9), None);
    assert_eq!(changed.of(Relation { database: 6, ..TABLE }, 0..9), None);
    assert_eq!(changed.of(Relation { number: 1, ..TABLE }, 0..9), Some(vec![]));
}

#[test]
fn what_does_not_fit_counts_as_changed() {
    let mut changed = ChangedBlocks { room: 10, ..ChangedBlocks::default() };
    let other = Relation { number: 16385, ..TABLE };
    changed.add(&summary(&[(TABLE, 0, None, vec![1, 2, 3]), (other, 0, None, vec![1, 2, 3])])).unwrap();
    assert_eq!((changed.of(TABLE, 0..9), changed.of(other, 0..9)), (Some(vec![1, 2, 3]), None));
}

#[test]
fn what_is_not_written_so_is_refused() {
    let malformed = |what| Err(SummaryError::Malformed { what });
    let with = |at: usize, bytes: &[u8]| {
        let mut content = summary(&[(TABLE, 0, None, vec![1, 2])]);
        content.truncate(content.len() - 4);
        content[at..at + bytes.len()].copy_from_slice(bytes);
        signed(content)
    };
    let no_end = signed(MAGIC.to_le_bytes().to_vec());
    let behind = {
        let mut content = summary(&[]);
        content.truncate(content.len() - 4);
        content.push(0);
        signed(content)
    };
    for (content, expected) in [
        (summary(&[]), Ok(())),
        (vec![], Err(SummaryError::NotASummary)),
        (MAGIC.to_le_bytes().to_vec(), Err(SummaryError::BadChecksum)),
        (no_end, malformed("end")),
        (behind, malformed("end")),
        (with(16, &4u32.to_le_bytes()), malformed("fork")),
        (with(24, &u32::MAX.to_le_bytes()), malformed("table")),
        (with(24, &60_000u32.to_le_bytes()), malformed("table")),
        (with(28, &4097u16.to_le_bytes()), malformed("chunk")),
        (with(28, &4096u16.to_le_bytes()), malformed("chunk")),
    ] {
        assert_eq!(read_summary(&content, |_| {}), expected, "{content:02x?}");
    }
}

proptest! {
    #[test]
    fn every_block_comes_back_and_every_flipped_bit_is_seen(
        blocks in prop::collection::btree_set(0u32..200_000, 0..60), dense in prop::bool::ANY, at: prop::sample::Index, bit in 0u8..8,
    ) {
        let mut blocks = blocks;
        if dense {
            blocks.extend((65_536..131_072).step_by(9));
        }
        let blocks: Vec<u32> = blocks.into_iter().collect();
        let content = summary(&[(TABLE, 0, None, blocks.clone())]);
        let mut read = Vec::new();
        read_summary(&content, |entry| read.extend(entry.blocks())).unwrap();
        prop_assert_eq!(&read, &blocks);
        let mut changed = ChangedBlocks::default();
        changed.add(&content).unwrap();
        changed.add(&content).unwrap();
        prop_assert_eq!(changed.of(TABLE, 0..200_000).unwrap(), blocks);
        let mut flipped = content;
        let at = at.index(flipped.len());
        flipped[at] ^= 1 << bit;
        let seen = read_summary(&flipped, |_| ()).is_err();
        prop_assert!(seen);
    }

    #[test]
    fn no_bytes_behind_a_right_checksum_make_it_stumble(tail in prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 0..300)) {
        let content = signed([&MAGIC.to_le_bytes()[..], &tail].concat());
        let mut changed = ChangedBlocks::default();
        let _ = changed.add(&content);
    }
}
