//! Compression of one block: a frame or a stream's chunk. Never larger than it was: what does not shrink is kept raw.

use std::cell::RefCell;
use std::io::Cursor;

use crate::wire::Malformed;

/// How a stored block is compressed. The number is stored with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As it is.
    Raw = 0,
    /// A zstd frame (RFC 8878).
    Zstd = 1,
    /// An LZ4 block.
    Lz4 = 2,
}

impl Codec {
    /// The codec with this number.
    pub fn read(byte: u8) -> Result<Codec, Malformed> {
        [Codec::Raw, Codec::Zstd, Codec::Lz4]
            .into_iter()
            .find(|codec| *codec as u8 == byte)
            .ok_or(Malformed { what: "compression codec" })
    }
}

/// What the user asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// None at all.
    None,
    /// LZ4, fastest.
    Lz4,
    /// zstd at this level, 1 to 19.
    Zstd(i32),
}

impl Default for Compression {
    /// zstd level 1: a 2-core machine reads, compresses and seals faster than its disk takes the result.
    fn default() -> Self {
        Compression::Zstd(1)
    }
}

/// Not a compression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a compression: use none, lz4, zstd or zstd:LEVEL with a level from 1 to 19")]
pub struct CompressionError(String);

impl std::str::FromStr for Compression {
    type Err = CompressionError;

    fn from_str(text: &str) -> Result<Self, CompressionError> {
        let wrong = || CompressionError(text.to_owned());
        match text.split_once(':') {
            None if text == "none" => Ok(Compression::None),
            None if text == "lz4" => Ok(Compression::Lz4),
            None if text == "zstd" => Ok(Compression::default()),
            Some(("zstd", level)) => level
                .parse()
                .ok()
                .filter(|level| (1..=19).contains(level))
                .map(Compression::Zstd)
                .ok_or_else(wrong),
            _ => Err(wrong()),
        }
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Compression::None => f.write_str("none"),
            Compression::Lz4 => f.write_str("lz4"),
            Compression::Zstd(level) => write!(f, "zstd:{level}"),
        }
    }
}

/// Compresses block after block with one context.
pub struct Compressor(Inner);

enum Inner {
    Raw,
    Lz4,
    Zstd(zstd::bulk::Compressor<'static>),
}

impl Compressor {
    /// A compressor of this kind. Falls back to none where zstd cannot have its working memory.
    pub fn new(compression: Compression) -> Compressor {
        Compressor(match compression {
            Compression::None => Inner::Raw,
            Compression::Lz4 => Inner::Lz4,
            Compression::Zstd(level) => zstd::bulk::Compressor::new(level).map_or(Inner::Raw, Inner::Zstd),
        })
    }

    /// Appends `raw` to `out`, compressed if that makes it smaller, and says how.
    pub fn append(&mut self, raw: &[u8], out: &mut Vec<u8>) -> Codec {
        let start = out.len();
        let packed = match &mut self.0 {
            Inner::Raw => None,
            Inner::Lz4 => {
                // Room for one byte less than raw: what does not fit has not shrunk.
                out.resize(start + raw.len().saturating_sub(1), 0);
                let size = lz4_flex::block::compress_into(raw, &mut out[start..]);
                size.ok().map(|size| (Codec::Lz4, size))
            }
            Inner::Zstd(context) => {
                out.reserve(zstd::zstd_safe::compress_bound(raw.len()));
                // Written into the reserve: zeros before it would cost a twentieth of compressing.
                let mut room = Cursor::new(&mut *out);
                room.set_position(start as u64);
                let size = context.compress_to_buffer(raw, &mut room);
                size.ok().filter(|size| *size < raw.len()).map(|size| (Codec::Zstd, size))
            }
        };
        match packed {
            Some((codec, size)) => {
                out.truncate(start + size);
                codec
            }
            None => {
                out.truncate(start);
                out.extend_from_slice(raw);
                Codec::Raw
            }
        }
    }
}

thread_local! {
    /// A new one for every block would cost a third of decompressing. Its memory is some 160 KiB a thread.
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> =
        RefCell::new(zstd::bulk::Decompressor::new().ok());
}

/// Fills `raw` from `stored`; it must come out exactly as long as `raw` is.
pub fn decompress(codec: Codec, stored: &[u8], raw: &mut [u8]) -> Result<(), Malformed> {
    let size = match codec {
        Codec::Raw if stored.len() == raw.len() => {
            raw.copy_from_slice(stored);
            Some(raw.len())
        }
        Codec::Raw => None,
        Codec::Lz4 => lz4_flex::block::decompress_into(stored, raw).ok(),
        Codec::Zstd => DECOMPRESSOR.with_borrow_mut(|context| match context {
            Some(context) => context.decompress_to_buffer(stored, raw).ok(),
            None => zstd::bulk::decompress_to_buffer(stored, raw).ok(),
        }),
    };
    if size == Some(raw.len()) { Ok(()) } else { Err(Malformed { what: "compressed block" }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_shrink_is_kept_raw() {
        let noise: Vec<u8> =
            (0..1000u32).flat_map(|n| blake3::hash(&n.to_le_bytes()).as_bytes()[..8].to_vec()).collect();
        let plain = vec![7u8; 8000];
        for compression in [Compression::None, Compression::Lz4, Compression::Zstd(1), Compression::Zstd(19)]
        {
            let mut compressor = Compressor::new(compression);
            for raw in [&noise[..], &plain, &[], &[1]] {
                let mut out = vec![9];
                let codec = compressor.append(raw, &mut out);
                assert!(out.len() <= raw.len() + 1);
                let mut back = vec![0; raw.len()];
                assert_eq!(decompress(codec, &out[1..], &mut back), Ok(()));
                assert_eq!(back, raw);
                let mut short = vec![0; raw.len() + 1];
                assert!(decompress(codec, &out[1..], &mut short).is_err());
            }
        }
    }

    #[test]
    fn compressions_read_back() {
        for text in ["none", "lz4", "zstd:1", "zstd:19"] {
            assert_eq!(text.parse::<Compression>().unwrap().to_string(), text);
        }
        for bad in ["", "gzip", "zstd:0", "zstd:20", "zstd:", "lz4:1"] {
            assert!(bad.parse::<Compression>().is_err(), "{bad}");
        }
    }
}
