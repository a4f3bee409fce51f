//! Passwords as Argon2id hashes (RFC 9106), and tokens as hashes of what is random anyway.
//!
//! **Invariants**
//! - Two passwords are tried at a time: each takes 19 MiB and tens of milliseconds, and asking is free.
//! - A name that nobody has costs as much as one that somebody has.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use strongroom_model::Cx;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::context::Context;
use crate::settings::access::{Password, PersonName, TokenHash};

/// What a token begins with, so that those who look for leaked secrets find it.
pub const TOKEN_PREFIX: &str = "srt_";

/// The shortest password that is made a hash of.
pub const SHORTEST: usize = 12;

/// Passwords that are tried at a time.
const AT_A_TIME: usize = 2;

/// What nobody's password is compared with: of the same cost as ours.
const NOBODYS: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$YmFkIHNhbHQh$DqHGwv6NQV0VcaJi7jeF1E8IpfMXmXcpq4r2kKyqpXk";

/// As OWASP has it: 19 MiB, twice over.
fn argon2() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::default())
}

/// The PHC string of a password, with a salt of its own.
pub fn hashed(cx: &Cx, password: &str) -> Result<String, String> {
    let hash: PasswordHash = argon2()
        .hash_password_with_salt(password.as_bytes(), &cx.random::<16>())
        .map_err(|error| error.to_string())?;
    Ok(hash.to_string())
}

/// Whether the hash is this password's.
fn is_right(hash: &str, password: &str) -> bool {
    let Ok(hash) = PasswordHash::new(hash) else { return false };
    argon2().verify_password(password.as_bytes(), &hash).is_ok()
}

/// Tries passwords, some at a time.
pub struct Trials(Arc<Semaphore>);

impl Default for Trials {
    fn default() -> Trials {
        Trials(Arc::new(Semaphore::new(AT_A_TIME)))
    }
}

impl Trials {
    /// Whether this user has this password.
    pub async fn passes(
        &self,
        context: &Arc<Context>,
        name: Option<&PersonName>,
        password: Zeroizing<String>,
    ) -> bool {
        let Ok(_turn) = self.0.acquire().await else { return false };
        let (context, name) = (Arc::clone(context), name.cloned());
        // A secret may be a command's, and a hash takes its time: neither is for a thread that serves others.
        let tried = tokio::task::spawn_blocking(move || {
            let user = name.as_ref().and_then(|name| context.settings.users.get(name));
            let hash = user.and_then(|user| hash_of(&context, &user.password));
            let any = || {
                context.settings.users.values().find_map(|user| match &user.password {
                    Password::Hash(hash) => Some(hash.clone()),
                    Password::Secret(_) => None,
                })
            };
            match hash {
                Some(hash) => is_right(&hash, &password),
                None => {
                    is_right(&any().unwrap_or_else(|| NOBODYS.to_owned()), &password);
                    false
                }
            }
        });
        tried.await.unwrap_or(false)
    }
}

fn hash_of(context: &Context, password: &Password) -> Option<String> {
    match password {
        Password::Hash(hash) => Some(hash.clone()),
        Password::Secret(reference) => match reference.beside(|path| context.beside_file(path)).read() {
            Ok(hash) => Some(hash.trim().to_owned()),
            Err(error) => {
                tracing::error!("somebody cannot sign in: password in [user]: {error}");
                None
            }
        },
    }
}

/// A new token, and what it is known by.
pub fn token(cx: &Cx) -> (Zeroizing<String>, TokenHash) {
    let random = blake3::Hash::from_bytes(cx.random());
    let token = Zeroizing::new(format!("{TOKEN_PREFIX}{}", random.to_hex()));
    let hash = known_by(&token);
    (token, hash)
}

/// What a token is known by. Hashes compare in constant time.
pub fn known_by(token: &str) -> TokenHash {
    TokenHash(blake3::hash(token.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surroundings::real;

    #[test]
    fn a_hash_is_of_one_password_and_of_its_own_salt() {
        let cx = real();
        let [one, other] = [hashed(&cx, "correct horse").unwrap(), hashed(&cx, "correct horse").unwrap()];
        assert_ne!(one, other);
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert!(is_right(&one, "correct horse") && is_right(&other, "correct horse"));
        for wrong in ["", "correct hors", "correct horse ", "Correct horse"] {
            assert!(!is_right(&one, wrong), "{wrong}");
        }
        assert!(!is_right("", "") && !is_right("$argon2id$", ""));
        assert!(PasswordHash::new(NOBODYS).unwrap().hash.is_some());
    }

    #[test]
    fn a_token_is_known_by_its_hash_alone() {
        let cx = real();
        let (token, hash) = token(&cx);
        assert_eq!(known_by(&token), hash);
        assert_ne!(known_by(&format!("{}0", *token)), hash);
        assert_eq!(token.len(), TOKEN_PREFIX.len() + 64);
    }
}
