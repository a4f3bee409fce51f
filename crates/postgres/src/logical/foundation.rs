//! What rows are put into: a database, and in it everything that `pg_restore` makes before rows.

use strongroom_model::Cx;

use crate::connect;
use crate::conninfo::Conninfo;
use crate::logical::aside;
use crate::logical::copying::{Copying, unless_cancelled};
use crate::logical::failure::LogicalError;
use crate::logical::fit::{MISSING_ROLES, create_database};
use crate::logical::loading::{Loading, Stage};
use crate::logical::options::Scope;
use crate::logical::roles::indispensable;

/// Makes it, once the schema's archive is on disk.
pub(crate) async fn lay(cx: &Cx, loading: &Loading) -> Result<(), LogicalError> {
    expect_roles(loading).await?;
    if !loading.options.roles.is_empty() {
        loading.options.roles.rewrite(&loading.archive).await?;
    }
    match &loading.stage {
        Stage::Database { under_way, .. } => {
            let mut copying = Copying::connect(&loading.server).await?;
            let sql = create_database(under_way, &loading.facts.database, loading.version_num);
            // Before 15 it waits for a checkpoint, and that for the disk.
            unless_cancelled(cx, copying.run("create the database", &sql)).await??;
            loading.made();
        }
        Stage::Empty => loading.made(),
        Stage::Schemas { .. } => return aside::lay(cx, loading).await,
    }
    restore_section(cx, loading, "pre-data").await
}

/// Where nobody gets anything, policies and user mappings name roles all the same: known once the archive is here, and refused
/// while there is nothing else.
async fn expect_roles(loading: &Loading) -> Result<(), LogicalError> {
    let options = &loading.options;
    if !(options.no_owner && options.no_privileges) {
        return Ok(());
    }
    let tables = match &options.scope {
        Scope::NewDatabase(_) | Scope::EmptyDatabase(_) => None,
        Scope::Rows(_) => return Ok(()),
        Scope::Schema(_) | Scope::Tables(_) => {
            let complete = loading.choice.relations.iter().filter(|relation| !options.is_renamed(relation));
            Some(complete.map(|relation| relation.oid).collect())
        }
    };
    let roles = indispensable(&loading.archive, tables.as_ref()).await?;
    let wanted: Vec<&str> = roles.iter().map(|role| options.roles.of(role)).collect();
    let client = connect::connect(&loading.server).await?;
    const OPERATION: &str = "look at the target";
    let rows = client.rows(OPERATION, MISSING_ROLES, &[&wanted]).await?;
    let missing = rows.iter().map(|row| client.get(OPERATION, row, "name"));
    let missing = missing.collect::<Result<Vec<String>, _>>()?.join(", ");
    match missing.is_empty() {
        true => Ok(()),
        false => Err(LogicalError::Refused {
            what: format!("database {}", loading.facts.database.name),
            place: loading.place.clone(),
            reasons: vec![format!(
                "policies or user mappings name roles that the server does not have: {missing} (create them, or say --map-role)"
            )],
        }),
    }
}

/// Has `pg_restore` make what comes before the rows, or after them.
pub(crate) async fn restore_section(
    cx: &Cx,
    loading: &Loading,
    section: &'static str,
) -> Result<(), LogicalError> {
    let program = &loading.pg_restore;
    let mut command = program.command(&hurried(&loading.conninfo), &loading.place);
    command.args(["--exit-on-error", "--no-password", &format!("--section={section}")]);
    if section == "post-data" {
        command.arg(format!("--jobs={}", loading.options.jobs.max(1)));
    }
    let list = loading.listing(cx).await?.all_but(loading.options.without);
    command.arg("--use-list").arg(loading.write_list(&list).await?);
    command.args(loading.options.skipped());
    command.arg(&loading.archive);
    program.run(cx, &mut command, &loading.conninfo.database).await.map(drop)
}

/// Nothing counts until the end, which is written durably, and with it everything before.
fn hurried(conninfo: &Conninfo) -> Conninfo {
    let mut hurried = conninfo.clone();
    let before = hurried.options.take().unwrap_or_default();
    hurried.options = Some(format!("{before} -c synchronous_commit=off"));
    hurried
}
