//! Key encapsulation: a fresh key for whoever holds a private key, made by who knows only its public half.
//!
//! DHKEM of HPKE (RFC 9180 §4.1) with HKDF-SHA256: X25519, or P-256 in the FIPS suite. The encapsulated key is the
//! public half of a key pair that is used once and forgotten.

use aws_lc_rs::agreement::{Algorithm, ECDH_P256, PrivateKey, UnparsedPublicKey, X25519, agree};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use zeroize::Zeroizing;

use crate::header::Suite;

/// A key encapsulation mechanism of RFC 9180 §7.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kem {
    /// DHKEM(X25519, HKDF-SHA256).
    X25519,
    /// DHKEM(P-256, HKDF-SHA256).
    P256,
}

/// A fresh key, and what the holder of the private key finds it by.
pub(crate) struct Encapsulation {
    pub(crate) shared: Zeroizing<[u8; 32]>,
    pub(crate) encapsulated: Vec<u8>,
}

/// Bytes of the fresh key.
struct SharedLen;

impl KeyType for SharedLen {
    fn len(&self) -> usize {
        32
    }
}

impl Suite {
    pub(crate) fn kem(self) -> Option<Kem> {
        match self {
            Suite::Plain | Suite::Aes256Gcm | Suite::Fips | Suite::ChaCha20Poly1305 => None,
            Suite::Aes256GcmX25519 | Suite::ChaCha20Poly1305X25519 => Some(Kem::X25519),
            Suite::FipsP256 => Some(Kem::P256),
        }
    }
}

impl Kem {
    fn algorithm(self) -> &'static Algorithm {
        match self {
            Kem::X25519 => &X25519,
            Kem::P256 => &ECDH_P256,
        }
    }

    /// `"KEM" ‖ I2OSP(kem_id, 2)`.
    fn suite_id(self) -> [u8; 5] {
        let [high, low] = match self {
            Kem::X25519 => 0x0020_u16.to_be_bytes(),
            Kem::P256 => 0x0010_u16.to_be_bytes(),
        };
        [b'K', b'E', b'M', high, low]
    }

    /// A private key of these 32 bytes; `None` for the one in 2³² that P-256 refuses.
    pub(crate) fn private(self, bytes: &[u8; 32]) -> Option<PrivateKey> {
        PrivateKey::from_private_key(self.algorithm(), bytes).ok()
    }

    /// The public half of a private key.
    pub(crate) fn public(private: &PrivateKey) -> Vec<u8> {
        let public = private.compute_public_key();
        public.unwrap_or_else(|_| unreachable!("a private key without a public half")).as_ref().to_vec()
    }

    /// Makes a key for the holder of `recipient`'s private half, with `ephemeral`, which must be used for nothing else.
    /// `None` if `recipient` is no public key.
    pub(crate) fn encapsulate(self, ephemeral: &PrivateKey, recipient: &[u8]) -> Option<Encapsulation> {
        let encapsulated = Kem::public(ephemeral);
        let shared = self.shared(ephemeral, recipient, (&encapsulated, recipient))?;
        Some(Encapsulation { shared: Zeroizing::new(shared), encapsulated })
    }

    /// The key that [`Kem::encapsulate`] made; `None` if `encapsulated` is no public key.
    pub(crate) fn decapsulate(self, private: &PrivateKey, encapsulated: &[u8]) -> Option<[u8; 32]> {
        self.shared(private, encapsulated, (encapsulated, &Kem::public(private)))
    }

    fn shared(
        self,
        private: &PrivateKey,
        peer: &[u8],
        (encapsulated, recipient): (&[u8], &[u8]),
    ) -> Option<[u8; 32]> {
        let suite = self.suite_id();
        let peer = UnparsedPublicKey::new(self.algorithm(), peer);
        agree(private, peer, (), |secret| {
            let labelled = Zeroizing::new([b"HPKE-v1", &suite[..], b"eae_prk", secret].concat());
            let extracted = Salt::new(HKDF_SHA256, &[]).extract(&labelled);
            let info = [
                &32_u16.to_be_bytes()[..],
                b"HPKE-v1",
                &suite[..],
                b"shared_secret",
                encapsulated,
                recipient,
            ];
            let mut shared = [0; 32];
            let filled = extracted.expand(&info, SharedLen).and_then(|expanded| expanded.fill(&mut shared));
            filled.map(|()| shared).map_err(|_| ())
        })
        .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        hex.as_bytes().chunks(2).map(byte).collect()
    }

    /// RFC 9180 appendix A.1.1 and A.3.1: skEm, skRm, pkRm, enc and the shared secret.
    const VECTORS: [(Kem, [&str; 5]); 2] = [
        (
            Kem::X25519,
            [
                "52c4a758a802cd8b936eceea314432798d5baf2d7e9235dc084ab1b9cfa2f736",
                "4612c550263fc8ad58375df3f557aac531d26850903e55a9f23f21d8534e8ac8",
                "3948cfe0ad1ddb695d780e59077195da6c56506b027329794ab02bca80815c4d",
                "37fda3567bdbd628e88668c3c8d7e97d1d1253b6d4ea6d44c150f741f1bf4431",
                "fe0e18c9f024ce43799ae393c7e8fe8fce9d218875e8227b0187c04e7d2ea1fc",
            ],
        ),
        (
            Kem::P256,
            [
                "4995788ef4b9d6132b249ce59a77281493eb39af373d236a1fe415cb0c2d7beb",
                "f3ce7fdae57e1a310d87f1ebbde6f328be0a99cdbcadf4d6589cf29de4b8ffd2",
                "04fe8c19ce0905191ebc298a9245792531f26f0cece2460639e8bc39cb7f706a826a779b4cf969b8a0e539c7f62fb3d30ad6aa8f80e30f1d128aafd68a2ce72ea0",
                "04a92719c6195d5085104f469a8b9814d5838ff72b60501e2c4466e5e67b325ac98536d7b61a1af4b78e5b7f951c0900be863c403ce65c9bfcb9382657222d18c4",
                "c0d26aeab536609a572b07695d933b589dcf363ff9d93c93adea537aeabb8cb8",
            ],
        ),
    ];

    #[test]
    fn keys_are_those_of_the_standard() {
        for (kem, vector) in VECTORS {
            let [ephemeral, private, public, encapsulated, shared] = vector.map(bytes);
            let key = |bytes: &[u8]| kem.private(bytes.try_into().unwrap()).unwrap();
            let made = kem.encapsulate(&key(&ephemeral), &public).unwrap();
            assert_eq!(
                (&made.encapsulated, made.shared.to_vec()),
                (&encapsulated, shared.clone()),
                "{kem:?}"
            );
            assert_eq!(kem.decapsulate(&key(&private), &encapsulated).unwrap().to_vec(), shared, "{kem:?}");
            assert_eq!(Kem::public(&key(&private)), public, "{kem:?}");
        }
    }

    #[test]
    fn what_is_no_public_key_is_refused() {
        for (kem, [ephemeral, _, public, ..]) in VECTORS {
            let key = kem.private(&bytes(ephemeral).try_into().unwrap()).unwrap();
            let public = bytes(public);
            // The point of order one, whose shared secret everybody knows.
            let mut neutral = vec![0; public.len()];
            for wrong in [&public[1..], &[], &neutral.clone(), &[&public[..], &[0]].concat()] {
                assert!(kem.encapsulate(&key, wrong).is_none(), "{kem:?} {wrong:?}");
                assert!(kem.decapsulate(&key, wrong).is_none(), "{kem:?} {wrong:?}");
            }
            neutral[0] = 4;
            assert!(kem == Kem::X25519 || kem.encapsulate(&key, &neutral).is_none());
        }
    }
}
