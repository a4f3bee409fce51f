//! Where a restore's files go, which of them it brings, and what it finds there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anstyle::AnsiColor;
use strongroom_model::ByteSize;
use strongroom_model::entry::{EntryKind, EntryPath};
use strongroom_model::restore_plan::RestorePlan;
use strongroom_postgres::facts::PostgresFacts;
use strongroom_postgres::files::may_be_linked;
use strongroom_postgres::selection::{Choice, Selection, SelectionError};
use strongroom_postgres::target::begun::Begun;
use strongroom_postgres::target::survey::{Expected, Survey};
use strongroom_postgres::target::{FolderTarget, TargetError, TargetOptions};
use strongroom_vault::VaultError;
use strongroom_vault::point::Point;

use crate::failure::{Code, Failure};
use crate::output::tinted;

/// Where files go, which of them come, and whether anything stays.
#[derive(clap::Args)]
pub struct Placing {
    /// Restore over what is in the folder, an older, newer or damaged copy of this cluster: only pages that differ are
    /// fetched and written, and what the point does not have is removed. Goes on with a restore that was killed, too
    #[arg(long)]
    pub delta: bool,
    /// Restore only this database, besides the server's own; may be repeated. Of all others the files are zeros
    #[arg(long, value_name = "NAME", conflicts_with = "exclude_db")]
    db: Vec<String>,
    /// Leave out this database: its files are zeros; may be repeated
    #[arg(long, value_name = "NAME")]
    exclude_db: Vec<String>,
    /// Put a tablespace elsewhere; may be repeated
    #[arg(long, value_name = "NAME_OR_OID=DIR", value_parser = mapping)]
    tablespace_map: Vec<(String, PathBuf)>,
    /// Put pg_wal into this folder, with a link in its place
    #[arg(long, value_name = "DIR")]
    pg_wal_dir: Option<PathBuf>,
    /// Put another folder of the data directory elsewhere, or lead a link elsewhere; may be repeated
    #[arg(long, value_name = "PATH=DIR", value_parser = mapping)]
    link_map: Vec<(String, PathBuf)>,
}

/// What [`Placing`] comes to for one point.
pub struct Placed {
    /// Whose files come.
    pub selection: Selection,
    /// Where they go.
    pub options: TargetOptions,
    /// What is there now, if it is to be restored over.
    pub survey: Option<Survey>,
}

pub fn mapping(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, folder)) if !name.is_empty() && folder.starts_with('/') => {
            Ok((name.to_owned(), folder.into()))
        }
        _ => Err("write it as NAME=/absolute/folder".into()),
    }
}

impl Placing {
    /// Looks everything up in the point, and at the folder if it is to be restored over. Changes nothing.
    pub async fn place(
        &self,
        to: &Path,
        plan: &RestorePlan,
        (point, facts): (Point, &PostgresFacts),
    ) -> Result<Placed, Failure> {
        let selection = Selection::of(&facts.databases, &self.choice()).map_err(of_selection)?;
        let begun = Begun { system_id: plan.range.lineage, point: plan.point.point.clone() };
        let options = TargetOptions {
            tablespaces: tablespaces(facts, &self.tablespace_map)?,
            links: self.links()?,
            source_folder: Some(facts.data_directory.clone().into()),
            begun: Some(begun),
            ..TargetOptions::default()
        };
        if !self.delta && options.links.is_empty() {
            return Ok(Placed { selection, options, survey: None });
        }
        let (to, delta, links) = (to.to_owned(), self.delta, options.clone());
        let survey = tokio::task::spawn_blocking(move || survey(&to, delta, links, &point)).await;
        let survey = survey.map_err(|why| Failure::new(Code::Bug, why.to_string()))??;
        Ok(Placed { selection, options, survey })
    }

    fn choice(&self) -> Choice {
        match (self.db.is_empty(), self.exclude_db.is_empty()) {
            (false, _) => Choice::Only(self.db.clone()),
            (_, false) => Choice::Except(self.exclude_db.clone()),
            _ => Choice::All,
        }
    }

    fn links(&self) -> Result<BTreeMap<EntryPath, PathBuf>, Failure> {
        let mut links = BTreeMap::new();
        let wal = self.pg_wal_dir.iter().map(|folder| ("pg_wal", folder));
        for (path, folder) in self.link_map.iter().map(|(path, folder)| (path.as_str(), folder)).chain(wal) {
            let path = EntryPath::new(path.trim_end_matches('/'))
                .map_err(|why| Failure::new(Code::Usage, format!("--link-map {path}: {why}")))?;
            if !may_be_linked(&path) {
                let failure = Failure::new(Code::Usage, format!("{path} cannot be put elsewhere"));
                return Err(failure.hint(match path.as_bytes().starts_with(b"pg_tblspc") {
                    true => "tablespaces have --tablespace-map",
                    false => "a backup would not follow a link there; pg_wal, log and folders that are not the server's can go elsewhere",
                }));
            }
            if links.insert(path.clone(), folder.clone()).is_some() {
                return Err(Failure::new(Code::Usage, format!("{path} is to go to two places")));
            }
        }
        Ok(links)
    }
}

/// Looks the point's entries up: those that are to be links, and all of them if they are to be compared.
fn survey(to: &Path, delta: bool, options: TargetOptions, point: &Point) -> Result<Option<Survey>, Failure> {
    let mut expected = Expected::default();
    point.rows(|row| {
        expected.add(&row.entry);
        Ok::<(), VaultError>(())
    })?;
    for path in options.links.keys() {
        if !matches!(expected.get(path.as_bytes()), Some(EntryKind::Folder | EntryKind::Link(_))) {
            let failure =
                Failure::new(Code::Usage, format!("the recovery point has no folder or link {path}"));
            return Err(failure.hint("`strongroom show POINT` lists what it has"));
        }
    }
    if !delta {
        return Ok(None);
    }
    Survey::of(to, options, &expected).map(Some).map_err(|error| of_folder(error, "restore"))
}

impl Placed {
    /// What the plan says of it.
    pub fn describe(&self, facts: &PostgresFacts) -> Vec<String> {
        let mut lines = Vec::new();
        for space in &facts.tablespaces {
            let mapped = self.options.tablespaces.get(&space.oid);
            let to = mapped.map_or(space.location.clone(), |folder| folder.display().to_string());
            lines.push(format!("  tablespace {} to {to}", space.name));
        }
        for (path, folder) in &self.options.links {
            lines.push(format!("  link       {path} to {}", folder.display()));
        }
        if !self.selection.left_out().is_empty() {
            lines.push(format!("  left out   {}: files of zeros", names(&self.selection)));
        }
        if let Some(survey) = &self.survey {
            lines.push(format!(
                "  compared   {} in {} files that are there, {} of another size; {} entries are made",
                ByteSize(survey.compared_bytes),
                survey.compared,
                survey.resized,
                survey.made,
            ));
            lines.push(match survey.removed.len() {
                0 => "  removed    nothing".to_owned(),
                count => format!(
                    "  removed    {count} entries that the point does not have (--output json names them)"
                ),
            });
            lines.extend(unshipped(survey));
        }
        lines
    }

    /// Takes the folder. From here on it is written to.
    pub fn take(self, to: &Path) -> Result<FolderTarget, Failure> {
        let taken = match self.survey {
            Some(survey) => FolderTarget::over(survey),
            None => FolderTarget::create(to, self.options),
        };
        taken.map_err(|error| of_folder(error, "restore"))
    }
}

/// WAL that goes and was never shipped may be the only copy of what was done last.
fn unshipped(survey: &Survey) -> Option<String> {
    let (first, last) = (survey.unshipped.iter().min()?, survey.unshipped.iter().max()?);
    let count = survey.unshipped.len();
    Some(tinted(
        &format!(
            "  WAL lost   {count} files of pg_wal were not shipped, {first} to {last}: copy pg_wal elsewhere first, or ship them with `wal push`"
        ),
        AnsiColor::Yellow,
    ))
}

/// The names of what is left out.
pub fn names(selection: &Selection) -> String {
    selection.left_out().values().map(String::as_str).collect::<Vec<_>>().join(", ")
}

fn of_selection(error: SelectionError) -> Failure {
    let text = error.to_string();
    match error {
        SelectionError::Unknown { known, .. } => {
            Failure::new(Code::Usage, text).hint(match known.is_empty() {
                true => "it has only the server's own".to_owned(),
                false => format!("names are those of when it was made; it has {}", known.join(", ")),
            })
        }
        SelectionError::System { .. } => Failure::new(Code::Usage, text)
            .hint("name databases of users only, or leave --db and --exclude-db out"),
        SelectionError::NotRecorded => {
            Failure::new(Code::NoRestore, text).hint("restore all of it, or choose a newer point (--point)")
        }
    }
}

/// Why a folder is not taken. What the system refused is no matter of what lies in it.
pub fn of_folder(error: TargetError, verb: &str) -> Failure {
    let (text, is_io) = (error.to_string(), matches!(error, TargetError::Io { .. } | TargetError::Look(_)));
    let is_full = matches!(error, TargetError::NotEmpty { .. });
    let failure = Failure::from(strongroom_engine::EngineError::from(error));
    if is_io {
        return Failure { kind: Code::Target, ..failure };
    }
    let hint = match (is_full, verb) {
        (true, "restore") => Some(
            "restore into an empty folder, or over an older copy of the same cluster with --delta".to_owned(),
        ),
        (true, _) => Some(format!("{verb} into an empty folder: nothing is overwritten or removed")),
        (false, _) => failure.hint,
    };
    Failure { hint, ..Failure::new(Code::Target, text) }
}

pub fn tablespaces(
    facts: &PostgresFacts,
    map: &[(String, PathBuf)],
) -> Result<BTreeMap<u32, PathBuf>, Failure> {
    let mut mapped = BTreeMap::new();
    for (name, folder) in map {
        let known =
            facts.tablespaces.iter().find(|space| space.name == *name || space.oid.to_string() == *name);
        let unknown = || {
            let names: Vec<&str> = facts.tablespaces.iter().map(|space| space.name.as_str()).collect();
            let failure = Failure::new(Code::Usage, format!("the recovery point has no tablespace '{name}'"));
            failure.hint(if names.is_empty() {
                "it has none at all".into()
            } else {
                format!("it has {}", names.join(", "))
            })
        };
        mapped.insert(known.ok_or_else(unknown)?.oid, folder.clone());
    }
    Ok(mapped)
}
