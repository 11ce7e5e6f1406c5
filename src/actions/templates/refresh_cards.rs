//! The fan-out after a publishing: marks the targets that hold the template's cards, except for cards whose passes look
//! the same.

use std::collections::BTreeSet;

use crate::actions::error::ActionError;
use crate::actions::passes::renders::Reader;
use crate::actions::templates::unchanged::Since;
use crate::app::App;
use crate::domain::cards::Card;
use crate::domain::delivery::backoff::WINDOW;
use crate::domain::ids::{CardId, IssuerId, TemplateId};
use crate::domain::time::Timestamp;
use crate::store::cards::{self, Unchanged};
use crate::store::fan_outs::FanOut;
use crate::store::{Tx, deliveries, templates};

/// What a publishing changed of some cards.
#[derive(Debug)]
pub struct Examined {
    template: TemplateId,
    /// The version under which passes were compared.
    version: Option<i64>,
    /// The cards that show something new.
    changed: Vec<CardId>,
    /// The cards that look as before the newest publishing, and the face since which they do.
    kept: Vec<(Card, Unchanged)>,
}

impl Examined {
    /// Whether the version under which the cards were compared is still the newest.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn still_holds(&self, tx: &mut Tx, fan_out: &FanOut) -> Result<bool, ActionError> {
        let newest = templates::publication(tx, &fan_out.key.workspace, &self.template).await?;
        Ok(newest.map(|publication| publication.version) == self.version)
    }

    /// Marks the targets of the changed cards and records the others. Returns how many targets were marked.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn apply(&self, tx: &mut Tx, fan_out: &FanOut, now: Timestamp) -> Result<u64, ActionError> {
        let workspace = &fan_out.key.workspace;
        let changed: Vec<&CardId> = self.changed.iter().collect();
        let marked = deliveries::mark(tx, workspace, &changed, now, WINDOW).await?;
        cards::keep_faces(tx, workspace, &self.kept).await?;
        Ok(marked)
    }
}

/// Renders cards as they are shown and as they were; see [`crate::actions::templates::unchanged`].
///
/// # Errors
/// When the database fails.
pub async fn examine(app: &App, fan_out: &FanOut, cards: &[CardId]) -> Result<Examined, ActionError> {
    let workspace = &fan_out.key.workspace;
    let template = TemplateId::trusted(fan_out.key.selection.clone());
    let mut reader = app.store.read().await?;
    let mut issued = cards::find_many(&mut reader, workspace, &cards.iter().collect::<Vec<_>>()).await?;
    let newest = templates::publication(&mut reader, workspace, &template).await?;
    drop(reader);
    // A card that moved to another template meanwhile was announced by that change.
    issued.retain(|issued| issued.card.content.template == template);
    let version = newest.as_ref().map(|newest| newest.version);
    let mut examined = Examined { template, version, changed: Vec::new(), kept: Vec::new() };
    let Some(newest) = newest.filter(|_| !issued.is_empty()) else { return Ok(examined) };
    let issuers: BTreeSet<IssuerId> =
        issued.iter().flat_map(|issued| &issued.passes).map(|pass| pass.issuer.clone()).collect();
    let comparison = app.comparison(workspace, &examined.template, newest.version, issuers).await?;
    let first = fan_out.first_position.unwrap_or(0);
    let work = app.render(Reader::Comparison, move || {
        for issued in issued {
            let since = comparison.since(&issued);
            let (Since::New(face) | Since::Same(face)) = since;
            if matches!(since, Since::New(_)) && face.face >= first {
                examined.changed.push(issued.card.id.clone());
            }
            if face.face < issued.publication.position {
                examined.kept.push((issued.card, face));
            }
        }
        examined
    });
    work.await
}
