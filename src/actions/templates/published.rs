//! A published version, loaded: parsed, its pictures hashed and laid out. Done once per version and node.

use std::sync::Arc;

use crate::actions::error::ActionError;
use crate::actions::passes::renders::{Reader, own_error};
use crate::actions::templates::check_template::{Sample, problems_of_values};
use crate::app::App;
use crate::domain::cards::Card;
use crate::domain::ids::{TemplateId, WorkspaceId};
use crate::domain::input::Problems;
use crate::domain::render::render;
use crate::domain::templates::Template;
use crate::domain::time::Timestamp;
use crate::store::cards::Issued;
use crate::store::templates;
use crate::wallets::apple::package::pass_json::pass_json;
use crate::wallets::apple::package::prepare::{PassFile, PreparedPasses};

/// A published version, ready to render and to build passes from.
#[derive(Debug)]
pub struct Published {
    /// The version's number.
    pub version: i64,
    /// The design.
    pub template: Template,
    /// What all its Apple passes share, pictures included.
    pub passes: PreparedPasses,
}

impl Published {
    /// Tests whether the version can show the card: every text has a value, and no value breaks a rule.
    ///
    /// # Errors
    /// Problems at the attributes.
    pub fn fits(&self, card: &Card, page_url: &str, now: Timestamp) -> Result<(), Problems> {
        let rendered = render(&self.template, card, page_url)?;
        // The pass's identity makes no difference to its values.
        let sample = Sample { template: &self.template, identity: None, public_url: "https://localhost", now };
        let pass = sample.with_identity(card, |identity| pass_json(&rendered, identity)).json;
        let problems = problems_of_values(&rendered, &pass, &|name| self.passes.has_picture(name), now);
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
        let prepare = move || {
            let some = |text: String| Some(text).filter(|t| !t.is_empty());
            let files: Vec<PassFile> = files
                .into_iter()
                .map(|row| PassFile {
                    tier: some(row.tier),
                    variant: some(row.variant),
                    path: row.path,
                    bytes: row.content.into(),
                })
                .collect();
            let passes = PreparedPasses::new(&template, files).map_err(|e| ActionError::Fault(e.to_string()))?;
            Ok::<_, ActionError>(Published { version, template, passes })
        };
        let published = tokio::task::spawn_blocking(prepare)
            .await
            .map_err(|_| ActionError::Fault("preparing a version panicked".to_owned()))??;
        self.metrics.files_hashed.inc_by(published.passes.files_hashed());
        Ok(Arc::new(published))
    }
}
