//! What systemd is told of the agent, by the socket that it names (`sd_notify(3)`): that it is ready, reloads, stops, and lives.
//!
//! **Invariant**: without systemd, and if it does not listen, nothing is different.

#![allow(clippy::disallowed_methods, reason = "this module is where systemd's variables are read")]

use std::ffi::OsString;
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// systemd, or nobody.
pub struct Supervisor {
    socket: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Supervisor {
    /// Whoever supervises this process, as its variables say.
    pub fn of_environment() -> Supervisor {
        let own = std::process::id().to_string();
        let is_ours = std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == own);
        let micros = std::env::var("WATCHDOG_USEC").ok().and_then(|micros| micros.parse().ok());
        let watchdog = micros.map(Duration::from_micros).filter(|limit| is_ours && !limit.is_zero());
        let address = std::env::var_os("NOTIFY_SOCKET").and_then(address);
        let socket = address.and_then(|address| {
            let socket = UnixDatagram::unbound().ok()?;
            // Whoever does not listen for a while keeps nobody waiting.
            socket.set_nonblocking(true).ok()?;
            Some((socket, address))
        });
        Supervisor { socket, watchdog }
    }

    /// How often a sign of life is due: twice in the time after which systemd takes the agent for hung.
    pub fn sign_every(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// Tells one state: `READY=1`, `RELOADING=1`, `STOPPING=1`, `WATCHDOG=1`.
    pub fn tell(&self, state: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(state.as_bytes(), address)
        {
            tracing::debug!("tell systemd {state}: {error}");
        }
    }
}

/// A path, or a name in the abstract space that begins with `@`.
fn address(name: OsString) -> Option<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        None => SocketAddr::from_pathname(&name).ok(),
        #[cfg(target_os = "linux")]
        Some(name) => SocketAddr::from_abstract_name(name).ok(),
        #[cfg(not(target_os = "linux"))]
        Some(_) => None,
    }
}
