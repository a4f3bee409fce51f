//! Which secrets the settings refer to: whoever carries the settings elsewhere must bring these along.

use super::watching::{AlertSettings, Place};
use super::{Settings, VaultSettings};
use crate::secret::Reference;

impl Settings {
    /// Where secrets are, by every section that names one; each place once.
    pub fn references(&self) -> Vec<Reference> {
        let mut found: Vec<Reference> = Vec::new();
        for vault in std::iter::once(&self.vault).chain(&self.further) {
            found.extend(of_vault(vault));
        }
        found.extend(self.sources.values().filter_map(|source| source.password.clone()));
        found.extend(self.catalog.password.clone());
        found.extend(self.watch.ping.as_ref().and_then(of_place));
        found.extend(self.alerts.values().flat_map(of_channel));
        let mut seen = Vec::new();
        found.retain(|reference| {
            let is_new = !seen.contains(reference);
            seen.push(reference.clone());
            is_new
        });
        found
    }

    /// The variable that opens the first vault, where nothing in the file does.
    pub fn outside_variable(&self) -> Option<&'static str> {
        match (of_vault(&self.vault).next(), &self.vault.kms_key, &self.vault.transit_key) {
            (None, None, Some(_)) => Some("VAULT_TOKEN"),
            (None, None, None) => Some("STRONGROOM_PASSPHRASE"),
            _ => None,
        }
    }
}

fn of_vault(vault: &VaultSettings) -> impl Iterator<Item = Reference> + '_ {
    let file = |path: &std::path::PathBuf| Reference::File(path.clone());
    let files = [&vault.passphrase_file, &vault.identity_file, &vault.transit_token_file];
    let named = [&vault.passphrase, &vault.transit_token].into_iter().flatten().cloned();
    let command = vault.passphrase_command.clone().map(Reference::Command);
    named.chain(files.into_iter().flatten().map(file)).chain(command)
}

fn of_place(place: &Place) -> Option<Reference> {
    match place {
        Place::Secret(reference) => Some(reference.clone()),
        Place::Address(_) => None,
    }
}

fn of_channel(channel: &AlertSettings) -> Vec<Reference> {
    match channel {
        AlertSettings::Smtp(of) => of.password.iter().cloned().collect(),
        AlertSettings::Slack(of) => of_place(&of.url).into_iter().collect(),
        AlertSettings::Webhook(of) => of_place(&of.url).into_iter().chain(of.secret.clone()).collect(),
        AlertSettings::Pagerduty(of) => {
            of.url.as_ref().and_then(of_place).into_iter().chain([of.routing_key.clone()]).collect()
        }
        AlertSettings::Sns(_) | AlertSettings::Exec(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_section_that_names_a_secret_is_looked_at() {
        let settings: Settings = toml::from_str(
            r#"
            watch = { ping = "file:ping" }
            catalog = { url = "postgres://h/d", password = "env:CATALOG" }
            [vault]
            passphrase = "env:PHRASE"
            transit_token_file = "token"
            [[also]]
            identity_file = "identity"
            passphrase_command = "pass show x"
            [source.a]
            kind = "postgres"
            password = "env:PHRASE"
            [alert.mail]
            kind = "smtp"
            host = "h"
            user = "u"
            password = "file:mail"
            from = "a@b"
            to = ["a@b"]
            [alert.chat]
            kind = "slack"
            url = "env:CHAT"
            [alert.hook]
            kind = "webhook"
            url = "https://h/x"
            secret = "file:hook"
            [alert.duty]
            kind = "pagerduty"
            routing_key = "env:DUTY"
            "#,
        )
        .unwrap();
        let found: Vec<String> = settings.references().iter().map(Reference::as_written).collect();
        let expected = [
            "env:PHRASE",
            "file:token",
            "file:identity",
            "command:pass show x",
            "env:CATALOG",
            "file:ping",
            "env:CHAT",
            "env:DUTY",
            "file:hook",
            "file:mail",
        ];
        assert_eq!(found, expected);
        assert_eq!(settings.outside_variable(), None);
        assert_eq!(Settings::default().outside_variable(), Some("STRONGROOM_PASSPHRASE"));
    }
}
