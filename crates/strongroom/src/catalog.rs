//! Where the catalog of jobs is: as the settings say, else a file in this user's state folder.

#![allow(clippy::disallowed_methods, reason = "this module is where the state folder is found and made")]

use std::fmt::Write;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use strongroom_catalog::{Catalog, Place};

use crate::context::{Context, kept, variable};
use crate::failure::{Code, Failure};

/// The catalog of these settings, opened.
pub async fn open(context: &Context) -> Result<Catalog, Failure> {
    Ok(Catalog::open(place(context)?).await?)
}

/// Where it is. The folder of a file is made, if it is the usual one.
pub fn place(context: &Context) -> Result<Place, Failure> {
    let settings = &context.settings.catalog;
    match settings.url.as_deref() {
        Some(url) if url.starts_with("postgres://") || url.starts_with("postgresql://") => {
            let conninfo = context.conninfo("url of [catalog]", url)?;
            let conninfo = match &settings.password {
                Some(reference) => kept(conninfo, reference.beside(|path| context.beside_file(path)))
                    .map_err(|failure| failure.under("password of [catalog]"))?,
                None => conninfo,
            };
            Ok(Place::Server(Box::new(conninfo)))
        }
        Some(url) => {
            let path = url.strip_prefix("sqlite:").unwrap_or(url);
            if path.is_empty() || path.contains("://") {
                let what = "url of [catalog] is neither a file nor postgres://…";
                return Err(Failure::new(Code::Settings, what)
                    .hint("write it as /path/of/catalog.db, or as postgres://user@host/database"));
            }
            Ok(Place::File(context.beside_file(Path::new(path))))
        }
        None => usual(context).map(Place::File),
    }
}

/// A file that settings and vault name, in the folder that systemd gives (`StateDirectory=`), or in this user's own.
fn usual(context: &Context) -> Result<PathBuf, Failure> {
    let of = |name: &str| variable(name).filter(|value| !value.is_empty());
    let of_systemd =
        || of("STATE_DIRECTORY").and_then(|folders| folders.split(':').next().map(PathBuf::from));
    let of_user = || {
        of("XDG_STATE_HOME").map(PathBuf::from).or_else(|| Some(Path::new(&of("HOME")?).join(".local/state")))
    };
    let folder = of_systemd().or_else(|| of_user().map(|folder| folder.join("strongroom")));
    let missing = || {
        let failure =
            Failure::new(Code::Settings, "where is the catalog of jobs to be? This user has no state folder");
        failure.hint("set url in [catalog] to a file, or to postgres://…")
    };
    let folder = folder.ok_or_else(missing)?;
    match std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            let failure = Failure::new(
                Code::Failed,
                format!("make {} for the catalog of jobs: {error}", folder.display()),
            );
            return Err(
                failure.hint("set url in [catalog] to a file in a folder that this user can write to")
            );
        }
        _ => {}
    }
    let settings = context.settings.path.as_deref().unwrap_or(Path::new(""));
    let vault = context.global.vault.as_deref().map_or_else(String::new, |vault| format!("@{vault}"));
    Ok(folder.join(escaped(&format!("{}{vault}", settings.display())) + ".db"))
}

/// A path as a file's name: `/` as `-`, and what is neither letter, digit nor dot as `_` and its code. No two paths have the same.
fn escaped(path: &str) -> String {
    let mut name = String::new();
    for byte in path.trim_start_matches('/').bytes() {
        match byte {
            b'/' => name.push('-'),
            b'.' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => name.push(char::from(byte)),
            // Writing into a string does not end in an error.
            other => drop(write!(name, "_{other:02x}")),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_apart_in_one_folder() {
        for (path, name) in [
            ("/etc/strongroom/strongroom.toml", "etc-strongroom-strongroom.toml"),
            ("/etc/a-b/c.toml", "etc-a_2db-c.toml"),
            ("/etc/a/b/c.toml", "etc-a-b-c.toml"),
            ("/etc/a.toml@s3://b", "etc-a.toml_40s3_3a--b"),
            ("/ä_", "_c3_a4_5f"),
        ] {
            assert_eq!(escaped(path), name);
        }
    }
}
