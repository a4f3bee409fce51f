//! Hashes, as a suite has them: BLAKE3, or SHA-256 and HMAC-SHA-256 (FIPS 180-4, FIPS 198-1).

use aws_lc_rs::{digest, hmac};

use crate::header::Suite;

/// Which hash a suite derives keys, fingerprints pages and names objects with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hashing {
    Blake3,
    Sha256,
}

impl Suite {
    pub(crate) fn hashing(self) -> Hashing {
        match self {
            Suite::Plain
            | Suite::Aes256Gcm
            | Suite::ChaCha20Poly1305
            | Suite::Aes256GcmX25519
            | Suite::ChaCha20Poly1305X25519 => Hashing::Blake3,
            Suite::Fips | Suite::FipsP256 => Hashing::Sha256,
        }
    }
}

impl Hashing {
    /// The parts joined, hashed under a key.
    pub(crate) fn keyed(self, key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
        match self {
            Hashing::Blake3 => {
                // Pages come in one part, and are many.
                if let [only] = parts {
                    return *blake3::keyed_hash(key, only).as_bytes();
                }
                let mut hasher = blake3::Hasher::new_keyed(key);
                for part in parts {
                    hasher.update(part);
                }
                *hasher.finalize().as_bytes()
            }
            Hashing::Sha256 => {
                let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
                parts.iter().for_each(|part| context.update(part));
                front(context.sign().as_ref())
            }
        }
    }

    /// The front of the hash of an object's bytes as stored.
    pub(crate) fn object(self, bytes: &[u8]) -> [u8; 16] {
        match self {
            Hashing::Blake3 => front(blake3::hash(bytes).as_bytes()),
            Hashing::Sha256 => front(digest::digest(&digest::SHA256, bytes).as_ref()),
        }
    }
}

/// The front of the hash of an object's bytes as stored: what a manifest and a decision commit to.
pub fn object_hash(suite: Suite, object: &[u8]) -> [u8; 16] {
    suite.hashing().object(object)
}

/// SHA-256 of an object's bytes as stored, whatever the suite: what entries of the audit log name each other by, so that a
/// stranger needs no tool of ours to follow them.
pub fn chain_hash(object: &[u8]) -> [u8; 32] {
    front(digest::digest(&digest::SHA256, object).as_ref())
}

/// The first bytes of a hash, all of which are longer.
pub(crate) fn front<const N: usize>(hash: &[u8]) -> [u8; N] {
    match hash.first_chunk::<N>() {
        Some(front) => *front,
        None => unreachable!("a hash has {} bytes and not {N}", hash.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// RFC 4231, test case 1 with its key filled to 32 bytes by zeros, which HMAC does itself; FIPS 180-4's "abc"; BLAKE3's
    /// own vectors of no input.
    #[test]
    fn hashes_are_those_of_their_standards() {
        let mut key = [0; 32];
        key[..20].fill(0x0b);
        assert_eq!(
            hex(&Hashing::Sha256.keyed(&key, &[b"Hi ", b"There"])),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        );
        assert_eq!(hex(&object_hash(Suite::Fips, b"abc")), "ba7816bf8f01cfea414140de5dae2223");
        assert_eq!(
            hex(&chain_hash(b"abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        let key = *b"whats the Elvish word for friend";
        assert_eq!(
            hex(&Hashing::Blake3.keyed(&key, &[])),
            "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26"
        );
        assert_eq!(hex(&object_hash(Suite::Aes256Gcm, b"")), "af1349b9f5f9a1a6a0404dea36dcc949");
    }
}
