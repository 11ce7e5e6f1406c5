//! Finds what a publishing leaves unchanged: a card whose pass is the same under a new version has no new face, so no
//! phone is notified. The passes themselves are compared, with every file but the signature.
//!
//! Results are stored (`unchanged_faces`), so that SQL that reads faces uses them, too. Until a card is compared, it
//! counts as changed by the publishing: a phone that polls then fetches once in vain, and no phone misses a change.
//!
//! The comparison renders a card as it is now under the versions since its face. So a card whose content is written
//! before it was compared gets the publishing's position ([`pin`]): under older versions it might show something that
//! no phone ever got.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::actions::error::ActionError;
use crate::actions::passes::renders::Reader;
use crate::actions::templates::published::Published;
use crate::app::App;
use crate::domain::cards::{Card, Publication, State};
use crate::domain::ids::{IssuerId, TemplateId, WorkspaceId};
use crate::domain::render::render;
use crate::domain::time::Timestamp;
use crate::platform::secrets::WorkspaceSecret;
use crate::store::cards::{Issued, Unchanged};
use crate::store::fan_outs::{self, FanOutKey};
use crate::store::passes::PassRecord;
use crate::store::templates::{self, Placed};
use crate::wallets::{CardIdentity, Issuer};

/// How many versions back passes are compared. A card not compared for more versions counts as changed by the oldest of
/// them.
const VERSIONS: i64 = 4;

/// The data with which passes of a template's cards are rendered under its newest versions, all in memory.
#[derive(Debug)]
pub struct Comparison {
    /// The versions, newest first, without gaps.
    versions: Vec<(Arc<Published>, Placed)>,
    issuers: HashMap<IssuerId, Arc<dyn Issuer>>,
    secret: WorkspaceSecret,
    public_url: String,
    now: Timestamp,
}

/// The effect of a publishing on a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// The card shows the same as before: this face was the last to change it.
    Same(Unchanged),
    /// The card shows something new since this face, which may be from an earlier publishing.
    New(Unchanged),
}

impl App {
    /// Loads what is needed to compare passes of a template's cards under the newest version and earlier ones.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn comparison(
        &self,
        workspace: &WorkspaceId,
        template: &TemplateId,
        newest: i64,
        issuer_ids: BTreeSet<IssuerId>,
    ) -> Result<Comparison, ActionError> {
        let mut issuers = HashMap::new();
        for id in issuer_ids {
            if let Some(issuer) = self.find_issuer(workspace, &id).await? {
                issuers.insert(id, issuer);
            }
        }
        let placed = templates::placed(&mut self.store.read().await?, workspace, template, newest, VERSIONS).await?;
        let mut versions = Vec::with_capacity(placed.len());
        for placed in placed {
            versions.push((self.published(workspace, template, placed.version).await?, placed));
        }
        let (secret, public_url) = (self.secret(workspace).await?, self.public_url.clone());
        Ok(Comparison { versions, issuers, secret, public_url, now: self.now() })
    }

    /// Determines whether the last publishing changed what a card shows, if that isn't known. Once the refresh after
    /// the publishing has finished, a card without a stored result has changed, or is on no phone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn look_at(&self, issued: &mut Issued) -> Result<(), ActionError> {
        if issued.is_looked_at() {
            return Ok(());
        }
        let card = &issued.card;
        let template = &card.content.template;
        let fan_out = FanOutKey::publishing(&card.workspace, template);
        if !fan_outs::is_under_way(&mut self.store.read().await?, &fan_out).await? {
            return Ok(());
        }
        let issuers = issued.passes.iter().map(|pass| pass.issuer.clone()).collect();
        let comparison = self.comparison(&card.workspace, template, issued.publication.version, issuers).await?;
        let looked_at = issued.clone();
        let (Since::Same(face) | Since::New(face)) =
            self.render(Reader::Comparison, move || comparison.since(&looked_at)).await?;
        issued.unchanged = Some(face);
        Ok(())
    }
}

impl Comparison {
    /// Returns the face since which the card shows what it shows now.
    pub fn since(&self, issued: &Issued) -> Since {
        let (card, newest) = (&issued.card, &issued.publication);
        let through = newest.position;
        let own = Unchanged { face: card.position, modified: card.modified, through: card.position };
        // The result of comparing an earlier publishing, unless the card changed since.
        let known = issued.unchanged.filter(|unchanged| unchanged.face >= card.position).unwrap_or(own);
        let mut since = Unchanged { face: newest.position, modified: newest.modified, through };
        // Versions published after these cards were read are skipped.
        let mut at =
            self.versions.iter().position(|(_, placed)| placed.version == newest.version).unwrap_or(usize::MAX);
        let Some(mut pass) = self.versions.get(at).and_then(|_| self.contents(issued, card, at)) else {
            return Since::New(since);
        };
        while let Some((_, Placed { place: Some((position, modified)), .. })) = self.versions.get(at) {
            // A card that got the publishing's position shows what the publishing changed, and its own change notified
            // nobody of it.
            if *position == card.position && known.face == card.position {
                return Since::New(Unchanged { through, ..known });
            }
            if *position <= known.through {
                return Since::Same(Unchanged { through, ..known });
            }
            since = Unchanged { face: *position, modified: *modified, through };
            at += 1;
            match self.versions.get(at).and_then(|_| self.contents(issued, card, at)) {
                Some(before) if before == pass => pass = before,
                _ => break,
            }
        }
        Since::New(since)
    }

    /// Whether a card written as `after` shows the same as before.
    pub fn is_same(&self, before: &Issued, after: &Card) -> bool {
        let (before, after) = (self.contents(before, &before.card, 0), self.contents(before, after, 0));
        before.is_some() && before == after
    }

    /// Returns the digests of all files of each pass that the card has, as they were while that version was the newest.
    /// `None` when no loaded version can show it, or an issuer is missing.
    fn contents(&self, issued: &Issued, card: &Card, version: usize) -> Option<Vec<Vec<u8>>> {
        let versions = self.versions.get(version..)?;
        let token = self.secret.page_token(&card.serial, card.page_generation);
        let page = format!("{}/c/{}", self.public_url, token.as_str());
        let (newest, placed) = versions.first()?;
        let was_checked =
            card.content.state == State::Active && placed.place.is_some_and(|(position, _)| card.position > position);
        let first = was_checked.then(|| self.write(&issued.passes, card, newest, &page)).flatten();
        first.or_else(|| {
            let (shown, _) = versions.iter().find(|(published, _)| published.fits(card, &page, self.now).is_ok())?;
            self.write(&issued.passes, card, shown, &page)
        })
    }

    fn write(&self, passes: &[PassRecord], card: &Card, published: &Published, page: &str) -> Option<Vec<Vec<u8>>> {
        let rendered = render(&published.template, card, page).ok()?;
        let auth_token = self.secret.auth_token(&card.serial);
        let contents = |record: &PassRecord| {
            let issuer = &**self.issuers.get(&record.issuer)?;
            let (serial, auth_token, public_url) = (&card.serial, &auth_token, self.public_url.as_str());
            let identity = CardIdentity { serial, issuer, auth_token, public_url };
            published.prepared(record.wallet)?.digest(&rendered, &identity)
        };
        passes.iter().map(contents).collect()
    }
}

/// Gives a card whose content is written without a new face the position of its template's publication, unless the
/// publication's effect on it is known.
pub fn pin(card: &mut Card, publication: &Publication, is_looked_at: bool) {
    if !is_looked_at {
        card.position = card.position.max(publication.position);
        card.modified = card.modified.max(publication.modified);
    }
}
