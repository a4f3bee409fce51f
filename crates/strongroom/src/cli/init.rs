//! `strongroom init`

#![allow(
    clippy::disallowed_methods,
    reason = "writes the identity and settings files that the user asked for"
)]

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use strongroom_ops::doctor::{Examination, examine_store};
use strongroom_postgres::advice::Verdict;
use strongroom_vault::keys::generate_identity;
use strongroom_vault::{Recipient, Suite};

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
  strongroom init --vault /mnt/nas/vault                  (asks for a passphrase)")]
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
    /// Also write a strongroom.toml to this new file
    #[arg(long, value_name = "FILE")]
    write_config: Option<PathBuf>,
}

pub async fn run(context: &Context, arguments: &Arguments) -> Result<Outcome, Failure> {
    let store = context.store()?;
    let suite = if arguments.no_encryption { Suite::Plain } else { Suite::Aes256Gcm };
    let mut recipients: Vec<Recipient> =
        arguments.age_recipient.iter().cloned().map(Recipient::Age).collect();
    if let Some(path) = &arguments.generate_identity {
        let (identity, recipient) = generate_identity();
        write_new(path, identity.as_bytes())?;
        recipients.push(Recipient::Age(recipient));
    }
    let by_passphrase = suite != Suite::Plain && passphrase(context, &mut recipients)?;
    let made =
        strongroom_ops::init::init(&context.cx, store.clone(), suite, &recipients, &surroundings::tool())
            .await;
    let made = made.inspect_err(|_| {
        // The identity opens nothing: the vault was not made.
        if let Some(path) = &arguments.generate_identity {
            let _ = std::fs::remove_file(path);
        }
    })?;
    let mut examination = Examination::default();
    examine_store(&context.cx, &store, &mut examination).await;
    if let Some(path) = &arguments.write_config {
        write_new(path, config(&made.place, arguments.generate_identity.as_deref()).as_bytes())?;
    }
    let broken: Vec<&str> = examination
        .findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Wrong)
        .map(|f| f.found.as_str())
        .collect();
    let mut text = format!("made vault {} in {}\n", made.vault, made.place);
    text.push_str(&advice(arguments, by_passphrase));
    for promise in &broken {
        text.push_str(&format!("\nwarning: this store does not keep what a vault needs of it: {promise}\n"));
    }
    let json = json!({ "vault": made, "store": examination });
    Ok(Outcome::new(&json, text).with_code(if broken.is_empty() { Code::Ok } else { Code::Problems }))
}

/// Adds the passphrase that was given; asks for one if there is no recipient at all.
fn passphrase(context: &Context, recipients: &mut Vec<Recipient>) -> Result<bool, Failure> {
    let given = match (std::env::var("STRONGROOM_PASSPHRASE"), &context.global.passphrase_file) {
        (Ok(passphrase), _) => Some(passphrase.into()),
        (Err(_), Some(path)) => Some(context.passphrase(path)?),
        (Err(_), None) if recipients.is_empty() => context.ask_new_passphrase()?,
        (Err(_), None) => None,
    };
    match given {
        Some(passphrase) => {
            recipients.push(Recipient::Passphrase(passphrase));
            Ok(true)
        }
        None if recipients.is_empty() => {
            let failure = Failure::new(Code::Usage, "for whom is the vault's key?");
            Err(failure.hint(
                "give --generate-identity, --age-recipient or --passphrase-file, or run it on a terminal",
            ))
        }
        None => Ok(false),
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

fn config(place: &str, identity: Option<&Path>) -> String {
    let place = if place.contains("://") { place.to_owned() } else { absolute(Path::new(place)) };
    let identity = identity.map(|path| format!("identity_file = {:?}\n", absolute(path))).unwrap_or_default();
    format!(
        "[vault]\nurl = {place:?}\n{identity}\n# One section per source; the name is yours.\n[source.main]\nkind = \"postgres\"\n\
         connection = \"host=/var/run/postgresql user=postgres\"\n"
    )
}

fn absolute(path: &Path) -> String {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).to_string_lossy().into_owned()
}

fn write_new(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()));
    written.map_err(|error| {
        Failure::new(Code::Failed, format!("write {}: {error}", path.display())).hint(
            if error.kind() == std::io::ErrorKind::AlreadyExists {
                "nothing is overwritten: name another file"
            } else {
                ""
            },
        )
    })
}
