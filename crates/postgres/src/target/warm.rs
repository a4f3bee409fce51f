//! Reading restored files into memory, for a server that is about to replay WAL over them.
//!
//! Large files were written past the page cache ([`super::sink`]), so replay waits for the disk page by page wherever it
//! changes one. Read from end to end, the same pages come many times as fast (`bench/run --phases local`: replay of 2 GB took
//! 19 s over files on disk and 13 s over files in memory).
//!
//! Nothing depends on it, so nothing here is an error.

#![allow(clippy::disallowed_methods, reason = "asks the kernel how much memory there is")]

use std::os::fd::OwnedFd;

use rustix::fs::Advice;

/// Bytes asked for at once: the kernel reads so much before it looks whether others want the disk, too.
const PIECE: u64 = 8 << 20;

/// Whether that many bytes fit into half of the memory that programs could still have. The kernel keeps files in the rest of
/// it, and drops them again for whoever needs it.
pub(super) fn has_room(bytes: u64) -> bool {
    let told = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    available(&told).is_some_and(|available| bytes <= available / 2)
}

/// `MemAvailable` of `/proc/meminfo` (proc_meminfo(5)), in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Has the kernel read a file, which it does on its own.
pub(super) fn read_ahead(file: &OwnedFd, size: u64) {
    for at in (0..size).step_by(PIECE as usize) {
        let length = std::num::NonZeroU64::new(PIECE.min(size - at));
        // Advice is advice: file systems that do not take it are read when the server does.
        let _ = rustix::fs::fadvise(file, at, length, Advice::WillNeed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_how_much_memory_there_is() {
        let told = "MemTotal:       24689340 kB\nMemFree:  1 kB\nMemAvailable:   20480 kB\n";
        assert_eq!(available(told), Some(20 << 20));
        for nothing in ["", "MemTotal: 5 kB\n", "MemAvailable: 20480\n", "MemAvailable: x kB\n"] {
            assert_eq!(available(nothing), None, "{nothing}");
        }
        assert!(has_room(0) && !has_room(u64::MAX));
    }
}
