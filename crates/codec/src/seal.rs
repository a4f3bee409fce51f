//! Sealing: authenticated encryption of blocks, and the keys.
//!
//! ```text
//! vault key (256 random bits, wrapped in keys/…)
//!  ├─ fingerprint key
//!  ├─ object key  = hash(vault key, "object" ‖ nonce)        intents, manifests, decisions, journal files
//!  └─ point key   (256 random bits, kept in the sealed intent and manifest)
//!      └─ pack key = hash(point key, "pack" ‖ nonce)         one per pack
//! block nonce = block type ‖ index; associated data = header ‖ vault id ‖ object key path ‖ type ‖ index ‖ codec ‖ length
//! ```
//!
//! **Invariant**: a (key, nonce) pair never repeats: every object has its own key from 128 random bits, and inside an
//! object every block its own type and index. A block moved to another place, object or vault does not open.

use aws_lc_rs::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use strongroom_model::VaultId;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::compress::Codec;
use crate::fingerprint::FingerprintKey;
use crate::header::{Header, Suite};

/// Bytes a sealed block is longer than its content.
pub const TAG_SIZE: usize = 16;

/// A block that does not open: damaged, moved, forged, or sealed with another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("damaged, or sealed with another key")]
pub struct NotAuthentic;

/// A vault's root key. Never leaves memory unwrapped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct VaultKey([u8; 32]);

/// A recovery point's own key.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PointKey([u8; 32]);

impl VaultKey {
    /// A key of these random bits.
    pub fn new(random: [u8; 32]) -> VaultKey {
        VaultKey(random)
    }

    /// The public key of a vault that is not encrypted: its blocks are only checked against damage.
    pub fn public() -> VaultKey {
        VaultKey([0; 32])
    }

    /// The raw key, to be wrapped.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The seed of this vault's signing key.
    pub(crate) fn evidence_seed(&self, suite: Suite) -> [u8; 32] {
        derive(suite, &self.0, b"evidence", &[])
    }

    /// The key of this vault's fingerprints, in a vault of this suite.
    pub fn fingerprint_key(&self, suite: Suite) -> FingerprintKey {
        FingerprintKey::new(suite, derive(suite, &self.0, b"fingerprint", &[]))
    }
}

impl PointKey {
    /// A key of these random bits.
    pub fn new(random: [u8; 32]) -> PointKey {
        PointKey(random)
    }

    /// The raw key, to be stored inside sealed objects.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// One root, many keys: the suite's hash, keyed with the root, over `purpose ‖ 0 ‖ salt`.
fn derive(suite: Suite, root: &[u8; 32], purpose: &[u8], salt: &[u8]) -> [u8; 32] {
    suite.hashing().keyed(root, &[purpose, &[0], salt])
}

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
        Sealer::new(derive(header.suite, &key.0, b"object", &header.nonce), header, vault, path)
    }

    /// For a pack of the point that has this key.
    pub fn for_pack(key: &PointKey, header: &Header, vault: &VaultId, path: &str) -> Sealer {
        Sealer::new(derive(header.suite, &key.0, b"pack", &header.nonce), header, vault, path)
    }

    fn new(mut key: [u8; 32], header: &Header, vault: &VaultId, path: &str) -> Sealer {
        let mut context = header.write().to_vec();
        context.extend_from_slice(vault.as_str().as_bytes());
        context.extend_from_slice(path.as_bytes());
        let algorithm = match header.suite {
            Suite::Plain => None,
            Suite::Aes256Gcm | Suite::Fips => Some(&AES_256_GCM),
            Suite::ChaCha20Poly1305 => Some(&CHACHA20_POLY1305),
        };
        let secret = match algorithm.map(|algorithm| UnboundKey::new(algorithm, &key)) {
            None => Secret::Plain(key),
            Some(Ok(unbound)) => Secret::Aead(Box::new(LessSafeKey::new(unbound))),
            // Both take 32 bytes: the only error is another length.
            Some(Err(_)) => unreachable!("{:?} refused a 256-bit key", header.suite),
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
        Sealer::for_pack(&PointKey::new([key; 32]), &header, &VaultId::new([1; 16]), path)
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
