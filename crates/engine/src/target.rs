//! Writing a restored source.

use std::ops::Range;

use strongroom_model::Cx;
use strongroom_model::entry::Entry;

use crate::backup::PageSource;
use crate::error::EngineError;

/// A place being restored into. Methods are called from several threads; a file may be open in several, each of which writes
/// other pages, but for one that its owner may not write: that is open once at a time.
pub trait Target: Send + Sync {
    /// Makes a folder, a link, or a file of its final size: all zeros and sparse, or as it was there before, where
    /// [`Target::present`] says so. Called once per entry, folders before what is in them, before any `open`.
    fn prepare(&self, entry: &Entry) -> Result<(), EngineError>;

    /// Opens a prepared file for reading, if it may have content from before: its pages are then compared, and written
    /// only where they differ. `None`: it is all zeros.
    fn present(&self, _entry: &Entry) -> Result<Option<Box<dyn PageSource>>, EngineError> {
        Ok(None)
    }

    /// Opens a prepared file for writing pages.
    fn open(&self, entry: &Entry) -> Result<Box<dyn PageSink>, EngineError>;

    /// Leaves a text beside what is restored, for whoever finds it later. Before `finish`.
    fn leave(&self, name: &str, text: &str) -> Result<(), EngineError>;

    /// Makes everything durable and startable: whatever marks the place as complete comes last. Until then a
    /// crash leaves a place that the server refuses to start.
    fn finish(&self) -> Result<(), EngineError>;

    /// Brings what was restored, so many bytes of files, into memory if there is room, for a server that will read it at
    /// once. After `finish`. Only a matter of speed: nothing fails.
    fn read_ahead(&self, _cx: &Cx, _bytes: u64) {}
}

/// A file being written.
pub trait PageSink: Send {
    /// Writes pages from page number `first`. `bytes` is a whole number of pages, except at the end of the file.
    /// Pages never written stay what they were.
    fn write(&mut self, first: u32, bytes: &[u8]) -> Result<(), EngineError>;

    /// Makes pages zeros again. Asked only of files that had content from before ([`Target::present`]).
    fn clear(&mut self, pages: Range<u32>) -> Result<(), EngineError> {
        let _ = pages;
        Ok(())
    }

    /// Everything written is handed to the disk (durable after [`Target::finish`]).
    fn close(self: Box<Self>) -> Result<(), EngineError>;
}
