//! The pictures of a template's draft.

use bytes::Bytes;
use serde_json::{Value, json};

use crate::actions::audit::record;
use crate::actions::error::ActionError;
use crate::actions::retry::retry;
use crate::actions::templates::draft::Draft;
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::audit::AuditAction;
use crate::domain::ids::{TemplateId, WorkspaceId};
use crate::domain::input::Problems;
use crate::domain::templates::picture::PictureName;
use crate::domain::values::locale::Language;
use crate::platform::secrets::digest;
use crate::platform::workers::WorkError;
use crate::store::templates::{self, ImageKey, ImageRow};
use crate::wallets::images::{decode, media_type};

/// The most bytes of a picture, whether uploaded or imported.
pub const LARGEST_PICTURE: usize = 16 * 1024 * 1024;
/// The most pictures of a template.
pub(super) const MAX_PICTURES: usize = 300;
/// The most bytes of a template's pictures together.
pub(super) const MAX_BYTES: i64 = 64 * 1024 * 1024;

/// The picture that a request names; checked by [`ImagePlace::parse`].
#[derive(Debug, Clone)]
pub struct ImagePlace {
    role: String,
    locale: String,
    tier: String,
}

impl ImagePlace {
    /// Checks role, language and tier; problems point at the query's members.
    ///
    /// # Errors
    /// [`ActionError::NotFound`] for an unknown role, problems for the others.
    pub fn parse(role: &str, locale: Option<&str>, tier: Option<&str>) -> Result<Self, ActionError> {
        let role = PictureName::parse(role).map_err(|_| ActionError::NotFound("image role"))?.to_string();
        let mut problems = Problems::new();
        let locale = locale.map(|tag| match Language::parse(tag) {
            Ok(language) => language.to_string(),
            Err(detail) => {
                problems.add("/locale", detail);
                String::new()
            }
        });
        // An empty tier would mean all tiers, which a client that names a tier hardly wants.
        let nameless = tier.is_some_and(str::is_empty);
        let tier = tier.unwrap_or_default();
        if nameless || tier.chars().count() > 64 || tier.chars().any(char::is_control) {
            problems.add("/tier", "is not a tier: expected 1 to 64 printable characters");
        }
        problems.or(Some(Self { role, locale: locale.unwrap_or_default(), tier: tier.to_owned() })).map_err(Into::into)
    }

    /// Returns the picture's data for the audit list.
    fn told(&self) -> Value {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        json!({"role": self.role, "locale": some(&self.locale), "tier": some(&self.tier)})
    }

    pub(super) fn key(&self) -> ImageKey<'_> {
        ImageKey { role: &self.role, locale: &self.locale, tier: &self.tier }
    }
}

/// Stores a picture of the draft. It is decoded once, so that a damaged or oversized one is refused now.
///
/// # Errors
/// When the template is unknown or the picture is unusable.
pub async fn put_image(
    app: &App,
    workspace: &WorkspaceId,
    actor: &Actor,
    id: &TemplateId,
    place: &ImagePlace,
    bytes: Bytes,
) -> Result<(), ActionError> {
    if templates::find(&mut app.store.read().await?, workspace, id).await?.is_none() {
        return Err(ActionError::NotFound("template"));
    }
    let bytes = usable(app, bytes).await?.map_err(|why| Problems::one("", why))?;
    let digest = digest(&bytes);
    retry(app, async || store_image(app, workspace, actor, id, place, (&digest, &bytes)).await).await
}

async fn store_image(
    app: &App,
    workspace: &WorkspaceId,
    actor: &Actor,
    id: &TemplateId,
    place: &ImagePlace,
    (digest, bytes): (&[u8], &[u8]),
) -> Result<(), ActionError> {
    let mut tx = app.store.begin().await?;
    if templates::lock(&mut tx, workspace, id).await?.is_none() {
        return Err(ActionError::NotFound("template"));
    }
    let key = place.key();
    let others = templates::images(&mut tx, workspace, id)
        .await?
        .into_iter()
        .filter(|row| (row.role.as_str(), row.locale.as_str(), row.tier.as_str()) != (key.role, key.locale, key.tier));
    let (count, size) = others.fold((0, 0), |(count, size), row| (count + 1, size + row.bytes));
    if count >= MAX_PICTURES || size + i64::try_from(bytes.len()).unwrap_or(i64::MAX) > MAX_BYTES {
        let detail = format!("is too much: a template has at most {MAX_PICTURES} pictures of 64 MiB together");
        return Err(Problems::one("", detail).into());
    }
    templates::put_blob(&mut tx, workspace, digest, bytes).await?;
    templates::put_image(&mut tx, workspace, id, &place.key(), digest).await?;
    let done = (AuditAction::ImagePut, id.as_str(), place.told());
    record(app, &mut tx, workspace, actor, &[done]).await?;
    Ok(tx.commit().await?)
}

/// Decodes a picture to test whether it can be used: returns the picture, or why not.
///
/// # Errors
/// When the service is stopping.
pub(super) async fn usable(app: &App, bytes: Bytes) -> Result<Result<Bytes, String>, ActionError> {
    match app.decoding.run(move || decode(&bytes).map(|_| bytes)).await {
        Ok(decoded) => Ok(decoded.map_err(|error| error.to_string())),
        // The decoder is a library's and might panic; none was ever seen.
        Err(WorkError::Panicked(_)) => Ok(Err("can't be decoded".to_owned())),
        Err(WorkError::Stopping) => Err(ActionError::ShuttingDown),
    }
}

/// Returns a picture of the draft as it was uploaded.
///
/// # Errors
/// When there is none.
pub async fn get_image(
    app: &App,
    workspace: &WorkspaceId,
    id: &TemplateId,
    place: &ImagePlace,
) -> Result<Vec<u8>, ActionError> {
    let image = templates::image(&mut app.store.read().await?, workspace, id, 0, &place.key()).await?;
    image.ok_or(ActionError::NotFound("image"))
}

/// Returns the draft's pictures, without their contents.
///
/// # Errors
/// When there is no such template.
pub async fn list_images(app: &App, workspace: &WorkspaceId, id: &TemplateId) -> Result<Vec<Value>, ActionError> {
    let draft = Draft::read(app, workspace, id).await?;
    let some = |text: String| Some(text).filter(|t| !t.is_empty());
    let show = |row: ImageRow| {
        json!({
            "role": row.role,
            "locale": some(row.locale),
            "tier": some(row.tier),
            "content_type": media_type(&row.beginning),
            "bytes": row.bytes,
        })
    };
    Ok(draft.pictures.into_iter().map(show).collect())
}

/// Deletes a picture of the draft.
///
/// # Errors
/// When there is none.
pub async fn delete_image(
    app: &App,
    workspace: &WorkspaceId,
    actor: &Actor,
    id: &TemplateId,
    place: &ImagePlace,
) -> Result<(), ActionError> {
    retry(app, async || {
        let mut tx = app.store.begin().await?;
        // Locked, so that a publishing under way either keeps all of its pictures or starts again.
        templates::lock(&mut tx, workspace, id).await?;
        if !templates::delete_image(&mut tx, workspace, id, &place.key()).await? {
            return Err(ActionError::NotFound("image"));
        }
        let done = (AuditAction::ImageDeleted, id.as_str(), place.told());
        record(app, &mut tx, workspace, actor, &[done]).await?;
        Ok(tx.commit().await?)
    })
    .await
}
