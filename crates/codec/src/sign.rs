//! Signatures on what a vault says of itself: Ed25519 (RFC 8032), with a key that follows from the vault key.
//!
//! Whoever holds the vault key can sign; whoever has the public key, which is printed, can check a record that was handed
//! out, without any access to the vault.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use crate::header::Suite;
use crate::keys::VaultKey;

/// A vault's signing key.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// The key of this vault, which is of this suite.
    pub fn of(key: &VaultKey, suite: Suite) -> SigningKey {
        match Ed25519KeyPair::from_seed_unchecked(&key.evidence_seed(suite)) {
            Ok(pair) => SigningKey(pair),
            Err(_) => unreachable!("Ed25519 refused a seed of 32 bytes"),
        }
    }

    /// What others check signatures with.
    pub fn public(&self) -> Vec<u8> {
        self.0.public_key().as_ref().to_vec()
    }

    /// Signs.
    pub fn sign(&self, statement: &[u8]) -> Vec<u8> {
        self.0.sign(statement).as_ref().to_vec()
    }
}

/// Whether `signature` is the public key's on `statement`.
pub fn is_signed(public: &[u8], statement: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public).verify(statement, signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_its_statement_and_key_alone() {
        let (key, other) = (
            SigningKey::of(&VaultKey::new([1; 32]), Suite::Fips),
            SigningKey::of(&VaultKey::new([2; 32]), Suite::Fips),
        );
        let signature = key.sign(b"verified");
        assert!(is_signed(&key.public(), b"verified", &signature));
        assert!(!is_signed(&key.public(), b"Verified", &signature));
        assert!(!is_signed(&other.public(), b"verified", &signature));
        assert!(!is_signed(&key.public(), b"verified", &signature[1..]));
        assert!(!is_signed(&[], b"verified", &signature));
        assert_eq!(key.public(), SigningKey::of(&VaultKey::new([1; 32]), Suite::Fips).public());
    }
}
