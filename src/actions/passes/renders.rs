//! Rendering of cards: never on a thread that serves, never more at once than there are cores, and for customers and
//! phones once per card and version.
//!
//! Each kind of reader has workers of its own. So however many pages and passes strangers request, and however many
//! designs are checked, cards that backends change don't wait behind them.

use std::sync::Arc;

use bytes::Bytes;
use moka::future::Cache;

use crate::actions::error::ActionError;
use crate::app::App;
use crate::domain::ids::{SerialNumber, WorkspaceId};
use crate::domain::templates::Colours;
use crate::domain::templates::picture::Look;
use crate::domain::time::Timestamp;
use crate::platform::workers::Workers;
use crate::store::StoreError;
use crate::store::cards::Issued;
use crate::wallets::apple::package::pass::SignedPass;

/// The kind of reader that a card is rendered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Anyone with the card's address, and phones.
    Customer,
    /// A backend that changes or reads cards.
    Backend,
    /// A user who checks, previews or publishes a design: that renders many cards.
    Designer,
    /// A comparison of which cards a publishing or a date changes: that renders each several times.
    Comparison,
}

/// The workers that render, and a cache of what customers were sent lately.
#[derive(Debug)]
pub struct Renders {
    customers: Workers,
    backends: Workers,
    designers: Workers,
    comparisons: Workers,
    made: Cache<MadeKey, Made>,
}

/// How many comparisons of cards' passes run at once, a page of cards counting as one.
const COMPARISONS: usize = 2;
/// The most bytes in the cache.
const MADE_BYTES: u64 = 32 * 1024 * 1024;

impl Renders {
    /// Returns the workers for a machine with that many cores.
    pub fn new(cores: usize) -> Self {
        let made = Cache::builder()
            .max_capacity(MADE_BYTES)
            .weigher(|_, made: &Made| u32::try_from(made.bytes() + 1024).unwrap_or(u32::MAX));
        Self {
            customers: Workers::new("drawing a card", cores),
            backends: Workers::new("drawing a backend's card", cores),
            designers: Workers::new("drawing a design", cores.div_ceil(2)),
            comparisons: Workers::new("comparing passes", COMPARISONS),
            made: made.build(),
        }
    }

    /// Returns the workers of a reader.
    pub fn of(&self, reader: Reader) -> &Workers {
        match reader {
            Reader::Customer => &self.customers,
            Reader::Backend => &self.backends,
            Reader::Designer => &self.designers,
            Reader::Comparison => &self.comparisons,
        }
    }
}

/// A face of a card: every change of what is shown changes one of these. They are read from the database for every
/// request, so nothing outdated is shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Face {
    workspace: WorkspaceId,
    serial: SerialNumber,
    page_generation: i64,
    revision: i64,
    position: i64,
    updated_at: Timestamp,
    version: i64,
    published_at: i64,
}

impl Face {
    /// Returns a card's current face.
    pub fn of(issued: &Issued) -> Self {
        let Issued { card, publication, .. } = issued;
        Self {
            workspace: card.workspace.clone(),
            serial: card.serial.clone(),
            page_generation: card.page_generation,
            revision: card.revision,
            position: card.position,
            updated_at: card.updated_at,
            version: publication.version,
            published_at: publication.position,
        }
    }
}

/// The kind of thing made of a face.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The version by which it is shown, and its look.
    Shown,
    /// Its page, with everything else that its content depends on.
    Page(String),
    /// The pass, signed by the certificate with that fingerprint in that minute.
    Pass(String, i64),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct MadeKey(Face, Kind);

/// A cached thing made of a face.
#[derive(Debug, Clone)]
pub enum Made {
    /// The version's number, and the colours and pictures of a page.
    Shown(i64, Arc<(Look, Colours)>),
    /// A page.
    Page(Bytes),
    /// A pass.
    Pass(SignedPass),
}

impl Made {
    fn bytes(&self) -> usize {
        match self {
            Self::Shown(..) => 0,
            Self::Page(page) => page.len(),
            // The shared part counts, too: it may have no other owner any more.
            Self::Pass(pass) => pass.archive().len(),
        }
    }
}

impl App {
    /// Renders something off the threads that serve, as soon as one of the reader's workers is free.
    ///
    /// # Errors
    /// When the service stops, or `work` panicked.
    pub async fn render<T: Send + 'static>(
        &self,
        reader: Reader,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ActionError> {
        self.metrics.rendered(reader);
        Ok(self.renders.of(reader).run(work).await?)
    }

    /// Returns what customers get of a face: from the cache, or else made by `make`, once for all concurrent requests.
    ///
    /// # Errors
    /// What `make` fails with.
    pub async fn made(
        &self,
        issued: &Issued,
        kind: Kind,
        make: impl Future<Output = Result<Made, ActionError>>,
    ) -> Result<Made, ActionError> {
        let made = self.renders.made.try_get_with(MadeKey(Face::of(issued), kind), make).await;
        made.map_err(own_error)
    }
}

/// Turns a shared error into an owned one: a cache hands one error to all who waited, but actions return it by value.
pub fn own_error(shared: Arc<ActionError>) -> ActionError {
    match Arc::try_unwrap(shared) {
        Ok(error) => error,
        Err(shared) => match &*shared {
            ActionError::Store(StoreError::Unavailable(_) | StoreError::Conflict(_)) | ActionError::Busy => {
                ActionError::Busy
            }
            ActionError::IssuerMissing => ActionError::IssuerMissing,
            ActionError::NotFound(what) => ActionError::NotFound(what),
            other => ActionError::Fault(other.to_string()),
        },
    }
}
