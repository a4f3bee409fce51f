//! The pod that runs the program: who it is, what it may write to, and where its secrets come from.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use strongroom_catalog::Kind;
use strongroom_store::address::StoreAddress;
use strongroom_vault::upload::memory_ceiling;

use crate::failure::{Code, Failure};
use crate::secret::Reference;
use crate::settings::Settings;

/// The settings file, by its key.
pub const SETTINGS: &str = "strongroom.toml";

/// The folder in which the program looks for it by itself.
const FOLDER: &str = "/etc/strongroom";

/// The Secret that is to be there.
const SECRET: &str = "strongroom";

/// The user of PostgreSQL's own image: a drill's server does not run as root.
const USER: u32 = 999;

/// Memory beside packs: of the program, and of a server that a drill starts.
const BESIDE: u64 = 256 << 20;
const SERVER: u64 = 1 << 30;

/// What all objects have in common.
pub struct Label(&'static str, &'static str);

/// What all objects have in common.
pub const LABEL: Label = Label("app.kubernetes.io/name", "strongroom");

impl Label {
    /// As an object has it.
    pub fn object(&self) -> Value {
        json!({ self.0: self.1 })
    }
}

/// What the pods of these settings have.
pub struct Pod {
    image: String,
    variables: Vec<String>,
    /// Files with secrets: where they are, and their key in the Secret.
    files: Vec<(PathBuf, String)>,
    /// The folder of the vault, if it is in one.
    vault: Option<PathBuf>,
    scratch: PathBuf,
    socket: Option<PathBuf>,
    packs: u64,
}

impl Pod {
    /// Those of these settings, with this image.
    pub fn new(settings: &Settings, image: &str) -> Result<Pod, Failure> {
        let (mut variables, mut files) = (Vec::new(), Vec::<(PathBuf, String)>::new());
        for reference in settings.references() {
            match reference {
                Reference::Environment(name) => variables.push(name),
                Reference::File(path) => files.push((Path::new(FOLDER).join(&path), key(&path, &files)?)),
                Reference::Command(_) => {}
            }
        }
        variables.extend(settings.outside_variable().map(str::to_owned));
        variables.iter().try_for_each(|name| check_variable(name))?;
        Ok(Pod {
            image: image.to_owned(),
            variables,
            files,
            vault: folder(settings),
            scratch: settings.drill.scratch.clone().unwrap_or_else(|| PathBuf::from("/var/tmp")),
            socket: settings.agent.socket.as_ref().and_then(|path| path.parent()).map(Path::to_owned),
            packs: memory_ceiling(settings.backup.workers, settings.backup.uploads),
        })
    }

    /// What is to be filled in.
    pub fn preface(&self, settings: &Settings, without_agent: bool) -> String {
        let flag = if without_agent { " --without-agent" } else { "" };
        let mut text = format!(
            "# Made by `strongroom generate k8s{flag}`: kubectl apply -n NAMESPACE -f FILE. Fill in before:\n\
             # - the image {}: none is published; build one with strongroom and PostgreSQL's programs\n",
            self.image
        );
        let literals = self.variables.iter().map(|name| format!(" --from-literal={name}=…"));
        let files = self.files.iter().map(|(_, key)| format!(" --from-file={key}=…"));
        let keys: String = literals.chain(files).collect();
        if !keys.is_empty() {
            text.push_str(&format!(
                "# - its secrets: kubectl create secret generic -n NAMESPACE {SECRET}{keys}\n"
            ));
        }
        if self.vault.is_some() {
            text.push_str("# - the vault is a folder: the size of its claim, on storage that does not go with the database's\n");
        } else {
            text.push_str("# - the bucket's credentials: an annotation of the ServiceAccount, or variables from the Secret\n");
        }
        if settings.references().iter().any(|reference| matches!(reference, Reference::Command(_))) {
            text.push_str("# - secrets that a command prints: the command must work in the image\n");
        }
        text.push_str("# - storage for drills (volume scratch): room for the largest source\n");
        text
    }

    /// A container that runs the program with these words.
    pub fn container(&self, name: &str, words: &[String], memory: u64) -> Value {
        let mut variables: Vec<Value> = self
            .variables
            .iter()
            .map(|name| json!({ "name": name, "valueFrom": { "secretKeyRef": { "name": SECRET, "key": name } } }))
            .collect();
        variables.push(json!({ "name": "STATE_DIRECTORY", "value": "/var/lib/strongroom" }));
        json!({
            "name": name,
            "image": self.image,
            "command": ["strongroom"],
            "args": words,
            "env": variables,
            "resources": {
                "requests": { "cpu": "250m", "memory": "256Mi" },
                "limits": { "memory": format!("{}Mi", memory.div_ceil(1 << 20)) },
            },
            "securityContext": {
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] },
            },
            "volumeMounts": self.mounts(),
        })
    }

    fn mounts(&self) -> Vec<Value> {
        let settings = Path::new(FOLDER).join(SETTINGS);
        // One file, not the folder, in which secrets are to lie as well.
        let mut mounts = vec![
            json!({ "name": "settings", "mountPath": settings, "subPath": SETTINGS, "readOnly": true }),
            json!({ "name": "state", "mountPath": "/var/lib/strongroom" }),
            json!({ "name": "tmp", "mountPath": "/tmp" }),
            json!({ "name": "scratch", "mountPath": self.scratch }),
        ];
        mounts.extend(self.files.iter().map(
            |(path, key)| json!({ "name": "secrets", "mountPath": path, "subPath": key, "readOnly": true }),
        ));
        mounts.extend(self.vault.iter().map(|path| json!({ "name": "vault", "mountPath": path })));
        mounts.extend(self.socket.iter().map(|path| json!({ "name": "socket", "mountPath": path })));
        mounts
    }

    /// The pod; volumes that are claimed by templates come from there.
    pub fn spec(&self, restart: &str, before: Vec<Value>, container: Value) -> Value {
        let is_of_agent = restart == "Always";
        let mut volumes = vec![
            json!({ "name": "settings", "configMap": { "name": "strongroom" } }),
            json!({ "name": "tmp", "emptyDir": {} }),
            json!({ "name": "scratch", "ephemeral": { "volumeClaimTemplate": { "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": { "requests": { "storage": "100Gi" } },
            } } } }),
        ];
        if !self.files.is_empty() {
            volumes
                .push(json!({ "name": "secrets", "secret": { "secretName": SECRET, "defaultMode": 0o400 } }));
        }
        if !is_of_agent {
            volumes.push(json!({ "name": "state", "emptyDir": {} }));
            let claim =
                json!({ "name": "vault", "persistentVolumeClaim": { "claimName": "strongroom-vault" } });
            volumes.extend(self.vault.as_ref().map(|_| claim));
        }
        volumes.extend(self.socket.as_ref().map(|_| json!({ "name": "socket", "emptyDir": {} })));
        let mut spec = json!({
            "serviceAccountName": "strongroom",
            "restartPolicy": restart,
            "securityContext": {
                "runAsNonRoot": true,
                "runAsUser": USER,
                "runAsGroup": USER,
                "fsGroup": USER,
                "seccompProfile": { "type": "RuntimeDefault" },
            },
            "containers": [container],
            "volumes": volumes,
        });
        if !before.is_empty() {
            spec["initContainers"] = before.into();
        }
        spec
    }

    /// Bytes that one command may take.
    pub fn memory_of(&self, kind: Kind) -> u64 {
        self.packs + BESIDE + if kind == Kind::Drill { SERVER } else { 0 }
    }

    /// Bytes that the agent and its jobs may take.
    pub fn memory_of_agent(&self, settings: &Settings) -> u64 {
        BESIDE + settings.agent.jobs.get() as u64 * self.memory_of(Kind::Drill)
    }
}

/// What a vault in a folder claims.
pub fn folder_claim(settings: &Settings) -> Option<Value> {
    folder(settings).map(|_| {
        json!({
            "metadata": { "name": "strongroom-vault", "labels": LABEL.object() },
            "spec": { "accessModes": ["ReadWriteMany"], "resources": { "requests": { "storage": "500Gi" } } },
        })
    })
}

fn folder(settings: &Settings) -> Option<PathBuf> {
    let url = settings.vault.url.as_ref()?;
    match StoreAddress::parse(url).ok()? {
        StoreAddress::Folder(path) => Some(Path::new(FOLDER).join(path)),
        StoreAddress::Bucket { .. } => None,
    }
}

/// A file's name as a key of the Secret: no two have the same.
fn key(path: &Path, taken: &[(PathBuf, String)]) -> Result<String, Failure> {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let key: String = name.chars().map(|letter| if plain(letter) { letter } else { '-' }).collect();
    match key.is_empty() || taken.iter().any(|(_, known)| *known == key) {
        false => Ok(key),
        true => {
            let failure = Failure::new(Code::Settings, format!("two secrets are files called {name}"));
            Err(failure.hint("give one of them another name: both are keys of one Secret"))
        }
    }
}

/// What is no name of a variable everywhere cannot come from a Secret.
pub fn check_variable(name: &str) -> Result<(), Failure> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let begins = name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_');
    match begins && name.chars().all(is_word) {
        true => Ok(()),
        false => {
            let failure = Failure::new(Code::Settings, format!("'{name}' cannot be a variable everywhere"));
            Err(failure.hint("call it by letters, digits and _ in env:NAME"))
        }
    }
}
