//! Coming to a server: who it is, and the slot that keeps WAL for us there.

use strongroom_engine::EngineError;
use strongroom_model::Timeline;
use strongroom_model::history::TimelineHistory;
use strongroom_postgres::connect::connect;
use strongroom_postgres::conninfo::Conninfo;
use strongroom_postgres::replication::{Identity, Replication, ReplicationError};
use strongroom_postgres::sender::{Sender, Slot, SlotName, look};

use super::{Event, Tell};
use crate::error::OpsError;

/// A server that answered.
pub struct Arrival {
    /// The connection, ready for commands.
    pub replication: Replication,
    /// The server as a sender of WAL, with the slot as it is now.
    pub sender: Sender,
    /// Who it is.
    pub identity: Identity,
}

/// Connects, checks what must be, and makes the slot if it is missing or was given up by the server.
pub async fn arrive(server: &Conninfo, slot: Option<&SlotName>, tell: Tell<'_>) -> Result<Arrival, OpsError> {
    let client = connect(server).await.map_err(EngineError::from)?;
    let mut sender = look(&client, slot).await.map_err(EngineError::from)?;
    // The same one of several hosts.
    let replication = Replication::connect(&server.only(client.place())).await;
    let mut replication = replication.map_err(EngineError::from)?;
    if let Some(name) = slot {
        let made = make_slot(&mut replication, name, sender.slot).await.map_err(EngineError::from)?;
        if let Some(event) = made {
            tell(&event);
            sender = look(&client, slot).await.map_err(EngineError::from)?;
        }
    }
    let identity = replication.identify().await.map_err(EngineError::from)?;
    if identity.system_id != sender.system_id {
        let what = format!("connect to {}: two servers answer there in turn", replication.place());
        let hint =
            "name one server, or one proxy that always leads to the same, in the connection".to_owned();
        return Err(EngineError::Unreachable { what, hint, source: None }.into());
    }
    Ok(Arrival { replication, sender, identity })
}

async fn make_slot(
    replication: &mut Replication,
    name: &SlotName,
    found: Option<Slot>,
) -> Result<Option<Event>, ReplicationError> {
    let slot = name.clone();
    let event = match found {
        Some(Slot { is_lost: true, .. }) => {
            replication.drop_slot(name).await?;
            Event::SlotLost { slot }
        }
        Some(_) => return Ok(None),
        None => Event::SlotMade { slot },
    };
    replication.create_slot(name).await?;
    Ok(Some(event))
}

/// How the server's timeline came about.
pub async fn history_of(
    replication: &mut Replication,
    timeline: Timeline,
) -> Result<TimelineHistory, ReplicationError> {
    if timeline == Timeline::FIRST {
        return Ok(TimelineHistory::of_first());
    }
    let content = replication.timeline_history(timeline).await?.unwrap_or_default();
    let unreadable = |what: String| ReplicationError::Unreadable {
        operation: "read a timeline's history",
        place: replication.place().to_owned(),
        what,
    };
    TimelineHistory::parse(timeline, &String::from_utf8_lossy(&content))
        .map_err(|error| unreadable(error.to_string()))
}
