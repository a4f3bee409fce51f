//! Sealing: authenticated encryption of blocks.
//!
//! ```text
//! block nonce = block type ‖ index; associated data = header ‖ vault id ‖ object key path ‖ type ‖ index ‖ codec ‖ length
//! ```
//!
//! **Invariant**: a (key, nonce) pair never repeats: every object has its own key from 128 random bits, and inside an
//! object every block its own type and index. A block moved to another place, object or vault does not open.

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use strongroom_model::VaultId;
use zeroize::Zeroize;

use crate::compress::Codec;
use crate::header::{Header, Suite};
use crate::keys::{ContentKey, PointKey, VaultKey};

/// Bytes a sealed block is longer than its content.
pub const TAG_SIZE: usize = 16;

/// A block that does not open: damaged, moved, forged, or sealed with another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("damaged, or sealed with another key")]
pub struct NotAuthentic;

/// What a block is: part of its nonce and its associated data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum BlockType {
    /// Pages, in a pack.
    Frame = 1,
    /// A pack's footer.
    Footer = 2,
    /// A part of a stream, more to follow.
    Chunk = 3,
    /// The last part of a stream: its absence shows a truncated object.
    LastChunk = 4,
}

/// Where a block stands in its object and how it was compressed: all of it is authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockPlace {
    /// What it is.
    pub block_type: BlockType,
    /// Counted from 0 within its type.
    pub index: u32,
    /// How it is compressed.
    pub codec: Codec,
    /// Its length before compression, in bytes.
    pub raw_len: u32,
}

/// Seals and opens the blocks of one object.
pub struct Sealer {
    key: Secret,
    context: Vec<u8>,
}

enum Secret {
    Plain([u8; 32]),
    Aead(Box<LessSafeKey>),
}

impl Sealer {
    /// For an object sealed under the vault key directly. `path` is its key in the store.
    pub fn for_object(key: &VaultKey, header: &Header, vault: &VaultId, path: &str) -> Sealer {
        Sealer::new(key.object_key(header.suite, &header.nonce), header.suite, context(header, vault, path))
    }

    /// For the rest of an object whose content has a key of its own; `None` if this host may not read it.
    pub(crate) fn for_content(&self, key: &ContentKey, header: &Header) -> Option<Sealer> {
        let key = key.object_key(header.suite, &header.nonce)?;
        Some(Sealer::new(key, header.suite, self.context.clone()))
    }

    /// For the footer of a pack of the point that has this key.
    pub fn for_footer(key: &PointKey, header: &Header, vault: &VaultId, path: &str) -> Sealer {
        Sealer::new(key.footer_key(header.suite, &header.nonce), header.suite, context(header, vault, path))
    }

    /// For its frames; `None` if this host may not read them.
    pub fn for_frames(key: &PointKey, header: &Header, vault: &VaultId, path: &str) -> Option<Sealer> {
        let key = key.frame_key(header.suite, &header.nonce)?;
        Some(Sealer::new(key, header.suite, context(header, vault, path)))
    }

    fn new(mut key: [u8; 32], suite: Suite, context: Vec<u8>) -> Sealer {
        let algorithm = match suite {
            Suite::Plain => None,
            Suite::Aes256Gcm | Suite::Fips | Suite::Aes256GcmX25519 | Suite::FipsP256 => Some(&AES_256_GCM),
            Suite::ChaCha20Poly1305 | Suite::ChaCha20Poly1305X25519 => Some(&CHACHA20_POLY1305),
        };
        let secret = match algorithm.map(|algorithm| UnboundKey::new(algorithm, &key)) {
            None => Secret::Plain(key),
            Some(Ok(unbound)) => Secret::Aead(Box::new(LessSafeKey::new(unbound))),
            // Both take 32 bytes: the only error is another length.
            Some(Err(_)) => unreachable!("{suite:?} refused a 256-bit key"),
        };
        key.zeroize();
        Sealer { key: secret, context }
    }

    fn associated(&self, place: &BlockPlace) -> ([u8; 12], Vec<u8>) {
        let mut nonce = [0; 12];
        nonce[0] = place.block_type as u8;
        nonce[8..].copy_from_slice(&place.index.to_le_bytes());
        let mut data = Vec::with_capacity(self.context.len() + 10);
        data.extend_from_slice(&self.context);
        data.push(place.block_type as u8);
        data.extend_from_slice(&place.index.to_le_bytes());
        data.push(place.codec as u8);
        data.extend_from_slice(&place.raw_len.to_le_bytes());
        (nonce, data)
    }

    /// Seals `block` in place and returns its tag.
    pub fn seal(&self, place: &BlockPlace, block: &mut [u8]) -> [u8; TAG_SIZE] {
        let (nonce, data) = self.associated(place);
        match &self.key {
            Secret::Plain(key) => plain_tag(key, &nonce, &data, block),
            Secret::Aead(key) => {
                let sealed = key.seal_in_place_separate_tag(
                    Nonce::assume_unique_for_key(nonce),
                    Aad::from(data),
                    block,
                );
                // The only error is a block beyond 64 GiB; ours are at most a few MiB.
                let tag = sealed
                    .unwrap_or_else(|_| unreachable!("the cipher refused a block of {} bytes", block.len()));
                let mut out = [0; TAG_SIZE];
                out.copy_from_slice(tag.as_ref());
                out
            }
        }
    }

    /// Opens `sealed` (content and tag) in place; the content is its front. On error the bytes are worthless.
    pub fn open<'a>(&self, place: &BlockPlace, sealed: &'a mut [u8]) -> Result<&'a mut [u8], NotAuthentic> {
        let (nonce, data) = self.associated(place);
        match &self.key {
            Secret::Plain(key) => {
                let (block, tag) = sealed.split_last_chunk_mut::<TAG_SIZE>().ok_or(NotAuthentic)?;
                if plain_tag(key, &nonce, &data, block) == *tag { Ok(block) } else { Err(NotAuthentic) }
            }
            Secret::Aead(key) => key
                .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(data), sealed)
                .map_err(|_| NotAuthentic),
        }
    }
}

/// What every block of an object is sealed with besides its own place.
fn context(header: &Header, vault: &VaultId, path: &str) -> Vec<u8> {
    let mut context = header.write().to_vec();
    context.extend_from_slice(vault.as_str().as_bytes());
    context.extend_from_slice(path.as_bytes());
    context
}

/// Suite 0's tag: the front of BLAKE3 keyed with the object's (public) key over everything GCM would authenticate.
fn plain_tag(key: &[u8; 32], nonce: &[u8; 12], data: &[u8], block: &[u8]) -> [u8; TAG_SIZE] {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(nonce).update(&(data.len() as u64).to_le_bytes()).update(data).update(block);
    let mut tag = [0; TAG_SIZE];
    hasher.finalize_xof().fill(&mut tag);
    tag
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::{Kind, SUITES};

    const PLACE: BlockPlace =
        BlockPlace { block_type: BlockType::Frame, index: 3, codec: Codec::Raw, raw_len: 5 };

    fn sealer(suite: Suite, key: u8, path: &str) -> Sealer {
        let header = Header { kind: Kind::Pack, suite, nonce: [9; 16] };
        Sealer::for_footer(&PointKey::new([key; 32], None), &header, &VaultId::new([1; 16]), path)
    }

    fn sealed(suite: Suite) -> Vec<u8> {
        let mut block = b"pages".to_vec();
        let tag = sealer(suite, 1, "a/b").seal(&PLACE, &mut block);
        block.extend_from_slice(&tag);
        block
    }

    #[test]
    fn a_block_opens_only_where_it_was_sealed() {
        for suite in SUITES {
            let opens = |sealer: &Sealer, place: &BlockPlace| {
                sealer.open(place, &mut sealed(suite)).map(|b| b.to_vec())
            };
            assert_eq!(opens(&sealer(suite, 1, "a/b"), &PLACE).as_deref(), Ok(&b"pages"[..]));
            assert_eq!(opens(&sealer(suite, 2, "a/b"), &PLACE), Err(NotAuthentic));
            assert_eq!(opens(&sealer(suite, 1, "a/c"), &PLACE), Err(NotAuthentic));
            for wrong in [
                BlockPlace { index: 4, ..PLACE },
                BlockPlace { block_type: BlockType::Chunk, ..PLACE },
                BlockPlace { codec: Codec::Lz4, ..PLACE },
                BlockPlace { raw_len: 6, ..PLACE },
            ] {
                assert_eq!(opens(&sealer(suite, 1, "a/b"), &wrong), Err(NotAuthentic), "{wrong:?}");
            }
        }
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_noticed() {
        for suite in SUITES {
            let good = sealed(suite);
            for bit in 0..good.len() * 8 {
                let mut wrong = good.clone();
                wrong[bit / 8] ^= 1 << (bit % 8);
                assert!(sealer(suite, 1, "a/b").open(&PLACE, &mut wrong).is_err());
            }
            for len in 0..good.len() {
                assert!(sealer(suite, 1, "a/b").open(&PLACE, &mut good[..len].to_vec()).is_err());
            }
        }
    }

    #[test]
    fn encryption_hides_the_content() {
        for suite in SUITES.into_iter().filter(|suite| *suite != Suite::Plain) {
            assert!(!sealed(suite).windows(5).any(|window| window == b"pages"), "{suite:?}");
        }
        assert!(sealed(Suite::Plain).starts_with(b"pages"));
    }
}
