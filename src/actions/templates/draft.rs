//! A template's draft as read from the database: the input of checks, previews and publishing.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::actions::error::ActionError;
use crate::actions::templates::check_design::{PutDesign, PutPicture};
use crate::app::App;
use crate::domain::checks::Issue;
use crate::domain::ids::{TemplateId, WorkspaceId};
use crate::domain::templates::Template;
use crate::domain::templates::picture::PictureName;
use crate::domain::values::zone::Zone;
use crate::store::templates::{self, ImageRow, TemplateRow};
use crate::store::{Session, StoreError};
use crate::wallets::apple::package::prepare::{Picture, picture_files, scales};
use crate::wallets::images::{Fit, VersionFile, fit, upright_size};

/// A draft. Its pictures are given by their digests, so that two reads of it are compared cheaply.
#[derive(Debug, PartialEq, Eq)]
pub struct Draft {
    /// The document as stored.
    pub document: Arc<Value>,
    /// Its pictures.
    pub pictures: Vec<ImageRow>,
}

/// The most bytes of a version's pictures at every scale: nodes hold them in memory.
const MAX_FILES: usize = 64 * 1024 * 1024;

/// A picture's upload (by its digest) and how it is scaled.
pub type ScaledKey = (Vec<u8>, String, Fit);
/// A picture at every scale: file names without folder, and PNGs.
pub type Scaled = Arc<Vec<(String, Bytes)>>;

impl Draft {
    /// Returns the draft of a template's row.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn of(
        session: &mut impl Session,
        workspace: &WorkspaceId,
        id: &TemplateId,
        row: TemplateRow,
    ) -> Result<Self, ActionError> {
        Ok(Self { document: Arc::new(row.draft.0), pictures: templates::images(session, workspace, id).await? })
    }

    /// Reads the draft of a template.
    ///
    /// # Errors
    /// When there is no such template.
    pub async fn read(app: &App, workspace: &WorkspaceId, id: &TemplateId) -> Result<Self, ActionError> {
        let mut reader = app.store.read().await?;
        let row = templates::find(&mut reader, workspace, id).await?.ok_or(ActionError::NotFound("template"))?;
        Self::of(&mut reader, workspace, id, row).await
    }

    /// Returns the parsed document. It is parsed off the async threads: a large one has many expressions to compile.
    ///
    /// # Errors
    /// Every problem of the document.
    pub async fn template(&self, app: &App, workspace: &WorkspaceId) -> Result<Arc<Template>, ActionError> {
        parse(app, Arc::clone(&self.document), app.zone_of(workspace).await?).await
    }

    /// Returns the stored draft. The pictures' sizes are known once [`Self::files`] was called.
    pub async fn design(&self, app: &App) -> PutDesign {
        let mut pictures = Vec::new();
        for row in &self.pictures {
            let Ok(name) = PictureName::parse(&row.role) else { continue };
            let size = app.picture_sizes.get(&row.digest).await;
            pictures.push(PutPicture { name, locale: row.locale.clone(), tier: row.tier.clone(), size });
        }
        PutDesign { document: self.document.clone(), pictures }
    }

    /// Returns the picture files of a version made from this draft. Each scale of a picture is cached for a while,
    /// since a draft is checked and previewed many times before it is published.
    ///
    /// # Errors
    /// When the database fails, or a picture of the draft was deleted meanwhile.
    pub async fn files(
        &self,
        app: &App,
        workspace: &WorkspaceId,
        template: &Template,
    ) -> Result<Vec<VersionFile>, ActionError> {
        let some = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
        let (mut pictures, mut bytes) = (Vec::new(), 0);
        for row in &self.pictures {
            let Ok(name) = PictureName::parse(&row.role) else { continue };
            let Some(fit) = fit(name.role, template.style) else { continue };
            let key = (row.digest.clone(), name.role.to_owned(), fit);
            let scaled = app.scaled.try_get_with(key, scale(app, workspace, row, name.role, fit)).await;
            let scaled = scaled.map_err(|e: Arc<ActionError>| match &*e {
                ActionError::DraftChanging => ActionError::DraftChanging,
                ActionError::Store(StoreError::Unavailable(_) | StoreError::Conflict(_)) => ActionError::Busy,
                ActionError::ShuttingDown => ActionError::ShuttingDown,
                other => ActionError::Fault(other.to_string()),
            })?;
            bytes += scaled.iter().map(|(_, png)| png.len()).sum::<usize>();
            if bytes > MAX_FILES {
                let detail =
                    "all pictures at every scale are more than 64 MiB; take away some, or such as are no photos";
                return Err(ActionError::Unpublishable(vec![Issue::error("images-too-large", "/images", detail)]));
            }
            pictures.push(Picture { name, locale: some(&row.locale), tier: some(&row.tier), scales: scaled });
        }
        Ok(picture_files(&pictures))
    }
}

/// Parses a template document off the async threads, at most one per core at a time. The zone is the workspace's.
///
/// # Errors
/// Every problem of the document at once.
pub async fn parse(app: &App, document: Arc<Value>, workspace_zone: Zone) -> Result<Arc<Template>, ActionError> {
    let parsed = app
        .parsing
        .run(move || Template::parse(&document).map(|template| template.in_zone_of_workspace(workspace_zone)));
    Ok(Arc::new(parsed.await??))
}

/// Returns every scale of one picture. It was decoded once before, when it was stored; one is decoded at a time.
async fn scale(
    app: &App,
    workspace: &WorkspaceId,
    row: &ImageRow,
    role: &'static str,
    fit: Fit,
) -> Result<Scaled, ActionError> {
    let upload = templates::blob(&mut app.store.read().await?, workspace, &row.digest).await?;
    let upload = upload.ok_or(ActionError::DraftChanging)?;
    if let Ok(size) = upright_size(&upload) {
        app.picture_sizes.insert(row.digest.clone(), size).await;
    }
    let scaled = app.decoding.run(move || scales(role, fit, &upload)).await?;
    Ok(Arc::new(scaled.map_err(|e| ActionError::Fault(e.to_string()))?))
}
