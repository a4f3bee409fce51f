//! The keys of a vault.
//!
//! ```text
//! vault key (256 random bits, wrapped in keys/…)
//!  ├─ append key  = hash(vault key, "append")                   what a host needs to append; wrapped on its own for one that may do no more
//!  │   ├─ fingerprint key
//!  │   └─ object key  = hash(append key, "object" ‖ nonce)      intents, manifests, decisions; of a WAL file its facts
//!  │       └─ point key   (256 random bits, kept in the sealed intent and manifest)
//!  │           └─ footer key  = hash(point key, "pack" ‖ nonce)
//!  ├─ private key = hash(vault key, "content")                  its public half goes with the append key
//!  │   └─ content key (one per point and WAL file, encapsulated to the public key)
//!  │       ├─ pack key    = hash(content key, "pack" ‖ nonce)   frames
//!  │       └─ object key  = hash(content key, "object" ‖ nonce) a WAL file's content
//!  ├─ retention key = hash(vault key, "retention")             proves who let points and WAL go
//!  └─ signing seed = hash(vault key, "evidence")
//! ```
//!
//! Whoever has the append key alone can add points and WAL, and compare pages with fingerprints; what a page or a WAL file
//! says it cannot read, not even of those it wrote before, and nothing goes at its word. Vaults of the older suites have no such division: there the
//! append key is the vault key, and point keys open frames as well.

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::agree::Kem;
use crate::fingerprint::FingerprintKey;
use crate::header::Suite;

/// A root of other keys: a vault key, an append key, or what a passphrase was stretched to. Never leaves memory unwrapped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct VaultKey([u8; 32]);

impl VaultKey {
    /// A key of these random bits.
    pub fn new(random: [u8; 32]) -> VaultKey {
        VaultKey(random)
    }

    /// The public key of a vault that is not encrypted: its blocks are only checked against damage.
    pub fn public() -> VaultKey {
        VaultKey([0; 32])
    }

    /// The seed of this vault's signing key.
    pub(crate) fn evidence_seed(&self, suite: Suite) -> [u8; 32] {
        derive(suite, &self.0, b"evidence", &[])
    }

    /// The key of fingerprints, in a vault of this suite.
    pub fn fingerprint_key(&self, suite: Suite) -> FingerprintKey {
        FingerprintKey::new(suite, derive(suite, &self.0, b"fingerprint", &[]))
    }

    pub(crate) fn object_key(&self, suite: Suite, nonce: &[u8; 16]) -> [u8; 32] {
        derive(suite, &self.0, b"object", nonce)
    }
}

/// What opens the content of one point or one WAL file, as far as a host has it.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct ContentKey {
    secret: Option<[u8; 32]>,
    encapsulated: Vec<u8>,
}

impl ContentKey {
    /// As it was stored: closed, until [`Keyring::open`] opens it.
    pub fn closed(encapsulated: Vec<u8>) -> ContentKey {
        ContentKey { secret: None, encapsulated }
    }

    /// What is to be stored of it.
    pub fn encapsulated(&self) -> &[u8] {
        &self.encapsulated
    }

    pub(crate) fn object_key(&self, suite: Suite, nonce: &[u8; 16]) -> Option<[u8; 32]> {
        self.secret.map(|secret| derive(suite, &secret, b"object", nonce))
    }
}

/// A recovery point's own keys.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct PointKey {
    key: [u8; 32],
    content: Option<ContentKey>,
}

impl PointKey {
    /// A key of these random bits, and the point's content key where the suite has one.
    pub fn new(random: [u8; 32], content: Option<ContentKey>) -> PointKey {
        PointKey { key: random, content }
    }

    /// The raw key, to be stored inside sealed objects.
    pub fn expose(&self) -> &[u8; 32] {
        &self.key
    }

    /// The content key, where the suite has one.
    pub fn content(&self) -> Option<&ContentKey> {
        self.content.as_ref()
    }

    pub(crate) fn footer_key(&self, suite: Suite, nonce: &[u8; 16]) -> [u8; 32] {
        derive(suite, &self.key, b"pack", nonce)
    }

    /// `None` if this host may not read what the point holds.
    pub(crate) fn frame_key(&self, suite: Suite, nonce: &[u8; 16]) -> Option<[u8; 32]> {
        match (&self.content, suite.divides_keys()) {
            (None, false) => Some(self.footer_key(suite, nonce)),
            (Some(content), true) => content.secret.map(|secret| derive(suite, &secret, b"pack", nonce)),
            _ => None,
        }
    }
}

/// The keys of a vault, as far as a host has them.
#[derive(Clone)]
pub struct Keyring {
    suite: Suite,
    append: VaultKey,
    /// The private key's public half, where the suite has one.
    public: Option<(Kem, Vec<u8>)>,
    whole: Option<VaultKey>,
}

impl Keyring {
    /// All keys of a vault of this suite.
    pub fn whole(suite: Suite, key: VaultKey) -> Keyring {
        let (append, public) = match suite.kem() {
            None => (key.clone(), None),
            Some(kem) => {
                let public = Kem::public(&private(suite, kem, &key.0));
                (VaultKey(derive(suite, &key.0, b"append", &[])), Some((kem, public)))
            }
        };
        Keyring { suite, append, public, whole: Some(key) }
    }

    /// The keys that an unwrapped secret stands for: a vault key, or an append key and the public key. `None` if it is neither.
    pub fn read(suite: Suite, secret: &[u8]) -> Option<Keyring> {
        let (key, public) = secret.split_first_chunk::<32>()?;
        match (public, suite.kem()) {
            ([], _) => Some(Keyring::whole(suite, VaultKey(*key))),
            (public, Some(kem)) => {
                // Whatever is sealed to a public key that is none would be lost.
                kem.encapsulate(&private(suite, kem, key), public)?;
                Some(Keyring {
                    suite,
                    append: VaultKey(*key),
                    public: Some((kem, public.to_vec())),
                    whole: None,
                })
            }
            (_, None) => None,
        }
    }

    /// The vault key, to be wrapped. `None` on a host that may only append.
    pub fn secret(&self) -> Option<Zeroizing<Vec<u8>>> {
        self.whole.as_ref().map(|key| Zeroizing::new(key.0.to_vec()))
    }

    /// What a host needs that may only append, to be wrapped. `None` in a suite that does not divide its keys.
    pub fn append_secret(&self) -> Option<Zeroizing<Vec<u8>>> {
        self.public.as_ref().map(|(_, public)| Zeroizing::new([&self.append.0[..], public].concat()))
    }

    /// What records and streams are sealed with, and fingerprints keyed.
    pub fn append_key(&self) -> &VaultKey {
        &self.append
    }

    /// The vault key, if this host has it: with it, it may read and sign.
    pub fn vault_key(&self) -> Option<&VaultKey> {
        self.whole.as_ref()
    }

    /// What binds a vault to its append key and public key without telling either, in a suite that divides keys: whoever
    /// wraps others for a host is found out.
    pub fn commitment(&self) -> Option<[u8; 32]> {
        let (_, public) = self.public.as_ref()?;
        Some(derive(self.suite, &self.append.0, b"commitment", public))
    }

    /// What shows that whoever wrote the object that `name` names, by which points or WAL may go, has the vault key. `None` in
    /// a suite that does not divide its keys, and on a host that may only append.
    pub fn proof(&self, name: &str) -> Option<[u8; 32]> {
        let whole = self.whole.as_ref().filter(|_| self.suite.divides_keys())?;
        let retention = derive(self.suite, &whole.0, b"retention", &[]);
        Some(derive(self.suite, &retention, b"proof", name.as_bytes()))
    }

    /// Whether both are of one vault, however much each host has.
    pub fn is_same_vault(&self, other: &Keyring) -> bool {
        (self.suite, &self.append, &self.public) == (other.suite, &other.append, &other.public)
    }

    /// A content key, open, for a point or WAL file to be written; `None` in a suite that does not divide its keys.
    /// `random` must be used for nothing else.
    pub fn new_content_key(&self, random: [u8; 32]) -> Option<ContentKey> {
        let (kem, public) = self.public.as_ref()?;
        let made = kem.encapsulate(&private(self.suite, *kem, &random), public);
        // `read` tried the public key, and `whole` made it.
        let made = made.unwrap_or_else(|| unreachable!("the vault's public key is none"));
        Some(ContentKey { secret: Some(*made.shared), encapsulated: made.encapsulated })
    }

    /// Opens a content key, if this host may read and the key is whole; else it stays closed.
    pub fn open(&self, content: &ContentKey) -> ContentKey {
        let secret = content.secret.or_else(|| {
            let (whole, kem) = (self.whole.as_ref()?, self.suite.kem()?);
            kem.decapsulate(&private(self.suite, kem, &whole.0), &content.encapsulated)
        });
        ContentKey { secret, encapsulated: content.encapsulated.clone() }
    }

    /// The same for a point's.
    pub fn open_point(&self, key: &PointKey) -> PointKey {
        PointKey { key: key.key, content: key.content.as_ref().map(|content| self.open(content)) }
    }
}

/// A private key that follows from `seed`.
fn private(suite: Suite, kem: Kem, seed: &[u8; 32]) -> aws_lc_rs::agreement::PrivateKey {
    // One try in 2³² is no scalar of P-256.
    let mut tries = (0..=u8::MAX).map(|n| derive(suite, seed, b"content", &[n]));
    let found = tries.find_map(|bytes| kem.private(&bytes));
    found.unwrap_or_else(|| unreachable!("256 hashes in a row were no private key"))
}

/// One root, many keys: the suite's hash, keyed with the root, over `purpose ‖ 0 ‖ salt`.
fn derive(suite: Suite, root: &[u8; 32], purpose: &[u8], salt: &[u8]) -> [u8; 32] {
    suite.hashing().keyed(root, &[purpose, &[0], salt])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::header::SUITES;

    fn divided() -> impl Iterator<Item = Suite> {
        SUITES.into_iter().filter(|suite| suite.divides_keys())
    }

    #[test]
    fn who_may_only_append_makes_what_only_the_whole_key_opens() {
        assert_eq!(divided().count(), 3);
        for suite in divided() {
            let whole = Keyring::whole(suite, VaultKey::new([1; 32]));
            let append = Keyring::read(suite, &whole.append_secret().unwrap()).unwrap();
            assert!(
                append.is_same_vault(&whole) && append.secret().is_none() && append.vault_key().is_none()
            );
            assert_eq!(append.commitment(), whole.commitment());
            assert!(append.append_key() == whole.append_key() && append.append_key().0 != [1; 32]);

            let made = append.new_content_key([2; 32]).unwrap();
            let stored = ContentKey::closed(made.encapsulated().to_vec());
            assert!(whole.open(&stored) == made, "{suite:?}");
            assert!(append.open(&stored) == stored, "{suite:?}");
            let other = Keyring::whole(suite, VaultKey::new([3; 32]));
            assert!(other.open(&stored) != made && !other.is_same_vault(&whole));
            // A forger's public key beside the vault's own append key, and the other way round.
            let (secret, theirs) = (whole.append_secret().unwrap(), other.append_secret().unwrap());
            for mixed in [[&secret[..32], &theirs[32..]].concat(), [&theirs[..32], &secret[32..]].concat()] {
                let forged = Keyring::read(suite, &mixed).unwrap();
                assert!(forged.commitment() != whole.commitment() && !forged.is_same_vault(&whole));
            }
            // The key of a point or file made by another chance is another.
            assert!(append.new_content_key([4; 32]).unwrap() != made);
        }
    }

    #[test]
    fn a_secret_reads_back_and_rubbish_does_not() {
        for suite in SUITES {
            let whole = Keyring::whole(suite, VaultKey::new([1; 32]));
            let back = Keyring::read(suite, &whole.secret().unwrap()).unwrap();
            assert!(back.is_same_vault(&whole) && back.vault_key() == whole.vault_key());
            for rubbish in [&[1; 31][..], &[1; 33], &[0; 64], &[0; 97]] {
                assert!(Keyring::read(suite, rubbish).is_none(), "{suite:?} {}", rubbish.len());
            }
            assert_eq!(whole.append_secret().is_some(), suite.divides_keys());
            assert_eq!(whole.commitment().is_some(), suite.divides_keys());
            assert_eq!(whole.new_content_key([2; 32]).is_some(), suite.divides_keys());
        }
    }

    #[test]
    fn proofs_are_of_one_vault_and_place_and_not_for_who_appends() {
        for suite in SUITES {
            let whole = Keyring::whole(suite, VaultKey::new([1; 32]));
            assert_eq!(whole.proof("a").is_some(), suite.divides_keys());
            if let Some(proof) = whole.proof("a") {
                let other = Keyring::whole(suite, VaultKey::new([2; 32]));
                assert!(whole.proof("b") != Some(proof) && other.proof("a") != Some(proof));
                assert_eq!(Keyring::read(suite, &whole.append_secret().unwrap()).unwrap().proof("a"), None);
            }
        }
    }

    #[test]
    fn frames_are_never_sealed_by_the_key_of_footers_where_keys_are_divided() {
        let nonce = [5; 16];
        for suite in SUITES {
            let keys = Keyring::whole(suite, VaultKey::new([1; 32]));
            let key = PointKey::new([6; 32], keys.new_content_key([2; 32]));
            let frames = key.frame_key(suite, &nonce).unwrap();
            assert_eq!(frames == key.footer_key(suite, &nonce), !suite.divides_keys());
            // A point without a content key in such a vault, or with one in another, is none of ours.
            let odd = PointKey::new(
                [6; 32],
                if suite.divides_keys() { None } else { Some(ContentKey::closed(vec![])) },
            );
            assert_eq!(odd.frame_key(suite, &nonce), None);
        }
    }
}
