//! What the source has its server load, by the settings files among its data; and which of that is on this host.
//!
//! A library may be needed to read what the source wrote (its own access methods, its own kinds of WAL), so a drill loads what it
//! finds. What it does not find is left out and named: recovery, or a check, then says whether it was needed.

#![allow(clippy::disallowed_methods, reason = "reads restored settings files, and asks where libraries are")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where settings are in a data directory, in the order in which the server reads them.
const FILES: [&str; 2] = ["postgresql.conf", "postgresql.auto.conf"];

const SETTING: &str = "shared_preload_libraries";

/// The libraries of a restored cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Libraries {
    /// Those that are here.
    pub found: Vec<String>,
    /// Those that are not.
    pub missing: Vec<String>,
}

impl Libraries {
    /// Of the cluster in `data`, for the programs in `programs`. Its files may be elsewhere (Debian's are): then there are none.
    pub(crate) fn of(data: &Path, programs: &Path) -> Libraries {
        // A link leads to the source's own, which are not read.
        let is_file = |path: &PathBuf| path.symlink_metadata().is_ok_and(|found| found.is_file());
        let texts = FILES.iter().map(|name| data.join(name)).filter(is_file);
        let wanted = texts.filter_map(|path| wanted(&std::fs::read_to_string(path).ok()?)).next_back();
        let folder = folder(programs);
        let is_here = |name: &String| is_here(&folder, name);
        let (found, missing) = wanted.unwrap_or_default().into_iter().partition(is_here);
        Libraries { found, missing }
    }
}

/// The libraries of a settings file; `None` if it does not say. The last line counts.
fn wanted(text: &str) -> Option<Vec<String>> {
    let value = |line: &str| {
        let line = line.trim();
        let name = line.get(..SETTING.len()).filter(|name| name.eq_ignore_ascii_case(SETTING))?;
        let rest = line[name.len()..].strip_prefix([' ', '\t', '='])?.trim_start();
        let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start();
        Some(match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split('\'').next().unwrap_or_default().to_owned(),
            None => rest.split(['#', ' ', '\t']).next().unwrap_or_default().to_owned(),
        })
    };
    let list = text.lines().filter_map(value).next_back()?;
    let names = list.split(',').map(|name| name.trim().trim_matches('"').to_owned());
    Some(names.filter(|name| !name.is_empty()).collect())
}

/// Where this version's libraries are.
fn folder(programs: &Path) -> PathBuf {
    let mut command = Command::new(programs.join("pg_config"));
    let said = command.arg("--pkglibdir").stdin(Stdio::null()).output();
    match said {
        Ok(said) if said.status.success() => String::from_utf8_lossy(&said.stdout).trim().into(),
        _ => programs.with_file_name("lib"),
    }
}

fn is_here(folder: &Path, name: &str) -> bool {
    let name = name.strip_prefix("$libdir/").unwrap_or(name);
    // An absolute path stands for itself.
    let path = folder.join(name);
    path.exists()
        || path
            .with_file_name(format!("{}.so", path.file_name().unwrap_or_default().to_string_lossy()))
            .exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_says_which() {
        let check = |text: &str, names: Option<&[&str]>| {
            let names = names.map(|names| names.iter().map(ToString::to_string).collect());
            assert_eq!(wanted(text), names, "{text:?}");
        };
        check("", None);
        check("#shared_preload_libraries = 'x'\n", None);
        check("shared_preload_libraries_too = 'x'\nwal_level = replica\n", None);
        check("shared_preload_libraries = ''\n", Some(&[]));
        check("shared_preload_libraries = 'a, b'  # why\n", Some(&["a", "b"]));
        check(
            "Shared_Preload_Libraries='a'\n shared_preload_libraries '\"B\",$libdir/c'\n",
            Some(&["B", "$libdir/c"]),
        );
        check("shared_preload_libraries = pg_stat_statements # x", Some(&["pg_stat_statements"]));
    }

    #[test]
    fn what_is_not_on_this_host_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (data, lib) = (folder.path().join("data"), folder.path().join("lib"));
        std::fs::create_dir_all(&data).unwrap();
        std::fs::create_dir_all(&lib).unwrap();
        std::fs::write(lib.join("here.so"), "").unwrap();
        std::fs::write(data.join("postgresql.conf"), "shared_preload_libraries = 'older'\n").unwrap();
        std::fs::write(data.join("postgresql.auto.conf"), "shared_preload_libraries = 'here, gone'\n")
            .unwrap();
        let found = Libraries::of(&data, &folder.path().join("bin"));
        assert_eq!(found, Libraries { found: vec!["here".into()], missing: vec!["gone".into()] });
        assert_eq!(Libraries::of(&lib, &folder.path().join("bin")), Libraries::default());
    }
}
