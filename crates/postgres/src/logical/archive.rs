//! The table of contents of `pg_dump`'s archives: read of a custom or a directory archive, written as that of a directory.
//!
//! ```text
//! toc   = 'PGDMP' major minor revision int_size offset_size format compression time×7 database server program count entry×count
//! entry = number has_data catalogue object tag kind section definition drop copy schema tablespace access_method
//!         [relkind, from 1.16 on] owner 'false' dependency* end place
//! ```
//!
//! An integer is a sign and `int_size` bytes, the lowest first; a text its length, -1 if there is none, and its bytes. What
//! `place` is depends on the format: an offset in a custom archive, the name of a file in a directory. (`WriteHead` and
//! `WriteToc` of `pg_backup_archiver.c`, `_WriteExtraToc` of `pg_backup_custom.c` and `pg_backup_directory.c`; 1.14 is that of
//! `pg_dump` 12 to 15, 1.15 of 16, 1.16 of 17 and 18.)
//!
//! **Invariants**: what is written reads back as it was; no bytes make this module panic, nor take memory that they do not have.

/// What an archive begins with.
pub(crate) const MAGIC: &[u8] = b"PGDMP";

/// What stands for a custom archive.
const CUSTOM: u8 = 1;

/// What stands for a tar archive, and, since it is the same, for a directory.
const DIRECTORY: u8 = 3;

/// Versions that are read.
const VERSIONS: std::ops::RangeInclusive<u8> = 12..=16;

/// Text in whatever encoding the archive has, or none.
pub(crate) type Text = Option<Vec<u8>>;

/// How the files of a directory are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Packing {
    /// Not at all.
    #[default]
    Raw,
    /// gzip, which every version reads.
    Gzip,
    /// zstd, from archives of 1.15 on.
    Zstd,
}

impl Packing {
    /// What a file's name ends with.
    pub(crate) fn ending(self) -> &'static str {
        match self {
            Packing::Raw => "",
            Packing::Gzip => ".gz",
            Packing::Zstd => ".zst",
        }
    }
}

/// When an entry is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    /// With what it belongs to.
    None,
    /// Before rows.
    Before,
    /// Rows.
    Rows,
    /// After rows.
    After,
}

impl Section {
    const ALL: [Section; 4] = [Section::None, Section::Before, Section::Rows, Section::After];

    fn number(self) -> i64 {
        match self {
            Section::None => 1,
            Section::Before => 2,
            Section::Rows => 3,
            Section::After => 4,
        }
    }
}

/// An archive's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// 14 is 1.14.
    pub(crate) minor: u8,
    /// Bytes of an integer.
    pub(crate) int_size: u8,
    /// How the files beside it are compressed.
    pub(crate) packing: Packing,
    /// Second, minute, hour, day, month from 0, year from 1900, whether it is summer: wherever it was made.
    pub(crate) made: [i32; 7],
    /// The database.
    pub(crate) database: Text,
    /// The server's version.
    pub(crate) server: Text,
    /// The program's version.
    pub(crate) program: Text,
}

/// The catalogue of tables and sequences, `pg_class`.
pub(crate) const PG_CLASS: u32 = 1259;

/// The catalogue of schemas, `pg_namespace`.
pub(crate) const PG_NAMESPACE: u32 = 2615;

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) number: i32,
    /// Catalogue and object.
    pub(crate) object: (u32, u32),
    pub(crate) tag: Text,
    /// `TABLE DATA`.
    pub(crate) kind: Text,
    pub(crate) section: Section,
    pub(crate) definition: Text,
    pub(crate) drop: Text,
    pub(crate) copy: Text,
    pub(crate) schema: Text,
    pub(crate) tablespace: Text,
    pub(crate) access_method: Text,
    pub(crate) relkind: i32,
    pub(crate) owner: Text,
    pub(crate) depends_on: Vec<i32>,
    /// The file of its rows, in a directory.
    pub(crate) file: Option<Vec<u8>>,
}

/// A table of contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Toc {
    pub(crate) head: Head,
    pub(crate) entries: Vec<Entry>,
}

impl Entry {
    /// An entry of this kind that has nothing else.
    pub(crate) fn new(number: i32, kind: &str, section: Section) -> Entry {
        Entry {
            number,
            object: (0, 0),
            tag: text(""),
            kind: text(kind),
            section,
            definition: text(""),
            drop: text(""),
            copy: None,
            schema: None,
            tablespace: None,
            access_method: None,
            relkind: 0,
            owner: text(""),
            depends_on: Vec::new(),
            file: None,
        }
    }

    /// Whether it is of this kind.
    pub(crate) fn is(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind.as_bytes())
    }
}

/// Text that is there.
pub(crate) fn text(text: &str) -> Text {
    Some(text.as_bytes().to_vec())
}

impl Toc {
    /// Reads a whole archive, or as much of it as its contents take; `Err` with what does not fit.
    pub(crate) fn read(bytes: &[u8]) -> Result<Toc, String> {
        let mut reader = Reader::begin(bytes)?;
        let head = reader.head()?;
        let count = reader.int()?;
        // An entry has a dozen integers at least, so that what is not there is found out before memory is taken.
        let entries = (0..count).map(|_| reader.entry()).collect::<Result<Vec<_>, _>>()?;
        Ok(Toc { head, entries })
    }

    /// The first number that no entry has.
    pub(crate) fn next_number(&self) -> i32 {
        let all = self.entries.iter().flat_map(|entry| entry.depends_on.iter().chain([&entry.number]));
        all.copied().max().unwrap_or(0).max(0).saturating_add(1)
    }

    /// Writes it as `toc.dat` of a directory.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut writer = Writer { bytes: MAGIC.to_vec(), int_size: self.head.int_size };
        writer.bytes.extend([1, self.head.minor, 0, self.head.int_size, 8, DIRECTORY]);
        match (self.head.minor >= 15, self.head.packing) {
            (true, Packing::Raw) => writer.bytes.push(0),
            (true, Packing::Gzip) => writer.bytes.push(1),
            (true, Packing::Zstd) => writer.bytes.push(3),
            (false, Packing::Raw) => writer.int(0),
            // The program's own default level.
            (false, Packing::Gzip | Packing::Zstd) => writer.int(-1),
        }
        self.head.made.iter().for_each(|number| writer.int((*number).into()));
        for text in [&self.head.database, &self.head.server, &self.head.program] {
            writer.text(text.as_deref());
        }
        writer.int(self.entries.len() as i64);
        self.entries.iter().for_each(|entry| writer.entry(entry, self.head.minor));
        writer.bytes
    }
}

struct Reader<'a> {
    rest: &'a [u8],
    minor: u8,
    int_size: u8,
    offset_size: u8,
    format: u8,
}

impl<'a> Reader<'a> {
    fn begin(bytes: &'a [u8]) -> Result<Reader<'a>, String> {
        let rest = bytes.strip_prefix(MAGIC).ok_or("it is no archive of pg_dump")?;
        let mut reader = Reader { rest, minor: 0, int_size: 0, offset_size: 0, format: 0 };
        let (major, minor, _) = (reader.byte()?, reader.byte()?, reader.byte()?);
        if major != 1 || !VERSIONS.contains(&minor) {
            return Err(format!("it is an archive of version {major}.{minor}"));
        }
        (reader.minor, reader.int_size) = (minor, reader.byte()?);
        (reader.offset_size, reader.format) = (reader.byte()?, reader.byte()?);
        if !(1..=8).contains(&reader.int_size) || ![CUSTOM, DIRECTORY].contains(&reader.format) {
            return Err(format!("it is an archive of format {}", reader.format));
        }
        Ok(reader)
    }

    fn head(&mut self) -> Result<Head, String> {
        let packing = match self.minor >= 15 {
            true => self.byte()?.into(),
            false => i64::from(self.int()? != 0),
        };
        let packing = match packing {
            0 => Packing::Raw,
            1 => Packing::Gzip,
            3 => Packing::Zstd,
            other => return Err(format!("it is compressed in a way numbered {other}")),
        };
        let mut made = [0; 7];
        for number in &mut made {
            *number = self.small()?;
        }
        let (minor, int_size) = (self.minor, self.int_size);
        let (database, server, program) = (self.text()?, self.text()?, self.text()?);
        Ok(Head { minor, int_size, packing, made, database, server, program })
    }

    fn entry(&mut self) -> Result<Entry, String> {
        let (number, _has_rows) = (self.small()?, self.int()?);
        let object = (self.number()?, self.number()?);
        let (tag, kind, section) = (self.text()?, self.text()?, self.int()?);
        let section = Section::ALL.into_iter().find(|one| one.number() == section);
        let section = section.ok_or("an entry is in no section")?;
        let [definition, drop, copy, schema, tablespace] = self.texts()?;
        let access_method = if self.minor >= 14 { self.text()? } else { None };
        let relkind = if self.minor >= 16 { self.small()? } else { 0 };
        // Whether a table has OIDS, which none has any more.
        let (owner, _oids) = (self.text()?, self.text()?);
        let mut depends_on = Vec::new();
        while let Some(digits) = self.text()? {
            let number = std::str::from_utf8(&digits).ok().and_then(|digits| digits.trim().parse().ok());
            depends_on.push(number.ok_or("an entry depends on what is no number")?);
        }
        let file = match self.format {
            CUSTOM => {
                self.take(1 + usize::from(self.offset_size))?;
                None
            }
            _ => self.text()?.filter(|name| !name.is_empty()),
        };
        #[rustfmt::skip]
        let entry = Entry {
            number, object, tag, kind, section, definition, drop, copy, schema, tablespace, access_method, relkind, owner,
            depends_on, file,
        };
        Ok(entry)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or("it ends early")?;
        self.rest = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.take(1)?[0])
    }

    fn int(&mut self) -> Result<i64, String> {
        let is_negative = self.byte()? != 0;
        let bytes = self.take(self.int_size.into())?;
        let value = bytes.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        let value = i64::try_from(value).map_err(|_| "a number is too large")?;
        Ok(if is_negative { -value } else { value })
    }

    fn small(&mut self) -> Result<i32, String> {
        self.int()?.try_into().map_err(|_| "a number is too large".to_owned())
    }

    fn text(&mut self) -> Result<Text, String> {
        match usize::try_from(self.int()?) {
            Ok(length) => Ok(Some(self.take(length)?.to_vec())),
            Err(_) => Ok(None),
        }
    }

    fn texts<const N: usize>(&mut self) -> Result<[Text; N], String> {
        let mut texts = [const { None }; N];
        for text in &mut texts {
            *text = self.text()?;
        }
        Ok(texts)
    }

    /// A number that is written as text.
    fn number(&mut self) -> Result<u32, String> {
        let digits = self.text()?.unwrap_or_default();
        let number = std::str::from_utf8(&digits).ok().and_then(|digits| digits.trim().parse().ok());
        number.ok_or_else(|| "an object's number is none".to_owned())
    }
}

struct Writer {
    bytes: Vec<u8>,
    int_size: u8,
}

impl Writer {
    fn int(&mut self, value: i64) {
        self.bytes.push(u8::from(value < 0));
        let bytes = value.unsigned_abs().to_le_bytes();
        self.bytes.extend_from_slice(&bytes[..usize::from(self.int_size.min(8))]);
    }

    fn text(&mut self, text: Option<&[u8]>) {
        match text {
            Some(text) => {
                self.int(text.len() as i64);
                self.bytes.extend_from_slice(text);
            }
            None => self.int(-1),
        }
    }

    fn entry(&mut self, entry: &Entry, minor: u8) {
        self.int(entry.number.into());
        self.int(entry.file.is_some().into());
        self.text(Some(entry.object.0.to_string().as_bytes()));
        self.text(Some(entry.object.1.to_string().as_bytes()));
        self.text(entry.tag.as_deref());
        self.text(entry.kind.as_deref());
        self.int(entry.section.number());
        let Entry { definition, drop, copy, schema, tablespace, .. } = entry;
        for text in [definition, drop, copy, schema, tablespace] {
            self.text(text.as_deref());
        }
        if minor >= 14 {
            self.text(entry.access_method.as_deref());
        }
        if minor >= 16 {
            self.int(entry.relkind.into());
        }
        self.text(entry.owner.as_deref());
        self.text(Some(b"false"));
        entry.depends_on.iter().for_each(|number| self.text(Some(number.to_string().as_bytes())));
        self.text(None);
        self.text(Some(entry.file.as_deref().unwrap_or_default()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some_text() -> impl Strategy<Value = Text> {
        prop::option::of(prop::collection::vec(any::<u8>(), 0..40))
    }

    fn packing(minor: u8) -> impl Strategy<Value = Packing> {
        let all = [Packing::Raw, Packing::Gzip, Packing::Zstd];
        prop::sample::select(all[..if minor >= 15 { 3 } else { 2 }].to_vec())
    }

    fn entry(minor: u8) -> impl Strategy<Value = Entry> {
        let texts = prop::array::uniform9(some_text());
        let file = prop::option::of(prop::collection::vec(any::<u8>(), 1..20));
        let numbers = (0..i32::MAX, any::<(u32, u32)>(), any::<u8>());
        (numbers, texts, prop::sample::select(Section::ALL.to_vec()), any::<Vec<i32>>(), file).prop_map(
            move |((number, object, relkind), texts, section, depends_on, file)| {
                let [tag, kind, definition, drop, copy, schema, tablespace, access_method, owner] = texts;
                let access_method = access_method.filter(|_| minor >= 14);
                let relkind = if minor >= 16 { relkind.into() } else { 0 };
                #[rustfmt::skip]
                let entry = Entry {
                    number, object, tag, kind, section, definition, drop, copy, schema, tablespace, access_method, relkind,
                    owner, depends_on, file,
                };
                entry
            },
        )
    }

    fn toc() -> impl Strategy<Value = Toc> {
        VERSIONS.prop_flat_map(|minor| {
            let entries = prop::collection::vec(entry(minor), 0..6);
            let texts = prop::array::uniform3(some_text());
            (packing(minor), any::<[i32; 7]>(), texts, entries).prop_map(
                move |(packing, made, [database, server, program], entries)| {
                    let made = made.map(|number| number.max(-i32::MAX));
                    Toc {
                        head: Head { minor, int_size: 4, packing, made, database, server, program },
                        entries,
                    }
                },
            )
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(toc in toc()) {
            // The lowest number has no counterpart above, which a sign and a size need.
            prop_assume!(toc.entries.iter().all(|entry| entry.depends_on.iter().all(|number| *number > i32::MIN)));
            let written = toc.write();
            prop_assert_eq!(Toc::read(&written).unwrap(), toc);
        }

        #[test]
        fn what_is_cut_short_is_told(toc in toc(), at: prop::sample::Index) {
            let written = toc.write();
            prop_assert!(Toc::read(&written[..at.index(written.len())]).is_err());
        }

        #[test]
        fn no_bytes_panic(toc in toc(), at: prop::sample::Index, byte: u8, noise: Vec<u8>) {
            let mut written = toc.write();
            let at = at.index(written.len());
            written[at] = byte;
            let _ = Toc::read(&written);
            let _ = Toc::read(&[MAGIC, &noise].concat());
        }
    }

    #[test]
    fn numbers_go_on_behind_the_largest() {
        let mut entry = Entry::new(7, "TABLE", Section::Before);
        entry.depends_on = vec![12, 3];
        let head = Head {
            minor: 14,
            int_size: 4,
            packing: Packing::Raw,
            made: [0; 7],
            database: None,
            server: None,
            program: None,
        };
        assert_eq!(Toc { head: head.clone(), entries: vec![entry] }.next_number(), 13);
        assert_eq!(Toc { head, entries: Vec::new() }.next_number(), 1);
    }
}
