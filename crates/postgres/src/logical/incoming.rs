//! A file that `pg_dump` made: what it is, whether it is whole as far as can be told, and what its restore needs.
//!
//! **Invariants**: the file is read once from end to end and never written; no bytes of it make this module panic, and a line
//! of any length takes at most [`LINE`] bytes.

#![allow(clippy::disallowed_methods, reason = "reads the files that are imported")]

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use serde::Serialize;
use strongroom_model::Timestamp;

use crate::logical::archive::{MAGIC, Toc};
use crate::logical::failure::LogicalError;

/// Bytes of a line that are looked at.
const LINE: usize = 64 << 10;

/// Bytes read at a time.
const READ: usize = 256 << 10;

/// Bytes of an archive that are taken for its contents at first.
const CONTENTS: u64 = 4 << 20;

/// What statements begin with that make or fill something.
const MAKES: [&str; 5] = ["CREATE ", "COPY ", "INSERT ", "SELECT ", "DO "];

/// How the file was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// SQL.
    Plain,
    /// SQL, compressed by gzip.
    PlainGzip,
    /// SQL, compressed by zstd.
    PlainZstd,
    /// `pg_dump -Fc`.
    Custom,
    /// `pg_dump -Fd`.
    Directory,
    /// `pg_dump -Ft`.
    Tar,
}

impl Kind {
    /// Whether `psql` restores it.
    pub(crate) fn is_sql(self) -> bool {
        matches!(self, Kind::Plain | Kind::PlainGzip | Kind::PlainZstd)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Plain => "plain SQL",
            Kind::PlainGzip => "plain SQL, gzip",
            Kind::PlainZstd => "plain SQL, zstd",
            Kind::Custom => "a custom archive",
            Kind::Directory => "a directory archive",
            Kind::Tar => "a tar archive",
        })
    }
}

/// A file that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Incoming {
    /// Where it is.
    pub path: PathBuf,
    /// How it was made.
    pub kind: Kind,
    /// Its bytes; of a directory those of all its files.
    pub bytes: u64,
    /// When it was written last.
    pub modified: Timestamp,
    /// Its BLAKE3 hash, as `b3sum` prints it; of a directory that of what `b3sum *` prints there.
    pub blake3: String,
    /// The database's name, if it says so.
    pub database: Option<String>,
    /// The server's version, if it says so.
    pub server: Option<String>,
    /// The version of `pg_dump`, if it says so.
    pub program: Option<String>,
    /// The encoding that its text is in.
    pub encoding: String,
    /// Roles that it names.
    pub roles: BTreeSet<String>,
    /// Whether it makes its database itself: `pg_dump -C`.
    pub makes_database: bool,
}

impl Incoming {
    /// Reads the whole file. Blocks.
    pub fn look(path: &Path) -> Result<Incoming, LogicalError> {
        let facts = std::fs::metadata(path).map_err(io_at("read", path))?;
        let path = std::fs::canonicalize(path).map_err(io_at("read", path))?;
        let kind = kind_of(&path, facts.is_dir())?;
        let (bytes, modified, blake3) = match kind {
            Kind::Directory => hash_folder(&path)?,
            _ => hash_file(&path)?,
        };
        let mut incoming = Incoming {
            kind,
            bytes,
            modified,
            blake3,
            database: None,
            server: None,
            program: None,
            encoding: "UTF8".to_owned(),
            roles: BTreeSet::new(),
            makes_database: false,
            path,
        };
        match kind.is_sql() {
            true => incoming.look_at_sql()?,
            false => incoming.look_at_archive()?,
        }
        Ok(incoming)
    }

    /// The oldest major version that can restore it, if it says so.
    pub fn at_least(&self) -> Option<u16> {
        let major = |text: &String| text.split(|c: char| !c.is_ascii_digit()).next()?.parse::<u16>().ok();
        let versions = [&self.server, &self.program].into_iter().flatten().filter_map(major);
        versions.max()
    }

    /// Its SQL, decompressed.
    pub(crate) fn sql(&self) -> Result<Box<dyn Read + Send>, LogicalError> {
        let file = File::open(&self.path).map_err(io_at("read", &self.path))?;
        let file = BufReader::with_capacity(READ, file);
        Ok(match self.kind {
            Kind::PlainGzip => Box::new(MultiGzDecoder::new(file)),
            Kind::PlainZstd => {
                Box::new(zstd::Decoder::with_buffer(file).map_err(|error| self.unfit(error.to_string()))?)
            }
            _ => Box::new(file),
        })
    }

    /// It cannot be imported.
    pub(crate) fn unfit(&self, why: String) -> LogicalError {
        LogicalError::File { path: self.path.clone(), why }
    }

    fn look_at_sql(&mut self) -> Result<(), LogicalError> {
        let reader = BufReader::with_capacity(READ, self.sql()?);
        let mut script = Script::default();
        lines(reader, |line| script.take(line))
            .map_err(|error| self.unfit(format!("its content cannot be read to the end: {error}")))?;
        let why = match &script {
            Script { is_archive: true, .. } => "it is a compressed archive: decompress it first",
            Script { is_cluster: true, .. } => {
                "it holds a whole cluster (pg_dumpall): import each of its databases as a file of its own"
            }
            Script { is_empty: true, .. } => "it is empty",
            Script { has_nul: true, .. } => {
                "it is no dump: it holds NUL bytes, which SQL does not (a shell that writes UTF-16, as PowerShell's > does?)"
            }
            Script { is_dump: false, makes: false, .. } => {
                "it is no dump: no line of it makes or fills anything"
            }
            Script { rows: true, .. } => "it ends in the middle of a table's rows: it is truncated",
            Script { is_dump: true, is_complete: false, .. } => {
                "it does not end with 'PostgreSQL database dump complete': it is truncated"
            }
            _ => "",
        };
        if !why.is_empty() {
            return Err(self.unfit(why.to_owned()));
        }
        self.server = script.server;
        self.program = script.program;
        self.encoding = script.encoding.unwrap_or_else(|| "UTF8".to_owned());
        self.roles = script.roles;
        self.makes_database = script.makes_database;
        Ok(())
    }

    fn look_at_archive(&mut self) -> Result<(), LogicalError> {
        let toc = self.toc()?;
        let string =
            |text: &Option<Vec<u8>>| text.as_ref().map(|text| String::from_utf8_lossy(text).into_owned());
        self.database = string(&toc.head.database);
        self.server = string(&toc.head.server);
        self.program = string(&toc.head.program);
        for entry in &toc.entries {
            let definition = string(&entry.definition).unwrap_or_default();
            if entry.is("ENCODING") {
                let encoding = definition.split('\'').nth(1).map(str::to_owned);
                self.encoding = encoding.unwrap_or_else(|| "UTF8".to_owned());
            }
            self.roles.extend(string(&entry.owner).filter(|owner| is_role(owner)));
            definition.lines().for_each(|line| self.roles.extend(roles_in(line)));
        }
        Ok(())
    }

    fn toc(&self) -> Result<Toc, LogicalError> {
        if self.kind == Kind::Directory {
            let plain = self.path.join("toc.dat");
            let mut bytes = Vec::new();
            let read = match plain.exists() {
                true => File::open(&plain).and_then(|mut file| file.read_to_end(&mut bytes)),
                false => File::open(self.path.join("toc.dat.gz"))
                    .and_then(|file| MultiGzDecoder::new(BufReader::new(file)).read_to_end(&mut bytes)),
            };
            read.map_err(io_at("read", &plain))?;
            return Toc::read(&bytes).map_err(|why| self.unfit(why));
        }
        // A tar archive's first file is its contents.
        let skip = if self.kind == Kind::Tar { 512 } else { 0 };
        let mut size = CONTENTS;
        loop {
            let mut bytes = Vec::new();
            let read = File::open(&self.path).and_then(|mut file| {
                file.seek(SeekFrom::Start(skip))?;
                file.take(size).read_to_end(&mut bytes)
            });
            read.map_err(io_at("read", &self.path))?;
            match Toc::read(&bytes) {
                Ok(toc) => return Ok(toc),
                Err(_) if bytes.len() as u64 == size => size *= 4,
                Err(why) => return Err(self.unfit(why)),
            }
        }
    }
}

fn io_at(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> LogicalError + use<> {
    let path = path.to_owned();
    move |source| LogicalError::Io { operation, path: path.clone(), source }
}

fn kind_of(path: &Path, is_folder: bool) -> Result<Kind, LogicalError> {
    if is_folder {
        let is_archive = ["toc.dat", "toc.dat.gz"].iter().any(|name| path.join(name).exists());
        let why = "it is a folder without toc.dat, and so no directory archive of pg_dump".to_owned();
        return is_archive
            .then_some(Kind::Directory)
            .ok_or(LogicalError::File { path: path.to_owned(), why });
    }
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(512).read_to_end(&mut start));
    read.map_err(io_at("read", path))?;
    Ok(match &start[..] {
        custom if custom.starts_with(MAGIC) => Kind::Custom,
        [0x1f, 0x8b, ..] => Kind::PlainGzip,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Kind::PlainZstd,
        tar if tar.starts_with(b"toc.dat\0") => Kind::Tar,
        _ => Kind::Plain,
    })
}

fn hash_file(path: &Path) -> Result<(u64, Timestamp, String), LogicalError> {
    let mut file = File::open(path).map_err(io_at("read", path))?;
    let modified = file.metadata().and_then(|facts| facts.modified()).map_err(io_at("look at", path))?;
    let (mut hasher, mut bytes, mut buffer) = (blake3::Hasher::new(), 0, vec![0; READ]);
    loop {
        match file.read(&mut buffer).map_err(io_at("read", path))? {
            0 => break,
            count => {
                hasher.update(&buffer[..count]);
                bytes += count as u64;
            }
        }
    }
    let modified = jiff::Timestamp::try_from(modified).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    Ok((bytes, Timestamp(modified), hasher.finalize().to_hex().to_string()))
}

/// Of a folder the hash is that of its list: `b3sum * | b3sum`.
fn hash_folder(path: &Path) -> Result<(u64, Timestamp, String), LogicalError> {
    let entries = std::fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut paths: Vec<PathBuf> =
        entries.map_err(io_at("list", path))?.into_iter().map(|entry| entry.path()).collect();
    paths.retain(|path| path.is_file());
    paths.sort();
    let (mut hasher, mut bytes, mut latest) = (blake3::Hasher::new(), 0, None);
    for path in paths {
        let (size, modified, hash) = hash_file(&path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        hasher.update(format!("{hash}  {name}\n").as_bytes());
        bytes += size;
        latest = latest.max(Some(modified));
    }
    let latest = latest.unwrap_or(Timestamp(jiff::Timestamp::UNIX_EPOCH));
    Ok((bytes, latest, hasher.finalize().to_hex().to_string()))
}

/// Calls for every line, of which it hands on the beginning.
fn lines(mut reader: impl BufRead, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            if !line.is_empty() {
                each(&line);
            }
            return Ok(());
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let piece = &buffer[..end.unwrap_or(buffer.len())];
        line.extend_from_slice(&piece[..piece.len().min(LINE.saturating_sub(line.len()))]);
        let taken = end.map_or(buffer.len(), |end| end + 1);
        if end.is_some() {
            each(&line);
            line.clear();
        }
        reader.consume(taken);
    }
}

/// What a file of SQL says of itself.
#[derive(Debug)]
struct Script {
    is_empty: bool,
    is_dump: bool,
    is_cluster: bool,
    is_archive: bool,
    is_complete: bool,
    has_nul: bool,
    /// Whether a line begins as those do that make or fill something.
    makes: bool,
    /// Between COPY and its end.
    rows: bool,
    server: Option<String>,
    program: Option<String>,
    encoding: Option<String>,
    makes_database: bool,
    roles: BTreeSet<String>,
}

impl Default for Script {
    fn default() -> Script {
        Script {
            is_empty: true,
            is_dump: false,
            is_cluster: false,
            is_archive: false,
            is_complete: false,
            has_nul: false,
            makes: false,
            rows: false,
            server: None,
            program: None,
            encoding: None,
            makes_database: false,
            roles: BTreeSet::new(),
        }
    }
}

impl Script {
    fn take(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        self.has_nul |= line.contains(&0);
        if self.rows {
            self.rows = line != b"\\.";
            return;
        }
        self.is_archive |= self.is_empty && (line.starts_with(MAGIC) || line.starts_with(b"toc.dat\0"));
        self.is_empty &= line.is_empty();
        let text = String::from_utf8_lossy(line);
        let start = text.trim_start();
        self.makes |= MAKES
            .iter()
            .any(|word| start.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)));
        let after = |start: &str| text.strip_prefix(start).map(|rest| rest.trim().to_owned());
        match &*text {
            "-- PostgreSQL database dump" => self.is_dump = true,
            "-- PostgreSQL database cluster dump" => self.is_cluster = true,
            "-- PostgreSQL database dump complete" => self.is_complete = true,
            text if text.starts_with("COPY ") && text.to_ascii_lowercase().contains(" from stdin") => {
                self.rows = text.trim_end().ends_with(';');
            }
            text if text.starts_with("CREATE DATABASE ") => self.makes_database = true,
            _ => {
                self.server = self.server.take().or_else(|| after("-- Dumped from database version "));
                self.program = self.program.take().or_else(|| after("-- Dumped by pg_dump version "));
                let encoding = after("SET client_encoding = '");
                let encoding = encoding.and_then(|rest| rest.split('\'').next().map(str::to_owned));
                self.encoding = self.encoding.take().or(encoding);
                self.roles.extend(roles_in(&text));
            }
        }
    }
}

/// The roles that a statement of `pg_dump` names on this line.
fn roles_in(line: &str) -> Vec<String> {
    let behind = |word: &str| line.rfind(word).map(|at| &line[at + word.len()..]);
    let mut found = Vec::new();
    if line.starts_with("ALTER ") {
        found.extend(behind(" OWNER TO "));
        found.extend(behind("DEFAULT PRIVILEGES FOR ROLE "));
    }
    let gives = line.starts_with("GRANT ") || line.contains(" GRANT ");
    let takes = line.starts_with("REVOKE ") || line.contains(" REVOKE ");
    if gives || line.starts_with("CREATE POLICY ") {
        found.extend(behind(" TO "));
    }
    if takes {
        found.extend(behind(" FROM "));
    }
    if line.starts_with("CREATE USER MAPPING FOR ") {
        found.extend(behind(" MAPPING FOR "));
    }
    if line.starts_with("CREATE SCHEMA ") {
        found.extend(behind(" AUTHORIZATION "));
    }
    if line.starts_with("SET SESSION AUTHORIZATION ") {
        found.extend(behind(" AUTHORIZATION ").map(|rest| rest.trim_start_matches('\'')));
    }
    found.into_iter().flat_map(names).filter(|name| is_role(name)).collect()
}

/// The names that text begins with, separated by commas.
fn names(mut text: &str) -> Vec<String> {
    let mut names = Vec::new();
    loop {
        let (name, rest) = match text.strip_prefix('"') {
            Some(quoted) => {
                let mut end = 0;
                let bytes = quoted.as_bytes();
                while end < bytes.len() && (bytes[end] != b'"' || bytes.get(end + 1) == Some(&b'"')) {
                    end += if bytes[end] == b'"' { 2 } else { 1 };
                }
                let end = end.min(quoted.len());
                (quoted[..end].replace("\"\"", "\""), quoted.get(end + 1..).unwrap_or_default())
            }
            None => {
                let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
                let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
                (text[..end].to_owned(), &text[end..])
            }
        };
        if !name.is_empty() {
            names.push(name);
        }
        match rest.strip_prefix(", ") {
            Some(rest) => text = rest,
            None => return names,
        }
    }
}

/// Whether a role of this name may have to be made.
fn is_role(name: &str) -> bool {
    let words = ["", "PUBLIC", "CURRENT_USER", "CURRENT_ROLE", "SESSION_USER", "DEFAULT"];
    !words.contains(&name) && name != "postgres" && !name.starts_with("pg_")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn roles_are_found_where_pg_dump_names_them() {
        for (line, roles) in [
            ("ALTER TABLE app.many OWNER TO keeper;", vec!["keeper"]),
            ("ALTER TABLE app.\"x OWNER TO y\" OWNER TO \"Odd \"\"Role\"\"\";", vec!["Odd \"Role\""]),
            ("GRANT SELECT ON TABLE app.many TO reader WITH GRANT OPTION;", vec!["reader"]),
            ("REVOKE ALL ON SCHEMA public FROM PUBLIC;", vec![]),
            ("REVOKE CONNECT,TEMPORARY ON DATABASE x FROM somebody;", vec!["somebody"]),
            (
                "ALTER DEFAULT PRIVILEGES FOR ROLE owner1 IN SCHEMA app GRANT SELECT ON TABLES  TO reader;",
                vec!["owner1", "reader"],
            ),
            (
                "CREATE POLICY own ON app.hidden FOR SELECT TO reader, \"B c\" USING (true);",
                vec!["reader", "B c"],
            ),
            ("CREATE USER MAPPING FOR reader SERVER far;", vec!["reader"]),
            ("CREATE SCHEMA s AUTHORIZATION x;", vec!["x"]),
            ("SET SESSION AUTHORIZATION 'joe';", vec!["joe"]),
            ("ALTER TABLE a RENAME TO b;", vec![]),
            ("ALTER TABLE a OWNER TO postgres;", vec![]),
            ("SELECT 1;", vec![]),
        ] {
            assert_eq!(roles_in(line), roles, "{line}");
        }
    }

    #[test]
    fn rows_are_not_read_as_statements_and_their_end_is_missed() {
        let mut script = Script::default();
        let text = "-- PostgreSQL database dump\n-- Dumped from database version 15.14 (Debian)\nCOPY t (a) FROM stdin;\nGRANT x TO nobody;\n";
        lines(text.as_bytes(), |line| script.take(line)).unwrap();
        assert!(script.rows && script.is_dump && script.roles.is_empty());
        assert_eq!(script.server.as_deref(), Some("15.14 (Debian)"));
        lines(&b"\\.\n-- PostgreSQL database dump complete"[..], |line| script.take(line)).unwrap();
        assert!(!script.rows && script.is_complete);
    }

    proptest! {
        #[test]
        fn no_line_panics(line in ".*", word in prop::sample::select(vec!["GRANT a TO ", "ALTER b OWNER TO \"", "CREATE POLICY p TO "])) {
            roles_in(&line);
            roles_in(&format!("{word}{line}"));
            roles_in(&format!("{word}{line}\""));
        }

        #[test]
        fn lines_are_the_same_however_they_arrive(text: Vec<u8>, capacity in 1_usize..40) {
            let mut seen: Vec<Vec<u8>> = Vec::new();
            lines(BufReader::with_capacity(capacity, &text[..]), |line| seen.push(line.to_vec())).unwrap();
            let mut expected: Vec<Vec<u8>> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            expected.pop_if(|last| last.is_empty());
            prop_assert_eq!(seen, expected);
        }
    }
}
