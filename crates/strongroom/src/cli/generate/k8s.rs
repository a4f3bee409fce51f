//! Manifests for Kubernetes: the agent as a StatefulSet, or a CronJob for each line of the plans where no agent is to run.
//!
//! ```text
//! settings ▶ ConfigMap ─┐                       variables ▶ secretKeyRef
//! Secret (yours) ───────┴▶ pod, as nobody, read-only root ▶ vault in a bucket, or in a claim
//! ```
//!
//! **Invariants**
//! - No secret is written: settings that hold one are refused.
//! - Comments of the settings file stay behind, for what was commented out may be a secret as well.

#![allow(clippy::disallowed_methods, reason = "the settings file is carried along")]

use serde_json::{Value, json};
use strongroom_catalog::Kind;
use strongroom_model::schedule::Schedule;
use strongroom_model::zone::Zone;

use super::pod::{LABEL, Pod, SETTINGS, folder_claim};
use super::work::{Work, names, work};
use super::yaml::document;
use super::{Made, Target};
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::settings::Settings;
use crate::settings::watching::{AlertSettings, Place};

/// Longer names the controller cannot make jobs of.
const LONGEST_NAME: usize = 52 - PREFIX.len();

/// Before the name of each CronJob.
const PREFIX: &str = "strongroom-";

/// Where the agent answers, in a pod.
const PORT: u16 = 8432;

#[derive(clap::Args)]
pub struct Arguments {
    /// The image: strongroom on its PATH, and PostgreSQL's programs for drills and dumps
    #[arg(long, default_value = concat!("strongroom:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// A CronJob for each line of the plans instead of the agent
    #[arg(long)]
    without_agent: bool,
    #[command(flatten)]
    pub target: Target,
}

/// The manifests.
pub fn made(context: &Context, arguments: &Arguments) -> Result<Made, Failure> {
    let settings = &context.settings;
    refuse_secrets(settings)?;
    let pod = Pod::new(settings, &arguments.image)?;
    let mut made = Made::default();
    let mut documents = vec![configuration(settings, arguments.without_agent)?, account()];
    if arguments.without_agent {
        documents.extend(folder_claim(settings).map(|claim| {
            json!({
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": claim["metadata"],
                "spec": claim["spec"],
            })
        }));
        let lines = work(settings)?;
        let is_allowed =
            |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        for (line, name) in lines.iter().zip(names(&lines, LONGEST_NAME, is_allowed)) {
            match line.schedule.five_fields() {
                Ok(fields) => documents.push(cron_job(&pod, line, &name, &fields)),
                Err(why) => made.left_out.push(format!("{}: {why}", line.says)),
            }
        }
    } else {
        documents.extend([service(), fence(), agent(settings, &pod)]);
    }
    let mut text = pod.preface(settings, arguments.without_agent);
    made.left_out.iter().for_each(|line| text.push_str(&format!("# Left out: {line}\n")));
    documents.iter().for_each(|one| text.push_str(&format!("---\n{}", document(one))));
    made.files.push(("strongroom.yaml".to_owned(), text));
    Ok(made)
}

/// What everybody who may read a ConfigMap must not see.
fn refuse_secrets(settings: &Settings) -> Result<(), Failure> {
    let connections = settings.sources.iter().flat_map(|(name, source)| {
        let texts = std::iter::once(&source.connection).chain(&source.primary);
        texts.map(move |text| (format!("connection of [source.{name}]"), text))
    });
    let catalog = settings.catalog.url.iter().map(|url| ("url of [catalog]".to_owned(), url));
    let clear = connections.chain(catalog).find(|(_, text)| holds_password(text)).map(|(what, _)| what);
    let chat = settings.alerts.iter().find_map(|(name, channel)| match channel {
        AlertSettings::Slack(of) if matches!(of.url, Place::Address(_)) => {
            Some(format!("url of [alert.{}]", name.as_str()))
        }
        _ => None,
    });
    match clear.or(chat) {
        None => Ok(()),
        Some(what) => {
            let failure =
                Failure::new(Code::Settings, format!("{what} holds a secret, which a ConfigMap would show"));
            Err(failure.hint("say where it is instead: password = \"env:NAME\", url = \"env:NAME\""))
        }
    }
}

/// `password=…`, or `://user:password@`.
fn holds_password(text: &str) -> bool {
    let said = text.to_lowercase();
    let in_pairs = said.match_indices("password").any(|(at, word)| {
        let behind = said[at + word.len()..].trim_start();
        behind.starts_with('=') && !behind[1..].trim_start().is_empty()
    });
    let address =
        said.split_once("://").map(|(_, behind)| behind.split(['/', '?']).next().unwrap_or_default());
    let in_address =
        address.and_then(|host| host.rsplit_once('@')).is_some_and(|(user, _)| user.contains(':'));
    in_pairs || in_address
}

/// The settings, with what a pod has at another place.
fn configuration(settings: &Settings, without_agent: bool) -> Result<Value, Failure> {
    let missing = || {
        let failure = Failure::new(Code::Settings, "there is no settings file to carry along");
        failure.hint("write strongroom.toml, or name one with --config")
    };
    let path = settings.path.as_ref().ok_or_else(missing)?;
    let wrong =
        |why: String| Failure::new(Code::Failed, format!("read settings from {}: {why}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    let text = text.trim_start_matches('\u{feff}');
    // Its text is not shown: it may hold a secret.
    let mut table: toml::Table =
        toml::from_str(text).map_err(|_| wrong("it was changed meanwhile".to_owned()))?;
    if !without_agent {
        // A probe comes from outside; who else may ask is for the network policy.
        let http: toml::Table = [
            ("listen".to_owned(), format!("0.0.0.0:{PORT}").into()),
            ("behind_proxy".to_owned(), true.into()),
        ]
        .into_iter()
        .collect();
        table.insert("http".to_owned(), http.into());
    }
    if settings.catalog.url.as_ref().is_some_and(|url| !url.contains("://")) {
        // A file: in the claim of the agent instead.
        table.remove("catalog");
    }
    let text = toml::to_string(&table).map_err(|error| wrong(error.to_string()))?;
    Ok(json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "name": "strongroom", "labels": LABEL.object() },
        "data": { SETTINGS.to_owned(): text },
    }))
}

/// Who the pods are: a bucket may know them by it, the cluster's own interface does not.
fn account() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": { "name": "strongroom", "labels": LABEL.object() },
        "automountServiceAccountToken": false,
    })
}

fn service() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "name": "strongroom", "labels": LABEL.object() },
        "spec": {
            "clusterIP": "None",
            "selector": LABEL.object(),
            "ports": [{ "name": "http", "port": PORT, "targetPort": "http" }],
        },
    })
}

/// Only pods of this namespace may ask for metrics.
fn fence() -> Value {
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": { "name": "strongroom", "labels": LABEL.object() },
        "spec": {
            "podSelector": { "matchLabels": LABEL.object() },
            "policyTypes": ["Ingress"],
            "ingress": [{ "from": [{ "podSelector": {} }], "ports": [{ "port": PORT, "protocol": "TCP" }] }],
        },
    })
}

fn agent(settings: &Settings, pod: &Pod) -> Value {
    let mut container = pod.container("agent", &["run".to_owned()], pod.memory_of_agent(settings));
    container["ports"] = json!([{ "name": "http", "containerPort": PORT }]);
    let probe = |path: &str, failures: u32| json!({ "httpGet": { "path": path, "port": "http" }, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": failures });
    container["startupProbe"] = probe("/healthz", 30);
    container["livenessProbe"] = probe("/healthz", 6);
    container["readinessProbe"] = probe("/readyz", 3);
    let mut spec = pod.spec("Always", Vec::new(), container);
    spec["terminationGracePeriodSeconds"] = settings.agent.grace.as_secs().saturating_add(60).into();
    let mut claims = vec![json!({
        "metadata": { "name": "state" },
        "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
    })];
    claims.extend(
        folder_claim(settings).map(|claim| json!({ "metadata": { "name": "vault" }, "spec": claim["spec"] })),
    );
    json!({
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": { "name": "strongroom", "labels": LABEL.object() },
        "spec": {
            "serviceName": "strongroom",
            "replicas": 1,
            "selector": { "matchLabels": LABEL.object() },
            "template": { "metadata": { "labels": LABEL.object() }, "spec": spec },
            "volumeClaimTemplates": claims,
        },
    })
}

fn cron_job(pod: &Pod, line: &Work, name: &str, fields: &str) -> Value {
    let memory = pod.memory_of(line.kind);
    let step = |(number, words): (usize, &Vec<String>)| {
        pod.container(&format!("step-{}", number + 1), words, memory)
    };
    let mut steps: Vec<Value> = line.commands.iter().enumerate().map(step).collect();
    // What comes before the last is done in order, and each must succeed.
    let last = steps.pop().unwrap_or_default();
    let mut spec = pod.spec("OnFailure", steps, last);
    if line.kind == Kind::Drill {
        // A stop is told to the drill's server as well.
        spec["terminationGracePeriodSeconds"] = 120.into();
    }
    json!({
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {
            "name": format!("{PREFIX}{name}"),
            "labels": LABEL.object(),
            "annotations": { "strongroom/work": format!("{}: {}", line.says, line.schedule) },
        },
        "spec": {
            "schedule": fields,
            "timeZone": zone(&line.schedule, &line.zone),
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": line.start_window.as_secs(),
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 3,
            "jobTemplate": { "spec": {
                "backoffLimit": 2,
                "activeDeadlineSeconds": line.completion_window.as_secs(),
                "template": { "metadata": { "labels": LABEL.object() }, "spec": spec },
            } },
        },
    })
}

fn zone(schedule: &Schedule, zone: &Zone) -> String {
    if schedule.is_rate() || *zone == Zone::UTC { "Etc/UTC".to_owned() } else { zone.name().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_the_clear_is_seen() {
        for (text, expected) in [
            ("host=x user=y", false),
            ("host=x password=secret", true),
            ("host=x PASSWORD = 'secret'", true),
            ("host=x sslpassword=secret", true),
            ("postgres://u@h:5432/d", false),
            ("postgres://u:secret@h/d", true),
            ("postgres://u:s@e@h/d", true),
            ("postgres://h/d?password=secret", true),
            ("", false),
        ] {
            assert_eq!(holds_password(text), expected, "{text}");
        }
    }
}
