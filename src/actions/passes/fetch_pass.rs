//! Fetches a card's pass, signed at request time.

use std::sync::Arc;

use crate::actions::error::ActionError;
use crate::actions::passes::holder::held_card;
use crate::actions::passes::record_fetches::record_fetch;
use crate::actions::passes::renders::{Kind, Made, Reader};
use crate::actions::templates::published::Published;
use crate::app::App;
use crate::domain::ids::{AuthToken, PassTypeId, SerialNumber};
use crate::domain::render::{render, render_erased};
use crate::domain::time::Timestamp;
use crate::domain::wallet::WalletKind;
use crate::store::cards::Issued;
use crate::wallets::apple::issuers::AppleIssuer;
use crate::wallets::apple::package::pass::{self, BuildError, SignedPass};
use crate::wallets::apple::package::pass_json::PassIdentity;
use crate::wallets::apple::package::prepare::PreparedPasses;

/// The outcome of a phone's request for its pass.
#[derive(Debug)]
pub enum Fetched {
    /// The newest pass and its `Last-Modified`.
    Pass(SignedPass, Timestamp),
    /// The phone has the newest pass.
    NotModified(Timestamp),
    /// The caller isn't the holder of this pass, or there is no such pass: both are the same, so that nobody can probe.
    Unauthorized,
}

/// Whether the client receives the pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// HEAD: the client receives nothing, so nothing is recorded.
    Look,
    /// GET: the phone then has the face.
    Hold,
}

/// Answers a phone's request for a pass.
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
    // A pass fetched since the card last changed may equal the one it would get now.
    if since.is_some_and(|since| since.seconds() >= issued.card.modified && since.seconds() < issued.modified()) {
        app.look_at(&mut issued).await?;
    }
    let modified = Timestamp::from_seconds(issued.modified());
    let answer = match since {
        Some(since) if since >= modified => Fetched::NotModified(modified),
        _ => Fetched::Pass(shared_pass(app, &issued).await?, modified),
    };
    // A fetch that can't be recorded isn't answered, except while the database can't be written: see `record_fetches`.
    if purpose == Purpose::Hold {
        record_fetch(app, &issued, WalletKind::Apple).await?;
    }
    Ok(answer)
}

/// Returns the pass of a card's newest face, for customers and phones: made once a minute for each face, however many
/// ask.
///
/// # Errors
/// As [`signed_pass`].
pub async fn shared_pass(app: &App, issued: &Issued) -> Result<SignedPass, ActionError> {
    let issuer = apple_issuer(app, issued).await?;
    let kind = Kind::Pass(issuer.identity.fingerprint.clone(), app.now().seconds().div_euclid(60));
    let make = async { Ok(Made::Pass(signed_pass(app, issued, Reader::Customer).await?)) };
    match app.made(issued, kind, make).await? {
        Made::Pass(pass) => {
            app.metrics.passes_served.inc();
            Ok(pass)
        }
        _ => Err(ActionError::Fault("a pass is something else".to_owned())),
    }
}

/// Returns the issuer of a card's Apple pass.
async fn apple_issuer(app: &App, issued: &Issued) -> Result<Arc<AppleIssuer>, ActionError> {
    let pass = issued.pass(WalletKind::Apple).ok_or(ActionError::IssuerMissing)?;
    app.find_apple_issuer_of(&issued.card.workspace, &pass.issuer).await?.ok_or(ActionError::IssuerMissing)
}

/// Renders and signs a card's newest face.
///
/// # Errors
/// When the issuer that the card was issued under is gone, or signing fails.
pub async fn signed_pass(app: &App, issued: &Issued, reader: Reader) -> Result<SignedPass, ActionError> {
    let card = &issued.card;
    let issuer = apple_issuer(app, issued).await?;
    let maker = Arc::new(Maker {
        issued: issued.clone(),
        auth_token: app.secret(&card.workspace).await?.auth_token(&card.serial),
        page: app.page_url(&card.workspace, &card.serial, card.page_generation).await?,
        web_service_url: format!("{}/apple", app.public_url),
        issuer,
        now: app.now(),
    });
    // An erased card breaks no rule; a card that wasn't changed since the publishing may.
    if card.id.is_erased() || issued.changed_since_publishing() {
        let newest = app.published(&card.workspace, &card.content.template, issued.publication.version).await?;
        if let Some(pass) = maker.make(app, reader, newest).await? {
            return Ok(pass);
        }
    }
    let (shown, _) = app.shown(reader, issued, &maker.page).await?;
    let lost = || ActionError::Fault("a card can't be drawn by the version that shows it".to_owned());
    maker.make(app, reader, shown).await?.ok_or_else(lost)
}

/// The inputs for making a card's pass off the threads that serve.
struct Maker {
    issued: Issued,
    issuer: Arc<AppleIssuer>,
    auth_token: AuthToken,
    page: String,
    web_service_url: String,
    now: Timestamp,
}

impl Maker {
    /// Returns the pass; `None` when that version can't show the card.
    async fn make(
        self: &Arc<Self>,
        app: &App,
        reader: Reader,
        published: Arc<Published>,
    ) -> Result<Option<SignedPass>, ActionError> {
        let maker = Arc::clone(self);
        let work = move || {
            let prepared = published.prepared_as::<PreparedPasses>()?;
            maker.draw_and_sign(&published, prepared).map_err(ActionError::from)
        };
        let made = app.render(reader, work).await??;
        if made.is_some() {
            app.metrics.signatures.inc();
        }
        Ok(made)
    }

    fn draw_and_sign(
        &self,
        published: &Published,
        prepared: &PreparedPasses,
    ) -> Result<Option<SignedPass>, BuildError> {
        let card = &self.issued.card;
        let rendered = match card.id.is_erased() {
            true => render_erased(&published.template, card),
            false => match render(&published.template, card, &self.page) {
                Ok(rendered) => rendered,
                Err(_) => return Ok(None),
            },
        };
        let identity = PassIdentity {
            serial: &card.serial,
            pass_type: &self.issuer.identity.pass_type,
            team: &self.issuer.identity.team,
            auth_token: &self.auth_token,
            web_service_url: &self.web_service_url,
        };
        pass::build(&rendered, &identity, prepared, &self.issuer.identity.signer, self.now).map(Some)
    }
}
