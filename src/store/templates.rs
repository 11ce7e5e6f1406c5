//! Templates: drafts, published versions, pictures and the ready files of passes.

use serde_json::Value;

use super::types::{Json, one_row};
use super::{Session, StoreError, Tx, on_db, statements};
use crate::domain::card::Publication;
use crate::domain::ids::{TemplateId, WorkspaceId};
use crate::domain::time::Timestamp;

statements! {
    PUT_DRAFT = "INSERT INTO templates (workspace_id, id, draft, position, modified, created_at, updated_at)
        VALUES ($1, $2, $3, 0, 0, $4, $4)
        ON CONFLICT (workspace_id, id) DO UPDATE SET draft = excluded.draft, updated_at = excluded.updated_at";
    FIND = "SELECT draft, version, position, modified FROM templates WHERE workspace_id = $1 AND id = $2";
    LOCK = "SELECT draft, version, position, modified FROM templates WHERE workspace_id = $1 AND id = $2" + " FOR NO KEY UPDATE";
    INSERT_VERSION = "INSERT INTO template_versions (workspace_id, template_id, version, document, published_at)
        VALUES ($1, $2, $3, $4, $5)";
    SET_PUBLISHED = "UPDATE templates SET version = $3, position = $4, modified = $5 WHERE workspace_id = $1 AND id = $2";
    DOCUMENT = "SELECT document FROM template_versions WHERE workspace_id = $1 AND template_id = $2 AND version = $3";
    PUT_BLOB = "INSERT INTO blobs (workspace_id, digest, content) VALUES ($1, $2, $3) ON CONFLICT (workspace_id, digest) DO NOTHING";
    PUT_IMAGE = "INSERT INTO template_images (workspace_id, template_id, version, role, locale, tier, digest)
        VALUES ($1, $2, 0, $3, $4, $5, $6)
        ON CONFLICT (workspace_id, template_id, version, role, locale, tier) DO UPDATE SET digest = excluded.digest";
    DELETE_IMAGE = "DELETE FROM template_images
        WHERE workspace_id = $1 AND template_id = $2 AND version = 0 AND role = $3 AND locale = $4 AND tier = $5";
    IMAGE = "SELECT b.content FROM template_images i JOIN blobs b ON b.workspace_id = i.workspace_id AND b.digest = i.digest
        WHERE i.workspace_id = $1 AND i.template_id = $2 AND i.version = $3 AND i.role = $4 AND i.locale = $5 AND i.tier = $6";
    IMAGES = "SELECT i.role, i.locale, i.tier, b.content FROM template_images i
        JOIN blobs b ON b.workspace_id = i.workspace_id AND b.digest = i.digest
        WHERE i.workspace_id = $1 AND i.template_id = $2 AND i.version = 0 ORDER BY i.role, i.locale, i.tier";
    KEEP_IMAGES = "INSERT INTO template_images (workspace_id, template_id, version, role, locale, tier, digest)
        SELECT workspace_id, template_id, $3, role, locale, tier, digest FROM template_images
        WHERE workspace_id = $1 AND template_id = $2 AND version = 0";
    PUT_FILE = "INSERT INTO template_files (workspace_id, template_id, version, tier, path, digest) VALUES ($1, $2, $3, $4, $5, $6)";
    FILES = "SELECT f.tier, f.path, b.content FROM template_files f
        JOIN blobs b ON b.workspace_id = f.workspace_id AND b.digest = f.digest
        WHERE f.workspace_id = $1 AND f.template_id = $2 AND f.version = $3 ORDER BY f.path, f.tier";
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
    /// See [`Publication`].
    pub position: i64,
    /// See [`Publication`].
    pub modified: i64,
}

impl TemplateRow {
    /// The newest publication, when it was ever published.
    pub fn publication(&self) -> Option<Publication> {
        self.version.map(|version| Publication { version, position: self.position, modified: self.modified })
    }
}

/// Which picture of a template. Empty texts mean all languages and all tiers.
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

/// The template.
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

/// The template, held until the transaction ends.
///
/// # Errors
/// When the database fails.
pub async fn lock(tx: &mut Tx, workspace: &WorkspaceId, id: &TemplateId) -> Result<Option<TemplateRow>, StoreError> {
    on_db!(tx, LOCK, |sql, c| Ok(sqlx::query_as(sql).bind(workspace).bind(id).fetch_optional(c).await?))
}

/// The newest publication of a template, read after the workspace's position was taken so that no other can slip between.
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

/// The same of many templates; those that were never published are left out.
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
        query.bind(Json(document)).bind(now).execute(c).await?;
    });
    on_db!(tx, KEEP_IMAGES, |sql, c| {
        sqlx::query(sql).bind(workspace).bind(id).bind(publication.version).execute(c).await?;
    });
    Ok(())
}

/// The document of a published version.
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

/// Keeps a content under its digest (SHA-256).
///
/// # Errors
/// When the database fails.
pub async fn put_blob(tx: &mut Tx, workspace: &WorkspaceId, digest: &[u8], content: &[u8]) -> Result<(), StoreError> {
    on_db!(tx, PUT_BLOB, |sql, c| {
        sqlx::query(sql).bind(workspace).bind(digest).bind(content).execute(c).await?;
        Ok(())
    })
}

/// Gives the draft a picture, whose content must have been kept before.
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

/// Takes a picture from the draft; false when it had none.
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

/// A picture as it was uploaded; version 0 is the draft's.
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

/// Role, locale, tier and content of each of the draft's pictures.
///
/// # Errors
/// When the database fails.
pub async fn images(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    id: &TemplateId,
) -> Result<Vec<(String, String, String, Vec<u8>)>, StoreError> {
    on_db!(session, IMAGES, |sql, c| Ok(sqlx::query_as(sql).bind(workspace).bind(id).fetch_all(c).await?))
}

/// Adds a ready file to a version; its content must have been kept before. An empty tier means all.
///
/// # Errors
/// When the database fails.
pub async fn put_file(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    id: &TemplateId,
    version: i64,
    (tier, path): (&str, &str),
    digest: &[u8],
) -> Result<(), StoreError> {
    on_db!(tx, PUT_FILE, |sql, c| {
        let query = sqlx::query(sql).bind(workspace).bind(id).bind(version).bind(tier).bind(path);
        query.bind(digest).execute(c).await?;
        Ok(())
    })
}

/// Tier, path and content of each ready file of a version.
///
/// # Errors
/// When the database fails.
pub async fn files(
    session: &mut impl Session,
    workspace: &WorkspaceId,
    id: &TemplateId,
    version: i64,
) -> Result<Vec<(String, String, Vec<u8>)>, StoreError> {
    on_db!(session, FILES, |sql, c| {
        Ok(sqlx::query_as(sql).bind(workspace).bind(id).bind(version).fetch_all(c).await?)
    })
}
