//! Files that an export writes: compressed as asked for, durable when they are finished.

#![allow(clippy::disallowed_methods, reason = "this module is where the files of an export are written")]

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;

use crate::logical::archive::Packing;
use crate::logical::failure::LogicalError;

/// Bytes that are gathered for a write.
const GATHERED: usize = 256 << 10;

type Plain = BufWriter<Box<dyn Write + Send>>;

/// A file being written.
pub(crate) struct Outlet {
    path: PathBuf,
    packed: Packed,
    /// The file itself; `None` of standard output.
    file: Option<File>,
}

enum Packed {
    Raw(Plain),
    Gzip(GzEncoder<Plain>),
    Zstd(zstd::Encoder<'static, Plain>),
}

impl Outlet {
    /// A new file; one that is there is an error.
    pub(crate) fn create(path: &Path, packing: Packing) -> Result<Outlet, LogicalError> {
        let failed = |source| LogicalError::Io { operation: "create", path: path.to_owned(), source };
        let file = File::create_new(path).map_err(failed)?;
        let written = file.try_clone().map_err(failed)?;
        let packed = packed(Box::new(written), packing).map_err(failed)?;
        Ok(Outlet { path: path.to_owned(), packed, file: Some(file) })
    }

    /// This process's standard output.
    pub(crate) fn standard(packing: Packing) -> Result<Outlet, LogicalError> {
        let path = PathBuf::from("standard output");
        let failed = |source| LogicalError::Io { operation: "open", path: path.clone(), source };
        let packed = packed(Box::new(io::stdout()), packing).map_err(failed)?;
        Ok(Outlet { path, packed, file: None })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), LogicalError> {
        let written = match &mut self.packed {
            Packed::Raw(plain) => plain.write_all(bytes),
            Packed::Gzip(encoder) => encoder.write_all(bytes),
            Packed::Zstd(encoder) => encoder.write_all(bytes),
        };
        written.map_err(|source| self.failed(source))
    }

    /// Ends the file, durably.
    pub(crate) fn finish(self) -> Result<(), LogicalError> {
        let Outlet { path, packed, file } = self;
        let plain = match packed {
            Packed::Raw(plain) => Ok(plain),
            Packed::Gzip(encoder) => encoder.finish(),
            Packed::Zstd(encoder) => encoder.finish(),
        };
        let finished = plain.and_then(|mut plain| plain.flush());
        let durable = finished.and_then(|()| file.map_or(Ok(()), |file| file.sync_all()));
        durable.map_err(|source| LogicalError::Io { operation: "write", path, source })
    }

    fn failed(&self, source: io::Error) -> LogicalError {
        LogicalError::Io { operation: "write", path: self.path.clone(), source }
    }
}

fn packed(inner: Box<dyn Write + Send>, packing: Packing) -> io::Result<Packed> {
    let plain = BufWriter::with_capacity(GATHERED, inner);
    Ok(match packing {
        Packing::Raw => Packed::Raw(plain),
        Packing::Gzip => Packed::Gzip(GzEncoder::new(plain, flate2::Compression::fast())),
        Packing::Zstd => {
            let mut encoder = zstd::Encoder::new(plain, 1)?;
            encoder.include_checksum(true)?;
            Packed::Zstd(encoder)
        }
    })
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), LogicalError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|source| LogicalError::Io { operation: "make durable", path: folder.to_owned(), source })
}

/// Gives what was written its name, which nothing may have.
pub(crate) fn publish(unfinished: &Path, name: &Path) -> Result<(), LogicalError> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let failed = |source| LogicalError::Io { operation: "rename to", path: name.to_owned(), source };
    match renameat_with(CWD, unfinished, CWD, name, RenameFlags::NOREPLACE) {
        Ok(()) => {}
        // A file system that cannot tell: the name was free when the export began.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) if !name.exists() => {
            std::fs::rename(unfinished, name).map_err(failed)?;
        }
        Err(error) => return Err(failed(error.into())),
    }
    sync_folder(folder_of(name))
}

/// The folder that something is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}
