//! Writing one file in large pieces, past the page cache where that works.
//!
//! ```text
//! pages in any order ─▶ buffer (1 MiB, ends on a 1 MiB boundary of the file) ─▶ O_DIRECT write ┬▶ disk
//!                                                      refused, or a tail of odd length ───────┴▶ page cache
//! ```
//!
//! Measured here on one disk: 2.5 GB/s direct, 0.7 GB/s through the cache with a sync at the end. Small files go
//! through the cache, where one sync takes all of them.
//!
//! **Invariant**: nothing is written beyond the size the file was prepared with. Dropped without `close`, what is in the
//! buffer is lost: the restore has failed anyway.

use std::ops::Range;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{FallocateFlags, Mode, OFlags, Timespec, Timestamps};
use rustix::io::{Errno, retry_on_intr};
use strongroom_engine::{EngineError, PageSink};
use strongroom_model::page::PAGE_SIZE;

/// From this size on, files are written past the page cache.
pub(super) const DIRECT_FROM: u64 = 256 << 10;

/// Bytes written at once.
const PIECE: usize = 1 << 20;

/// What direct writes must be aligned to, in memory and in the file: enough for every disk there is.
const ALIGNMENT: usize = 4096;

/// A file being written.
pub(super) struct FileSink {
    file: OwnedFd,
    path: PathBuf,
    size: u64,
    modified: i64,
    mode: Option<u32>,
    direct: bool,
    sync: bool,
    buffer: Buffer,
    /// Where in the file the buffer begins.
    at: u64,
    filled: usize,
}

/// What a sink must know of its file.
pub(super) struct Prepared {
    /// For messages.
    pub(super) path: PathBuf,
    /// Its final size.
    pub(super) size: u64,
    /// Seconds since 1970.
    pub(super) modified: i64,
    /// Its permission bits, if they are other while it is open.
    pub(super) mode: Option<u32>,
    /// It was opened for direct writes.
    pub(super) direct: bool,
    /// It is to be durable once closed.
    pub(super) sync: bool,
}

impl FileSink {
    pub(super) fn new(file: OwnedFd, prepared: Prepared) -> FileSink {
        let Prepared { path, size, modified, mode, direct, sync } = prepared;
        let length = usize::try_from(size).map_or(PIECE, |size| size.clamp(PAGE_SIZE, PIECE));
        let buffer = Buffer::new(length);
        FileSink { file, path, size, modified, mode, direct, sync, buffer, at: 0, filled: 0 }
    }

    /// Writes out what is in the buffer.
    fn flush(&mut self) -> Result<(), EngineError> {
        let filled = std::mem::take(&mut self.filled);
        // The file's odd end cannot be written directly.
        let aligned = if self.direct { filled - filled % ALIGNMENT } else { filled };
        self.write_out(0, aligned)?;
        if aligned < filled {
            self.leave_direct()?;
            self.write_out(aligned, filled)?;
        }
        Ok(())
    }

    fn write_out(&mut self, mut from: usize, to: usize) -> Result<(), EngineError> {
        while from < to {
            let bytes = &self.buffer.bytes()[from..to];
            match retry_on_intr(|| rustix::io::pwrite(&self.file, bytes, self.at + from as u64)) {
                // The file system takes direct writes of another kind only, or wrote an odd part of the last one.
                Err(Errno::INVAL) if self.direct => self.leave_direct()?,
                Err(errno) => return Err(write_error(&self.path, errno)),
                Ok(0) => return Err(write_error(&self.path, Errno::NOSPC)),
                Ok(written) => from += written,
            }
        }
        Ok(())
    }

    /// From here on the file is written through the page cache.
    fn leave_direct(&mut self) -> Result<(), EngineError> {
        let flags = rustix::fs::fcntl_getfl(&self.file).map_err(|errno| write_error(&self.path, errno))?;
        self.direct = false;
        rustix::fs::fcntl_setfl(&self.file, flags - OFlags::DIRECT)
            .map_err(|errno| write_error(&self.path, errno))
    }
}

impl FileSink {
    /// An error for pages that the file does not have.
    fn beyond(&self, first: u32) -> EngineError {
        EngineError::Damaged {
            what: format!(
                "write {}: page {first} lies beyond its size of {}",
                self.path.display(),
                self.size
            ),
            hint: "the recovery point's manifest contradicts itself: try another recovery point".to_owned(),
        }
    }
}

impl PageSink for FileSink {
    fn write(&mut self, first: u32, mut bytes: &[u8]) -> Result<(), EngineError> {
        let mut offset = u64::from(first) * PAGE_SIZE as u64;
        if offset + bytes.len() as u64 > self.size {
            return Err(self.beyond(first));
        }
        while !bytes.is_empty() {
            if self.filled > 0 && self.at + self.filled as u64 != offset {
                self.flush()?;
            }
            if self.filled == 0 {
                self.at = offset;
            }
            let length = self.buffer.bytes().len();
            let room = length - (self.at % length as u64) as usize;
            let (now, later) = bytes.split_at(bytes.len().min(room - self.filled));
            self.buffer.bytes_mut()[self.filled..self.filled + now.len()].copy_from_slice(now);
            self.filled += now.len();
            if self.filled == room {
                self.flush()?;
            }
            offset += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    fn clear(&mut self, pages: Range<u32>) -> Result<(), EngineError> {
        let start = u64::from(pages.start) * PAGE_SIZE as u64;
        let end = self.size.min(u64::from(pages.end) * PAGE_SIZE as u64);
        if start >= end {
            return Err(self.beyond(pages.start));
        }
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match retry_on_intr(|| rustix::fs::fallocate(&self.file, hole, start, end - start)) {
            // Some file systems have no holes.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let mut first = pages.start;
                let mut left = end - start;
                while left > 0 {
                    let zeros = [0; PAGE_SIZE];
                    let bytes = left.min(PAGE_SIZE as u64);
                    self.write(first, &zeros[..bytes as usize])?;
                    (first, left) = (first + 1, left - bytes);
                }
                Ok(())
            }
            punched => punched.map_err(|errno| write_error(&self.path, errno)),
        }
    }

    fn close(mut self: Box<Self>) -> Result<(), EngineError> {
        self.flush()?;
        let at = Timespec { tv_sec: self.modified, tv_nsec: 0 };
        let times = Timestamps { last_access: at, last_modification: at };
        rustix::fs::futimens(&self.file, &times).map_err(|errno| write_error(&self.path, errno))?;
        if let Some(mode) = self.mode {
            let mode = Mode::from_raw_mode(mode & 0o777);
            rustix::fs::fchmod(&self.file, mode).map_err(|errno| write_error(&self.path, errno))?;
        }
        if self.sync {
            rustix::fs::fsync(&self.file).map_err(|errno| write_error(&self.path, errno))?;
        }
        Ok(())
    }
}

/// A full disk has its own words.
pub(super) fn write_error(path: &std::path::Path, errno: Errno) -> EngineError {
    match errno {
        Errno::NOSPC | Errno::DQUOT => EngineError::Unfit {
            what: format!("write {}: no space left on its file system", path.display()),
            hint: "make room, then go on with --delta (a restore), or empty the folder and start anew"
                .to_owned(),
        },
        errno => EngineError::io("write", path, errno.into()),
    }
}

/// Bytes at an aligned address.
struct Buffer {
    room: Vec<u8>,
    start: usize,
    length: usize,
}

impl Buffer {
    /// A buffer of `length` bytes, rounded up to whole pages.
    fn new(length: usize) -> Buffer {
        let length = length.next_multiple_of(PAGE_SIZE);
        let room = vec![0; length + ALIGNMENT];
        let start = room.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Buffer { room, start, length }
    }

    fn bytes(&self) -> &[u8] {
        &self.room[self.start..self.start + self.length]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.room[self.start..self.start + self.length]
    }
}
