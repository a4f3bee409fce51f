//! A folder that a recovery point is to be restored over: what is in it, and what of that has to go.
//!
//! ```text
//! what the point has, and where it goes ─┐
//! what is in the folder now ─────────────┴▶ goes: not in the point, or something else there
//!                                          stays: compared page by page, cut or extended, modes set
//! ```
//!
//! **Invariants**
//! - Looking changes nothing. What goes is a list, shown before anything does.
//! - A folder is taken only if it proves to hold the point's cluster: by its control file, or by our own note that a
//!   restore of that cluster was begun ([`super::begun`]).
//! - Links are not followed, but for tablespaces and folders mapped elsewhere, and those only where the link that is there
//!   leads where it is to lead. In a tablespace nothing is touched but this version's folder: another's is another
//!   cluster's.
//! - A file with a second name (a hard link) is not written to: what has the other name would change, too. It goes, and is
//!   made anew.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use serde::Serialize;
use strongroom_engine::EngineError;
use strongroom_model::SystemId;
use strongroom_model::entry::{Entry, EntryKind, EntryPath};

use super::begun::{Begun, UNFINISHED};
use super::place::{Place, running_server};
use super::{
    CONTROL_UNFINISHED, FolderTarget, RENAMED, TargetError, TargetOptions, check_apart, linked_folder,
    within_tablespace,
};
use crate::control::CONTROL_FILE;

/// Made by the file system, in the root of one.
const LOST_AND_FOUND: &[u8] = b"lost+found";

/// What a recovery point has.
#[derive(Debug, Default)]
pub struct Expected(BTreeMap<Vec<u8>, EntryKind>);

impl Expected {
    /// Adds an entry of the point.
    pub fn add(&mut self, entry: &Entry) {
        let renamed = RENAMED.iter().find(|(stored, _)| entry.path.is(stored));
        let path = renamed.map_or(entry.path.as_bytes(), |(_, restored)| restored.as_bytes());
        self.0.insert(path.to_vec(), entry.kind.clone());
    }

    /// What the point has at this path.
    pub fn get(&self, path: &[u8]) -> Option<&EntryKind> {
        self.0.get(path)
    }
}

/// What restoring a point over a folder will do to it.
#[derive(Debug, Default, Serialize)]
pub struct Survey {
    /// What goes, by its path in the folder; what is in a folder before the folder.
    pub removed: Vec<String>,
    /// Files that stay and are compared.
    pub compared: u64,
    /// Bytes of them.
    pub compared_bytes: u64,
    /// Those of them that are cut or extended.
    pub resized: u64,
    /// Files, folders and links that are made.
    pub made: u64,
    /// WAL files that go and that the server has not shipped.
    pub unshipped: Vec<String>,
    #[serde(skip)]
    held: Held,
}

/// What a survey found and holds on to.
#[derive(Debug, Default)]
struct Held {
    path: PathBuf,
    options: TargetOptions,
    /// The folder, if it is there.
    root: Option<Arc<Place>>,
    /// Where links to folders outside are to lead, and the folders that are there.
    linked: Linked,
    extra: Vec<Extra>,
    /// The control file, which every server changes when it starts.
    control: Option<Vec<u8>>,
}

/// Where each link to a folder outside is to lead, and that folder if it is there.
type Linked = BTreeMap<EntryPath, (PathBuf, Option<Arc<Place>>)>;

/// Something that goes.
#[derive(Debug)]
struct Extra {
    place: Arc<Place>,
    relative: Vec<u8>,
    is_folder: bool,
}

impl Survey {
    /// Looks at the folder `path`, which is locked from here on, and at the folders outside that it leads to.
    pub fn of(path: &Path, options: TargetOptions, expected: &Expected) -> Result<Survey, TargetError> {
        let root = Place::take_with_content(path)?.map(Arc::new);
        if let Some(root) = &root {
            check_identity(root, options.begun.as_ref())?;
        }
        let linked = linked(root.as_ref(), &options, expected)?;
        let control = std::fs::read(path.join(CONTROL_FILE)).ok();
        let held = Held { path: path.to_owned(), options, root, linked, extra: Vec::new(), control };
        let mut survey = Survey { held, ..Survey::default() };
        let mut stays = 0;
        if let Some(root) = survey.held.root.clone() {
            stays = survey.look(&root, expected)?;
        }
        survey.made = (expected.0.len() as u64).saturating_sub(stays);
        Ok(survey)
    }

    /// Walks everything; returns how many of the point's entries stay.
    fn look(&mut self, root: &Arc<Place>, expected: &Expected) -> Result<u64, TargetError> {
        let (mut folders, mut stays) = (vec![(root.clone(), Vec::new(), Vec::new())], 0);
        while let Some((place, relative, prefix)) = folders.pop() {
            for (name, stat) in place.names(&relative).map_err(TargetError::Look)? {
                let path = joined(&prefix, &name);
                let within = joined(&relative, &name);
                if is_spared(&path, &name, relative.is_empty()) {
                    // It is the point's, too, under the name that it has meanwhile.
                    stays += u64::from(path == CONTROL_FILE.as_bytes());
                    continue;
                }
                if !self.stays(expected.get(&path), &path, (&place, &within), &stat)? {
                    // Another version's folder in a tablespace is another cluster's.
                    let is_shared = relative.is_empty() && within_tablespace(&prefix).is_some();
                    if !is_shared {
                        self.goes(&place, (&within, &path), &stat)?;
                    }
                    continue;
                }
                stays += 1;
                if is_folder(&stat) {
                    folders.push((place.clone(), within, path));
                } else if let Some((_, Some(linked))) =
                    EntryPath::new(path.clone()).ok().and_then(|path| self.held.linked.get(&path))
                {
                    folders.push((linked.clone(), Vec::new(), path));
                }
            }
        }
        Ok(stays)
    }

    /// Whether what is at `path` is what the point has there, at least in kind. Counts what is to be compared.
    fn stays(
        &mut self,
        wanted: Option<&EntryKind>,
        path: &[u8],
        (place, within): (&Place, &[u8]),
        stat: &Stat,
    ) -> Result<bool, TargetError> {
        let link = EntryPath::new(path).ok().and_then(|path| self.held.linked.get(&path));
        let leads_to = |target: &[u8]| -> Result<bool, TargetError> {
            Ok(is_link(stat) && place.read_link(within).map_err(TargetError::Look)? == target)
        };
        match (wanted, link) {
            // A dump's part is nothing in a folder.
            (None | Some(EntryKind::Stream { .. }), _) => Ok(false),
            (Some(_), Some((location, _))) => leads_to(location.as_os_str().as_bytes()),
            (Some(EntryKind::Folder), None) => Ok(is_folder(stat)),
            (Some(EntryKind::Link(target)), None) => leads_to(target),
            (Some(EntryKind::File(size)), None) => {
                let stays = is_file(stat) && stat.st_nlink == 1 && can_write(stat);
                if stays {
                    let found = stat.st_size as u64;
                    self.compared += 1;
                    self.compared_bytes += found.min(*size);
                    self.resized += u64::from(found != *size);
                }
                Ok(stays)
            }
        }
    }

    /// Takes down that this goes, and all that is in it.
    fn goes(
        &mut self,
        place: &Arc<Place>,
        (within, path): (&[u8], &[u8]),
        stat: &Stat,
    ) -> Result<(), TargetError> {
        // What is in a folder is found after the folder and goes before it.
        let (mut open, mut found) = (vec![(within.to_vec(), path.to_vec(), is_folder(stat))], Vec::new());
        while let Some((within, path, is_folder)) = open.pop() {
            if is_folder {
                for (name, stat) in place.names(&within).map_err(TargetError::Look)? {
                    open.push((joined(&within, &name), joined(&path, &name), self::is_folder(&stat)));
                }
            }
            found.push((within, path, is_folder));
        }
        for (relative, path, is_folder) in found.into_iter().rev() {
            let shown = String::from_utf8_lossy(&path).into_owned();
            let ready =
                shown.strip_prefix("pg_wal/archive_status/").and_then(|name| name.strip_suffix(".ready"));
            self.unshipped.extend(ready.map(str::to_owned));
            self.removed.push(shown);
            self.held.extra.push(Extra { place: place.clone(), relative, is_folder });
        }
        Ok(())
    }
}

/// Refuses a folder with something in it that does not prove to be the point's cluster.
fn check_identity(root: &Place, begun: Option<&Begun>) -> Result<(), TargetError> {
    let Err(refused) = root.check_empty() else { return Ok(()) };
    let names = [CONTROL_FILE, CONTROL_UNFINISHED];
    let found = names.into_iter().filter_map(|name| system_id(&root.path().join(name)));
    let found: Vec<SystemId> = found.chain(Begun::read(root.path()).map(|noted| noted.system_id)).collect();
    let Some(wanted) = begun.map(|begun| begun.system_id) else { return Err(refused) };
    let path = || root.path().to_owned();
    match found.iter().find(|found| **found != wanted) {
        Some(found) => Err(TargetError::Foreign { path: path(), found: *found, wanted }),
        None if found.is_empty() => match refused {
            TargetError::NotEmpty { path, found } => Err(TargetError::NotACluster { path, found }),
            other => Err(other),
        },
        None => Ok(()),
    }
}

/// The system identifier at the beginning of a control file. That is all that is asked of it: the file may be damaged.
fn system_id(path: &Path) -> Option<SystemId> {
    let bytes = std::fs::read(path).ok()?;
    let number = u64::from_le_bytes(*bytes.first_chunk::<8>()?);
    // Not yet written: a file that was just made is all zeros.
    Some(SystemId(number)).filter(|id| id.0 != 0)
}

/// Where the links to folders outside are to lead. A folder that the link there leads to may have content; any other must
/// be empty.
fn linked(
    root: Option<&Arc<Place>>,
    options: &TargetOptions,
    expected: &Expected,
) -> Result<Linked, TargetError> {
    let mut locations = options.elsewhere();
    for (path, kind) in &expected.0 {
        let EntryKind::Link(target) = kind else { continue };
        if let (Some((_, b"")), Ok(path)) = (within_tablespace(path), EntryPath::new(path.as_slice())) {
            locations.entry(path).or_insert_with(|| PathBuf::from(OsStr::from_bytes(target)));
        }
    }
    let mut linked = BTreeMap::new();
    for (path, location) in locations {
        linked_folder(&path, &location)?;
        let place = Place::take_with_content(&location)?.map(Arc::new);
        let leads_there = root.is_some_and(|root| {
            root.read_link(path.as_bytes()).is_ok_and(|target| target == location.as_os_str().as_bytes())
        });
        if let Some(place) = &place {
            if !leads_there {
                place.check_empty()?;
            }
            check_unused(&path, &location, options)?;
            if let Some(root) = root {
                check_apart(&path, &location, root)?;
            }
        }
        linked.insert(path, (location, place));
    }
    Ok(linked)
}

/// Refuses a folder that a running server has its tablespace in: a data directory that was copied as a whole has links to
/// the tablespaces of the one it was copied from.
fn check_unused(path: &EntryPath, location: &Path, options: &TargetOptions) -> Result<(), TargetError> {
    let Some(source) = &options.source_folder else { return Ok(()) };
    let uses = std::fs::read_link(source.join(path.as_path())).is_ok_and(|target| target == location);
    match running_server(source).filter(|_| uses) {
        Some(pid) => Err(TargetError::Running { path: location.to_owned(), pid: pid.as_raw_nonzero().get() }),
        None => Ok(()),
    }
}

impl FolderTarget {
    /// Begins to restore over what was surveyed: takes the control file's name away, durably, so that no server starts
    /// until all is done, then removes what goes.
    pub fn over(survey: Survey) -> Result<FolderTarget, TargetError> {
        let Held { path, options, root, linked, extra, control } = survey.held;
        if std::fs::read(path.join(CONTROL_FILE)).ok() != control {
            return Err(TargetError::Changed { path });
        }
        let root = match root {
            Some(root) => root,
            None => Arc::new(Place::take(&path)?),
        };
        let mut places = BTreeMap::new();
        for (path, (location, place)) in linked {
            let place = match place {
                Some(place) => place,
                None => {
                    let place = Arc::new(Place::take(&location)?);
                    check_apart(&path, &location, &root)?;
                    place
                }
            };
            places.insert(path, place);
        }
        let target = FolderTarget::new(root, places, options, true);
        target.note_begun()?;
        target.hide_control()?;
        for Extra { place, relative, is_folder } in &extra {
            place.remove(relative, *is_folder).map_err(TargetError::Look)?;
        }
        Ok(target)
    }

    /// Takes the control file's name away. A server that started meanwhile gets it back.
    fn hide_control(&self) -> Result<(), TargetError> {
        let path = self.root.show(CONTROL_FILE.as_bytes());
        let failed = |errno: Errno| TargetError::Io { operation: "rename", path, source: errno.into() };
        let folder = match self.root.open_folder(b"global") {
            Ok(folder) => folder,
            // Gone, or a link or a file in its place, which goes with everything else that is not the point's.
            Err(EngineError::Damaged { .. }) => return Ok(()),
            Err(EngineError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(TargetError::Look(error)),
        };
        let (name, hidden) = ("pg_control", "pg_control.strongroom-unfinished");
        match rustix::fs::renameat(&folder, name, &folder, hidden) {
            Err(Errno::NOENT) => return Ok(()),
            renamed => renamed.map_err(failed.clone())?,
        }
        if let Err(runs) = self.root.check_idle() {
            rustix::fs::renameat(&folder, hidden, &folder, name).map_err(failed.clone())?;
            Begun::done(self.root.folder()).map_err(failed)?;
            return Err(runs);
        }
        rustix::fs::fsync(&folder).map_err(failed)
    }
}

fn is_spared(path: &[u8], name: &[u8], is_root: bool) -> bool {
    path == UNFINISHED.as_bytes() || path == CONTROL_FILE.as_bytes() || (is_root && name == LOST_AND_FOUND)
}

fn joined(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

fn is_folder(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

fn is_link(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Symlink
}

fn is_file(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
}

/// Whether we may read and write it: root may, others what they own and have not shut.
fn can_write(stat: &Stat) -> bool {
    let me = rustix::process::geteuid();
    me.is_root() || (stat.st_uid == me.as_raw() && stat.st_mode & 0o600 == 0o600)
}

#[cfg(test)]
mod tests;
