//! A shell that outlives us for as long as it takes to stop a server of ours and remove its folder.
//!
//! ```text
//! watch ▶ (its standard input is held open by us alone) ▶ our end, however it comes ▶ pg_ctl stop ▶ rm -rf
//! ```
//!
//! **Invariant**: what it watches over is gone soon after this process is: at the end of the work, after an error, Ctrl-C or
//! `kill -9`; unless it is told to leave it.

#![allow(clippy::disallowed_methods, reason = "starts the shell")]

use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};

/// Stops the server and removes the folder, once nobody holds the other end of its standard input.
const SCRIPT: &str = r#"read -r said; [ "$said" = leave ] && exit; "$1" stop -D "$2" -m immediate -s -w >/dev/null 2>&1; cd / && rm -rf "$3""#;

/// A guard, on watch.
pub(crate) struct Guard {
    shell: Child,
    /// Held: it waits for the end of this.
    held: Option<ChildStdin>,
}

impl Guard {
    /// Watches over `folder` and the server in `data`, as this user.
    pub(crate) fn watch(
        pg_ctl: &Path,
        (data, folder): (&Path, &Path),
        user: Option<(u32, u32)>,
    ) -> io::Result<Guard> {
        let mut command = as_user(Command::new("/bin/sh"), user);
        command.args(["-c", SCRIPT, "guard"]).arg(pg_ctl).arg(data).arg(folder);
        // In a group of its own: Ctrl-C on a terminal is for us, and it hears of it by our end.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let mut shell = command.spawn()?;
        let held = shell.stdin.take();
        Ok(Guard { shell, held })
    }

    /// Has it do its work now, and waits for that.
    pub(crate) async fn end(mut self) {
        drop(self.held.take());
        // Whether it ended well changes nothing: it was asked, and there is no one else to ask.
        let _ = self.shell.wait().await;
    }

    /// Tells it to leave everything as it is.
    pub(crate) async fn leave(mut self) -> io::Result<()> {
        if let Some(mut held) = self.held.take() {
            held.write_all(b"leave\n").await?;
        }
        self.shell.wait().await.map(drop)
    }
}

/// A program of a server's, run as its user. Its messages are in no other language.
pub(crate) fn as_user(mut command: Command, user: Option<(u32, u32)>) -> Command {
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command.env("LC_ALL", "C").current_dir("/");
    command
}
