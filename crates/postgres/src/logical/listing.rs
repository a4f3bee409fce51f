//! The entries of a schema's archive, as `pg_restore --list --verbose` prints them, and which of them a restore takes.
//!
//! ```text
//! 215; 1259 16385 TABLE public orders shop        number; catalogue and object; kind, schema, name, owner
//! 3385; 0 0 COMMENT public TABLE orders shop
//! ;       depends on: 215
//! ```
//!
//! Names may hold spaces, and are not read: an entry is found by its object's number, or by what it depends on.

use std::collections::{BTreeMap, BTreeSet};

use crate::logical::options::Without;

/// Kinds of entries, the longer ones before those that they begin with.
const KINDS: &[&str] = &[
    "MATERIALIZED VIEW DATA",
    "MATERIALIZED VIEW",
    "PUBLICATION TABLES IN SCHEMA",
    "PUBLICATION TABLE",
    "CHECK CONSTRAINT",
    "FK CONSTRAINT",
    "CONSTRAINT",
    "SEQUENCE OWNED BY",
    "SEQUENCE",
    "INDEX ATTACH",
    "INDEX",
    "TABLE ATTACH",
    "TABLE",
    "EVENT TRIGGER",
    "TRIGGER",
    "ROW SECURITY",
    "POLICY",
    "SECURITY LABEL",
    "STATISTICS",
    "DEFAULT ACL",
    "DEFAULT",
    "COMMENT",
    "ACL",
    "RULE",
    "REPLICA IDENTITY",
    "SCHEMA",
];

/// Kinds of entries that are chosen.
const ITSELF: &[&str] = &["TABLE", "SEQUENCE", "SCHEMA"];

/// Kinds that belong to what they depend on.
const BELONGS: &[&str] = &[
    "CONSTRAINT",
    "CHECK CONSTRAINT",
    "FK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "TABLE ATTACH",
    "TRIGGER",
    "ROW SECURITY",
    "POLICY",
    "SECURITY LABEL",
    "STATISTICS",
    "DEFAULT",
    "COMMENT",
    "ACL",
    "RULE",
    "REPLICA IDENTITY",
    "SEQUENCE OWNED BY",
];

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    number: u32,
    object: (u32, u32),
    /// One of [`KINDS`], or empty.
    kind: &'static str,
    line: String,
    depends_on: Vec<u32>,
}

/// All entries, in the archive's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Listing(Vec<Entry>);

impl Listing {
    /// Reads what was printed; `Err` with a line that is none.
    pub(crate) fn read(text: &str) -> Result<Listing, String> {
        let mut entries: Vec<Entry> = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            match line.strip_prefix(';') {
                None => entries.push(entry(line).ok_or_else(|| line.to_owned())?),
                Some(comment) => {
                    let numbers = comment.trim_start().strip_prefix("depends on:");
                    if let (Some(numbers), Some(entry)) = (numbers, entries.last_mut()) {
                        entry.depends_on =
                            numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
                    }
                }
            }
        }
        Ok(Listing(entries))
    }

    /// The list of what is taken of the whole, as `pg_restore --use-list` reads it. An extension brings its comment along,
    /// and on managed servers nobody else may set it.
    pub(crate) fn all_but(&self, without: Without) -> String {
        let is_taken = |entry: &&Entry| {
            !without.leaves_out(entry.kind) && !entry.rest().starts_with("COMMENT - EXTENSION ")
        };
        self.0.iter().filter(is_taken).map(Entry::with_line_end).collect()
    }

    /// The same of some objects, with what belongs to them alone; and the entries that would, but need something else as well.
    pub(crate) fn of(&self, wish: &Wish<'_>, without: Without) -> (String, Vec<&str>) {
        // Row security has its table's number as well; only its own entry names the object itself.
        let is_asked_for =
            |entry: &Entry| ITSELF.contains(&entry.kind) && wish.objects.contains(&entry.object);
        let mut taken: BTreeSet<u32> =
            self.0.iter().filter(|entry| is_asked_for(entry)).map(|entry| entry.number).collect();
        let all: BTreeMap<u32, &Entry> = self.0.iter().map(|entry| (entry.number, entry)).collect();
        // A function or type that it needs must be there already; another table need not.
        let is_missing = |entry: &Entry, taken: &BTreeSet<u32>| {
            let mut others = entry
                .depends_on
                .iter()
                .filter(|number| !taken.contains(number))
                .filter_map(|number| all.get(number));
            match entry.kind {
                // A key to a table that is there comes, the other table's key to this one does not.
                "FK CONSTRAINT" => {
                    !wish.names.iter().any(|name| entry.is_on(name))
                        || others
                            .any(|other| other.kind == "TABLE" && !wish.present.contains(&other.object.1))
                }
                _ => others.any(|other| ITSELF.contains(&other.kind) || BELONGS.contains(&other.kind)),
            }
        };
        loop {
            let belongs = |entry: &&Entry| {
                !taken.contains(&entry.number)
                    && entry.belongs_to(&taken, without)
                    && !is_missing(entry, &taken)
            };
            let more: Vec<u32> = self.0.iter().filter(belongs).map(|entry| entry.number).collect();
            if more.is_empty() {
                break;
            }
            taken.extend(more);
        }
        let left =
            self.0.iter().filter(|entry| !taken.contains(&entry.number) && entry.belongs_to(&taken, without));
        let left = left.map(Entry::rest).collect();
        let list = self.0.iter().filter(|entry| taken.contains(&entry.number)).map(Entry::with_line_end);
        (list.collect(), left)
    }
}

/// What is asked for of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish<'a> {
    /// Catalogue and number of each object.
    pub(crate) objects: BTreeSet<(u32, u32)>,
    /// Schema and name of each table among them.
    pub(crate) names: Vec<(&'a str, &'a str)>,
    /// Numbers of tables of the dump that the target has.
    pub(crate) present: BTreeSet<u32>,
}

/// A list without rights, and the rights alone.
pub(crate) fn rights_apart(list: &str) -> (String, String) {
    let is_right = |line: &&str| entry(line).is_some_and(|entry| entry.kind == "ACL");
    let (rights, others): (Vec<&str>, Vec<&str>) = list.split_inclusive('\n').partition(is_right);
    (others.concat(), rights.concat())
}

impl Entry {
    /// Kind, schema, name and owner, as they are listed.
    fn rest(&self) -> &str {
        self.line.splitn(4, ' ').last().unwrap_or_default()
    }

    /// Whether it is made on the table of this schema and name, as a list writes them.
    fn is_on(&self, (schema, name): &(&str, &str)) -> bool {
        let start = format!("{} {schema} {name} ", self.kind).replace(['\n', '\r'], " ");
        self.rest().starts_with(&start)
    }

    fn belongs_to(&self, taken: &BTreeSet<u32>, without: Without) -> bool {
        BELONGS.contains(&self.kind)
            && !without.leaves_out(self.kind)
            && self.depends_on.iter().any(|number| taken.contains(number))
    }

    fn with_line_end(&self) -> String {
        format!("{}\n", self.line)
    }
}

fn entry(line: &str) -> Option<Entry> {
    let (number, rest) = line.split_once("; ")?;
    let (catalog, rest) = rest.split_once(' ')?;
    let (object, rest) = rest.split_once(' ')?;
    let is_it = |kind: &&&str| rest.strip_prefix(**kind).is_some_and(|rest| rest.starts_with(' '));
    Some(Entry {
        number: number.parse().ok()?,
        object: (catalog.parse().ok()?, object.parse().ok()?),
        kind: KINDS.iter().find(is_it).copied().unwrap_or(""),
        line: line.to_owned(),
        depends_on: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logical::archive::PG_CLASS;

    const LISTED: &str = "\
;
; Archive created at 2026-11-21 14:46:16 UTC
;
3379; 0 0 ENCODING - ENCODING 
215; 1259 16385 TABLE public odd na me postgres
3385; 0 0 COMMENT public TABLE \"odd na me\" postgres
;\tdepends on: 215
214; 1259 16384 SEQUENCE public odd na me_id_seq postgres
;\tdepends on: 215
3387; 0 0 SEQUENCE OWNED BY public odd na me_id_seq postgres
;\tdepends on: 214
218; 1259 16408 TABLE public p postgres
3214; 2604 16388 DEFAULT public odd na me id postgres
;\tdepends on: 215 214 215
3217; 2606 16393 CONSTRAINT public odd na me odd na me_pkey postgres
;\tdepends on: 215
3218; 1259 16399 INDEX public odd na me_v_idx postgres
;\tdepends on: 215 77
3223; 2606 16394 FK CONSTRAINT public p p_c_fkey postgres
;\tdepends on: 215 3217 218
3370; 6104 16416 PUBLICATION - pub postgres
3371; 6106 16417 PUBLICATION TABLE public pub p postgres
;\tdepends on: 3370 218
77; 1255 16500 FUNCTION public f() postgres
";

    fn numbers(list: &str) -> Vec<u32> {
        list.lines().map(|line| line.split(';').next().unwrap().parse().unwrap()).collect()
    }

    #[test]
    fn a_table_takes_along_what_is_made_on_it_alone() {
        let listing = Listing::read(LISTED).unwrap();
        let mut present = BTreeSet::new();
        let of = |tables: &[u32], without, present: &BTreeSet<u32>| {
            let objects = tables.iter().map(|oid| (PG_CLASS, *oid)).collect();
            let names = vec![if tables.contains(&16408) { ("public", "p") } else { ("public", "odd na me") }];
            let (list, left) = listing.of(&Wish { objects, names, present: present.clone() }, without);
            (numbers(&list), left.len())
        };
        let all = Without::default();
        assert_eq!(of(&[16385, 16384], all, &present), (vec![215, 3385, 214, 3387, 3214, 3217, 3218], 1));
        // The key that names the other table comes only with that one.
        let both = vec![215, 3385, 214, 3387, 218, 3214, 3217, 3218, 3223];
        assert_eq!(of(&[16385, 16384, 16408], all, &present), (both, 0));
        // A key to a table that the target has comes along.
        assert_eq!(of(&[16408], all, &present), (vec![218], 1));
        present.insert(16385);
        assert_eq!(of(&[16408], all, &present), (vec![218, 3223], 0));
        let bare = Without { indexes: true, constraints: true, triggers: true };
        assert_eq!(of(&[16385, 16384], bare, &present), (vec![215, 3385, 214, 3387, 3214], 0));
    }

    #[test]
    fn rights_are_told_apart() {
        let list = "1; 0 0 ACL public TABLE t o\n2; 1259 5 TABLE public ACL o\n3; 0 0 ACL - SCHEMA s o\n";
        let (others, rights) = rights_apart(list);
        assert_eq!((numbers(&others), numbers(&rights)), (vec![2], vec![1, 3]));
    }

    #[test]
    fn the_whole_is_taken_but_what_is_not_wanted() {
        let listing = Listing::read(LISTED).unwrap();
        assert_eq!(numbers(&listing.all_but(Without::default())).len(), 13);
        let extension = "1; 3079 5 EXTENSION - hstore \n2; 0 0 COMMENT - EXTENSION hstore \n3; 0 0 COMMENT - SCHEMA s o\n";
        assert_eq!(numbers(&Listing::read(extension).unwrap().all_but(Without::default())), [1, 3]);
        let no_indexes = Without { indexes: true, ..Without::default() };
        assert_eq!(numbers(&listing.all_but(no_indexes)).len(), 10);
        assert!(Listing::read("nonsense").is_err() && Listing::read("1; x y TABLE a b").is_err());
    }
}
