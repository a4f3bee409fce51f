//! What requests are answered from: the settings that hold now, what the watch saw last, the catalog, and who is signed in.
//!
//! **Invariants**
//! - The catalog is opened when it is first asked for, and again after it could not be: one that is away makes answers fail, never
//!   the agent.

use std::sync::Arc;
use std::time::Duration;

use strongroom_catalog::Catalog;
use strongroom_model::Timestamp;
use tokio::sync::OnceCell;

use crate::agent::present::Present;
use crate::agent::sightings::Sightings;
use crate::agent::watch::board::Board;
use crate::catalog;
use crate::context::Context;
use crate::http::access::attempts::{Attempts, Buckets};
use crate::http::access::password::Trials;
use crate::http::access::sessions::Sessions;
use crate::http::problem::Problem;
use crate::http::told::Tellings;

/// How long the catalog may take to be opened for a request.
const PATIENCE: Duration = Duration::from_secs(5);

/// Handed to every route.
pub struct Desk {
    /// The settings.
    pub settings: Arc<Present>,
    /// What was seen last.
    pub board: Arc<Board>,
    /// Who is signed in.
    pub sessions: Sessions,
    /// Who was wrong lately.
    pub attempts: Attempts,
    /// Who asked lately.
    pub buckets: Buckets,
    /// Where passwords are tried.
    pub trials: Trials,
    /// What verbs told.
    pub tellings: Arc<Tellings>,
    /// What people did, for the audit log.
    pub sightings: Arc<Sightings>,
    catalog: OnceCell<Arc<Catalog>>,
}

impl Desk {
    /// With nobody signed in.
    pub fn new(settings: Arc<Present>, board: Arc<Board>, sightings: Arc<Sightings>) -> Arc<Desk> {
        let tellings = Tellings::new(Arc::clone(&settings));
        Arc::new(Desk {
            settings,
            board,
            tellings,
            sightings,
            sessions: Sessions::default(),
            attempts: Attempts::default(),
            buckets: Buckets::default(),
            trials: Trials::default(),
            catalog: OnceCell::new(),
        })
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
    pub async fn catalog(&self) -> Result<Arc<Catalog>, Problem> {
        let open = async || {
            let context = self.context();
            match tokio::time::timeout(PATIENCE, catalog::open(&context)).await {
                Ok(opened) => opened.map(Arc::new).map_err(|failure| {
                    Problem::catalog_away(failure.on_one_line()).hint(failure.hint.unwrap_or_default())
                }),
                Err(_) => Err(Problem::catalog_away("the catalog does not answer")),
            }
        };
        self.catalog.get_or_try_init(open).await.map(Arc::clone)
    }
}
