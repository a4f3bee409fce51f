//! The 32 clear bytes at the front of every binary object.
//!
//! ```text
//! 0        8        10     11     12        16                 32
//! | magic  | format | kind | suite| zero    | nonce: 128 random bits |
//! ```
//!
//! The nonce makes every object's bytes unlike any other's, so a writer whose reply was lost knows its own object
//! again; and it feeds the object's key, so that no two objects share a (key, nonce) pair.

use crate::wire::{Malformed, WireReader};

/// Bytes of the header.
pub const HEADER_SIZE: usize = 32;

/// The format this build writes, and the newest it reads.
pub const FORMAT: u16 = 1;

const MAGIC: [u8; 8] = *b"STRGROOM";

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A recovery point's intent.
    Intent = 1,
    /// Frames of pages.
    Pack = 2,
    /// A recovery point's rows.
    Manifest = 3,
    /// Commit, abandoned or revoked.
    Decision = 4,
    /// A WAL file.
    Journal = 5,
    /// A registered lineage of a source.
    Lineage = 6,
    /// The vault key, wrapped for one recipient.
    Key = 7,
    /// Retention let a point go.
    Tombstone = 8,
    /// A point that must not expire, or the end of that.
    Hold = 9,
    /// What was verified or drilled, when, and how it came out.
    Evidence = 10,
    /// Below which segment retention lets a timeline's WAL go.
    Floor = 11,
    /// What a sweep is about to delete.
    Sweep = 12,
    /// What is under seal of an entry of the audit log.
    Audit = 13,
}

/// Every kind there is.
const KINDS: [Kind; 13] = [
    Kind::Intent,
    Kind::Pack,
    Kind::Manifest,
    Kind::Decision,
    Kind::Journal,
    Kind::Lineage,
    Kind::Key,
    Kind::Tombstone,
    Kind::Hold,
    Kind::Evidence,
    Kind::Floor,
    Kind::Sweep,
    Kind::Audit,
];

impl Kind {
    fn read(byte: u8) -> Option<Kind> {
        KINDS.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// How an object's content is protected. The number is stored in every object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum Suite {
    /// Not encrypted; still checked against damage, by a keyed hash whose key is public.
    #[serde(rename = "none")]
    Plain = 0,
    /// AES-256-GCM; BLAKE3 for key derivation, fingerprints and ids.
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm = 1,
    /// AES-256-GCM; SHA-256 and HMAC-SHA-256 for key derivation, fingerprints and ids: algorithms that FIPS 140-3 approves.
    #[serde(rename = "fips")]
    Fips = 2,
    /// ChaCha20-Poly1305 (RFC 8439); BLAKE3: fast where a processor has no AES instructions.
    #[serde(rename = "chacha20-poly1305")]
    ChaCha20Poly1305 = 3,
    /// [`Suite::Aes256Gcm`], with content sealed for the holder of an X25519 key, so that a host may append and not read.
    #[serde(rename = "aes-256-gcm-x25519")]
    Aes256GcmX25519 = 4,
    /// [`Suite::Fips`], divided likewise by P-256.
    #[serde(rename = "fips-p256")]
    FipsP256 = 5,
    /// [`Suite::ChaCha20Poly1305`], divided likewise by X25519.
    #[serde(rename = "chacha20-poly1305-x25519")]
    ChaCha20Poly1305X25519 = 6,
}

/// Every suite there is.
pub const SUITES: [Suite; 7] = [
    Suite::Plain,
    Suite::Aes256Gcm,
    Suite::Fips,
    Suite::ChaCha20Poly1305,
    Suite::Aes256GcmX25519,
    Suite::FipsP256,
    Suite::ChaCha20Poly1305X25519,
];

impl Suite {
    /// Whether a host can be given a key that appends and does not read.
    pub fn divides_keys(self) -> bool {
        self.kem().is_some()
    }

    /// Whether it is made of algorithms that FIPS 140-3 approves.
    pub fn is_fips(self) -> bool {
        matches!(self, Suite::Fips | Suite::FipsP256)
    }

    fn read(byte: u8) -> Option<Suite> {
        SUITES.into_iter().find(|suite| *suite as u8 == byte)
    }
}

/// An object's header, read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What it is.
    pub kind: Kind,
    /// How it is protected.
    pub suite: Suite,
    /// Its 128 random bits.
    pub nonce: [u8; 16],
}

/// An object whose header cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not one of ours, or damaged.
    #[error("not a Strongroom object: its first bytes are wrong")]
    NotOurs,
    /// Written by a later Strongroom.
    #[error("written in format {0}, and this build reads up to format {FORMAT}")]
    Newer(u16),
    /// The wrong kind of object under this key.
    #[error("an object of another kind lies under this key")]
    OtherKind,
    /// Protected otherwise than this vault's objects are.
    #[error("an object of another suite lies under this key")]
    OtherSuite,
}

impl From<Malformed> for HeaderError {
    fn from(_: Malformed) -> HeaderError {
        HeaderError::NotOurs
    }
}

impl Header {
    /// The header's bytes.
    pub fn write(&self) -> [u8; HEADER_SIZE] {
        let mut out = [0; HEADER_SIZE];
        out[..8].copy_from_slice(&MAGIC);
        out[8..10].copy_from_slice(&FORMAT.to_le_bytes());
        out[10] = self.kind as u8;
        out[11] = self.suite as u8;
        out[16..].copy_from_slice(&self.nonce);
        out
    }

    /// Reads the header at the front of `object`, which must be a `kind`.
    pub fn read(object: &[u8], kind: Kind) -> Result<Header, HeaderError> {
        let mut reader = WireReader::new(object, "header");
        if reader.array()? != MAGIC {
            return Err(HeaderError::NotOurs);
        }
        let format = u16::from_le_bytes(reader.array()?);
        if format > FORMAT {
            return Err(HeaderError::Newer(format));
        }
        let (found, suite) = (reader.u8()?, reader.u8()?);
        if format != FORMAT || reader.u32()? != 0 {
            return Err(HeaderError::NotOurs);
        }
        let found = Kind::read(found).ok_or(HeaderError::NotOurs)?;
        let suite = Suite::read(suite).ok_or(HeaderError::NotOurs)?;
        if found != kind {
            return Err(HeaderError::OtherKind);
        }
        Ok(Header { kind, suite, nonce: reader.array()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_reads_back_and_every_wrong_byte_is_noticed() {
        let header = Header { kind: Kind::Pack, suite: Suite::Aes256Gcm, nonce: [7; 16] };
        let bytes = header.write();
        assert_eq!(Header::read(&bytes, Kind::Pack), Ok(header));
        assert_eq!(Header::read(&bytes, Kind::Intent), Err(HeaderError::OtherKind));
        assert_eq!(Header::read(&bytes[..31], Kind::Pack), Err(HeaderError::NotOurs));
        for at in 0..16 {
            let mut wrong = bytes;
            wrong[at] ^= 0x10;
            assert!(Header::read(&wrong, Kind::Pack).is_err(), "byte {at}");
        }
        let mut newer = bytes;
        newer[8] = 2;
        assert_eq!(Header::read(&newer, Kind::Pack), Err(HeaderError::Newer(2)));
    }
}
