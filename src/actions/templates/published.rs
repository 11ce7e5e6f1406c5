//! A published version, loaded: parsed, its pictures hashed and laid out. Done once per version and node.

use std::sync::Arc;

use crate::actions::error::ActionError;
use crate::actions::passes::renders::{Reader, own_error};
use crate::app::App;
use crate::domain::cards::Card;
use crate::domain::ids::{TemplateId, WorkspaceId};
use crate::domain::input::Problems;
use crate::domain::render::render;
use crate::domain::templates::Template;
use crate::domain::time::Timestamp;
use crate::domain::wallet::WalletKind;
use crate::store::cards::Issued;
use crate::store::templates;
use crate::wallets::Prepared;
use crate::wallets::images::VersionFile;

/// A published version, ready to be shown by any wallet.
#[derive(Debug)]
pub struct Published {
    /// The version's number.
    pub version: i64,
    /// The design.
    pub template: Template,
    /// What all its passes share, pictures included, for each wallet.
    prepared: Vec<(WalletKind, Arc<dyn Prepared>)>,
}

impl Published {
    /// Returns what was prepared for a wallet; `None` when the version isn't offered in it.
    pub fn prepared(&self, wallet: WalletKind) -> Option<&dyn Prepared> {
        self.prepared.iter().find(|(kind, _)| *kind == wallet).map(|(_, prepared)| &**prepared)
    }

    /// Returns what was prepared by the wallet whose type that is.
    ///
    /// # Errors
    /// When the version isn't offered in that wallet.
    pub fn prepared_as<P: Prepared>(&self) -> Result<&P, ActionError> {
        let found = self.prepared.iter().find_map(|(_, prepared)| prepared.as_any().downcast_ref());
        found.ok_or_else(|| ActionError::Fault("a version isn't prepared for that wallet".to_owned()))
    }

    /// Returns about how many bytes it takes in memory.
    pub fn memory(&self) -> usize {
        self.template.memory() + self.prepared.iter().map(|(_, prepared)| prepared.memory()).sum::<usize>()
    }

    /// Tests whether the version can show the card: every text has a value, and no value breaks a rule of any wallet.
    ///
    /// # Errors
    /// Problems at the attributes.
    pub fn fits(&self, card: &Card, page_url: &str, now: Timestamp) -> Result<(), Problems> {
        let rendered = render(&self.template, card, page_url)?;
        let mut problems = Problems::new();
        for (_, prepared) in &self.prepared {
            // The pass's identity makes no difference to its values.
            let document = prepared.document(&rendered, None);
            problems.extend(prepared.problems_of_values(&rendered, &document, now));
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }
}

impl Published {
    /// Whether the version, as the newest, shows a card. If the card changed since, the change was checked against the
    /// version that was the newest then.
    pub fn shows(&self, issued: &Issued, page_url: &str, now: Timestamp) -> bool {
        match issued.changed_since_publishing() {
            true => render(&self.template, &issued.card, page_url).is_ok(),
            false => self.fits(&issued.card, page_url, now).is_ok(),
        }
    }
}

impl App {
    /// Returns the version, from memory or loaded now. Versions never change, so they are never loaded twice.
    ///
    /// # Errors
    /// When there is no such version or the database fails.
    pub async fn published(
        &self,
        workspace: &WorkspaceId,
        template: &TemplateId,
        version: i64,
    ) -> Result<Arc<Published>, ActionError> {
        let key = (workspace.clone(), template.clone(), version);
        let loaded = self.published.try_get_with(key, self.load_published(workspace, template, version)).await;
        loaded.map_err(own_error)
    }

    /// Returns the newest version that can show the card. That is the newest of all, unless the card's values lack
    /// something that a later version needs or break one of its rules: such a card keeps its version.
    ///
    /// # Errors
    /// When no version can show it, or the database fails.
    pub async fn shown(
        &self,
        reader: Reader,
        issued: &Issued,
        page_url: &str,
    ) -> Result<(Arc<Published>, i64), ActionError> {
        let card = &issued.card;
        let (workspace, template, newest) = (&card.workspace, &card.content.template, issued.publication.version);
        let now = self.now();
        let published = self.published(workspace, template, newest).await?;
        let owned = || (issued.clone(), page_url.to_owned());
        let (design, (drawn, url)) = (Arc::clone(&published), owned());
        if self.render(reader, move || design.shows(&drawn, &url, now)).await? {
            return Ok((published, newest));
        }
        let mut second_best = None;
        for version in self.versions(workspace, template, newest).await? {
            let published = self.published(workspace, template, version).await?;
            let (design, (drawn, url)) = (Arc::clone(&published), owned());
            let suits = move || {
                let fits = design.fits(&drawn.card, &url, now).is_ok();
                (fits, fits || render(&design.template, &drawn.card, &url).is_ok())
            };
            let (fits, can_be_drawn) = self.render(reader, suits).await?;
            if fits {
                return Ok((published, version));
            }
            // A pass that breaks a rule is better than none.
            if second_best.is_none() && can_be_drawn {
                second_best = Some((published, version));
            }
        }
        if let Some(second_best) = second_best {
            return Ok(second_best);
        }
        Err(ActionError::Fault("no published version can show a stored card".to_owned()))
    }

    /// Returns the numbers of a template's versions from `newest` down, `newest` included.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn versions(
        &self,
        workspace: &WorkspaceId,
        template: &TemplateId,
        newest: i64,
    ) -> Result<impl Iterator<Item = i64> + use<>, ActionError> {
        // Numbers have no gaps. Those of a template that was deleted and created again don't begin at 1.
        let mut reader = self.store.read().await?;
        let first = templates::last_deleted_version(&mut reader, workspace, template).await? + 1;
        Ok((first..=newest).rev())
    }

    async fn load_published(
        &self,
        workspace: &WorkspaceId,
        id: &TemplateId,
        version: i64,
    ) -> Result<Arc<Published>, ActionError> {
        let _turn = self.preparing.acquire().await.map_err(|_| ActionError::ShuttingDown)?;
        let mut reader = self.store.read().await?;
        let document = templates::document(&mut reader, workspace, id, version).await?;
        let document = document.ok_or(ActionError::NotFound("template version"))?;
        let files = templates::files(&mut reader, workspace, id, version).await?;
        drop(reader);
        let zone = self.zone_of(workspace).await?;
        let template = Template::published(&document)
            .map(|template| template.in_zone_of_workspace(zone))
            .map_err(|problems| ActionError::Fault(format!("a published template can't be read: {problems:?}")))?;
        let wallets = self.wallets.clone();
        let prepare = move || {
            let some = |text: String| Some(text).filter(|t| !t.is_empty());
            let files: Vec<VersionFile> = files
                .into_iter()
                .map(|row| VersionFile {
                    tier: some(row.tier),
                    variant: some(row.variant),
                    path: row.path,
                    bytes: row.content.into(),
                })
                .collect();
            let mut prepared = Vec::with_capacity(wallets.all().len());
            for wallet in wallets.all() {
                match wallet.prepare(&template, &files) {
                    Ok(version) => prepared.push((wallet.kind(), version)),
                    Err(error) => {
                        tracing::error!(wallet = wallet.kind().as_str(), %error, "a version isn't offered in a wallet");
                    }
                }
            }
            Ok::<_, ActionError>(Published { version, template, prepared })
        };
        let published = tokio::task::spawn_blocking(prepare)
            .await
            .map_err(|_| ActionError::Fault("preparing a version panicked".to_owned()))??;
        let hashed = published.prepared.iter().map(|(_, prepared)| prepared.files_hashed());
        self.metrics.files_hashed.inc_by(hashed.sum());
        Ok(Arc::new(published))
    }
}
