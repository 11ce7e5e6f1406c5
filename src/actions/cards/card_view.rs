//! The JSON view of a card in the API.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::actions::error::ActionError;
use crate::actions::passes::renders::Reader;
use crate::actions::templates::published::Published;
use crate::app::App;
use crate::domain::ids::{CardId, IssuerId, WorkspaceId};
use crate::domain::wallet::WalletKind;
use crate::store::cards::{self, Issued};
use crate::store::passes::PassRecord;
use crate::store::targets;

/// How many cards of a list are rendered before other requests get a turn.
const AT_A_TIME: usize = 20;

/// Returns the card with that id.
///
/// # Errors
/// When there is none.
pub async fn find_card(app: &App, workspace: &WorkspaceId, id: &CardId) -> Result<Issued, ActionError> {
    let card = cards::find(&mut app.store.read().await?, workspace, id).await?;
    card.ok_or(ActionError::NotFound("card"))
}

/// Returns the card as JSON, with its addresses and the number of phones that show its newest face.
///
/// # Errors
/// When the database fails.
pub async fn card_answer(app: &App, issued: &Issued) -> Result<Value, ActionError> {
    let answers = card_answers(app, std::slice::from_ref(issued)).await?;
    answers.into_iter().next().ok_or_else(|| ActionError::Fault("a card has no answer".to_owned()))
}

/// Returns cards of one workspace as JSON; the number of statements doesn't depend on the number of cards.
///
/// # Errors
/// When the database fails.
pub async fn card_answers(app: &App, cards: &[Issued]) -> Result<Vec<Value>, ActionError> {
    let Some(first) = cards.first() else { return Ok(Vec::new()) };
    let workspace = &first.card.workspace;
    let faces: Vec<(&CardId, i64)> = cards.iter().map(|issued| (&issued.card.id, issued.face())).collect();
    let mut reader = app.store.read().await?;
    let targets = targets::of_cards(&mut reader, workspace, &faces).await?;
    drop(reader);
    let targets: HashMap<(CardId, IssuerId), (i64, i64)> =
        targets.into_iter().map(|(card, issuer, all, polled)| ((card, issuer), (all, polled))).collect();
    let shown = shown_by(app, cards).await?;
    let mut answers = Vec::with_capacity(cards.len());
    for (issued, shown) in cards.iter().zip(shown) {
        let of_pass = |pass: &PassRecord| {
            let key = (issued.card.id.clone(), pass.issuer.clone());
            let (all, polled) = targets.get(&key).copied().unwrap_or_default();
            // A fetch names no device, so it counts for the devices that polled since the change.
            (all, if pass.is_fetched(issued.face()) { polled } else { 0 })
        };
        let (devices, current) = issued.pass(WalletKind::Apple).map(of_pass).unwrap_or_default();
        let (saved, equal) = issued.pass(WalletKind::Google).map(of_pass).unwrap_or_default();
        let wallets = json!({
            "apple": {"devices": devices, "current": current},
            "google": {"saved": saved > 0, "current": saved > 0 && equal == saved},
        });
        answers.push(written(app, issued, shown, wallets).await?);
    }
    Ok(answers)
}

/// Returns the version by which each card is shown. For most that is the newest, which is tested some cards at a time.
async fn shown_by(app: &App, cards: &[Issued]) -> Result<Vec<(Arc<Published>, i64)>, ActionError> {
    let now = app.now();
    let mut all = Vec::with_capacity(cards.len());
    for some in cards.chunks(AT_A_TIME) {
        let mut drawn = Vec::with_capacity(some.len());
        for issued in some {
            let card = &issued.card;
            let page = app.page_url(&card.workspace, &card.serial, card.page_generation).await?;
            let version = issued.publication.version;
            let newest = app.published(&card.workspace, &card.content.template, version).await?;
            drawn.push((issued.clone(), page, newest));
        }
        let work = move || {
            let shows = |(issued, page, newest): (Issued, String, Arc<Published>)| {
                let shows = newest.shows(&issued, &page, now);
                (shows, page, newest)
            };
            drawn.into_iter().map(shows).collect::<Vec<_>>()
        };
        for (issued, (shows, page, newest)) in some.iter().zip(app.render(Reader::Backend, work).await?) {
            all.push(match shows {
                true => (newest, issued.publication.version),
                false => app.shown(Reader::Backend, issued, &page).await?,
            });
        }
    }
    Ok(all)
}

async fn written(
    app: &App,
    issued: &Issued,
    (published, version): (Arc<Published>, i64),
    wallets: Value,
) -> Result<Value, ActionError> {
    let card = &issued.card;
    let content = &card.content;
    let page = app.page_url(&card.workspace, &card.serial, card.page_generation).await?;
    let locale = content.locale.as_ref().or(published.template.languages.first());
    Ok(json!({
        "id": card.id,
        "template": content.template,
        "template_version": version,
        "serial_number": card.serial,
        "state": content.state,
        "revision": card.revision,
        "locale": locale,
        "attributes": card.shown_attributes(&published.template),
        "expires_at": content.expires_at,
        "sequence": card.sequence,
        "urls": {
            "page": page,
            "apple": format!("{page}/card.pkpass"),
            "google": format!("{page}/google"),
        },
        "wallets": wallets,
        "created_at": card.created_at,
        "updated_at": card.updated_at,
    }))
}
