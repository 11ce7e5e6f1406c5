//! Records what phones do with their passes: polls for changes, and the face of each pass they fetch.
//!
//! While the database can't be written (its disk is full), phones are answered and nothing is recorded: they get their
//! passes, and are reminded later of those they seem not to have. Any other failure fails the request, so that what is
//! shown about a phone stays true.

use std::collections::BTreeMap;

use serde_json::json;

use crate::actions::error::ActionError;
use crate::actions::passes::group_commit::GroupCommit;
use crate::actions::retry::retry;
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::event::EventKind;
use crate::domain::ids::WorkspaceId;
use crate::domain::wallet::WalletKind;
use crate::store::cards::Issued;
use crate::store::passes::{self, PassKey};
use crate::store::targets::{self, Question, TargetKey};
use crate::store::{events, workspaces};

/// A fetched pass, and the face that the wallet got.
#[derive(Debug, Clone)]
pub struct Fetched {
    pass: PassKey,
    face: i64,
}

/// Fetches and polls of one workspace that wait to be written.
#[derive(Debug, Default)]
pub struct FetchRecorder {
    fetches: GroupCommit<Fetched>,
    questions: GroupCommit<(TargetKey, Question)>,
}

/// Records that a wallet has fetched the card's newest face.
///
/// # Errors
/// When the database fails.
pub async fn record_fetch(app: &App, issued: &Issued, wallet: WalletKind) -> Result<(), ActionError> {
    let (face, card) = (issued.face(), &issued.card);
    // Most fetches bring nothing new; only those that do wait for a writer.
    let Some(pass) = issued.pass(wallet).filter(|pass| !pass.is_fetched(face)) else { return Ok(()) };
    let pass = PassKey { card: card.id.clone(), issuer: pass.issuer.clone(), object_id: pass.object_id.clone() };
    let fetched = Fetched { pass, face };
    let write = async |fetched: Vec<Fetched>| {
        let written = retry(app, async || write_fetches(app, &card.workspace, &fetched).await).await;
        unless_unwritable(written)
    };
    app.notes_of(&card.workspace).await.fetches.write(fetched, write).await
}

/// Skips a record that can't be written because the database can't be written.
fn unless_unwritable(written: Result<(), ActionError>) -> Result<(), ActionError> {
    match written {
        Err(ActionError::Store(error)) if error.is_of_writing() => {
            tracing::warn!(%error, "what a phone did can't be noted; it is answered all the same");
            Ok(())
        }
        written => written,
    }
}

async fn write_fetches(app: &App, workspace: &WorkspaceId, fetched: &[Fetched]) -> Result<(), ActionError> {
    let mut faces: BTreeMap<PassKey, i64> = BTreeMap::new();
    for Fetched { pass, face } in fetched {
        let newest = faces.entry(pass.clone()).or_default();
        *newest = (*newest).max(*face);
    }
    let mut tx = app.store.begin_batch().await?;
    // The counter first: an erasure holds it when it removes the card, so this must not lock the card before the
    // counter.
    let position = workspaces::next_position(&mut tx, workspace).await?;
    let new = passes::record_fetches(&mut tx, workspace, &faces, app.now()).await?;
    let events =
        new.iter().map(|(card, wallet)| app.event(EventKind::CardFetched, Some(card), json!({"wallet": wallet})));
    let recorded = events.collect::<Result<Vec<_>, _>>()?;
    events::record(&mut tx, workspace, &Actor::System, position, app.now(), &recorded).await?;
    Ok(tx.commit().await?)
}

/// Records a device's poll and the answer to it.
///
/// # Errors
/// When the database fails.
pub async fn record_poll(app: &App, key: TargetKey, question: Question) -> Result<(), ActionError> {
    let write = async |polls: Vec<(TargetKey, Question)>| {
        let mut newest: BTreeMap<TargetKey, Question> = BTreeMap::new();
        for (key, question) in polls {
            let known = newest.entry(key).or_insert(question);
            if question.position > known.position {
                *known = question;
            }
        }
        let written = retry(app, async || {
            let mut tx = app.store.begin_batch().await?;
            targets::record_polls(&mut tx, &newest, app.now()).await?;
            Ok(tx.commit().await?)
        });
        unless_unwritable(written.await)
    };
    let notes = app.notes_of(&key.workspace).await;
    notes.questions.write((key, question), write).await
}
