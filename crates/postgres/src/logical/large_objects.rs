//! Large objects, as a stream.
//!
//! ```text
//! part    = object* 'Z' count:u64
//! object  = 'O' oid:u32 length:u32 attributes(length) ('D' length:u32 bytes(length))* 'E'        numbers are big-endian
//! ```
//!
//! Attributes are JSON: owner, grants, comment. A piece has at most [`PIECE`] bytes.
//!
//! **Invariants**: a stream that ends before its `Z`, or whose count is another, is an error; no bytes make this module panic.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use strongroom_model::Cx;
use tokio_postgres::Row;

use crate::connect::Client;
use crate::logical::catalog::{grants, read_grants};
use crate::logical::facts::Grant;
use crate::logical::failure::LogicalError;
use crate::logical::part::LARGE_OBJECTS;
use crate::logical::tally::Tally;

const OPERATION: &str = "read large objects";

/// Bytes of an object read and written at a time.
pub(crate) const PIECE: usize = 1 << 20;

/// The longest attributes that are believed.
const LONGEST_ATTRIBUTES: usize = 16 << 20;

/// Objects listed at a time.
const LISTED: i64 = 1000;

/// What a large object is besides its bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attributes {
    pub(crate) owner: String,
    pub(crate) grants: Vec<Grant>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) comment: Option<String>,
}

/// What a stream consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// An object begins.
    Object(u32, Attributes),
    /// Bytes of it.
    Piece(Bytes),
    /// It is complete.
    End,
    /// There are no more; how many there were.
    Count(u64),
}

impl Item {
    pub(crate) fn write(&self, out: &mut BytesMut) -> Result<(), serde_json::Error> {
        match self {
            Item::Object(oid, attributes) => {
                let attributes = serde_json::to_vec(attributes)?;
                out.put_u8(b'O');
                out.put_u32(*oid);
                // An owner, a comment and rights: an ACL has at most 1 GB at the server, a statement as well.
                out.put_u32(attributes.len() as u32);
                out.put_slice(&attributes);
            }
            Item::Piece(bytes) => {
                out.put_u8(b'D');
                // At most PIECE.
                out.put_u32(bytes.len() as u32);
                out.put_slice(bytes);
            }
            Item::End => out.put_u8(b'E'),
            Item::Count(count) => {
                out.put_u8(b'Z');
                out.put_u64(*count);
            }
        }
        Ok(())
    }

    /// Takes the next item from what has arrived; `None` if more must arrive first.
    pub(crate) fn read(bytes: &mut BytesMut) -> Result<Option<Item>, String> {
        let Some((tag, mut rest)) = bytes.split_first().map(|(tag, rest)| (*tag, rest)) else {
            return Ok(None);
        };
        let item = match tag {
            b'O' if rest.len() >= 8 => {
                let (oid, length) = (rest.get_u32(), rest.get_u32() as usize);
                let attributes = cut(rest, length, LONGEST_ATTRIBUTES)?;
                let Some(attributes) = attributes else { return Ok(None) };
                let read = serde_json::from_slice(attributes).map_err(|error| error.to_string())?;
                (Item::Object(oid, read), 9 + length)
            }
            b'D' if rest.len() >= 4 => {
                let length = rest.get_u32() as usize;
                if cut(rest, length, PIECE)?.is_none() {
                    return Ok(None);
                }
                bytes.advance(5);
                return Ok(Some(Item::Piece(bytes.split_to(length).freeze())));
            }
            b'E' => (Item::End, 1),
            b'Z' if rest.len() >= 8 => (Item::Count(rest.get_u64()), 9),
            b'O' | b'D' | b'Z' => return Ok(None),
            other => return Err(format!("a piece of kind {other}")),
        };
        bytes.advance(item.1);
        Ok(Some(item.0))
    }
}

fn cut(rest: &[u8], length: usize, longest: usize) -> Result<Option<&[u8]>, String> {
    match length <= longest {
        true => Ok(rest.get(..length)),
        false => Err(format!("a piece of {length} bytes")),
    }
}

/// Reads a part's objects from a session.
pub(crate) struct Objects {
    client: Client,
    /// The part's numbers, half-open.
    range: (u64, u64),
    listed: std::collections::VecDeque<(u32, Attributes)>,
    /// The object being read, and how far.
    current: Option<(u32, i64)>,
    count: u64,
    is_done: bool,
    pub(crate) tally: Tally,
}

impl Objects {
    /// The objects of a part, as this session sees them.
    pub(crate) fn new(client: Client, part: u32) -> Objects {
        let first = u64::from(part) * u64::from(LARGE_OBJECTS);
        Objects {
            client,
            range: (first, first + u64::from(LARGE_OBJECTS)),
            listed: std::collections::VecDeque::new(),
            current: None,
            count: 0,
            is_done: false,
            tally: Tally::new(Vec::new()),
        }
    }

    /// What comes next, counted; `None` after the last.
    pub(crate) async fn next(&mut self, cx: &Cx) -> Result<Option<Item>, LogicalError> {
        cx.check()?;
        if self.is_done {
            return Ok(None);
        }
        if let Some((oid, at)) = self.current {
            return self.piece(oid, at).await.map(Some);
        }
        if self.listed.is_empty() {
            self.list().await?;
        }
        let Some((oid, attributes)) = self.listed.pop_front() else {
            self.is_done = true;
            return Ok(Some(Item::Count(self.count)));
        };
        self.current = Some((oid, 0));
        self.count += 1;
        self.tally.take(&oid.to_be_bytes(), false);
        Ok(Some(Item::Object(oid, attributes)))
    }

    async fn piece(&mut self, oid: u32, at: i64) -> Result<Item, LogicalError> {
        // The number of bytes is PIECE.
        let (sql, length) = ("SELECT pg_catalog.lo_get($1, $2, $3) AS bytes", PIECE as i32);
        let row = self.client.row(OPERATION, sql, &[&oid, &at, &length]).await?;
        let bytes: Vec<u8> = self.client.get(OPERATION, &row, "bytes")?;
        if bytes.is_empty() {
            self.current = None;
            self.tally.take(&[], true);
            return Ok(Item::End);
        }
        self.tally.take(&bytes, false);
        self.current = Some((oid, at + bytes.len() as i64));
        Ok(Item::Piece(bytes.into()))
    }

    async fn list(&mut self) -> Result<(), LogicalError> {
        let sql = format!(
            "SELECT m.oid, pg_get_userbyid(m.lomowner)::text AS owner, obj_description(m.oid, 'pg_largeobject') AS comment, \
             {} AS grants FROM pg_catalog.pg_largeobject_metadata m \
             WHERE m.oid::bigint >= $1 AND m.oid::bigint < $2 ORDER BY m.oid LIMIT $3",
            grants("m.lomacl")
        );
        // Object numbers have 32 bits.
        let (first, end) = (self.range.0 as i64, self.range.1 as i64);
        for row in self.client.rows(OPERATION, &sql, &[&first, &end, &LISTED]).await? {
            let (oid, attributes) = self.listed_one(&row)?;
            self.range.0 = u64::from(oid) + 1;
            self.listed.push_back((oid, attributes));
        }
        Ok(())
    }

    fn listed_one(&self, row: &Row) -> Result<(u32, Attributes), LogicalError> {
        let attributes = Attributes {
            owner: self.client.get(OPERATION, row, "owner")?,
            grants: read_grants(&self.client, row)?,
            comment: self.client.get(OPERATION, row, "comment")?,
        };
        Ok((self.client.get(OPERATION, row, "oid")?, attributes))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn items() -> Vec<Item> {
        let attributes =
            Attributes { owner: "o\"wner".into(), grants: Vec::new(), comment: Some("c".into()) };
        vec![
            Item::Object(7, attributes.clone()),
            Item::Piece(Bytes::from_static(b"bytes")),
            Item::Piece(Bytes::from(vec![0; PIECE])),
            Item::End,
            Item::Object(u32::MAX, attributes),
            Item::End,
            Item::Count(2),
        ]
    }

    #[test]
    fn what_is_written_is_read_however_it_is_cut() {
        let mut written = BytesMut::new();
        items().iter().for_each(|item| item.write(&mut written).unwrap());
        for cut in [1, 7, 4096, written.len()] {
            let (mut read, mut arrived) = (Vec::new(), BytesMut::new());
            for piece in written.chunks(cut) {
                arrived.extend_from_slice(piece);
                while let Some(item) = Item::read(&mut arrived).unwrap() {
                    read.push(item);
                }
            }
            assert_eq!(read, items(), "{cut}");
        }
        let too_long = [&b"D"[..], &(PIECE as u32 + 1).to_be_bytes()].concat();
        assert!(Item::read(&mut too_long[..].into()).is_err());
        assert!(Item::read(&mut b"Xyz"[..].into()).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, tag in prop::sample::select(b"ODEZ".to_vec())) {
            let mut arrived = BytesMut::from(&[&[tag], &bytes[..]].concat()[..]);
            while let Ok(Some(_)) = Item::read(&mut arrived) {}
        }
    }
}
