//! Reading an archive while it comes, in pieces of any length: POSIX `ustar`, as a server writes it (`port/tar.c`).
//!
//! ```text
//! header 512 ▶ content ▶ zeros up to the next 512 ▶ header … ▶ zeros (servers before 15 leave the last ones out)
//! ```
//!
//! Numbers that do not fit their octal digits are written in base 256. Longer names than a header has room for are refused by
//! the server, so there are no further kinds of headers; one of those is an error here, as is everything else that a server
//! does not write.
//!
//! **Invariants**
//! - No bytes make this module panic, and it keeps no more than one header of them.
//! - How the bytes are cut into pieces makes no difference to what is read.

use bytes::Bytes;

/// Bytes of a header, and what contents are rounded up to.
const BLOCK: usize = 512;

/// Where a header's fields are.
const NAME: (usize, usize) = (0, 100);
const MODE: (usize, usize) = (100, 108);
const UID: (usize, usize) = (108, 116);
const GID: (usize, usize) = (116, 124);
const SIZE: (usize, usize) = (124, 136);
const MODIFIED: (usize, usize) = (136, 148);
const CHECKSUM: (usize, usize) = (148, 156);
const KIND: usize = 156;
const TARGET: (usize, usize) = (157, 257);
const MAGIC: (usize, usize) = (257, 262);
const USER: (usize, usize) = (265, 297);
const GROUP: (usize, usize) = (297, 329);
const PREFIX: (usize, usize) = (345, 500);

/// Why bytes are no archive of a server's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UstarError {
    /// Something else stands where a header should.
    #[error("there is no header of an archive's member where one should be")]
    NoHeader,
    /// A header whose bytes do not give its checksum.
    #[error("the header of '{name}' does not fit its checksum")]
    Checksum {
        /// What it says the member's name is.
        name: String,
    },
    /// A number that is none.
    #[error("the header of '{name}' has no {field} that can be read")]
    Number {
        /// The member's name.
        name: String,
        /// Which number.
        field: &'static str,
    },
    /// A kind of member that servers do not send.
    #[error("'{name}' is a member of kind {kind}, which no server sends")]
    Kind {
        /// The member's name.
        name: String,
        /// Its type flag.
        kind: u8,
    },
    /// Members after the zeros that end it.
    #[error("it goes on after its end")]
    AfterEnd,
    /// The end came before that of a member.
    #[error("it ends in the middle of a member")]
    Cut,
}

/// What an archive's member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberKind {
    /// A file of this many bytes, which come next.
    File(u64),
    /// A folder.
    Folder,
    /// A symbolic link, and where it points.
    Link(Vec<u8>),
}

/// A member's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its path, without `./` at its beginning and a slash at its end.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: MemberKind,
    /// Permission bits, and whatever else the server wrote there.
    pub mode: u32,
    /// Its owner's number.
    pub uid: u32,
    /// Its group's number.
    pub gid: u32,
    /// Its owner's name; servers write `postgres` whatever it is.
    pub user: Option<String>,
    /// Its group's name; the same holds.
    pub group: Option<String>,
    /// Last modification, seconds since 1970 UTC.
    pub modified: i64,
}

/// What comes next in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A member begins.
    Member(Member),
    /// A piece of its content.
    Content(Bytes),
}

/// An archive being read.
#[derive(Debug, Default)]
pub struct Members {
    /// What has come of a header.
    header: Vec<u8>,
    /// Bytes still to come of the content.
    content: u64,
    /// And of the zeros behind it.
    padding: usize,
    ended: bool,
}

impl Members {
    /// Takes from the front of `bytes` what comes next. `None` when all of them are used up.
    pub fn next(&mut self, bytes: &mut Bytes) -> Result<Option<Part>, UstarError> {
        while !bytes.is_empty() {
            if self.content > 0 {
                let length = usize::try_from(self.content).unwrap_or(usize::MAX).min(bytes.len());
                self.content -= length as u64;
                return Ok(Some(Part::Content(bytes.split_to(length))));
            }
            if self.padding > 0 {
                let length = self.padding.min(bytes.len());
                self.padding -= length;
                drop(bytes.split_to(length));
                continue;
            }
            let length = (BLOCK - self.header.len()).min(bytes.len());
            self.header.extend_from_slice(&bytes.split_to(length));
            if self.header.len() < BLOCK {
                continue;
            }
            let header = std::mem::take(&mut self.header);
            if header.iter().all(|byte| *byte == 0) {
                self.ended = true;
                continue;
            }
            if self.ended {
                return Err(UstarError::AfterEnd);
            }
            let member = read_header(&header)?;
            if let MemberKind::File(size) = member.kind {
                self.content = size;
                self.padding = ((BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64) as usize;
            }
            return Ok(Some(Part::Member(member)));
        }
        Ok(None)
    }

    /// Whether the archive may end here.
    pub fn finish(&self) -> Result<(), UstarError> {
        match self.content == 0 && self.padding == 0 && self.header.is_empty() {
            true => Ok(()),
            false => Err(UstarError::Cut),
        }
    }
}

/// Reads a header, whose length the caller has seen to.
fn read_header(header: &[u8]) -> Result<Member, UstarError> {
    if field(header, MAGIC) != b"ustar" {
        return Err(UstarError::NoHeader);
    }
    let mut name = text(header, NAME).to_vec();
    let prefix = text(header, PREFIX);
    if !prefix.is_empty() {
        name = [prefix, b"/", &name].concat();
    }
    while name.ends_with(b"/") {
        name.pop();
    }
    // One folder is written that way: `./pg_wal/archive_status`.
    if name.starts_with(b"./") {
        name.drain(..2);
    }
    let shown = || String::from_utf8_lossy(&name).into_owned();
    let number = |place, what| {
        read_number(field(header, place)).ok_or_else(|| UstarError::Number { name: shown(), field: what })
    };
    let small = |place, what| {
        let number = number(place, what)?;
        u32::try_from(number).map_err(|_| UstarError::Number { name: shown(), field: what })
    };
    if number(CHECKSUM, "checksum")? != checksum(header) {
        return Err(UstarError::Checksum { name: shown() });
    }
    let kind = match header[KIND] {
        b'0' | 0 => MemberKind::File(number(SIZE, "size")?),
        b'5' => MemberKind::Folder,
        b'2' => MemberKind::Link(text(header, TARGET).to_vec()),
        kind => return Err(UstarError::Kind { name: shown(), kind }),
    };
    let owner = |place| {
        let name = String::from_utf8_lossy(text(header, place)).into_owned();
        (!name.is_empty()).then_some(name)
    };
    Ok(Member {
        mode: small(MODE, "mode")?,
        uid: small(UID, "owner")?,
        gid: small(GID, "group")?,
        user: owner(USER),
        group: owner(GROUP),
        // A time before 1970 is written as the two's complement that it is in memory.
        modified: number(MODIFIED, "time")?.cast_signed(),
        kind,
        name,
    })
}

/// All bytes, the checksum's own as spaces.
fn checksum(header: &[u8]) -> u64 {
    let is_own = |at: usize| (CHECKSUM.0..CHECKSUM.1).contains(&at);
    header.iter().enumerate().map(|(at, byte)| if is_own(at) { 32 } else { u64::from(*byte) }).sum()
}

/// Octal digits, or after a byte of 128 the number in base 256. Bits beyond 64 must be zeros.
fn read_number(field: &[u8]) -> Option<u64> {
    match field.split_first() {
        Some((128, rest)) => {
            rest.iter().try_fold(0u64, |number, byte| Some(number.checked_mul(256)? + u64::from(*byte)))
        }
        _ => {
            let text = str::from_utf8(field).ok()?.trim_matches([' ', '\0']);
            let is_octal = text.bytes().all(|digit| digit.is_ascii_digit());
            is_octal.then(|| u64::from_str_radix(text, 8).ok())?
        }
    }
}

fn field(header: &[u8], (from, to): (usize, usize)) -> &[u8] {
    &header[from..to]
}

/// A field up to its first NUL.
fn text(header: &[u8], place: (usize, usize)) -> &[u8] {
    let field = field(header, place);
    &field[..field.iter().position(|byte| *byte == 0).unwrap_or(field.len())]
}

#[cfg(test)]
mod tests;
