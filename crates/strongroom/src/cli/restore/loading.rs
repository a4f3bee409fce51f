//! `strongroom restore` of a dump: into a database.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use strongroom_engine::DumpTarget;
use strongroom_model::point::Summary;
use strongroom_model::time::human_duration;
use strongroom_model::{ByteSize, SourceName};
use strongroom_ops::restore_dump::{LoadingOptions, LoadingPlan, RestoredDump, choose, plan, restore_dump};
use strongroom_postgres::logical::dump::NAME;
use strongroom_postgres::logical::load::Load;
use strongroom_postgres::logical::options::{LoadOptions, Scope, Wanted, Without};
use strongroom_postgres::logical::roles::RoleMap;
use strongroom_vault::Vault;

use super::{Arguments, Frozen, agree, of_target, target_of, thawed};
use crate::context::Context;
use crate::failure::{Code, Failure};
use crate::output::Outcome;
use crate::progress::ProgressLine;

/// How much of a dump comes, and where to.
#[derive(clap::Args)]
#[command(next_help_heading = "Of a dump")]
pub struct LoadingArguments {
    /// All of it, into a new database of this name
    #[arg(long, value_name = "NAME")]
    to_database: Option<String>,
    /// All of it, into this database, which is there and has nothing in it
    #[arg(long, value_name = "NAME", conflicts_with = "to_database")]
    into_database: Option<String>,
    /// Only this schema, into the database that --target names
    #[arg(long, value_name = "NAME", conflicts_with_all = ["to_database", "into_database"])]
    schema: Option<String>,
    /// Only this table, perhaps under another name; may be repeated
    #[arg(
        long,
        value_name = "SCHEMA.TABLE[=SCHEMA.NAME]",
        value_parser = wanted,
        conflicts_with_all = ["to_database", "into_database", "schema"]
    )]
    table: Vec<Wanted>,
    /// Only the rows of these tables, added to those of tables that are there
    #[arg(long, requires = "table")]
    data_only: bool,
    /// The server, and the database there: a libpq connection string; the source's own if left out
    #[arg(long, value_name = "CONNINFO")]
    target: Option<String>,
    /// What has the name already is renamed, and stays
    #[arg(long)]
    replace: bool,
    /// What a role of the dump is called there: as owner, in rights, default rights, policies; may be repeated
    #[arg(long, value_name = "ROLE=ROLE", value_parser = role_pair, conflicts_with = "data_only")]
    map_role: Vec<(String, String)>,
    /// Everything belongs to the role that restores
    #[arg(long)]
    no_owner: bool,
    /// Nobody is given any rights
    #[arg(long)]
    no_privileges: bool,
    /// Everything lies in the default tablespace
    #[arg(long)]
    no_tablespaces: bool,
    /// Build no indexes, nor the keys that need one
    #[arg(long)]
    no_indexes: bool,
    /// Build no keys and no checks
    #[arg(long)]
    no_constraints: bool,
    /// Build no triggers
    #[arg(long)]
    no_triggers: bool,
    /// The folder of pg_restore, if not where packages put it [env: STRONGROOM_PROGRAMS]
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
}

/// Reads `schema.table` or `schema.table=schema.name`; a name that has a point of its own is written in double quotes.
fn wanted(text: &str) -> Result<Wanted, String> {
    let (from, into) = match text.split_once('=') {
        Some((from, into)) => (from, Some(qualified(into)?)),
        None => (text, None),
    };
    let (schema, name) = qualified(from)?;
    Ok(Wanted { schema, name, into })
}

/// Reads `old=new`; a name with an equals sign of its own is written in double quotes.
fn role_pair(text: &str) -> Result<(String, String), String> {
    let [dumped, here] = names(text, '=').ok_or("write it as OLD=NEW")?;
    Ok((dumped, here))
}

fn qualified(text: &str) -> Result<(String, String), String> {
    let [schema, name] = names(text, '.').ok_or("write it as SCHEMA.TABLE")?;
    Ok((schema, name))
}

/// Two names, each of which may be in double quotes.
fn names(text: &str, between: char) -> Option<[String; 2]> {
    let mut names = vec![String::new()];
    let mut is_quoted = false;
    for letter in text.chars() {
        match letter {
            '"' => is_quoted = !is_quoted,
            letter if letter == between && !is_quoted => names.push(String::new()),
            letter => names.last_mut().into_iter().for_each(|name| name.push(letter)),
        }
    }
    let names = <[String; 2]>::try_from(names).ok()?;
    (!is_quoted && names.iter().all(|name| !name.is_empty())).then_some(names)
}

impl LoadingArguments {
    /// A flag that would do nothing to a folder is a mistake about what is done.
    pub fn refuse(&self) -> Result<(), Failure> {
        let flags = [
            ("--target", self.target.is_some()),
            ("--replace", self.replace),
            ("--map-role", !self.map_role.is_empty()),
            ("--no-owner", self.no_owner),
            ("--no-privileges", self.no_privileges),
            ("--no-tablespaces", self.no_tablespaces),
            ("--no-indexes", self.no_indexes),
            ("--no-constraints", self.no_constraints),
            ("--no-triggers", self.no_triggers),
            ("--programs", self.programs.is_some()),
        ];
        match flags.into_iter().find(|(_, given)| *given) {
            Some((flag, _)) => {
                let what = format!("{flag} concerns a dump, and --to DIR restores a server's files");
                Err(Failure::new(Code::Usage, what)
                    .hint("leave it out, or say --to-database, --schema or --table"))
            }
            None => Ok(()),
        }
    }

    fn scope(&self) -> Scope {
        match (&self.into_database, &self.schema, self.table.is_empty(), self.data_only) {
            (Some(name), ..) => Scope::EmptyDatabase(name.clone()),
            (None, Some(schema), ..) => Scope::Schema(schema.clone()),
            (None, None, false, true) => Scope::Rows(self.table.clone()),
            (None, None, false, false) => Scope::Tables(self.table.clone()),
            (None, None, true, _) => Scope::NewDatabase(self.to_database.clone()),
        }
    }

    fn options(&self, context: &Context, jobs: usize) -> Result<LoadOptions, Failure> {
        let roles = RoleMap::new(self.map_role.iter().cloned())
            .map_err(|twice| Failure::new(Code::Usage, format!("--map-role names role {twice} twice")))?;
        Ok(LoadOptions {
            scope: self.scope(),
            replace: self.replace,
            roles,
            no_owner: self.no_owner,
            no_privileges: self.no_privileges,
            no_tablespaces: self.no_tablespaces,
            without: Without {
                indexes: self.no_indexes,
                constraints: self.no_constraints,
                triggers: self.no_triggers,
            },
            jobs,
            id: format!("{:08x}", u32::from_le_bytes(context.cx.random())),
            scratch: None,
            programs: context.programs(self.programs.as_deref()),
        })
    }
}

/// Restores a dump of `source`.
pub async fn run(
    context: &Arc<Context>,
    arguments: &Arguments,
    source: &SourceName,
    progress: ProgressLine,
) -> Result<Outcome, Failure> {
    refuse_what_is_of_folders(arguments)?;
    let vault = context.answering().await?;
    let target = target_of(context, source, arguments).await?;
    let point = choose(&vault, source, &target, arguments.point.as_ref()).await?;
    let workers = arguments.workers.unwrap_or(context.settings.backup.workers).max(1);
    let database = database(context, arguments, &point, workers)?;
    let vaults: Vec<_> = [vec![vault.clone()], context.replicas_of(&vault).await].concat();
    thawed(context, &vault, &point, Frozen::of(arguments.dry_run, arguments.thaw)).await?;
    let plan = plan(&context.cx, &vaults, &point, &*database).await.map_err(of_target)?;
    let text = describe(&plan);
    if arguments.dry_run {
        return Ok(Outcome::new(&json!({ "plan": plan }), text));
    }
    context.printer.note(&text);
    agree(context, arguments)?;
    let planned = serde_json::to_value(&plan)
        .map_err(|error| Failure::new(Code::Bug, format!("a plan is not JSON: {error}")))?;
    let options = LoadingOptions { workers, rate_limit: arguments.rate_limit.map(|rate| rate.0) };
    let restored = restore_dump(&context.cx, &vaults, plan, &*database, options).await.map_err(of_target)?;
    drop(progress);
    Ok(Outcome::new(&json!({ "plan": planned, "restored": restored }), tell(&restored, &vault)))
}

/// The database to restore into, by the engine that made the dump.
fn database(
    context: &Context,
    arguments: &Arguments,
    point: &Summary,
    jobs: usize,
) -> Result<Box<dyn DumpTarget>, Failure> {
    if point.engine != NAME {
        let what = format!(
            "recovery point {} was made by engine {}, which this build does not have",
            point.point, point.engine
        );
        return Err(Failure::new(Code::Newer, what).hint("use a newer strongroom to restore it"));
    }
    let loading = &arguments.loading;
    let conninfo = match &loading.target {
        Some(text) => context.conninfo("--target", text)?,
        None => context.conninfo_of(&point.source)?,
    };
    Ok(Box::new(Load::new(conninfo, loading.options(context, jobs)?)))
}

/// A flag that would do nothing is a mistake about what is done.
fn refuse_what_is_of_folders(arguments: &Arguments) -> Result<(), Failure> {
    let flags = [
        ("--exclusive", arguments.exclusive),
        ("--delta", arguments.placing.delta),
        ("--no-archiving", arguments.no_archiving),
        ("--standby", arguments.standby),
        ("--start", arguments.start),
        ("--accept-loss", arguments.accept_loss),
    ];
    match flags.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => {
            let failure = Failure::new(
                Code::Usage,
                format!("{flag} concerns a folder, and a dump restores into a database"),
            );
            Err(failure.hint("leave it out, or say --to DIR to restore a server's files"))
        }
        None => Ok(()),
    }
}

fn describe(plan: &LoadingPlan) -> String {
    let point = &plan.point;
    let mut lines = vec![
        format!("restore {} ({}) from a dump", point.source, point.product),
        format!("  from       {} (shows {})", point.point, point.stopped_at),
        format!("  parts      {} in {}", ByteSize(plan.bytes), plan.first.len() + plan.rest),
    ];
    lines.extend(plan.steps.iter().map(|step| format!("  then       {step}")));
    lines.join("\n")
}

fn tell(restored: &RestoredDump, vault: &Vault) -> String {
    let took = std::time::Duration::from_secs_f64(restored.seconds);
    let mut lines = vec![format!(
        "restored {}: {} in {} parts, in {}",
        restored.point,
        ByteSize(restored.bytes),
        restored.parts,
        human_duration(took),
    )];
    lines.extend(restored.lines.iter().cloned());
    lines.extend(restored.from_replicas.iter().map(|(place, packs)| {
        format!("warning: {packs} packs came from {place}, for {} has them not whole", vault.place())
    }));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_named_with_its_schema() {
        let table = |schema: &str, name: &str, into: Option<(&str, &str)>| {
            let into = into.map(|(schema, name)| (schema.to_owned(), name.to_owned()));
            Ok(Wanted { schema: schema.into(), name: name.into(), into })
        };
        assert_eq!(wanted("public.orders"), table("public", "orders", None));
        assert_eq!(wanted("a.b=c.d"), table("a", "b", Some(("c", "d"))));
        assert_eq!(wanted("\"a.b\".\"C d\""), table("a.b", "C d", None));
        for wrong in ["orders", "a.b.c", ".b", "a.", "a.b=c", "\"a.b"] {
            assert!(wanted(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_role_is_named_with_the_one_that_stands_for_it() {
        let pair = |dumped: &str, here: &str| Ok((dumped.to_owned(), here.to_owned()));
        assert_eq!(role_pair("shop=shop_test"), pair("shop", "shop_test"));
        assert_eq!(role_pair("\"a=b\"=C d"), pair("a=b", "C d"));
        for wrong in ["shop", "a=b=c", "=b", "a=", "\"a=b"] {
            assert!(role_pair(wrong).is_err(), "{wrong}");
        }
    }
}
