//! Where everything lies in the store. The only place that spells a key.

use strongroom_codec::header::Kind;
use strongroom_codec::manifest::to_hex;
use strongroom_model::checklist::Period;
use strongroom_model::point::PackRef;
use strongroom_model::{PointId, SourceName, SystemId, WalFile, WalSegment};
use strongroom_store::Key;

/// Makes a key of parts that follow the key rule by construction (names, ids, numbers, hexadecimal).
fn key(text: String) -> Key {
    match Key::new(text) {
        Ok(key) => key,
        Err(error) => unreachable!("the layout spelled a key the store refuses: {error}"),
    }
}

/// What the vault is.
pub fn vault() -> Key {
    key("vault.json".into())
}

/// The folder of wrapped copies of the vault key `id`.
pub fn keys(id: &str) -> String {
    format!("keys/{id}")
}

/// Wrapped copy `n` of the vault key `id` (which must be hexadecimal).
pub fn key_slot(id: &str, n: u32) -> Key {
    key(format!("keys/{id}/{n}"))
}

/// Says that wrapped copy `n` no longer counts.
pub fn key_removed(id: &str, n: u32) -> Key {
    key(format!("keys/{id}/{n}.removed"))
}

/// The folder of all sources.
pub const SOURCES: &str = "sources";

/// The folder of a source's lineages.
pub fn lineages(source: &SourceName) -> String {
    format!("sources/{source}/lineages")
}

/// A source's `n`th lineage.
pub fn lineage(source: &SourceName, n: u32) -> Key {
    key(format!("sources/{source}/lineages/{n:06}"))
}

/// The folder of a source's points.
pub fn points(source: &SourceName) -> String {
    format!("sources/{source}/points")
}

/// The folder of one point.
pub fn point(source: &SourceName, point: &PointId) -> String {
    format!("sources/{source}/points/{point}")
}

/// A part of a point: `intent`, `manifest`, `decision`.
pub fn point_part(source: &SourceName, id: &PointId, part: PointPart) -> Key {
    key(format!("{}/{}", point(source, id), part.name()))
}

/// What a point consists of, besides packs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointPart {
    /// Written first.
    Intent,
    /// Written after all packs.
    Manifest,
    /// Written last.
    Decision,
    /// The tombstone of a point that retention let go.
    Expired,
}

impl PointPart {
    /// Its file name.
    pub fn name(self) -> &'static str {
        match self {
            PointPart::Intent => "intent",
            PointPart::Manifest => "manifest",
            PointPart::Decision => "decision",
            PointPart::Expired => "expired",
        }
    }
}

/// The folder of a point's packs.
pub fn packs(source: &SourceName, id: &PointId) -> String {
    format!("{}/packs", point(source, id))
}

/// A pack. Its nonce is in its name, so that two writers can never mean the same object.
pub fn pack(source: &SourceName, pack: &PackRef) -> Key {
    key(format!("{}/{:06}-{}", packs(source, &pack.owner), pack.number, to_hex(&pack.nonce)))
}

/// The folder of a lineage's WAL.
pub fn wal(source: &SourceName, lineage: SystemId) -> String {
    format!("sources/{source}/wal/{lineage}")
}

/// Which pack a key names: its owner and number.
pub fn parse_pack(source: &SourceName, key: &Key) -> Option<(PointId, u32)> {
    let rest = key.as_str().strip_prefix(points(source).as_str())?.strip_prefix('/')?;
    let (owner, name) = rest.split_once("/packs/")?;
    let (number, _) = name.split_once('-')?;
    Some((owner.parse().ok()?, number.parse().ok()?))
}

/// Whose manifest a key names.
pub fn parse_manifest(source: &SourceName, key: &Key) -> Option<PointId> {
    let is_manifest = key.last_segment() == PointPart::Manifest.name();
    parse_point(key).filter(|(of, _)| is_manifest && of == source).map(|(_, point)| point)
}

/// Of which point of which source a key names a part that is no pack.
pub fn parse_point(key: &Key) -> Option<(SourceName, PointId)> {
    let segments: Vec<&str> = key.as_str().split('/').collect();
    match segments[..] {
        [SOURCES, source, "points", point, _] => Some((source.parse().ok()?, point.parse().ok()?)),
        _ => None,
    }
}

/// What lies under a key, as far as it is a stream or a record.
pub fn kind(key: &Key) -> Option<Kind> {
    let segments: Vec<&str> = key.as_str().split('/').collect();
    Some(match segments[..] {
        ["holds", ..] => Kind::Hold,
        [EVIDENCE, ..] => Kind::Evidence,
        [SOURCES, _, "lineages", _] => Kind::Lineage,
        [SOURCES, _, "floors", ..] => Kind::Floor,
        [SOURCES, _, "sweeps", _] => Kind::Sweep,
        [SOURCES, _, "wal", ..] => Kind::Journal,
        [SOURCES, _, "points", _, part] => match part {
            "intent" => Kind::Intent,
            "manifest" => Kind::Manifest,
            "decision" => Kind::Decision,
            "expired" => Kind::Tombstone,
            _ => return None,
        },
        _ => return None,
    })
}

/// Whether something goes at the word of the record under this key.
pub fn lets_go(key: &Key) -> bool {
    match kind(key) {
        Some(Kind::Tombstone | Kind::Floor) => true,
        Some(Kind::Hold) => key.last_segment() == HOLD_RELEASED,
        Some(Kind::Sweep) => key.last_segment().ends_with(SWEEP_DONE),
        _ => false,
    }
}

/// A WAL file.
pub fn wal_file(source: &SourceName, lineage: SystemId, file: WalFile) -> Key {
    let folder = wal(source, lineage);
    key(match file {
        WalFile::History(_) => format!("{folder}/{file}"),
        WalFile::Segment(segment)
        | WalFile::Partial(segment)
        | WalFile::BackupLabel(segment, _)
        | WalFile::Part(segment, _) => {
            format!("{folder}/{:08X}/{}/{file}", segment.timeline.get(), segment.stretch())
        }
    })
}

/// The folder of what retention decided about a source's WAL.
pub fn all_floors(source: &SourceName) -> String {
    format!("sources/{source}/floors")
}

/// The folder of what retention decided about a lineage's WAL.
pub fn floors(source: &SourceName, lineage: SystemId) -> String {
    format!("{}/{lineage}", all_floors(source))
}

/// Retention's word that a timeline's WAL below `segment` may go.
pub fn floor(source: &SourceName, lineage: SystemId, segment: WalSegment) -> Key {
    key(format!("{}/{:08X}/{segment}", floors(source, lineage), segment.timeline.get()))
}

/// The folder of a source's sweeps.
pub fn sweeps(source: &SourceName) -> String {
    format!("sources/{source}/sweeps")
}

/// What sweep `id` is about to delete.
pub fn sweep(source: &SourceName, id: &str) -> Key {
    key(format!("{}/{id}", sweeps(source)))
}

/// How the name of a sweep's end ends.
pub const SWEEP_DONE: &str = ".done";

/// What sweep `id` came to; without it the sweep may still be deleting.
pub fn sweep_done(source: &SourceName, id: &str) -> Key {
    key(format!("{}/{id}{SWEEP_DONE}", sweeps(source)))
}

/// The folder of all holds of a source.
pub fn holds(source: &SourceName) -> String {
    format!("holds/{source}")
}

/// The name of a hold's beginning.
pub const HOLD_PLACED: &str = "placed";

/// The name of a hold's end.
pub const HOLD_RELEASED: &str = "released";

/// A hold's beginning (`placed`) or end (`released`). `id` is hexadecimal.
pub fn hold_part(source: &SourceName, point: &PointId, id: &str, part: &str) -> Key {
    key(format!("{}/{point}/{id}/{part}", holds(source)))
}

/// The folder of the audit log.
pub const AUDIT: &str = "audit";

/// An entry of the audit log. Its number is its name: the store gives each to one writer.
pub fn audit(number: u64) -> Key {
    key(format!("{AUDIT}/{}", strongroom_model::audit::name(number)))
}

/// The folder of all evidence.
pub const EVIDENCE: &str = "evidence";

/// A piece of evidence. `month` is `2026-11`; `id` sorts by time.
pub fn evidence(month: &str, id: &str) -> Key {
    key(format!("{EVIDENCE}/{month}/{id}"))
}

/// Between a measure's id and its source.
const MEASURE: &str = ".restore.";

/// What a restore of `source` took. `month` is `2026-11`; `id` sorts by time.
pub fn measure(month: &str, id: &str, source: &SourceName) -> Key {
    evidence(month, &format!("{id}{MEASURE}{source}"))
}

/// Of which source a key names what a restore took.
pub fn parse_measure(key: &Key) -> Option<SourceName> {
    evidence_of(key, MEASURE)
}

/// Between a drill's id and its source.
const DRILL: &str = ".drill.";

/// What a drill of `source` found. `month` is `2026-11`; `id` sorts by time.
pub fn drill(month: &str, id: &str, source: &SourceName) -> Key {
    evidence(month, &format!("{id}{DRILL}{source}"))
}

/// Of which source a key names what a drill found.
pub fn parse_drill(key: &Key) -> Option<SourceName> {
    evidence_of(key, DRILL)
}

/// Between a sign-off's id and its checklist.
const CHECKLIST: &str = ".checklist.";

/// That a checklist was signed off. `month` is `2026-11`; `id` sorts by time.
pub fn checklist(month: &str, id: &str, period: Period) -> Key {
    evidence(month, &format!("{id}{CHECKLIST}{period}"))
}

/// Of which checklist a key names a sign-off.
pub fn parse_checklist(key: &Key) -> Option<Period> {
    behind(key, CHECKLIST)?.parse().ok()
}

/// The source behind an id and a word. An id has no point, and a source may.
fn evidence_of(key: &Key, word: &str) -> Option<SourceName> {
    behind(key, word)?.parse().ok()
}

fn behind<'a>(key: &'a Key, word: &str) -> Option<&'a str> {
    let name = key.last_segment();
    name[name.find('.')?..].strip_prefix(word)
}

/// Which segment's file a key names: all of it, a part, or a backup's label. Histories are none.
pub fn parse_segment(source: &SourceName, key: &Key) -> Option<(SystemId, WalSegment)> {
    let rest = key.as_str().strip_prefix(format!("sources/{source}/wal/").as_str())?;
    let (lineage, _) = rest.split_once('/')?;
    let segment = WalFile::parse_kept(key.last_segment()).ok()?.segment()?;
    Some((SystemId(lineage.parse().ok()?), segment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_as_the_format_says() {
        let source: SourceName = "orders".parse().unwrap();
        let id: PointId = "20261120T120000Z-1f2e3d4c".parse().unwrap();
        let packed = PackRef { owner: id.clone(), number: 7, nonce: [0xab; 16], size: 0, hash: [0; 16] };
        let wal_of = |name| wal_file(&source, SystemId(42), WalFile::parse(name).unwrap()).to_string();
        assert_eq!(
            pack(&source, &packed).as_str(),
            "sources/orders/points/20261120T120000Z-1f2e3d4c/packs/000007-abababababababababababababababab"
        );
        assert_eq!(
            point_part(&source, &id, PointPart::Decision).as_str(),
            "sources/orders/points/20261120T120000Z-1f2e3d4c/decision"
        );
        assert_eq!(
            wal_of("0000000A0000001600000003"),
            "sources/orders/wal/42/0000000A/00000016/0000000A0000001600000003"
        );
        let dotted: SourceName = "a.restore.b".parse().unwrap();
        let measured = measure("2026-11", "20261120T120000Z-1f2e3d4c", &dotted);
        assert_eq!(measured.as_str(), "evidence/2026-11/20261120T120000Z-1f2e3d4c.restore.a.restore.b");
        assert_eq!((parse_measure(&measured), kind(&measured)), (Some(dotted.clone()), Some(Kind::Evidence)));
        let drilled = drill("2026-11", "20261120T120000Z-1f2e3d4c", &dotted);
        assert_eq!(drilled.as_str(), "evidence/2026-11/20261120T120000Z-1f2e3d4c.drill.a.restore.b");
        assert_eq!((parse_drill(&drilled), parse_measure(&drilled)), (Some(dotted), None));
        assert_eq!(parse_drill(&measured), None);
        let signed = checklist("2026-11", "20261120T120000Z-1f2e3d4c", Period::Weekly);
        assert_eq!(signed.as_str(), "evidence/2026-11/20261120T120000Z-1f2e3d4c.checklist.weekly");
        assert_eq!((parse_checklist(&signed), parse_drill(&signed)), (Some(Period::Weekly), None));
        assert_eq!(parse_checklist(&drilled), None);
        assert_eq!(parse_measure(&evidence("2026-11", "20261120T120000Z-1f2e3d4c")), None);
        assert_eq!(wal_of("00000002.history"), "sources/orders/wal/42/00000002.history");
        assert_eq!(
            wal_of("000000010000001600000003.partial"),
            "sources/orders/wal/42/00000001/00000016/000000010000001600000003.partial"
        );
    }
}
