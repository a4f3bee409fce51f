//! Reading a file that lies in a folder being restored over, to compare it.
//!
//! Reads go through the page cache, ahead of us: what differs is written past it, and the kernel keeps the two alike.

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::Advice;
use rustix::io::retry_on_intr;
use strongroom_engine::{EngineError, PageRead, PageSource};
use strongroom_model::page::PAGE_SIZE;

/// A file that is there.
pub(super) struct Present {
    file: OwnedFd,
    path: PathBuf,
}

impl Present {
    /// `path` is for messages.
    pub(super) fn new(file: OwnedFd, path: PathBuf) -> Present {
        // Advice is advice: file systems that do not take it read as well.
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::Sequential);
        let _ = rustix::fs::fadvise(&file, 0, None, Advice::NoReuse);
        Present { file, path }
    }
}

impl PageSource for Present {
    fn read(&mut self, first: u32, buf: &mut [u8]) -> Result<PageRead, EngineError> {
        let (offset, mut bytes) = (u64::from(first) * PAGE_SIZE as u64, 0);
        while bytes < buf.len() {
            let read =
                retry_on_intr(|| rustix::io::pread(&self.file, &mut buf[bytes..], offset + bytes as u64));
            match read.map_err(|errno| EngineError::io("read", &self.path, errno.into()))? {
                0 => break,
                count => bytes += count,
            }
        }
        Ok(PageRead { bytes, damaged: Vec::new() })
    }
}
