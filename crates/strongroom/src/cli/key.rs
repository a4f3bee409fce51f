//! `strongroom key`

use std::path::PathBuf;

use anstyle::AnsiColor;
use serde::Serialize;
use strongroom_ops::OpsError;
use strongroom_ops::key::{KeyDrill, check, rotate};
use strongroom_vault::keys::generate_identity;
use strongroom_vault::recipients::{Proof, RecipientRow, Scope};
use strongroom_vault::{Recipient, Suite, Vault};

use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::{Outcome, table, tinted};

/// Who can open the vault
#[derive(clap::Subcommand)]
pub enum Verb {
    /// Everybody the vault's key is wrapped for
    #[command(after_help = "\
Examples:
  strongroom key list")]
    List(Where),
    /// Wrap the vault's key for one more recipient; no data is rewritten
    #[command(after_help = "\
Examples:
  strongroom key add --age-recipient age1… --label 'safe deposit'
  strongroom key add --new-passphrase-file FILE --label operations
  strongroom key add --generate-identity /mnt/usb/identity.txt
  strongroom key add --new-kms-key alias/backups
  strongroom key add --append-only --new-passphrase-file FILE --label 'database host'")]
    Add(Add),
    /// Let a recipient no longer open the vault
    #[command(after_help = "\
Whoever opened the vault before may have kept its key: a removal keeps out those who have not, and makes nobody forget.
Another recipient must be proven by what is given here; what merely lies in the vault is no proof.

Examples:
  strongroom key remove 2")]
    Remove(Remove),
    /// Put a new recipient in the place of another
    #[command(after_help = "\
Examples:
  strongroom key rotate 1 --new-passphrase-file FILE")]
    Rotate(Rotate),
    /// The key-loss drill: prove that what is at hand opens the vault
    #[command(after_help = "\
Unwraps every copy of the key that can be opened with the passphrase and identities given here, and reads a sealed object
with it. Run it where the recovery would run, with nothing but what is kept for that day. Exits with 4 unless it passes.

Examples:
  strongroom key check --identity-file /mnt/usb/identity.txt --vault s3://backups/prod")]
    Check(Where),
    /// A recovery sheet to be printed and kept with the keys
    #[command(after_help = "\
Examples:
  strongroom key sheet > sheet.txt")]
    Sheet(Where),
}

#[derive(clap::Args)]
pub struct Where {
    /// Another vault than the first, by name or url
    #[arg(long = "in", value_name = "VAULT")]
    named: Option<String>,
}

#[derive(clap::Args)]
pub struct Add {
    /// Wrap no more than a host needs to append: with it, nothing that the vault holds can be read
    #[arg(long)]
    append_only: bool,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    new: New,
}

#[derive(clap::Args)]
pub struct Remove {
    /// Its number in `key list`
    number: u32,
    #[command(flatten)]
    place: Where,
}

#[derive(clap::Args)]
pub struct Rotate {
    /// The number, in `key list`, of the one to be replaced
    number: u32,
    #[command(flatten)]
    place: Where,
    #[command(flatten)]
    new: New,
}

#[derive(clap::Args)]
struct New {
    #[command(flatten)]
    whom: Whom,
    /// What people call it: where the passphrase or identity is kept
    #[arg(long)]
    label: Option<String>,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct Whom {
    /// For this age recipient (age1…)
    #[arg(long, value_name = "RECIPIENT")]
    age_recipient: Option<String>,
    /// Make an age identity, write it to this new file and wrap the key for it
    #[arg(long, value_name = "FILE")]
    generate_identity: Option<PathBuf>,
    /// For the passphrase in this file's first line
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
    /// By this key of AWS KMS: its id, alias or ARN
    #[arg(long, value_name = "KEY")]
    new_kms_key: Option<String>,
    /// By this transit key of HashiCorp Vault or OpenBao
    #[arg(long, value_name = "URL")]
    new_transit_key: Option<String>,
}

pub async fn run(context: &Context, verb: &Verb) -> Result<Outcome, Failure> {
    match verb {
        Verb::List(place) => {
            let vault = place.open(context).await?;
            let recipients = vault.recipients().await?;
            Ok(Outcome::new(&recipients, show(&vault, &recipients)))
        }
        Verb::Add(Add { append_only, place, new }) => {
            let vault = place.open(context).await?;
            let recipient = new.recipient(context, place)?;
            let scope = if *append_only { Scope::AppendOnly } else { Scope::Whole };
            let number = vault.add_recipient(&context.cx, (&recipient, scope), new.label.clone()).await?;
            let can = if *append_only { "append to" } else { "open" };
            let text =
                format!("recipient {number} can {can} {}; prove it: `strongroom key check`", vault.place());
            Ok(Outcome::new(&number, text))
        }
        Verb::Remove(Remove { number, place }) => {
            let vault = place.open(context).await?;
            is_there(&vault, *number).await?;
            let unlock = context.unlock_of(place.named.as_deref())?;
            vault.remove_recipient(&context.cx, *number, (&unlock, None)).await?;
            Ok(Outcome::new(&number, format!("recipient {number} no longer opens {}", vault.place())))
        }
        Verb::Rotate(Rotate { number, place, new }) => {
            let vault = place.open(context).await?;
            // Before an identity is written for it.
            is_there(&vault, *number).await?;
            let recipient = new.recipient(context, place)?;
            let added = rotate(&context.cx, &vault, *number, (&recipient, new.label.clone())).await?;
            let text =
                format!("recipient {added} took the place of {number}; prove it: `strongroom key check`");
            Ok(Outcome::new(&added, text))
        }
        Verb::Check(place) => {
            let vault = place.open(context).await?;
            let drill = check(&vault, &context.unlock_of(place.named.as_deref())?).await?;
            let code = if drill.is_passed() { Code::Ok } else { Code::Problems };
            Ok(Outcome::new(&drill, show_drill(&vault, &drill)).with_code(code))
        }
        Verb::Sheet(place) => {
            let vault = place.open(context).await?;
            let recipients = vault.recipients().await?;
            let sheet = Sheet {
                vault: vault.id().to_string(),
                place: vault.place(),
                encrypted: vault.suite() != Suite::Plain,
                recipients,
                printed_at: context.cx.now().to_string(),
            };
            let text = sheet.text();
            Ok(Outcome::new(&sheet, text))
        }
    }
}

impl Where {
    async fn open(&self, context: &Context) -> Result<std::sync::Arc<Vault>, Failure> {
        context.vault_or_called(self.named.as_deref()).await
    }
}

impl New {
    fn recipient(&self, context: &Context, place: &Where) -> Result<Recipient, Failure> {
        let settings = context.named_settings(place.named.as_deref())?;
        let Whom {
            age_recipient,
            generate_identity: file,
            new_passphrase_file,
            new_kms_key,
            new_transit_key,
        } = &self.whom;
        if let Some(key) = new_kms_key {
            return Ok(Recipient::Kms(context.kms(key, settings)?));
        }
        if let Some(address) = new_transit_key {
            return Ok(Recipient::Kms(context.transit(address, settings)?));
        }
        if let Some(recipient) = age_recipient {
            return Ok(Recipient::Age(recipient.clone()));
        }
        if let Some(path) = file {
            let (identity, recipient) = generate_identity();
            context.write_secret(path, identity.as_bytes())?;
            return Ok(Recipient::Age(recipient));
        }
        match new_passphrase_file {
            Some(path) => Ok(Recipient::Passphrase(context.passphrase(path)?)),
            // clap asks for one of them.
            None => Err(Failure::new(Code::Usage, "for whom is the vault's key to be wrapped?")),
        }
    }
}

/// Refuses a number that no recipient has.
async fn is_there(vault: &Vault, number: u32) -> Result<(), Failure> {
    let known = vault.recipients().await?;
    match known.iter().any(|row| row.number == number) {
        true => Ok(()),
        false => Err(OpsError::UnknownRecipient(number).into()),
    }
}

fn cells(row: &RecipientRow) -> Vec<String> {
    let dash = || "-".to_owned();
    vec![
        row.number.to_string(),
        row.kind.clone().unwrap_or_else(|| tinted("does not read", AnsiColor::Red)),
        if row.append_only { "append only" } else { "everything" }.to_owned(),
        row.label.clone().unwrap_or_else(dash),
        row.added_at.map_or_else(dash, |at| at.to_string()),
    ]
}

fn show(vault: &Vault, recipients: &[RecipientRow]) -> String {
    match vault.suite() {
        Suite::Plain => {
            format!("{} is not encrypted: whoever can read it can read the databases", vault.place())
        }
        _ => {
            let rows: Vec<_> = recipients.iter().map(cells).collect();
            table(&["no.", "recipient", "opens", "label", "added"], &rows, &[0])
        }
    }
}

fn show_drill(vault: &Vault, drill: &KeyDrill) -> String {
    let rows: Vec<_> = drill
        .recipients
        .iter()
        .map(|(row, proof)| {
            let proof = match proof {
                Proof::Proven => tinted("proven", AnsiColor::Green),
                Proof::ProvenToAppend => "proven to append; no restore comes of it".to_owned(),
                Proof::NotTried => "not proven: nothing was given that could open it".to_owned(),
                Proof::DoesNotOpen => "not proven: what was given does not open it".to_owned(),
                Proof::Worthless => tinted("worthless: it is damaged, or wraps another key", AnsiColor::Red),
            };
            [cells(row), vec![proof]].concat()
        })
        .collect();
    let read = match &drill.read {
        Some(object) => format!("read {object} of {} with the key", vault.place()),
        None => format!("{} holds nothing yet to prove the key by: take a backup first", vault.place()),
    };
    format!("{}\n{read}", table(&["no.", "recipient", "opens", "label", "added", "drill"], &rows, &[0]))
}

/// What somebody needs to know on the day.
#[derive(Serialize)]
struct Sheet {
    vault: String,
    place: String,
    encrypted: bool,
    recipients: Vec<RecipientRow>,
    printed_at: String,
}

impl Sheet {
    fn text(&self) -> String {
        let mut lines = vec![
            "STRONGROOM RECOVERY SHEET".to_owned(),
            String::new(),
            format!("Vault        {}", self.vault),
            format!("Place        {}", self.place),
            format!("Printed      {}", self.printed_at),
            String::new(),
        ];
        match self.encrypted {
            false => {
                lines.push("The vault is not encrypted: whoever can read it can read the databases.".into())
            }
            true => {
                lines.push("One of these opens it. Write down where each is kept:".into());
                for row in self.recipients.iter().filter(|row| !row.append_only) {
                    let kind = row.kind.as_deref().unwrap_or("does not read");
                    let label = row.label.as_deref().unwrap_or_default();
                    lines.push(format!("  {}. {kind}  {label}", row.number));
                    lines.push("     kept at ______________________________________________".into());
                }
            }
        }
        lines.extend(
            [
                "",
                "On an empty machine, with PostgreSQL of the same major version and strongroom installed:",
                "",
            ]
            .map(str::to_owned),
        );
        let key = if self.encrypted { " --identity-file IDENTITY" } else { "" };
        for command in ["list", "key check", "restore SOURCE --latest --to /var/lib/postgresql/restored"] {
            lines.push(format!("  strongroom --vault '{}'{key} {command}", self.place));
        }
        if self.encrypted {
            lines.push(String::new());
            lines.push(
                "With a passphrase: --passphrase-file FILE instead of --identity-file IDENTITY.".into(),
            );
        }
        lines.extend(
            [
                "A bucket also needs its credentials: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION.",
                "",
                "Checked on ______________  by ______________________  (strongroom key check)",
                "Checked on ______________  by ______________________",
            ]
            .map(str::to_owned),
        );
        lines.join("\n")
    }
}
