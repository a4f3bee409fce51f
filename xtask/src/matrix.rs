//! `cargo xtask matrix`: the tests against real servers, once per PostgreSQL version that can be had here.
//!
//! A version comes from this host, or from a Debian release that has it, in a folder that `.ci/chroot` makes (root needed).

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Versions and the Debian releases that have them. Of 14 and 16 no release has packages.
const RELEASES: [(u32, &str); 4] = [(13, "bullseye"), (15, "bookworm"), (17, "trixie"), (18, "sid")];

/// How it went with one version.
pub enum Outcome {
    /// Every test passed.
    Passed(Duration),
    /// Some did not: the last lines of what was printed.
    Failed(Duration, String),
    /// It cannot be had here, for this reason.
    Absent(String),
}

/// Runs the tests against these versions, or against all that can be had. The error is a sentence.
pub fn run(root: &Path, wanted: &[u32]) -> Result<Vec<(u32, Outcome)>, String> {
    if let Some(unknown) = wanted.iter().find(|version| RELEASES.iter().all(|(of, _)| of != *version)) {
        return Err(format!("no Debian release has PostgreSQL {unknown}"));
    }
    let mut outcomes = Vec::new();
    for (version, release) in RELEASES {
        if wanted.is_empty() || wanted.contains(&version) {
            println!("PostgreSQL {version}");
            let outcome = match place(root, version, release) {
                Ok(place) => test(root, version, place.as_deref())?,
                Err(reason) => Outcome::Absent(reason),
            };
            outcomes.push((version, outcome));
        }
    }
    Ok(outcomes)
}

/// Where the version is: `None` on this host, else a folder to change into.
fn place(root: &Path, version: u32, release: &str) -> Result<Option<String>, String> {
    if Path::new(&format!("/usr/lib/postgresql/{version}/bin/initdb")).exists() {
        return Ok(None);
    }
    let version = version.to_string();
    let made = Command::new(root.join(".ci/chroot")).args([release, &version]).output();
    let made = made.map_err(|error| format!("run .ci/chroot: {error}"))?;
    match made.status.success() {
        true => Ok(Some(String::from_utf8_lossy(&made.stdout).trim().to_owned())),
        false => Err(String::from_utf8_lossy(&made.stderr).trim().to_owned()),
    }
}

fn test(root: &Path, version: u32, folder: Option<&str>) -> Result<Outcome, String> {
    let began = Instant::now();
    let named = folder.map_or_else(|| version.to_string(), |folder| format!("{version}={folder}"));
    let mut cargo = Command::new("cargo");
    cargo.args(["test", "--locked", "--no-fail-fast", "-p", "strongroom", "-p", "strongroom-postgres"]);
    cargo.current_dir(root).env("STRONGROOM_TEST_VERSIONS", named).stderr(Stdio::null());
    cargo.env("STRONGROOM_TEST_CHROOTS", folder.unwrap_or_default());
    let output = cargo.output().map_err(|error| format!("run cargo: {error}"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed: Vec<&str> = said.lines().filter(|line| line.ends_with("FAILED")).collect();
    Ok(match output.status.success() {
        true => Outcome::Passed(began.elapsed()),
        false => Outcome::Failed(began.elapsed(), failed.join("\n")),
    })
}
