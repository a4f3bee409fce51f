//! Which tables of a dump a restore takes, and what they are called until its end.

use std::collections::{BTreeMap, BTreeSet};

use crate::logical::facts::{LogicalFacts, Relation, SequenceFact, TableFact};
use crate::logical::options::{LoadOptions, Scope, Wanted};

/// What is taken.
#[derive(Clone, Debug, Default)]
pub(crate) struct Choice {
    /// Tables with rows.
    pub(crate) tables: Vec<TableFact>,
    /// All tables, with those that have no rows of their own.
    pub(crate) relations: Vec<Relation>,
    /// Sequences that are set.
    pub(crate) sequences: Vec<SequenceFact>,
    /// Whether large objects are taken.
    pub(crate) large_objects: bool,
    /// What is wanted and not in the dump.
    pub(crate) unknown: Vec<String>,
    /// What else stands in the way.
    pub(crate) against: Vec<String>,
}

impl Choice {
    /// What the options ask for.
    pub(crate) fn of(facts: &LogicalFacts, scope: &Scope) -> Choice {
        match scope {
            Scope::NewDatabase(_) | Scope::EmptyDatabase(_) => Choice {
                tables: facts.tables.clone(),
                sequences: facts.sequences.clone(),
                large_objects: true,
                ..Choice::default()
            },
            Scope::Schema(schema) => {
                let is_known = facts.schemas.iter().any(|known| known.name == *schema);
                let unknown = if is_known { Vec::new() } else { vec![format!("schema {schema}")] };
                let mut choice = Choice::among(facts, |relation| relation.schema == *schema);
                choice.sequences =
                    facts.sequences.iter().filter(|sequence| sequence.schema == *schema).cloned().collect();
                Choice { unknown, ..choice }
            }
            Scope::Tables(wanted) => Choice::named(facts, wanted),
            Scope::Rows(wanted) => Choice { sequences: Vec::new(), ..Choice::named(facts, wanted) },
        }
    }

    fn named(facts: &LogicalFacts, wanted: &[Wanted]) -> Choice {
        let all = || facts.partitioned.iter().cloned().chain(facts.tables.iter().map(TableFact::relation));
        let mut oids = BTreeSet::new();
        let (mut unknown, mut against) = (Vec::new(), Vec::new());
        for wanted in wanted {
            match all().find(|known| (&known.schema, &known.name) == (&wanted.schema, &wanted.name)) {
                Some(known) => drop(oids.insert(known.oid)),
                None => unknown.push(format!("table {}.{}", wanted.schema, wanted.name)),
            }
            let is_partitioned = facts
                .partitioned
                .iter()
                .any(|known| (&known.schema, &known.name) == (&wanted.schema, &wanted.name));
            if is_partitioned && wanted.into.is_some() {
                against.push(format!(
                    "{}.{} is partitioned, and its partitions keep their names",
                    wanted.schema, wanted.name
                ));
            }
        }
        // Partitions of partitions.
        loop {
            let is_more = |relation: &Relation| {
                !oids.contains(&relation.oid) && relation.parent.is_some_and(|parent| oids.contains(&parent))
            };
            let more: Vec<u32> = all().filter(is_more).map(|relation| relation.oid).collect();
            if more.is_empty() {
                break;
            }
            oids.extend(more);
        }
        let mut choice = Choice::among(facts, |relation| oids.contains(&relation.oid));
        let owned = |sequence: &&SequenceFact| sequence.table.is_some_and(|table| oids.contains(&table));
        choice.sequences = facts.sequences.iter().filter(owned).cloned().collect();
        Choice { unknown, against, ..choice }
    }

    fn among(facts: &LogicalFacts, is_taken: impl Fn(&Relation) -> bool) -> Choice {
        let tables: Vec<TableFact> =
            facts.tables.iter().filter(|table| is_taken(&table.relation())).cloned().collect();
        let mut relations: Vec<Relation> =
            facts.partitioned.iter().filter(|table| is_taken(table)).cloned().collect();
        relations.extend(tables.iter().map(TableFact::relation));
        Choice { tables, relations, ..Choice::default() }
    }

    /// The schemas of what is taken, and what they are called until the end.
    pub(crate) fn aside(&self, options: &LoadOptions) -> BTreeMap<String, String> {
        let names = match &options.scope {
            Scope::Schema(name) => vec![name.clone()],
            _ => self.relations.iter().map(|relation| relation.schema.clone()).collect(),
        };
        names.into_iter().map(|name| (name.clone(), options.under_way(&name))).collect()
    }
}
