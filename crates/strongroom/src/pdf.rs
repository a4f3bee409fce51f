//! A page as a PDF, printed by Chromium where there is one.
//!
//! The browser runs in a folder of its own, which goes with it, and gets nothing but our own page: no script, nothing of the network.

#![allow(
    clippy::disallowed_methods,
    reason = "this module is where the browser is run, in a folder that is made for it"
)]

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use strongroom_model::Cx;
use tokio::process::Command;

use crate::context::variable;
use crate::failure::{Code, Failure};

/// Names the browser, if it is none of the usual ones.
const BROWSER: &str = "STRONGROOM_BROWSER";

/// What it is called by those who package it.
const USUAL: [&str; 5] =
    ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome-headless-shell"];

/// What to do without it.
const WAY_OUT: &str = "install chromium, or name a browser of its kind in STRONGROOM_BROWSER; or write --format html, and print it with any browser";

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Prints a page.
pub async fn printed(cx: &Cx, page: &str) -> Result<Vec<u8>, Failure> {
    let browser = browser().ok_or_else(|| {
        let failure = Failure::new(Code::Failed, "print a PDF: there is no Chromium on this host");
        failure.hint(WAY_OUT)
    })?;
    let name = format!("strongroom-pdf-{:016x}", u64::from_be_bytes(cx.random()));
    let folder = Folder(std::env::temp_dir().join(name));
    let failed = |what: &str, why: String| Failure::new(Code::Failed, format!("{what}: {why}"));
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(&folder.0)
        .map_err(|error| failed(&format!("make {}", folder.0.display()), error.to_string()))?;
    let (from, to) = (folder.0.join("page.html"), folder.0.join("page.pdf"));
    std::fs::write(&from, page)
        .map_err(|error| failed(&format!("write {}", from.display()), error.to_string()))?;
    let run = command(&browser, &folder.0, (&from, &to)).output();
    let printing = format!("print a PDF with {}", browser.display());
    let output = match tokio::time::timeout(PATIENCE, run).await {
        Ok(output) => output.map_err(|error| failed(&printing, error.to_string()).hint(WAY_OUT))?,
        Err(_) => return Err(failed(&printing, format!("it did not end within {} s", PATIENCE.as_secs()))),
    };
    std::fs::read(&to).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.trim().lines().next_back().unwrap_or("it said nothing").to_owned();
        failed(&printing, format!("{}: {last}", output.status)).hint(WAY_OUT)
    })
}

fn command(browser: &Path, folder: &Path, (from, to): (&Path, &Path)) -> Command {
    let mut command = Command::new(browser);
    command.args(["--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-pdf-header-footer"]);
    command.args(["--disable-background-networking", "--disable-extensions", "--no-first-run"]);
    if rustix::process::geteuid().is_root() {
        // Chromium refuses to run as root with its sandbox. What it gets is our own page, which has no script.
        command.arg("--no-sandbox");
    }
    let mut flags = ["--user-data-dir=", "--print-to-pdf="].map(std::ffi::OsString::from);
    flags[0].push(folder.join("profile"));
    flags[1].push(to);
    command.args(flags).arg(from).env("HOME", folder).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// The one that is named, else the first of the usual ones on the path.
fn browser() -> Option<PathBuf> {
    if let Some(named) = variable(BROWSER).filter(|named| !named.is_empty()) {
        return Some(PathBuf::from(named));
    }
    let folders: Vec<PathBuf> = std::env::split_paths(&variable("PATH")?).collect();
    let found = |name: &&str| folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    USUAL.iter().find_map(found)
}

/// A folder that goes with the value.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!("{} is left: {error}", self.0.display());
        }
    }
}
