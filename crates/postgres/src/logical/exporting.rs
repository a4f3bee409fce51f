//! The two forms of an export: [`Script`], SQL from one end to the other, and [`Directory`], a folder as `pg_dump -Fd` makes it.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::BytesMut;

use crate::logical::archive::{Entry, PG_CLASS, Packing, Section, Toc, text};
use crate::logical::facts::{LogicalFacts, SequenceFact, TableFact, qualified};
use crate::logical::failure::LogicalError;
use crate::logical::large_objects::{Attributes, Item};
use crate::logical::outlet::Outlet;
use crate::logical::part::Part;
use crate::logical::statement::write_rows;
use crate::logical::writer::grant_statement;
use crate::quote::{quoted_name, quoted_string};

/// The end of rows, as `pg_dump` writes it in its files.
const END_OF_ROWS: &[u8] = b"\\.\n\n\n";

/// The catalogue of large objects, `pg_largeobject`.
const PG_LARGEOBJECT: u32 = 2613;

/// What lists the large objects of a directory.
const OBJECTS: &str = "blobs.toc";

/// A form that is written part by part, each from its beginning to its end.
pub(crate) trait Form: Send {
    /// More of a part.
    fn write(&mut self, part: &Part, bytes: &[u8]) -> Result<(), LogicalError>;

    /// The end of a part.
    fn close(&mut self, part: &Part) -> Result<(), LogicalError>;

    /// After all parts; for SQL with what follows the rows.
    fn finish(self: Box<Self>, after: &[u8]) -> Result<(), LogicalError>;
}

fn table<'a>(facts: &'a LogicalFacts, folder: &str) -> Result<&'a TableFact, LogicalError> {
    let unknown = || LogicalError::Malformed {
        what: folder.to_owned(),
        why: "the dump's facts do not name it".to_owned(),
    };
    facts.tables.iter().find(|table| table.folder == folder).ok_or_else(unknown)
}

/// `COPY … FROM STDIN …;`
fn copy(facts: &LogicalFacts, table: &TableFact) -> String {
    format!("{};\n", write_rows(table, &facts.database.encoding))
}

/// `SELECT pg_catalog.setval(…);`
fn set(sequence: &SequenceFact) -> String {
    let name = quoted_string(&qualified(&sequence.schema, &sequence.name));
    format!("SELECT pg_catalog.setval({name}, {}, {});\n", sequence.last_value, sequence.is_called)
}

/// Large objects of a part, taken apart.
#[derive(Default)]
struct Objects {
    arrived: BytesMut,
    current: Option<(u32, i64)>,
    count: u64,
    announced: Option<u64>,
}

/// What happens to a large object.
enum Step {
    Begin(u32, Attributes),
    Bytes(u32, i64, bytes::Bytes),
    End,
}

impl Objects {
    fn arrive(&mut self, bytes: &[u8]) {
        self.arrived.extend_from_slice(bytes);
    }

    fn next(&mut self, part: &Part) -> Result<Option<Step>, LogicalError> {
        let malformed = |why: String| LogicalError::Malformed { what: part.name(), why };
        let Some(item) = Item::read(&mut self.arrived).map_err(malformed)? else { return Ok(None) };
        match (item, self.current.take(), self.announced) {
            (Item::Object(oid, attributes), None, None) => {
                self.current = Some((oid, 0));
                Ok(Some(Step::Begin(oid, attributes)))
            }
            (Item::Piece(bytes), Some((oid, at)), None) => {
                self.current = Some((oid, at + bytes.len() as i64));
                Ok(Some(Step::Bytes(oid, at, bytes)))
            }
            (Item::End, Some(_), None) => {
                self.count += 1;
                Ok(Some(Step::End))
            }
            (Item::Count(count), None, None) => {
                self.announced = Some(count);
                Ok(None)
            }
            _ => Err(malformed("its pieces are out of order".to_owned())),
        }
    }

    fn end(&mut self, part: &Part) -> Result<(), LogicalError> {
        let ended = std::mem::take(self);
        match ended.announced == Some(ended.count) && ended.arrived.is_empty() {
            true => Ok(()),
            false => {
                let why = format!("it ends after {} large objects", ended.count);
                Err(LogicalError::Malformed { what: part.name(), why })
            }
        }
    }
}

/// Owner, rights and comment of a large object.
struct Belongings {
    owner: String,
    grants: String,
    comment: Option<String>,
}

fn belongings(oid: u32, attributes: &Attributes) -> Belongings {
    let object = format!("LARGE OBJECT {oid}");
    let grants = attributes.grants.iter().map(|grant| format!("{}\n", grant_statement(grant, &object)));
    let comment = |text: &String| format!("COMMENT ON {object} IS {};\n", quoted_string(text));
    Belongings {
        owner: format!("ALTER {object} OWNER TO {};\n", quoted_name(&attributes.owner)),
        grants: grants.collect(),
        comment: attributes.comment.as_ref().map(comment),
    }
}

/// What of an export concerns roles.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Roles {
    /// Whether everything gets its owner.
    pub(crate) owners: bool,
    /// Whether rights are given.
    pub(crate) rights: bool,
}

/// One file of SQL.
pub(crate) struct Script {
    outlet: Outlet,
    facts: Arc<LogicalFacts>,
    roles: Roles,
    /// The part whose COPY is open.
    open: Option<Part>,
    objects: Objects,
}

impl Script {
    /// Begins with what comes before rows.
    pub(crate) fn begin(
        mut outlet: Outlet,
        (facts, roles): (Arc<LogicalFacts>, Roles),
        before: &[u8],
    ) -> Result<Script, LogicalError> {
        let database = &facts.database;
        let line = |text: &str| format!("-- {}\n", text.replace(['\n', '\r'], " "));
        let made = format!(
            "Database {} of PostgreSQL {}, as of {}: encoding {}, collation {}, character types {}",
            database.name, facts.version, facts.at, database.encoding, database.collate, database.ctype
        );
        outlet.write(line(&made).as_bytes())?;
        for left in &facts.left_out {
            outlet.write(line(&format!("Not in it: {} ({})", left.what, left.why)).as_bytes())?;
        }
        outlet.write(b"\n")?;
        outlet.write(before)?;
        Ok(Script { outlet, facts, roles, open: None, objects: Objects::default() })
    }

    /// Opens the part's COPY, unless it is.
    fn rows(&mut self, part: &Part, folder: &str) -> Result<(), LogicalError> {
        match &self.open {
            Some(open) if open == part => return Ok(()),
            Some(open) => {
                return Err(LogicalError::Unfinished { doing: "export", parts: vec![open.name()] });
            }
            None => {}
        }
        self.open = Some(part.clone());
        let sql = copy(&self.facts, table(&self.facts, folder)?);
        self.outlet.write(sql.as_bytes())
    }

    fn objects(&mut self, part: &Part) -> Result<(), LogicalError> {
        while let Some(step) = self.objects.next(part)? {
            match step {
                Step::Begin(oid, attributes) => {
                    let Belongings { owner, grants, comment } = belongings(oid, &attributes);
                    let owner = Some(owner).filter(|_| self.roles.owners).unwrap_or_default();
                    let grants = Some(grants).filter(|_| self.roles.rights).unwrap_or_default();
                    let comment = comment.unwrap_or_default();
                    let sql = format!("SELECT pg_catalog.lo_create('{oid}');\n{owner}{grants}{comment}");
                    self.outlet.write(sql.as_bytes())?;
                }
                Step::Bytes(oid, at, bytes) => {
                    let mut sql = format!("SELECT pg_catalog.lo_put('{oid}', {at}, '\\x");
                    for byte in &bytes {
                        // Writing to a string does not fail.
                        let _ = write!(sql, "{byte:02x}");
                    }
                    sql.push_str("');\n");
                    self.outlet.write(sql.as_bytes())?;
                }
                Step::End => {}
            }
        }
        Ok(())
    }
}

impl Form for Script {
    fn write(&mut self, part: &Part, bytes: &[u8]) -> Result<(), LogicalError> {
        match part {
            Part::Rows(folder, _) => {
                self.rows(part, folder)?;
                self.outlet.write(bytes)
            }
            part => {
                self.objects.arrive(bytes);
                self.objects(part)
            }
        }
    }

    fn close(&mut self, part: &Part) -> Result<(), LogicalError> {
        match part {
            Part::Rows(folder, _) => {
                self.rows(part, folder)?;
                self.open = None;
                self.outlet.write(END_OF_ROWS)
            }
            part => self.objects.end(part),
        }
    }

    fn finish(mut self: Box<Self>, after: &[u8]) -> Result<(), LogicalError> {
        let facts = self.facts.clone();
        for sequence in &facts.sequences {
            self.outlet.write(set(sequence).as_bytes())?;
        }
        self.outlet.write(b"\n")?;
        self.outlet.write(after)?;
        self.outlet.finish()
    }
}

/// A folder with a file for each table.
pub(crate) struct Directory {
    folder: PathBuf,
    facts: Arc<LogicalFacts>,
    toc: Toc,
    packing: Packing,
    next: i32,
    /// By the folder of its parts: the file of each table that has begun, and how many of its parts are in it.
    open: BTreeMap<String, (Outlet, u32)>,
    rows: Vec<Entry>,
    objects: Objects,
    object: Option<Outlet>,
    /// Lists the large objects.
    list: Option<Outlet>,
}

impl Directory {
    /// Begins with what the schema's archive says.
    pub(crate) fn begin(
        folder: &Path,
        facts: Arc<LogicalFacts>,
        archive: &[u8],
        packing: Packing,
    ) -> Result<Directory, LogicalError> {
        let malformed = |why| LogicalError::Malformed { what: Part::Schema.name(), why };
        let mut toc = Toc::read(archive).map_err(malformed)?;
        toc.head.packing = packing;
        Ok(Directory {
            folder: folder.to_owned(),
            facts,
            next: toc.next_number(),
            toc,
            packing,
            open: BTreeMap::new(),
            rows: Vec::new(),
            objects: Objects::default(),
            object: None,
            list: None,
        })
    }

    fn number(&mut self) -> i32 {
        let number = self.next;
        self.next = number.saturating_add(1);
        number
    }

    fn create(&self, name: &str) -> Result<Outlet, LogicalError> {
        let ending = self.packing.ending();
        Outlet::create(&self.folder.join(format!("{name}{ending}")), self.packing)
    }

    /// The schema's entry of a table or sequence.
    fn of(&self, oid: u32) -> Option<&Entry> {
        let is_it = |entry: &&Entry| entry.is("TABLE") || entry.is("SEQUENCE");
        self.toc.entries.iter().filter(is_it).find(|entry| entry.object == (PG_CLASS, oid))
    }

    /// The file of a table.
    fn file(&mut self, folder: &str) -> Result<&mut (Outlet, u32), LogicalError> {
        if !self.open.contains_key(folder) {
            let facts = self.facts.clone();
            let table = table(&facts, folder)?;
            let number = self.number();
            let file = format!("{number}.dat");
            self.open.insert(folder.to_owned(), (self.create(&file)?, 0));
            let entry = self.of(table.oid);
            let (owner, on) = entry.map_or((None, None), |entry| (entry.owner.clone(), Some(entry.number)));
            // Its words tell pg_restore not to empty the partition first, into which others may have put rows.
            let through = table
                .through
                .as_ref()
                .map(|(schema, name)| format!("-- load via partition root {}\n", qualified(schema, name)));
            self.rows.push(Entry {
                object: (0, table.oid),
                tag: text(&table.name),
                definition: text(&through.unwrap_or_default()),
                copy: text(&copy(&facts, table)),
                schema: text(&table.schema),
                owner: owner.or_else(|| text("")),
                depends_on: on.into_iter().collect(),
                file: Some(file.into_bytes()),
                ..Entry::new(number, "TABLE DATA", Section::Rows)
            });
        }
        let open = self.open.get_mut(folder);
        open.ok_or_else(|| LogicalError::Unfinished { doing: "export", parts: vec![folder.to_owned()] })
    }

    fn objects(&mut self, part: &Part) -> Result<(), LogicalError> {
        while let Some(step) = self.objects.next(part)? {
            match step {
                Step::Begin(oid, attributes) => {
                    let file = format!("blob_{oid}.dat");
                    self.object = Some(self.create(&file)?);
                    if self.list.is_none() {
                        // Never compressed.
                        self.list = Some(Outlet::create(&self.folder.join(OBJECTS), Packing::Raw)?);
                    }
                    let line = format!("{oid} {file}\n");
                    self.list.as_mut().map_or(Ok(()), |list| list.write(line.as_bytes()))?;
                    self.object_entries(oid, &attributes);
                }
                Step::Bytes(_, _, bytes) => {
                    self.object.as_mut().map_or(Ok(()), |object| object.write(&bytes))?;
                }
                Step::End => self.object.take().map_or(Ok(()), Outlet::finish)?,
            }
        }
        Ok(())
    }

    /// An entry for a large object, its rights, its comment, as `pg_dump` up to 16 writes them and all read them.
    fn object_entries(&mut self, oid: u32, attributes: &Attributes) {
        let number = self.number();
        let tag = format!("LARGE OBJECT {oid}");
        self.rows.push(Entry {
            object: (PG_LARGEOBJECT, oid),
            tag: text(&oid.to_string()),
            definition: text(&format!("SELECT pg_catalog.lo_create('{oid}');\n")),
            drop: text(&format!("SELECT pg_catalog.lo_unlink('{oid}');\n")),
            owner: text(&attributes.owner),
            ..Entry::new(number, "BLOB", Section::Before)
        });
        let Belongings { grants, comment, .. } = belongings(oid, attributes);
        for (kind, sql) in [("ACL", Some(grants)), ("COMMENT", comment)] {
            if let Some(sql) = sql.filter(|sql| !sql.is_empty()) {
                let entry = Entry {
                    tag: text(&tag),
                    definition: text(&sql),
                    owner: text(&attributes.owner),
                    depends_on: vec![number],
                    ..Entry::new(self.number(), kind, Section::None)
                };
                self.rows.push(entry);
            }
        }
    }

    /// Where sequences are, and that there are large objects.
    fn last_entries(&mut self) {
        let facts = self.facts.clone();
        for sequence in &facts.sequences {
            let number = self.number();
            let entry = self.of(sequence.oid);
            let (owner, on) = entry.map_or((None, None), |entry| (entry.owner.clone(), Some(entry.number)));
            self.rows.push(Entry {
                tag: text(&sequence.name),
                definition: text(&set(sequence)),
                schema: text(&sequence.schema),
                owner: owner.or_else(|| text("")),
                depends_on: on.into_iter().collect(),
                ..Entry::new(number, "SEQUENCE SET", Section::Rows)
            });
        }
        if self.list.is_some() {
            let number = self.number();
            let file = Some(OBJECTS.as_bytes().to_vec());
            self.rows.push(Entry { tag: text("BLOBS"), file, ..Entry::new(number, "BLOBS", Section::Rows) });
        }
    }
}

impl Form for Directory {
    fn write(&mut self, part: &Part, bytes: &[u8]) -> Result<(), LogicalError> {
        match part {
            Part::Rows(folder, _) => self.file(folder)?.0.write(bytes),
            part => {
                self.objects.arrive(bytes);
                self.objects(part)
            }
        }
    }

    fn close(&mut self, part: &Part) -> Result<(), LogicalError> {
        let Part::Rows(folder, _) = part else { return self.objects.end(part) };
        let parts = table(&self.facts, folder)?.parts;
        let file = self.file(folder)?;
        file.1 += 1;
        if file.1 < parts {
            return Ok(());
        }
        let Some((mut file, _)) = self.open.remove(folder) else { return Ok(()) };
        file.write(END_OF_ROWS)?;
        file.finish()
    }

    fn finish(mut self: Box<Self>, _: &[u8]) -> Result<(), LogicalError> {
        if !self.open.is_empty() {
            let parts = std::mem::take(&mut self.open).into_keys().collect();
            return Err(LogicalError::Unfinished { doing: "export", parts });
        }
        self.last_entries();
        self.list.take().map_or(Ok(()), Outlet::finish)?;
        let after = |entry: &Entry| entry.section == Section::After;
        let at = self.toc.entries.iter().position(after).unwrap_or(self.toc.entries.len());
        // What is made before rows stands before them.
        let mut rows = std::mem::take(&mut self.rows);
        rows.sort_by_key(|entry| entry.section == Section::Rows);
        self.toc.entries.splice(at..at, rows);
        let mut toc = Outlet::create(&self.folder.join("toc.dat"), Packing::Raw)?;
        toc.write(&self.toc.write())?;
        toc.finish()
    }
}
