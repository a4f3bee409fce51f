//! The settings that hold now: the file may change while the agent runs.

use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use crate::context::Context;
use crate::failure::Failure;
use crate::settings::Settings;

/// Settings that are taken up anew when their file has changed.
pub struct Present {
    context: RwLock<Arc<Context>>,
    changed: watch::Sender<()>,
}

impl Present {
    /// Those that the agent began with.
    pub fn new(context: Arc<Context>) -> Present {
        Present { context: RwLock::new(context), changed: watch::Sender::new(()) }
    }

    /// As they were last read.
    pub fn context(&self) -> Arc<Context> {
        Arc::clone(&self.context.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Tells whenever they have changed.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// As the file has them now, if that is another content than before and `is_wanted` by its fingerprint. A file that does
    /// not read changes nothing.
    pub fn renewed(&self, mut is_wanted: impl FnMut(u64) -> bool) -> Result<Arc<Context>, Failure> {
        let context = self.context();
        let settings = Settings::load(context.settings.path.as_deref())?;
        if settings.fingerprint == context.settings.fingerprint || !is_wanted(settings.fingerprint) {
            return Ok(context);
        }
        tracing::info!("the settings changed: they are read again");
        let renewed =
            Arc::new(Context::new(context.cx.clone(), context.global.clone(), settings, context.printer));
        *self.context.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&renewed);
        self.changed.send_replace(());
        Ok(renewed)
    }
}
