//! `strongroom init`

#![allow(
    clippy::disallowed_methods,
    reason = "takes back the identity and settings files that the user asked for"
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;
use strongroom_ops::OpsError;
use strongroom_ops::doctor::{Examination, examine_store};
use strongroom_postgres::advice::Verdict;
use strongroom_store::Store;
use strongroom_vault::keys::generate_identity;
use strongroom_vault::{Recipient, Suite, Unlock, Vault, VaultError};

use zeroize::Zeroizing;

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::Outcome;
use crate::surroundings;

/// Make a vault, and its key
#[derive(clap::Args)]
#[command(after_help = "\
The vault is encrypted. Its key is wrapped for a passphrase, for age recipients, or both; without one of them
nobody, Strongroom's authors included, can read the vault.

Examples:
  strongroom init --vault /var/backups/vault --generate-identity /etc/strongroom/identity.txt
  strongroom init --vault s3://backups/prod --age-recipient age1… --passphrase-file /etc/strongroom/passphrase
  strongroom init --vault s3://backups/prod --kms-key alias/backups
  strongroom init --vault /mnt/nas/vault                  (asks for a passphrase)
  strongroom init --vault elsewhere --copy-of vault       (a replica, for an [[also]] vault named elsewhere)

A replica has the same key, wrapped for the recipients given here; without any, for whoever opens the original.")]
pub struct Arguments {
    /// Wrap the key for this age recipient (age1…); may be repeated
    #[arg(long, value_name = "RECIPIENT")]
    age_recipient: Vec<String>,
    /// Make an age identity, write it to this new file and wrap the key for it
    #[arg(long, value_name = "FILE")]
    generate_identity: Option<PathBuf>,
    /// Do not encrypt: whoever can read the vault can read the databases
    #[arg(long, conflicts_with_all = ["age_recipient", "generate_identity"])]
    no_encryption: bool,
    /// The algorithms; they cannot be changed later
    #[arg(long, value_enum, default_value = "aes-256-gcm", conflicts_with = "no_encryption")]
    suite: Cipher,
    /// Make it a second copy of this vault (a name or url in strongroom.toml): `copy` and `backup` fill it
    #[arg(long, value_name = "VAULT", conflicts_with_all = ["no_encryption", "write_config"])]
    copy_of: Option<String>,
    /// Also write a strongroom.toml to this new file
    #[arg(long, value_name = "FILE")]
    write_config: Option<PathBuf>,
}

/// Suites of new vaults, whose keys are divided, by their ciphers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Cipher {
    /// AES-256-GCM and BLAKE3
    #[value(name = "aes-256-gcm")]
    Aes256Gcm,
    /// AES-256-GCM, SHA-256 and HMAC: only what FIPS 140-3 approves; no age recipients
    #[value(name = "fips")]
    Fips,
    /// ChaCha20-Poly1305 and BLAKE3: for processors without AES instructions
    #[value(name = "chacha20-poly1305")]
    ChaCha20Poly1305,
}

impl Cipher {
    fn suite(self) -> Suite {
        match self {
            Cipher::Aes256Gcm => Suite::Aes256GcmX25519,
            Cipher::Fips => Suite::FipsP256,
            Cipher::ChaCha20Poly1305 => Suite::ChaCha20Poly1305X25519,
        }
    }
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    if let Some(original) = &arguments.copy_of {
        return replicate(context, arguments, original).await;
    }
    let store = context.store()?;
    let suite = if arguments.no_encryption { Suite::Plain } else { arguments.suite.suite() };
    let mut recipients: Vec<Recipient> =
        arguments.age_recipient.iter().cloned().map(Recipient::Age).collect();
    if suite != Suite::Plain {
        let services = context.kms_of(&context.settings.vault, true)?;
        recipients.extend(services.into_iter().map(Recipient::Kms));
    }
    let by_identity = arguments.generate_identity.is_some() || !recipients.is_empty();
    let passphrase = if suite == Suite::Plain { None } else { passphrase(context, by_identity)? };
    let by_passphrase = passphrase.is_some();
    recipients.extend(passphrase.map(Recipient::Passphrase));
    // Both files first: a name that is taken stops the command before there is a vault.
    if let Some(path) = &arguments.write_config {
        let text = config(context, &store.place(), arguments.generate_identity.as_deref());
        context.write_secret(path, text.as_bytes())?;
    }
    if let Some(path) = &arguments.generate_identity {
        let (identity, recipient) = generate_identity();
        let written = context.write_secret(path, identity.as_bytes());
        written.inspect_err(|_| remove(arguments.write_config.as_deref()))?;
        recipients.push(Recipient::Age(recipient));
    }
    let made =
        strongroom_ops::init::init(&context.cx, store.clone(), suite, &recipients, &surroundings::tool())
            .await;
    let made = match made {
        Ok(made) => made,
        Err(error) => return Err(withdraw(error, &store, arguments).await),
    };
    context.noted(made.opened.clone());
    // A probe that is locked for as long as a backup would be in the way for as long.
    let (examination, warnings, code) = examine(context, &context.probe_store()?).await;
    let text = format!(
        "made vault {} in {}\n{}{warnings}",
        made.vault,
        made.place,
        advice(arguments, by_passphrase)
    );
    Ok(Outcome::new(&json!({ "vault": made, "store": examination }), text).with_code(code))
}

/// Whether the new vault's store keeps what a vault needs of it: what was found, the warnings, the exit code.
pub async fn examine(context: &Context, store: &Arc<dyn Store>) -> (Examination, String, Code) {
    let mut examination = Examination::default();
    examine_store(&context.cx, store, &mut examination).await;
    let broken = examination.findings.iter().filter(|finding| finding.verdict == Verdict::Wrong);
    let warnings: String = broken
        .map(|finding| {
            format!("\nwarning: this store does not keep what a vault needs of it: {}\n", finding.found)
        })
        .collect();
    let code = if warnings.is_empty() { Code::Ok } else { Code::Problems };
    (examination, warnings, code)
}

/// Makes the vault that `--vault` names a replica of another one.
async fn replicate(context: &Context, arguments: &Arguments, original: &str) -> Result<Outcome, Failure> {
    context.check_places()?;
    let settings = context.vault_settings(original)?;
    let original = match std::ptr::eq(settings, &context.settings.vault) {
        // `--vault` names the new one here.
        true => context.main_of_file().await?,
        false => context.further_vault(settings).await?,
    };
    let wanted = context.global.vault.as_deref().and_then(|name| context.vault_settings(name).ok());
    let store = match wanted {
        Some(settings) => context.store_of(settings)?,
        None => context.store()?,
    };
    let mut recipients: Vec<Recipient> =
        arguments.age_recipient.iter().cloned().map(Recipient::Age).collect();
    if let Some(path) = &arguments.generate_identity {
        let (identity, recipient) = generate_identity();
        context.write_secret(path, identity.as_bytes())?;
        recipients.push(Recipient::Age(recipient));
    }
    let tool = surroundings::tool();
    let made =
        strongroom_ops::init::replicate(&context.cx, &original, store.clone(), &recipients, &tool).await;
    let made = match made {
        Ok(made) => made,
        Err(error) => return Err(withdraw(error, &store, arguments).await),
    };
    let (examination, warnings, code) = examine(context, &store).await;
    let text = format!(
        "made {} a replica of {}\nname it under [[also]] in strongroom.toml; `strongroom copy` fills it, and every backup adds to it\n{warnings}",
        made.place,
        original.place(),
    );
    let json = json!({ "vault": made, "copy_of": original.place(), "store": examination });
    Ok(Outcome::new(&json, text).with_code(code))
}

/// The passphrase that was given; without one, and without an identity, one that is asked for.
fn passphrase(context: &Context, by_identity: bool) -> Result<Option<Zeroizing<String>>, Failure> {
    let given = match by_identity {
        true => return context.given_passphrase(),
        false => context.usual_passphrase()?,
    };
    let known = match given {
        Some(passphrase) => Some(passphrase),
        None => context.ask_new_passphrase()?,
    };
    let nobody = || {
        let failure = Failure::new(Code::Usage, "for whom is the vault's key?");
        failure
            .hint("give --generate-identity, --age-recipient or --passphrase-file, or run it on a terminal")
    };
    known.map(Some).ok_or_else(nobody)
}

/// Takes back what was written for a vault that was not made. An identity that may be the only key to one stays.
async fn withdraw(error: OpsError, store: &Arc<dyn Store>, arguments: &Arguments) -> Failure {
    let unmade = match &error {
        OpsError::Vault(VaultError::AlreadyAVault { .. }) => true,
        _ => {
            matches!(Vault::open(store.clone(), &Unlock::default()).await, Err(VaultError::NotAVault { .. }))
        }
    };
    remove(arguments.write_config.as_deref());
    let mut failure = Failure::from(error);
    match &arguments.generate_identity {
        Some(path) if !unmade => failure.causes.push(format!(
            "the vault may have been made for all that: its identity stays in {}",
            path.display()
        )),
        path => remove(path.as_deref()),
    }
    failure
}

fn remove(path: Option<&Path>) {
    if let Some(path) = path {
        let _ = std::fs::remove_file(path);
    }
}

fn advice(arguments: &Arguments, by_passphrase: bool) -> String {
    if arguments.no_encryption {
        return "\nIt is not encrypted: whoever can read it can read the databases.\n".into();
    }
    let mut text = "\nKeep this safe, away from this host and from the vault. Without it the vault cannot be read by anyone:\n".to_owned();
    if let Some(path) = &arguments.generate_identity {
        text.push_str(&format!(
            "  - the age identity in {}: print it or copy it to a password store\n",
            path.display()
        ));
    }
    for recipient in &arguments.age_recipient {
        text.push_str(&format!("  - the age identity of {recipient}\n"));
    }
    if by_passphrase {
        text.push_str("  - the passphrase\n");
    }
    text.push_str("\nTest it now, from another host: strongroom --vault … list\n");
    text
}

fn config(context: &Context, place: &str, identity: Option<&Path>) -> String {
    let place = if place.contains("://") { place.to_owned() } else { absolute(Path::new(place)) };
    let line = |key: &str, path: Option<&Path>| match path {
        Some(path) => format!("{key} = {}\n", quoted(&absolute(path))),
        None => String::new(),
    };
    let identity = line("identity_file", identity);
    let passphrase = line("passphrase_file", context.passphrase_file().as_deref());
    format!(
        "[vault]\nurl = {}\n{identity}{passphrase}\n# One section per source; the name is yours.\n[source.main]\nkind = \"postgres\"\n\
         connection = \"host=/var/run/postgresql user=postgres\"\n\
         # `strongroom run` receives its WAL as it is written if this is there:\n# [source.main.receive]\n",
        quoted(&place)
    )
}

/// A string as TOML writes it. Not as Rust does, whose escapes of combining letters TOML does not know.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}
