//! Templates: drafts, published versions, pictures, and the prepared files of passes.

use serde_json::Value;

use super::fan_outs::{self, FanOutKey};
use super::types::{Json, one_row};
use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::cards::Publication;
use crate::domain::ids::{TemplateId, WorkspaceId};
use crate::domain::time::Timestamp;

statements! {
    PUT_DRAFT = "INSERT INTO templates (workspace_id, id, draft, position, modified, created_at, updated_at)
        VALUES ($1, $2, $3, 0, 0, $4, $4)
        ON CONFLICT (workspace_id, id) DO UPDATE SET draft = excluded.draft, updated_at = excluded.updated_at";
    INSERT_DRAFT = "INSERT INTO templates (workspace_id, id, draft, position, modified, created_at, updated_at)
        VALUES ($1, $2, $3, 0, 0, $4, $4) ON CONFLICT (workspace_id, id) DO NOTHING";
    // Selects only what a list shows of a draft, which may be large.
    LIST = {
        sqlite: "SELECT id, draft -> '$.name' AS name, draft -> '$.organization' AS organization, draft -> '$.kind' AS kind,
                draft -> '$.apple.style' AS style, version, created_at, updated_at
            FROM templates WHERE workspace_id = $1 AND id > $2 ORDER BY id LIMIT $3",
        postgres: "SELECT id, CAST(CAST(draft AS json) -> 'name' AS TEXT) AS name,
                CAST(CAST(draft AS json) -> 'organization' AS TEXT) AS organization,
                CAST(CAST(draft AS json) -> 'kind' AS TEXT) AS kind,
                CAST(CAST(draft AS json) #> '{apple,style}' AS TEXT) AS style, version, created_at, updated_at
            FROM templates WHERE workspace_id = $1 AND id > $2 ORDER BY id LIMIT $3",
    };
    FIND = "SELECT draft, version, position, modified FROM templates WHERE workspace_id = $1 AND id = $2";
    LOCK = "SELECT draft, version, position, modified FROM templates WHERE workspace_id = $1 AND id = $2" + " FOR NO KEY UPDATE";
    HOLD = { sqlite: "SELECT version FROM templates WHERE workspace_id = $1 AND id = $2",
        postgres: "SELECT version FROM templates WHERE workspace_id = $1 AND id = $2 FOR UPDATE" };
    // Deletes the remains of erased cards that no phone holds.
    FORGET_PASSES = "DELETE FROM passes WHERE workspace_id = $1 AND card_id IN (SELECT c.id FROM cards c
        WHERE c.workspace_id = $1 AND c.template_id = $2 AND c.erased_at IS NOT NULL AND NOT EXISTS (
            SELECT 1 FROM registrations r WHERE r.workspace_id = c.workspace_id AND r.card_id = c.id))";
    FORGET_ERASED = "DELETE FROM cards WHERE workspace_id = $1 AND template_id = $2 AND erased_at IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM registrations r WHERE r.workspace_id = cards.workspace_id AND r.card_id = cards.id)";
    HAS_CARDS = "SELECT EXISTS (SELECT 1 FROM cards WHERE workspace_id = $1 AND template_id = $2)";
    DELETE_FILES = "DELETE FROM template_files WHERE workspace_id = $1 AND template_id = $2";
    DELETE_IMAGES = "DELETE FROM template_images WHERE workspace_id = $1 AND template_id = $2";
    DELETE_VERSIONS = "DELETE FROM template_versions WHERE workspace_id = $1 AND template_id = $2";
    DELETE = "DELETE FROM templates WHERE workspace_id = $1 AND id = $2";
    REMEMBER = "INSERT INTO deleted_templates (workspace_id, id, version) VALUES ($1, $2, $3)
        ON CONFLICT (workspace_id, id) DO UPDATE SET version = excluded.version";
    REMEMBERED = "SELECT version FROM deleted_templates WHERE workspace_id = $1 AND id = $2";
    SWEEP = "DELETE FROM blobs WHERE workspace_id = $1
        AND NOT EXISTS (SELECT 1 FROM template_images i WHERE i.workspace_id = blobs.workspace_id AND i.digest = blobs.digest)
        AND NOT EXISTS (SELECT 1 FROM template_files f WHERE f.workspace_id = blobs.workspace_id AND f.digest = blobs.digest)";
    VERSIONS = "SELECT version, published_at FROM template_versions
        WHERE workspace_id = $1 AND template_id = $2 AND version < $3 ORDER BY version DESC LIMIT $4";
    DROP_DRAFT_IMAGES = "DELETE FROM template_images WHERE workspace_id = $1 AND template_id = $2 AND version = 0";
    RESTORE_IMAGES = "INSERT INTO template_images (workspace_id, template_id, version, role, locale, tier, digest)
        SELECT workspace_id, template_id, 0, role, locale, tier, digest FROM template_images
        WHERE workspace_id = $1 AND template_id = $2 AND version = $3";
    INSERT_VERSION = "INSERT INTO template_versions (workspace_id, template_id, version, document, published_at, position, modified)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    PLACED = "SELECT version, position, modified FROM template_versions
        WHERE workspace_id = $1 AND template_id = $2 AND version <= $3 ORDER BY version DESC LIMIT $4";
    PLACE_VERSIONS_ANEW = "UPDATE template_versions SET
            position = (SELECT t.position FROM templates t WHERE t.workspace_id = template_versions.workspace_id
                AND t.id = template_versions.template_id AND t.version = template_versions.version),
            modified = (SELECT t.modified FROM templates t WHERE t.workspace_id = template_versions.workspace_id
                AND t.id = template_versions.template_id AND t.version = template_versions.version)
        WHERE workspace_id = $1 AND template_id = $2";
    SET_PUBLISHED = "UPDATE templates SET version = $3, position = $4, modified = $5 WHERE workspace_id = $1 AND id = $2";
    PUBLISHED = "SELECT id FROM templates WHERE workspace_id = $1 AND version IS NOT NULL ORDER BY id";
    PLACE_ANEW = "UPDATE templates SET position = $3, modified = CASE WHEN modified < $4 THEN CAST($4 AS BIGINT) ELSE modified + 1 END
        WHERE workspace_id = $1 AND id = $2";
    DOCUMENT = "SELECT document FROM template_versions WHERE workspace_id = $1 AND template_id = $2 AND version = $3";
    PUT_BLOB = "INSERT INTO blobs (workspace_id, digest, content) VALUES ($1, $2, $3) ON CONFLICT (workspace_id, digest) DO NOTHING";
    PUT_IMAGE = "INSERT INTO template_images (workspace_id, template_id, version, role, locale, tier, digest)
        VALUES ($1, $2, 0, $3, $4, $5, $6)
        ON CONFLICT (workspace_id, template_id, version, role, locale, tier) DO UPDATE SET digest = excluded.digest";
    DELETE_IMAGE = "DELETE FROM template_images
        WHERE workspace_id = $1 AND template_id = $2 AND version = 0 AND role = $3 AND locale = $4 AND tier = $5";
    IMAGE = "SELECT b.content FROM template_images i JOIN blobs b ON b.workspace_id = i.workspace_id AND b.digest = i.digest
        WHERE i.workspace_id = $1 AND i.template_id = $2 AND i.version = $3 AND i.role = $4 AND i.locale = $5 AND i.tier = $6";
    IMAGES = "SELECT i.role, i.locale, i.tier, i.digest, length(b.content) AS bytes, substr(b.content, 1, 16) AS beginning
        FROM template_images i JOIN blobs b ON b.workspace_id = i.workspace_id AND b.digest = i.digest
        WHERE i.workspace_id = $1 AND i.template_id = $2 AND i.version = 0 ORDER BY i.role, i.locale, i.tier";
    BLOB = "SELECT content FROM blobs WHERE workspace_id = $1 AND digest = $2";
    KEEP_IMAGES = "INSERT INTO template_images (workspace_id, template_id, version, role, locale, tier, digest)
        SELECT workspace_id, template_id, $3, role, locale, tier, digest FROM template_images
        WHERE workspace_id = $1 AND template_id = $2 AND version = 0";
    PUT_FILE = "INSERT INTO template_files (workspace_id, template_id, version, tier, variant, path, digest)
        VALUES ($1, $2, $3, $4, $5, $6, $7)";
    FILES = "SELECT f.tier, f.variant, f.path, b.content FROM template_files f
        JOIN blobs b ON b.workspace_id = f.workspace_id AND b.digest = f.digest
        WHERE f.workspace_id = $1 AND f.template_id = $2 AND f.version = $3 ORDER BY f.path, f.tier, f.variant";
    VERSION_IMAGES = "SELECT role, locale, tier, digest FROM template_images
        WHERE workspace_id = $1 AND template_id = $2 AND version = $3 ORDER BY role, locale, tier";
    FILE_DIGESTS = "SELECT tier, variant, path, digest FROM template_files
        WHERE workspace_id = $1 AND template_id = $2 AND version = $3 ORDER BY tier, variant, path";
    PUBLICATION = "SELECT version, position, modified FROM templates WHERE workspace_id = $1 AND id = $2 AND version IS NOT NULL";
    PUBLICATIONS = {
        sqlite: "SELECT id, version, position, modified FROM templates
            WHERE workspace_id = $1 AND version IS NOT NULL AND id IN (SELECT value FROM json_each($2))",
        postgres: "SELECT id, version, position, modified FROM templates
            WHERE workspace_id = $1 AND version IS NOT NULL AND id IN (SELECT json_array_elements_text(CAST($2 AS json)))",
    };
}

/// A template's row.
#[derive(Debug, sqlx::FromRow)]
pub struct TemplateRow {
    /// The draft document, as it was put.
    pub draft: Json<Value>,
    /// The newest published version's number.
    pub version: Option<i64>,
    /// The position of its last publishing; see [`Publication`].
    pub position: i64,
    /// The `Last-Modified` of its last publishing; see [`Publication`].
    pub modified: i64,
}

impl TemplateRow {
    /// Returns the newest publication; `None` when it was never published.
    pub fn publication(&self) -> Option<Publication> {
        self.version.map(|version| Publication { version, position: self.position, modified: self.modified })
    }
}

/// The key of a template's picture. An empty text means all languages, or all tiers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct ImageKey<'a> {
    pub role: &'a str,
    pub locale: &'a str,
    pub tier: &'a str,
}

/// Replaces the draft; creates the template when it is absent.
///
/// # Errors
/// When the database fails.
pub async fn put_draft(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    id: &TemplateId,
    draft: &Value,
    now: Timestamp,
) -> Result<(), StoreError> {
    on_db!(tx, PUT_DRAFT, |sql, c| {
        sqlx::query(sql).bind(workspace).bind(id).bind(Json(draft)).bind(now).execute(c).await?;
        Ok(())
    })
}

/// Creates a template with that draft; false when one of that id exists.
///
/// # Errors
/// When the database fails.
pub async fn insert_draft(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    id: &TemplateId,
    draft: &Value,
    now: Timestamp,
) -> Result<bool, StoreError> {
    on_db!(tx, INSERT_DRAFT, |sql, c| {
        let done = sqlx::query(sql).bind(workspace).bind(id).bind(Json(draft)).bind(now).execute(c).await?;
        Ok(done.rows_affected() == 1)
    })
}

/// A template in a list.
#[derive(Debug, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct Listed {
    pub id: TemplateId,
    pub name: Option<Json<Value>>,
    pub organization: Option<Json<Value>>,
    pub kind: Option<Json<Value>>,
    pub style: Option<Json<Value>>,
    pub version: Option<i64>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Returns the templates after `after`, ordered by id.
///
/// # Errors
/// When the database fails.
pub async fn list(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    after: &str,
    limit: i64,
) -> Result<Vec<Listed>, StoreError> {
    on_db!(session, LIST, |sql, c| Ok(sqlx::query_as(sql).bind(workspace).bind(after).bind(limit).fetch_all(c).await?))
}

/// Deletes a template, except for the number of its last version, and all content that nothing refers to any more.
/// Returns `None` when there is no such template, and `Some(false)` when it has cards, which prevent that; so do erased
/// cards while a phone is registered for their pass.
///
/// # Errors
/// When the database fails.
pub async fn delete(tx: &mut Tx, workspace: &WorkspaceId, id: &TemplateId) -> Result<Option<bool>, StoreError> {
    // Locked for deletion, so that a card being issued is either seen now or finds no template.
    let version: Option<Option<i64>> =
        on_db!(tx, HOLD, |sql, c| sqlx::query_scalar(sql).bind(workspace).bind(id).fetch_optional(c).await?);
    let Some(version) = version else { return Ok(None) };
    for statement in [FORGET_PASSES, FORGET_ERASED] {
        on_db!(tx, statement, |sql, c| {
            sqlx::query(sql).bind(workspace).bind(id).execute(c).await?;
        });
    }
    let has_cards: bool =
        on_db!(tx, HAS_CARDS, |sql, c| sqlx::query_scalar(sql).bind(workspace).bind(id).fetch_one(c).await?);
    if has_cards {
        return Ok(Some(false));
    }
    fan_outs::finish(tx, &FanOutKey::publishing(workspace, id)).await?;
    for statement in [DELETE_FILES, DELETE_IMAGES, DELETE_VERSIONS, DELETE] {
        on_db!(tx, statement, |sql, c| {
            sqlx::query(sql).bind(workspace).bind(id).execute(c).await?;
        });
    }
    if let Some(version) = version {
        on_db!(tx, REMEMBER, |sql, c| {
            sqlx::query(sql).bind(workspace).bind(id).bind(version).execute(c).await?;
        });
    }
    sweep(tx, workspace).await?;
    Ok(Some(true))
}

/// Deletes content that neither a draft nor a version refers to.
///
/// # Errors
/// When the database fails.
pub async fn sweep(tx: &mut Tx, workspace: &WorkspaceId) -> Result<(), StoreError> {
    on_db!(tx, SWEEP, |sql, c| {
        sqlx::query(sql).bind(workspace).execute(c).await?;
        Ok(())
    })
}

/// Returns the number of the last version of a deleted template with that id; 0 when there was none.
///
/// # Errors
/// When the database fails.
pub async fn last_deleted_version(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    id: &TemplateId,
) -> Result<i64, StoreError> {
    let version: Option<i64> = on_db!(session, REMEMBERED, |sql, c| {
        sqlx::query_scalar(sql).bind(workspace).bind(id).fetch_optional(c).await?
    });
    Ok(version.unwrap_or(0))
}

/// Returns numbers and times of the versions before `before`, the newest first.
///
/// # Errors
/// When the database fails.
pub async fn versions(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    id: &TemplateId,
    before: i64,
    limit: i64,
) -> Result<Vec<(i64, Timestamp)>, StoreError> {
    on_db!(session, VERSIONS, |sql, c| {
        Ok(sqlx::query_as(sql).bind(workspace).bind(id).bind(before).bind(limit).fetch_all(c).await?)
    })
}

/// Replaces the draft's pictures with those of a version.
///
/// # Errors
/// When the database fails.
pub async fn restore_images(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    id: &TemplateId,
    version: i64,
) -> Result<(), StoreError> {
    on_db!(tx, DROP_DRAFT_IMAGES, |sql, c| {
        sqlx::query(sql).bind(workspace).bind(id).execute(c).await?;
    });
    on_db!(tx, RESTORE_IMAGES, |sql, c| {
        sqlx::query(sql).bind(workspace).bind(id).bind(version).execute(c).await?;
        Ok(())
    })
}

/// Returns the template.
///
/// # Errors
/// When the database fails.
pub async fn find(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    id: &TemplateId,
) -> Result<Option<TemplateRow>, StoreError> {
    on_db!(session, FIND, |sql, c| Ok(sqlx::query_as(sql).bind(workspace).bind(id).fetch_optional(c).await?))
}

/// Returns the template, locked until the transaction ends.
///
/// # Errors
/// When the database fails.
pub async fn lock(tx: &mut Tx, workspace: &WorkspaceId, id: &TemplateId) -> Result<Option<TemplateRow>, StoreError> {
    on_db!(tx, LOCK, |sql, c| Ok(sqlx::query_as(sql).bind(workspace).bind(id).fetch_optional(c).await?))
}

/// Returns the newest publication of a template. Call it after the workspace's position was taken, so that no other
/// publishing can come between.
///
/// # Errors
/// When the database fails.
pub async fn publication(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    id: &TemplateId,
) -> Result<Option<Publication>, StoreError> {
    let row: Option<(i64, i64, i64)> = on_db!(session, PUBLICATION, |sql, c| {
        sqlx::query_as(sql).bind(workspace).bind(id).fetch_optional(c).await?
    });
    Ok(row.map(|(version, position, modified)| Publication { version, position, modified }))
}

/// Returns the newest publications of many templates; those that were never published are left out.
///
/// # Errors
/// When the database fails.
pub async fn publications(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    ids: &[&TemplateId],
) -> Result<Vec<(TemplateId, Publication)>, StoreError> {
    let rows: Vec<(TemplateId, i64, i64, i64)> = on_db!(session, PUBLICATIONS, |sql, c| {
        sqlx::query_as(sql).bind(workspace).bind(Json(ids)).fetch_all(c).await?
    });
    let publication = |(id, version, position, modified)| (id, Publication { version, position, modified });
    Ok(rows.into_iter().map(publication).collect())
}

/// Adds a version with the draft's pictures, and makes it the newest.
///
/// # Errors
/// When the database fails.
pub async fn publish(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    id: &TemplateId,
    document: &Value,
    publication: &Publication,
    now: Timestamp,
) -> Result<(), StoreError> {
    on_db!(tx, SET_PUBLISHED, |sql, c| {
        let query = sqlx::query(sql).bind(workspace).bind(id).bind(publication.version);
        let done = query.bind(publication.position).bind(publication.modified).execute(c).await?;
        one_row(done.rows_affected(), "templates")?;
    });
    on_db!(tx, INSERT_VERSION, |sql, c| {
        let query = sqlx::query(sql).bind(workspace).bind(id).bind(publication.version);
        let query = query.bind(Json(document)).bind(now).bind(publication.position).bind(publication.modified);
        query.execute(c).await?;
    });
    on_db!(tx, KEEP_IMAGES, |sql, c| {
        sqlx::query(sql).bind(workspace).bind(id).bind(publication.version).execute(c).await?;
    });
    Ok(())
}

/// Returns the document of a published version.
///
/// # Errors
/// When the database fails.
pub async fn document(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    id: &TemplateId,
    version: i64,
) -> Result<Option<Value>, StoreError> {
    on_db!(session, DOCUMENT, |sql, c| {
        let document: Option<Json<Value>> =
            sqlx::query_scalar(sql).bind(workspace).bind(id).bind(version).fetch_optional(c).await?;
        Ok(document.map(|Json(value)| value))
    })
}

/// Stores content under its digest (SHA-256).
///
/// # Errors
/// When the database fails.
pub async fn put_blob(tx: &mut Tx, workspace: &WorkspaceId, digest: &[u8], content: &[u8]) -> Result<(), StoreError> {
    on_db!(tx, PUT_BLOB, |sql, c| {
        sqlx::query(sql).bind(workspace).bind(digest).bind(content).execute(c).await?;
        Ok(())
    })
}

/// Sets a picture of the draft; its content must have been stored before.
///
/// # Errors
/// When the database fails.
pub async fn put_image(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    id: &TemplateId,
    key: &ImageKey<'_>,
    digest: &[u8],
) -> Result<(), StoreError> {
    on_db!(tx, PUT_IMAGE, |sql, c| {
        let query = sqlx::query(sql).bind(workspace).bind(id).bind(key.role).bind(key.locale).bind(key.tier);
        query.bind(digest).execute(c).await?;
        Ok(())
    })
}

/// Removes a picture from the draft; false when it had none.
///
/// # Errors
/// When the database fails.
pub async fn delete_image(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    id: &TemplateId,
    key: &ImageKey<'_>,
) -> Result<bool, StoreError> {
    on_db!(tx, DELETE_IMAGE, |sql, c| {
        let query = sqlx::query(sql).bind(workspace).bind(id).bind(key.role).bind(key.locale).bind(key.tier);
        Ok(query.execute(c).await?.rows_affected() > 0)
    })
}

/// Returns a picture as it was uploaded; version 0 is the draft.
///
/// # Errors
/// When the database fails.
pub async fn image(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    id: &TemplateId,
    version: i64,
    key: &ImageKey<'_>,
) -> Result<Option<Vec<u8>>, StoreError> {
    on_db!(session, IMAGE, |sql, c| {
        let query = sqlx::query_scalar(sql).bind(workspace).bind(id).bind(version).bind(key.role);
        Ok(query.bind(key.locale).bind(key.tier).fetch_optional(c).await?)
    })
}

/// A picture of a draft, without its content.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct ImageRow {
    /// Its role.
    pub role: String,
    /// Its language; empty for all.
    pub locale: String,
    /// Its tier; empty for all.
    pub tier: String,
    /// The SHA-256 of the upload, for [`blob`].
    pub digest: Vec<u8>,
    /// The upload's size in bytes.
    #[sqlx(try_from = "i32")]
    pub bytes: i64,
    /// The upload's first bytes, which identify its format.
    pub beginning: Vec<u8>,
}

/// Returns the draft's pictures.
///
/// # Errors
/// When the database fails.
pub async fn images(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    id: &TemplateId,
) -> Result<Vec<ImageRow>, StoreError> {
    on_db!(session, IMAGES, |sql, c| Ok(sqlx::query_as(sql).bind(workspace).bind(id).fetch_all(c).await?))
}

/// Returns content by its digest.
///
/// # Errors
/// When the database fails.
pub async fn blob(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    digest: &[u8],
) -> Result<Option<Vec<u8>>, StoreError> {
    on_db!(session, BLOB, |sql, c| {
        Ok(sqlx::query_scalar(sql).bind(workspace).bind(digest).fetch_optional(c).await?)
    })
}

/// The key of a version's prepared file. An empty tier means all, an empty variant the common picture of its role.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct FileKey<'a> {
    pub tier: &'a str,
    pub variant: &'a str,
    pub path: &'a str,
}

/// A prepared file of a version.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct FileRow {
    pub tier: String,
    pub variant: String,
    pub path: String,
    pub content: Vec<u8>,
}

/// Adds a prepared file to a version; its content must have been stored before.
///
/// # Errors
/// When the database fails.
pub async fn put_file(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    id: &TemplateId,
    version: i64,
    key: &FileKey<'_>,
    digest: &[u8],
) -> Result<(), StoreError> {
    on_db!(tx, PUT_FILE, |sql, c| {
        let query = sqlx::query(sql).bind(workspace).bind(id).bind(version).bind(key.tier);
        query.bind(key.variant).bind(key.path).bind(digest).execute(c).await?;
        Ok(())
    })
}

/// Returns the prepared files of a version.
///
/// # Errors
/// When the database fails.
pub async fn files(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    id: &TemplateId,
    version: i64,
) -> Result<Vec<FileRow>, StoreError> {
    on_db!(session, FILES, |sql, c| {
        Ok(sqlx::query_as(sql).bind(workspace).bind(id).bind(version).fetch_all(c).await?)
    })
}

/// Returns the pictures of a published version: role, language, tier and the upload's digest, ordered by these.
///
/// # Errors
/// When the database fails.
pub async fn version_images(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    id: &TemplateId,
    version: i64,
) -> Result<Vec<(String, String, String, Vec<u8>)>, StoreError> {
    on_db!(session, VERSION_IMAGES, |sql, c| {
        Ok(sqlx::query_as(sql).bind(workspace).bind(id).bind(version).fetch_all(c).await?)
    })
}

/// Returns the prepared files of a version: tier, variant, path and the content's digest, ordered by these.
///
/// # Errors
/// When the database fails.
pub async fn file_digests(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    id: &TemplateId,
    version: i64,
) -> Result<Vec<(String, String, String, Vec<u8>)>, StoreError> {
    on_db!(session, FILE_DIGESTS, |sql, c| {
        Ok(sqlx::query_as(sql).bind(workspace).bind(id).bind(version).fetch_all(c).await?)
    })
}

/// Returns the workspace's templates that were published.
///
/// # Errors
/// When the database fails.
pub async fn published(session: &mut impl Session, workspace: &WorkspaceId) -> Result<Vec<TemplateId>, StoreError> {
    on_db!(session, PUBLISHED, |sql, c| Ok(sqlx::query_scalar(sql).bind(workspace).fetch_all(c).await?))
}

/// Gives a published template a new position, and a `Last-Modified` of at least `modified`, as if it had been published
/// again unchanged.
///
/// # Errors
/// When the database fails.
pub async fn place_anew(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    id: &TemplateId,
    position: i64,
    modified: i64,
) -> Result<(), StoreError> {
    on_db!(tx, PLACE_ANEW, |sql, c| {
        let query = sqlx::query(sql).bind(workspace).bind(id).bind(position).bind(modified);
        one_row(query.execute(c).await?.rows_affected(), "templates")?;
    });
    // The positions of the other versions are deleted: no phone has a pass that could be compared with them.
    on_db!(tx, PLACE_VERSIONS_ANEW, |sql, c| {
        sqlx::query(sql).bind(workspace).bind(id).execute(c).await?;
        Ok(())
    })
}

/// A version with its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Its number.
    pub version: i64,
    /// Its position and its `Last-Modified`; unknown for old versions.
    pub place: Option<(i64, i64)>,
}

/// Returns up to `limit` versions from `newest` downwards.
///
/// # Errors
/// When the database fails.
pub async fn placed(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    id: &TemplateId,
    newest: i64,
    limit: i64,
) -> Result<Vec<Placed>, StoreError> {
    let rows: Vec<(i64, Option<i64>, Option<i64>)> = on_db!(session, PLACED, |sql, c| {
        sqlx::query_as(sql).bind(workspace).bind(id).bind(newest).bind(limit).fetch_all(c).await?
    });
    let placed = |(version, position, modified): (i64, Option<i64>, Option<i64>)| Placed {
        version,
        place: position.zip(modified),
    };
    Ok(rows.into_iter().map(placed).collect())
}
