//! What requests are answered from: the settings that hold now, what the watch saw last, and the catalog.
//!
//! **Invariants**
//! - The catalog is opened when it is first asked for, and again after it could not be: one that is away makes answers fail, never
//!   the agent.

use std::sync::Arc;

use strongroom_catalog::Catalog;
use strongroom_model::Timestamp;
use tokio::sync::OnceCell;

use crate::agent::present::Present;
use crate::agent::watch::board::Board;
use crate::catalog;
use crate::context::Context;
use crate::failure::Failure;
use crate::http::told::Tellings;

/// Handed to every route.
pub struct Desk {
    /// The settings.
    pub settings: Arc<Present>,
    /// What was seen last.
    pub board: Arc<Board>,
    /// What verbs told.
    pub tellings: Arc<Tellings>,
    catalog: OnceCell<Arc<Catalog>>,
}

impl Desk {
    /// With nobody signed in.
    pub fn new(settings: Arc<Present>, board: Arc<Board>) -> Arc<Desk> {
        let tellings = Tellings::new(Arc::clone(&settings));
        Arc::new(Desk { settings, board, tellings, catalog: OnceCell::new() })
    }

    /// The settings that hold now.
    pub fn context(&self) -> Arc<Context> {
        self.settings.context()
    }

    /// The agent's clock.
    pub fn now(&self) -> Timestamp {
        self.context().cx.now()
    }

    /// The catalog, open.
    pub async fn catalog(&self) -> Result<Arc<Catalog>, Failure> {
        let open = async || catalog::open(&self.context()).await.map(Arc::new);
        self.catalog.get_or_try_init(open).await.map(Arc::clone)
    }
}
