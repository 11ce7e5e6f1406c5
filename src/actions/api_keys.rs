//! Keys by which backends use the API.

use super::error::ActionError;
use crate::app::App;
use crate::domain::ids::WorkspaceId;
use crate::outside::random;
use crate::outside::secrets::{fingerprint, same};
use crate::store::api_keys::{self, NewApiKey};

/// Something that a key allows. Writing includes reading, and `admin` includes everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Scope {
    CardsRead,
    CardsWrite,
    TemplatesRead,
    TemplatesWrite,
}

impl Scope {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::CardsRead => "cards:read",
            Self::CardsWrite => "cards:write",
            Self::TemplatesRead => "templates:read",
            Self::TemplatesWrite => "templates:write",
        }
    }

    fn granted_by(self, scopes: &str) -> bool {
        scopes.split(' ').any(|scope| {
            scope == "admin"
                || scope == self.name()
                || self.name().strip_suffix(":read").is_some_and(|noun| scope.strip_suffix(":write") == Some(noun))
        })
    }
}

/// Who asks, and what he may do.
#[derive(Debug, Clone)]
pub struct Bearer {
    /// In which workspace.
    pub workspace: WorkspaceId,
    scopes: String,
}

impl Bearer {
    /// Whether the key allows it.
    pub fn may(&self, scope: Scope) -> bool {
        scope.granted_by(&self.scopes)
    }
}

/// The workspace in which everything happens that names no other.
pub fn default_workspace() -> WorkspaceId {
    WorkspaceId::trusted("default".to_owned())
}

/// Who shows this key; `None` for an unknown or revoked one.
///
/// # Errors
/// When the database fails.
pub async fn authenticate(app: &App, secret: &str) -> Result<Option<Bearer>, ActionError> {
    let hash = fingerprint(secret);
    if let Some(admin) = &app.admin_key
        && same(&hex::encode(admin), &hex::encode(&hash))
    {
        return Ok(Some(Bearer { workspace: default_workspace(), scopes: "admin".to_owned() }));
    }
    let found = api_keys::find(&mut app.store.read().await?, &hash).await?;
    Ok(found.map(|(workspace, scopes)| Bearer { workspace, scopes }))
}

/// Makes a key with every scope under a name, and revokes those that had the name before. The secret is shown once.
///
/// # Errors
/// When the database fails.
pub async fn replace_key(app: &App, workspace: &WorkspaceId, name: &str) -> Result<String, ActionError> {
    let secret = format!("pl_{}", random::token(&*app.random)?);
    let now = app.now();
    let id = random::uuid(&*app.random, now)?.to_string();
    let mut tx = app.store.begin().await?;
    api_keys::revoke_named(&mut tx, workspace, name, now).await?;
    let hash = fingerprint(&secret);
    let key = NewApiKey { id: &id, workspace, name, hash: &hash, scopes: "admin", created_at: now };
    api_keys::insert(&mut tx, &key).await?;
    tx.commit().await?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_includes_reading_and_admin_includes_all() {
        assert!(Scope::CardsRead.granted_by("cards:write"));
        assert!(Scope::TemplatesWrite.granted_by("admin"));
        assert!(!Scope::CardsWrite.granted_by("cards:read templates:write"));
        assert!(!Scope::TemplatesRead.granted_by("cards:write"));
        assert!(!Scope::CardsRead.granted_by(""));
    }
}
