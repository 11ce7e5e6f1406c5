//! Drawing cards: never on a thread that serves, never more at once than the cores can do, and for customers and phones
//! once per card and version.
//!
//! Each kind of reader has workers of its own. So however many pages and passes strangers ask for, and however many
//! designs are checked, the cards that backends change don't wait behind them.

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

/// For whom a card is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// Whoever has the card's address, and phones.
    Customer,
    /// A backend that changes or reads cards.
    Backend,
    /// Who checks, previews or publishes a design: that draws many cards.
    Designer,
    /// Who looks which cards a publishing or a date changes: that draws each several times.
    Comparison,
}

/// Who draws, and what customers were given lately.
#[derive(Debug)]
pub struct Renders {
    customers: Workers,
    backends: Workers,
    designers: Workers,
    comparisons: Workers,
    made: Cache<MadeKey, Made>,
}

/// How many cards' passes are compared at once, a page of them counting as one.
const COMPARISONS: usize = 2;
/// The most bytes that what was made may have.
const MADE_BYTES: u64 = 32 * 1024 * 1024;

impl Renders {
    /// For a machine of so many cores.
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

    /// Who draws for a reader.
    pub fn of(&self, reader: Reader) -> &Workers {
        match reader {
            Reader::Customer => &self.customers,
            Reader::Backend => &self.backends,
            Reader::Designer => &self.designers,
            Reader::Comparison => &self.comparisons,
        }
    }
}

/// A face of a card: whatever changes what is shown changes one of these. They are read from the database for every
/// request, so nothing is shown that was changed before.
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
    /// That of a card now.
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

/// What is made of a face.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Kind {
    /// By which version it is shown, and how it looks.
    Shown,
    /// Its page: the rest of what decides how that reads.
    Page(String),
    /// The pass, signed by the certificate of that fingerprint in that minute.
    Pass(String, i64),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct MadeKey(Face, Kind);

/// What was made of a face.
#[derive(Debug, Clone)]
pub enum Made {
    /// The number of the version, and what a page's colours and pictures are.
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
            // The shared part, too: it may have no other owner any more.
            Self::Pass(pass) => pass.archive().len(),
        }
    }
}

impl App {
    /// Draws something off the threads that serve, as soon as one of the reader's workers is free.
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

    /// What customers are given of a face: made by `make` unless it was made before, and made once however many ask for
    /// it at the same time.
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

/// A cache hands one error to everyone who waited; actions want their own.
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
