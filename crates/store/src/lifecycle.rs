//! A bucket's lifecycle configuration: our rules in it, and everybody else's left alone (Amazon S3 API Reference,
//! `PutBucketLifecycleConfiguration`).
//!
//! S3 replaces the whole configuration at once, so rules of others are taken over as they are spelled. Ours are known by the
//! names they have, which hold the vault's prefix: two vaults may share a bucket.

use serde::{Deserialize, Serialize};
use strongroom_model::lifecycle::{Lifecycle, Step};

use crate::bucket::TAG;

/// The configuration of a bucket, taken apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Our vault's, in order of name, each as XML.
    pub ours: Vec<Rule>,
    /// Those of others, as they are spelled.
    pub others: Vec<String>,
}

/// One rule. Two that say the same are equal, however they are spelled.
#[derive(Clone, Debug, Serialize)]
pub struct Rule {
    /// Its name.
    pub id: String,
    /// What it does, for people.
    pub says: Vec<String>,
    /// Its XML.
    #[serde(skip)]
    pub xml: String,
}

impl PartialEq for Rule {
    fn eq(&self, other: &Rule) -> bool {
        (&self.id, &self.says) == (&other.id, &other.says)
    }
}

impl Eq for Rule {}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RuleXml {
    #[serde(rename = "ID")]
    id: Option<String>,
    status: String,
    filter: Option<FilterXml>,
    #[serde(default)]
    transition: Vec<TransitionXml>,
    noncurrent_version_expiration: Option<NoncurrentXml>,
    expiration: Option<ExpirationXml>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct FilterXml {
    prefix: Option<String>,
    tag: Option<TagXml>,
    and: Option<AndXml>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AndXml {
    prefix: Option<String>,
    tag: Option<TagXml>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TagXml {
    key: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TransitionXml {
    days: Option<u32>,
    storage_class: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NoncurrentXml {
    noncurrent_days: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ExpirationXml {
    expired_object_delete_marker: Option<bool>,
    days: Option<u32>,
}

/// What our rules are about, in order of name.
const KINDS: [&str; 3] = ["noncurrent", "pack", "wal"];

/// Takes a configuration apart. A rule that does not read counts as somebody else's.
pub fn take_apart(configuration: Option<&str>, prefix: &str) -> Rules {
    let mut rules = Rules::default();
    let mut rest = configuration.unwrap_or_default();
    while let Some((_, after)) = rest.split_once("<Rule>") {
        let Some((inside, behind)) = after.split_once("</Rule>") else { break };
        let xml = format!("<Rule>{inside}</Rule>");
        match read(&xml).filter(|rule| KINDS.iter().any(|kind| rule.id == name(prefix, kind))) {
            Some(rule) => rules.ours.push(rule),
            None => rules.others.push(xml),
        }
        rest = behind;
    }
    rules.ours.sort_by(|left, right| left.id.cmp(&right.id));
    rules
}

/// The rules that a lifecycle means for the vault below `prefix`, in order of name.
pub fn rules(lifecycle: &Lifecycle, prefix: &str) -> Vec<Rule> {
    let mut xml = Vec::new();
    if let Some(days) = lifecycle.noncurrent_days {
        let action = format!(
            "<NoncurrentVersionExpiration><NoncurrentDays>{days}</NoncurrentDays></NoncurrentVersionExpiration>\
             <Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>"
        );
        xml.push((name(prefix, "noncurrent"), format!("<Prefix>{}</Prefix>", below(prefix)), action));
    }
    for (what, steps) in [("pack", &lifecycle.packs), ("wal", &lifecycle.wal)] {
        if !steps.is_empty() {
            let filter = format!(
                "<And><Prefix>{}</Prefix><Tag><Key>{TAG}</Key><Value>{what}</Value></Tag></And>",
                below(prefix)
            );
            xml.push((name(prefix, what), filter, steps.iter().map(transition).collect()));
        }
    }
    xml.into_iter()
        .filter_map(|(id, filter, action)| {
            read(&format!(
                "<Rule><ID>{id}</ID><Filter>{filter}</Filter><Status>Enabled</Status>{action}</Rule>"
            ))
        })
        .collect()
}

/// The whole configuration again: the rules of others, and these.
pub fn put_together(others: &[String], ours: &[Rule]) -> String {
    let rules: String =
        others.iter().map(String::as_str).chain(ours.iter().map(|rule| rule.xml.as_str())).collect();
    format!(
        "<LifecycleConfiguration xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{rules}</LifecycleConfiguration>"
    )
}

/// Names of rules are at most 255 letters; a prefix keeps to letters that XML leaves alone.
fn name(prefix: &str, what: &str) -> String {
    match prefix {
        "" => format!("strongroom {what}"),
        prefix => format!("strongroom {prefix} {what}"),
    }
}

fn below(prefix: &str) -> String {
    if prefix.is_empty() { String::new() } else { format!("{prefix}/") }
}

fn transition(step: &Step) -> String {
    format!("<Transition><Days>{}</Days><StorageClass>{}</StorageClass></Transition>", step.days, step.class)
}

fn read(xml: &str) -> Option<Rule> {
    let rule: RuleXml = quick_xml::de::from_str(xml).ok()?;
    let mut says = Vec::new();
    let filter = rule.filter.unwrap_or(FilterXml { prefix: None, tag: None, and: None });
    let and = filter.and.unwrap_or(AndXml { prefix: None, tag: None });
    let prefix = filter.prefix.or(and.prefix).unwrap_or_default();
    let tag =
        filter.tag.or(and.tag).map_or(String::new(), |tag| format!(", tagged {}={}", tag.key, tag.value));
    let below = if prefix.is_empty() { "everything".to_owned() } else { format!("below {prefix}") };
    says.push(format!("{below}{tag}"));
    let mut steps = rule.transition;
    steps.sort_by_key(|step| step.days);
    says.extend(
        steps.iter().map(|step| format!("{} from day {}", step.storage_class, step.days.unwrap_or_default())),
    );
    if let Some(days) = rule.noncurrent_version_expiration.and_then(|expiration| expiration.noncurrent_days) {
        says.push(format!("older versions go after {days} days"));
    }
    if let Some(expiration) = rule.expiration {
        if expiration.expired_object_delete_marker == Some(true) {
            says.push("deletions with nothing behind them go".to_owned());
        }
        says.extend(expiration.days.map(|days| format!("objects go after {days} days")));
    }
    if rule.status != "Enabled" {
        says.push("switched off".to_owned());
    }
    Some(Rule { id: rule.id?, says, xml: xml.to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

    use strongroom_model::tier::StorageClass;

    use super::*;

    fn lifecycle() -> Lifecycle {
        Lifecycle {
            packs: vec![
                Step { days: 60, class: StorageClass::GlacierIr },
                Step { days: 200, class: StorageClass::DeepArchive },
            ],
            wal: vec![Step { days: 40, class: StorageClass::Glacier }],
            noncurrent_days: Some(90),
        }
    }

    #[test]
    fn rules_of_others_survive_and_ours_are_replaced() {
        let foreign = "<Rule><ID>logs &amp; more</ID><Filter><Prefix>logs/</Prefix></Filter><Status>Enabled</Status>\
                       <Expiration><Days>7</Days></Expiration></Rule>";
        let neighbour = rules(&lifecycle(), "other");
        let before = put_together(&[foreign.to_owned()], &neighbour);
        let found = take_apart(Some(&before), "vault");
        assert_eq!((found.ours.len(), found.others.len()), (0, 1 + neighbour.len()));
        let after = put_together(&found.others, &rules(&lifecycle(), "vault"));
        let again = take_apart(Some(&after), "vault");
        assert_eq!(again.ours, rules(&lifecycle(), "vault"));
        assert_eq!(put_together(&again.others, &again.ours), after);
        assert_eq!(again.others, found.others);
        assert!(again.others[0] == foreign);
        // A vault without a prefix does not take those of its neighbours for its own.
        assert!(take_apart(Some(&after), "").ours.is_empty());
        assert_eq!(take_apart(None, ""), Rules::default());
    }

    #[test]
    fn rules_say_what_they_do() {
        let says: Vec<(String, Vec<String>)> =
            rules(&lifecycle(), "p/q").into_iter().map(|rule| (rule.id, rule.says)).collect();
        let lines = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            says,
            [
                (
                    "strongroom p/q noncurrent".to_owned(),
                    lines(&[
                        "below p/q/",
                        "older versions go after 90 days",
                        "deletions with nothing behind them go"
                    ])
                ),
                (
                    "strongroom p/q pack".to_owned(),
                    lines(&[
                        "below p/q/, tagged strongroom=pack",
                        "GLACIER_IR from day 60",
                        "DEEP_ARCHIVE from day 200"
                    ])
                ),
                (
                    "strongroom p/q wal".to_owned(),
                    lines(&["below p/q/, tagged strongroom=wal", "GLACIER from day 40"])
                ),
            ]
        );
    }
}
