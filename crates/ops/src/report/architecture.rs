//! `strongroom report architecture`: what is protected by what: sources, agents, vaults, copies, locks and keys. Of keys only who they are for.

use serde::Serialize;
use strongroom_vault::Vault;
use strongroom_vault::recipients::RecipientRow;

use crate::error::OpsError;

/// A source, and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Protection {
    /// The source's name.
    pub source: String,
    /// What it is: `postgres`.
    pub kind: String,
    /// How its journal reaches the vault, in words.
    pub journal: String,
    /// Plans and rules that back it up, in words.
    pub plans: Vec<String>,
    /// Vaults that its points are copied to, by name.
    pub copies: Vec<String>,
}

/// A vault, and what keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Store {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub place: String,
    /// How its objects are locked, in words.
    pub lock: String,
    /// What it keeps, in words.
    pub keeps: String,
    /// What it says of itself; or why it does not.
    pub inside: Inside,
}

/// What a vault says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Inside {
    /// It was opened.
    Open {
        /// Its id.
        id: String,
        /// Its suite; `none` if nothing is encrypted.
        suite: String,
        /// For whom its key is wrapped: number, kind and label.
        keys: Vec<String>,
    },
    /// It was not, for this reason.
    Shut(String),
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Architecture {
    /// What is protected.
    pub sources: Vec<Protection>,
    /// Who does it, and when each was last heard of, in words.
    pub agents: Vec<String>,
    /// Where it goes, the first vault first.
    pub vaults: Vec<Store>,
}

/// What an opened vault says of itself.
pub async fn inside(vault: &Vault) -> Result<Inside, OpsError> {
    let keys = vault.recipients().await?;
    Ok(Inside::Open {
        id: vault.id().to_string(),
        suite: suite(vault),
        keys: keys.iter().map(shown).collect(),
    })
}

/// The vault's suite, as its format names it.
pub fn suite(vault: &Vault) -> String {
    let word = serde_json::to_value(vault.suite()).unwrap_or_default();
    word.as_str().unwrap_or("not known").to_owned()
}

fn shown(row: &RecipientRow) -> String {
    let kind = row.kind.as_deref().unwrap_or("does not read");
    let label = row.label.as_ref().map_or_else(String::new, |label| format!(" ({label})"));
    let scope = if row.append_only { ", append only" } else { "" };
    format!("{} {kind}{label}{scope}", row.number)
}
