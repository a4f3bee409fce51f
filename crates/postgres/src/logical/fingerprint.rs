//! What a schema consists of: for every kind of object how many there are, a sum over their names and one over their
//! definitions. Asked of the source in the snapshot, and of what was restored.
//!
//! Names must be the same afterwards. Definitions are as this version of the server writes them down, and it does not always
//! write what it has read in the same words (`IN (…)` as `= ANY (ARRAY[…])`, cast once more each time), so that a difference is
//! told and proves nothing.

use std::collections::BTreeMap;

use strongroom_model::Cx;

use crate::connect::Client;
use crate::logical::facts::KindFact;
use crate::refusal::SqlError;

/// Sums over the objects `k(id, def)`. Neither order nor the server's hash functions matter.
const SUMS: &str = "\
pg_catalog.count(*) AS count, \
coalesce(sum(('x' || substr(encode(sha256(textsend(id)), 'hex'), 1, 16))::bit(64)::bigint::numeric), 0)::text AS names, \
coalesce(sum(('x' || substr(encode(sha256(textsend(id || ' ' || coalesce(def, ''))), 'hex'), 1, 16))\
::bit(64)::bigint::numeric), 0)::text AS definitions";

/// Kinds and the objects of each. `{own n}` stands for schemas that users make.
const KINDS: &[(&str, &str)] = &[
    (
        "schemas",
        "SELECT nspname::text, NULL FROM pg_namespace n WHERE {own n} AND nspname <> 'public' AND {free pg_namespace n}",
    ),
    (
        "tables",
        "SELECT format('%I.%I', n.nspname, c.relname), concat_ws(' ', c.relkind::text, c.relpersistence::text, \
         c.reloptions::text, c.relrowsecurity::text, c.relforcerowsecurity::text, \
         CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END, pg_get_expr(c.relpartbound, c.oid)) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'f') AND {own n} AND {free pg_class c}",
    ),
    (
        "columns",
        "SELECT format('%I.%I.%I', n.nspname, c.relname, a.attname), concat_ws(' ', format_type(a.atttypid, a.atttypmod), \
         a.attnotnull::text, a.attidentity::text, a.attgenerated::text, \
         (SELECT format('%I.%I', cn.nspname, k.collname) FROM pg_collation k JOIN pg_namespace cn ON cn.oid = k.collnamespace \
          WHERE k.oid = a.attcollation), \
         (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d WHERE d.adrelid = c.oid AND d.adnum = a.attnum)) \
         FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('r', 'p', 'f', 'c') AND a.attnum > 0 AND NOT a.attisdropped AND {own n} AND {free pg_class c}",
    ),
    (
        "views",
        "SELECT format('%I.%I', n.nspname, c.relname), concat_ws(' ', c.relkind::text, c.reloptions::text, \
         c.relispopulated::text, pg_get_viewdef(c.oid)) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relkind IN ('v', 'm') AND {own n} AND {free pg_class c}",
    ),
    (
        "sequences",
        "SELECT format('%I.%I', n.nspname, c.relname), concat_ws(' ', s.seqtypid::regtype::text, s.seqstart::text, \
         s.seqincrement::text, s.seqmax::text, s.seqmin::text, s.seqcache::text, s.seqcycle::text) \
         FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE {own n} AND {free pg_class c}",
    ),
    (
        "indexes",
        "SELECT format('%I.%I', n.nspname, c.relname), concat_ws(' ', pg_get_indexdef(i.indexrelid), i.indisvalid::text, \
         i.indisreplident::text, i.indisclustered::text) \
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE {own n} AND {free pg_class c}",
    ),
    (
        "constraints",
        "SELECT format('%I.%I.%I', n.nspname, coalesce(c.relname, t.typname), k.conname), \
         concat_ws(' ', pg_get_constraintdef(k.oid), k.convalidated::text) \
         FROM pg_constraint k JOIN pg_namespace n ON n.oid = k.connamespace \
         LEFT JOIN pg_class c ON c.oid = k.conrelid LEFT JOIN pg_type t ON t.oid = k.contypid \
         WHERE k.contype <> 'n' AND {own n} AND {free pg_class c} AND {free pg_type t}",
    ),
    (
        "triggers",
        "SELECT format('%I.%I.%I', n.nspname, c.relname, t.tgname), concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled::text) \
         FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE NOT t.tgisinternal AND {own n} AND {free pg_class c}",
    ),
    (
        "rules",
        "SELECT format('%I.%I.%I', n.nspname, c.relname, r.rulename), concat_ws(' ', pg_get_ruledef(r.oid), r.ev_enabled::text) \
         FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE r.rulename <> '_RETURN' AND {own n} AND {free pg_class c}",
    ),
    (
        "policies",
        "SELECT format('%I.%I.%I', n.nspname, c.relname, p.polname), concat_ws(' ', p.polcmd::text, p.polpermissive::text, \
         pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) \
         FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {own n}",
    ),
    (
        "functions",
        "SELECT p.oid::regprocedure::text, CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END \
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE {own n} AND {free pg_proc p}",
    ),
    (
        "types",
        "SELECT format('%I.%I', n.nspname, t.typname), concat_ws(' ', t.typtype::text, t.typnotnull::text, t.typdefault, \
         CASE WHEN t.typbasetype <> 0 THEN format_type(t.typbasetype, t.typtypmod) END, \
         (SELECT string_agg(quote_literal(e.enumlabel), ',' ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = t.oid)) \
         FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace \
         WHERE t.typtype IN ('d', 'e', 'r', 'm', 'b', 'c') AND t.typelem = 0 AND {own n} AND {free pg_type t} \
         AND (t.typrelid = 0 OR EXISTS (SELECT FROM pg_class c WHERE c.oid = t.typrelid AND c.relkind = 'c'))",
    ),
    ("extensions", "SELECT extname::text, NULL FROM pg_extension WHERE oid >= 16384"),
    (
        "publications",
        "SELECT pubname::text, concat_ws(' ', puballtables::text, pubinsert::text, pubupdate::text, pubdelete::text, \
         (SELECT string_agg(format('%I.%I', n.nspname, c.relname), ',' ORDER BY n.nspname, c.relname) \
          FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
          WHERE r.prpubid = p.oid)) FROM pg_publication p",
    ),
    (
        "event triggers",
        "SELECT evtname::text, concat_ws(' ', evtevent::text, evtfoid::regproc::text, evtenabled::text, evttags::text) \
         FROM pg_event_trigger e WHERE {free pg_event_trigger e}",
    ),
    (
        "others",
        "SELECT (pg_identify_object(o.classid, o.oid, 0)).type || ' ' || (pg_identify_object(o.classid, o.oid, 0)).identity, NULL \
         FROM (SELECT tableoid AS classid, oid FROM pg_operator UNION ALL SELECT tableoid, oid FROM pg_cast \
         UNION ALL SELECT tableoid, oid FROM pg_collation UNION ALL SELECT tableoid, oid FROM pg_conversion \
         UNION ALL SELECT tableoid, oid FROM pg_ts_config UNION ALL SELECT tableoid, oid FROM pg_ts_dict \
         UNION ALL SELECT tableoid, oid FROM pg_ts_parser UNION ALL SELECT tableoid, oid FROM pg_ts_template \
         UNION ALL SELECT tableoid, oid FROM pg_foreign_data_wrapper UNION ALL SELECT tableoid, oid FROM pg_foreign_server \
         UNION ALL SELECT tableoid, oid FROM pg_statistic_ext UNION ALL SELECT tableoid, oid FROM pg_opclass \
         UNION ALL SELECT tableoid, oid FROM pg_opfamily UNION ALL SELECT tableoid, oid FROM pg_am \
         UNION ALL SELECT tableoid, oid FROM pg_language UNION ALL SELECT tableoid, oid FROM pg_transform) o \
         WHERE o.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend d \
         WHERE d.classid = o.classid AND d.objid = o.oid AND d.deptype = 'e')",
    ),
];

/// Which schemas are users'.
pub(crate) fn own(schema: &str) -> String {
    format!("{schema}.nspname !~ '^pg_' AND {schema}.nspname <> 'information_schema'")
}

/// Which objects of a catalogue belong to no extension.
pub(crate) fn free(catalog: &str, alias: &str) -> String {
    format!(
        "NOT EXISTS (SELECT FROM pg_catalog.pg_depend member WHERE member.classid = 'pg_catalog.{catalog}'::regclass \
         AND member.objid = {alias}.oid AND member.deptype = 'e')"
    )
}

/// What the database's schema consists of.
pub(crate) async fn fingerprint(cx: &Cx, client: &Client) -> Result<BTreeMap<String, KindFact>, SqlError> {
    const OPERATION: &str = "read the schema";
    let mut kinds = BTreeMap::new();
    for (kind, objects) in KINDS {
        let sql = format!("SELECT {SUMS} FROM ({}) k(id, def)", spelt_out(objects));
        let row = client.long_row(cx, OPERATION, &sql, &[]).await?;
        let fact = KindFact {
            count: client.get(OPERATION, &row, "count")?,
            names: client.get(OPERATION, &row, "names")?,
            definitions: client.get(OPERATION, &row, "definitions")?,
        };
        kinds.insert((*kind).to_owned(), fact);
    }
    Ok(kinds)
}

/// Replaces `{own n}` and `{free catalog alias}`.
fn spelt_out(sql: &str) -> String {
    let (mut text, mut rest) = (String::new(), sql);
    while let Some((before, after)) = rest.split_once('{') {
        let (words, after) = after.split_once('}').unwrap_or((after, ""));
        let words: Vec<&str> = words.split(' ').collect();
        text.push_str(before);
        text.push_str(&match words[..] {
            ["own", schema] => own(schema),
            ["free", catalog, alias] => free(catalog, alias),
            _ => words.join(" "),
        });
        rest = after;
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_question_is_spelt_out() {
        assert_eq!(spelt_out("a {own n} b"), format!("a {} b", own("n")));
        for (kind, sql) in KINDS {
            let sql = spelt_out(sql);
            assert!(!sql.contains('{') && !sql.contains('}'), "{kind}: {sql}");
        }
    }
}
