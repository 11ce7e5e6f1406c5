//! The pass of a card, signed now.

use std::sync::Arc;

use super::error::ActionError;
use super::holder::held_card;
use super::note_fetches::note_fetch;
use super::published::Published;
use crate::app::App;
use crate::domain::ids::{PassTypeId, SerialNumber};
use crate::domain::input::Problems;
use crate::domain::render::{render, render_erased};
use crate::domain::time::Timestamp;
use crate::store::cards::Issued;
use crate::wallets::apple::pass::{self, BuildError, SignedPass};
use crate::wallets::apple::pass_json::PassIdentity;

/// What a phone's request for its pass leads to.
#[derive(Debug)]
pub enum Fetched {
    /// The newest pass and its `Last-Modified`.
    Pass(SignedPass, Timestamp),
    /// The phone has the newest one.
    NotModified(Timestamp),
    /// Not the holder of this pass; also when there is none, so that nobody can probe.
    Unauthorized,
}

/// Whether a request only looks, or takes what it asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// HEAD: nothing is taken, so nothing is noted.
    Look,
    /// GET by a phone that then holds the face.
    Hold,
}

/// Answers a phone.
///
/// # Errors
/// When the database fails or the issuer is gone.
pub async fn fetch_pass(
    app: &App,
    pass_type: &PassTypeId,
    serial: &SerialNumber,
    token: &str,
    since: Option<Timestamp>,
    purpose: Purpose,
) -> Result<Fetched, ActionError> {
    let Some(mut issued) = held_card(app, pass_type, serial, token).await? else {
        return Ok(Fetched::Unauthorized);
    };
    // What a phone got since the card last changed may be what it would get now.
    if since.is_some_and(|since| since.seconds() >= issued.card.modified && since.seconds() < issued.modified()) {
        app.look_at(&mut issued).await?;
    }
    let modified = Timestamp::from_seconds(issued.modified());
    let answer = match since {
        Some(since) if since >= modified => Fetched::NotModified(modified),
        _ => Fetched::Pass(signed_pass(app, &issued).await?, modified),
    };
    // A fetch that can't be noted is not answered: the phone asks again, and what we say of it stays true.
    if purpose == Purpose::Hold {
        note_fetch(app, &issued).await?;
    }
    Ok(answer)
}

/// Renders and signs a card's newest face.
///
/// # Errors
/// When the issuer that the card was issued under is gone, or signing fails.
pub async fn signed_pass(app: &App, issued: &Issued) -> Result<SignedPass, ActionError> {
    let card = &issued.card;
    let issuer = app.find_apple_issuer_of(&card.workspace, &card.pass_type).await?.ok_or(ActionError::IssuerMissing)?;
    let secret = app.secret(&card.workspace).await?;
    let page = app.page_url(&card.workspace, &card.serial, card.page_generation).await?;
    let auth_token = secret.auth_token(&card.serial);
    let web_service_url = format!("{}/apple", app.public_url);
    let write = |published: &Published| {
        let rendered = match card.id.is_erased() {
            true => render_erased(&published.template, card),
            false => render(&published.template, card, &page)?,
        };
        let identity = PassIdentity {
            serial: &card.serial,
            pass_type: &card.pass_type,
            team: &issuer.identity.team,
            auth_token: &auth_token,
            web_service_url: &web_service_url,
        };
        Ok::<_, Problems>(pass::write(&rendered, &identity, &published.passes).map_err(BuildError::from))
    };
    let newest = app.published(&card.workspace, &card.content.template, issued.publication.version).await?;
    // An erased card breaks nothing; one that wasn't changed since the publishing may.
    let newest_fits = card.id.is_erased() || issued.changed_since_publishing();
    let written = if newest_fits { write(&newest).ok() } else { None };
    let unsigned = match written {
        Some(written) => written?,
        None => write(&app.shown(issued, &page).await?.0)??,
    };
    let now = app.now();
    let issuer = Arc::clone(&issuer);
    let pass = app.sign(move || pass::sign(&unsigned, &issuer.identity.signer, now)).await?;
    app.metrics.passes_served.inc();
    Ok(pass)
}
