//! The keys with which backends use the API.

use serde::Serialize;
use serde_json::{Value, json};

use crate::actions::audit::record;
use crate::actions::error::ActionError;
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::audit::AuditAction;
use crate::domain::ids::WorkspaceId;
use crate::domain::input::{Lines, Node, Problems};
use crate::platform::random;
use crate::platform::secrets::{fingerprint, same};
use crate::store::Tx;
use crate::store::api_keys::{self, ListedKey, NewApiKey};

/// The longest name of a key or a workspace, in characters.
pub(super) const MAX_NAME: usize = 100;

/// A permission of a key. Writing includes reading, and `admin` includes everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Scope {
    CardsRead,
    CardsWrite,
    TemplatesRead,
    TemplatesWrite,
    LinksRead,
    LinksWrite,
    Admin,
}

impl Scope {
    /// Every scope.
    pub const ALL: [Self; 7] = [
        Self::CardsRead,
        Self::CardsWrite,
        Self::TemplatesRead,
        Self::TemplatesWrite,
        Self::LinksRead,
        Self::LinksWrite,
        Self::Admin,
    ];

    /// Returns the scope's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::CardsRead => "cards:read",
            Self::CardsWrite => "cards:write",
            Self::TemplatesRead => "templates:read",
            Self::TemplatesWrite => "templates:write",
            Self::LinksRead => "links:read",
            Self::LinksWrite => "links:write",
            Self::Admin => "admin",
        }
    }

    fn parse(name: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|scope| scope.name() == name);
        known.ok_or_else(|| format!("is no scope; expected one of {}", Self::ALL.map(Self::name).join(", ")))
    }

    fn granted_by(self, scopes: &str) -> bool {
        scopes.split(' ').any(|scope| {
            scope == "admin"
                || scope == self.name()
                || self.name().strip_suffix(":read").is_some_and(|noun| scope.strip_suffix(":write") == Some(noun))
        })
    }
}

/// The caller and what they may do.
#[derive(Debug, Clone)]
pub struct Bearer {
    /// The caller's workspace.
    pub workspace: WorkspaceId,
    /// The caller's name in events and in the audit list.
    pub actor: Actor,
    /// Whether this is the bootstrap key of the configuration, the only one that may add workspaces.
    pub bootstrap: bool,
    scopes: String,
}

impl Bearer {
    /// Whether the key has the scope.
    pub fn may(&self, scope: Scope) -> bool {
        scope.granted_by(&self.scopes)
    }
}

/// Returns the workspace for everything that names no other.
pub fn default_workspace() -> WorkspaceId {
    WorkspaceId::trusted("default".to_owned())
}

/// Returns the caller who owns this key; `None` for an unknown or revoked one.
///
/// # Errors
/// When the database fails.
pub async fn authenticate(app: &App, secret: &str) -> Result<Option<Bearer>, ActionError> {
    let hash = fingerprint(secret);
    if let Some(admin) = &app.admin_key
        && same(&hex::encode(admin), &hex::encode(&hash))
    {
        let actor = Actor::ApiKey(Actor::BOOTSTRAP.to_owned());
        let (workspace, scopes) = (default_workspace(), "admin".to_owned());
        return Ok(Some(Bearer { workspace, actor, bootstrap: true, scopes }));
    }
    let found = api_keys::find(&mut app.store.read().await?, &hash).await?;
    Ok(found.map(|(id, workspace, scopes)| Bearer { workspace, actor: Actor::ApiKey(id), bootstrap: false, scopes }))
}

/// A key that was just created; its secret is shown only this once.
#[derive(Serialize)]
#[allow(missing_docs)]
pub struct IssuedKey {
    pub id: String,
    pub name: String,
    pub scopes: Vec<&'static str>,
    pub secret: String,
}

impl IssuedKey {
    /// Returns the key's entry for the audit list.
    pub(super) fn told(&self) -> (AuditAction, &str, Value) {
        (AuditAction::KeyCreated, &self.id, json!({"scopes": self.scopes}))
    }
}

impl std::fmt::Debug for IssuedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IssuedKey").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// Creates the key described by `{"name", "scopes"}`.
///
/// # Errors
/// Every problem of the document at once, or the database fails.
pub async fn create_key(
    app: &App,
    workspace: &WorkspaceId,
    actor: &Actor,
    body: &Value,
) -> Result<IssuedKey, ActionError> {
    let mut problems = Problems::new();
    let read = read_key(body, &mut problems);
    let (name, scopes) = problems.or(read)?;
    let mut tx = app.store.begin().await?;
    let key = add_key(app, &mut tx, workspace, name, &scopes).await?;
    record(app, &mut tx, workspace, actor, &[key.told()]).await?;
    tx.commit().await?;
    Ok(key)
}

fn read_key<'v>(body: &'v Value, problems: &mut Problems) -> Option<(&'v str, Vec<Scope>)> {
    let mut object = Node::root(body).object(problems)?;
    let name = object.required("name", problems).and_then(|node| node.filled(problems, MAX_NAME, Lines::One));
    let given = object.required("scopes", problems);
    let items = given.as_ref().and_then(|node| node.array(problems, 2 * Scope::ALL.len()));
    object.finish(problems);
    let mut scopes = Vec::new();
    for item in items.as_ref()? {
        let scope = item.parsed(problems, Scope::parse);
        scopes.extend(scope.filter(|scope| !scopes.contains(scope)));
    }
    if items.is_some_and(|items| items.is_empty()) {
        problems.add("/scopes", "is empty; expected at least one scope");
    }
    Some((name?, scopes))
}

/// Adds a key within the caller's transaction. The caller records it in the audit list ([`IssuedKey::told`]).
///
/// # Errors
/// When the database fails.
pub async fn add_key(
    app: &App,
    tx: &mut Tx,
    workspace: &WorkspaceId,
    name: &str,
    scopes: &[Scope],
) -> Result<IssuedKey, ActionError> {
    let secret = format!("pl_{}", random::token(&*app.random)?);
    let now = app.now();
    let id = random::uuid(&*app.random, now)?.to_string();
    let scopes: Vec<&'static str> = scopes.iter().map(|scope| scope.name()).collect();
    let hash = fingerprint(&secret);
    let key = NewApiKey { id: &id, workspace, name, hash: &hash, scopes: &scopes.join(" "), created_at: now };
    api_keys::insert(tx, &key).await?;
    Ok(IssuedKey { id, name: name.to_owned(), scopes, secret })
}

/// Returns the workspace's keys after the one with the id `after`, oldest first, revoked ones included.
///
/// # Errors
/// When the database fails.
pub async fn list_keys(
    app: &App,
    workspace: &WorkspaceId,
    after: Option<&str>,
    limit: i64,
) -> Result<Vec<ListedKey>, ActionError> {
    let mut reader = app.store.read().await?;
    Ok(api_keys::list(&mut reader, workspace, after.unwrap_or_default(), limit).await?)
}

/// Revokes a key: after the commit no node accepts it. Revoking it again changes nothing.
///
/// # Errors
/// When the workspace has no such key.
pub async fn revoke_key(app: &App, workspace: &WorkspaceId, actor: &Actor, id: &str) -> Result<(), ActionError> {
    // Our ids are UUIDs. Other texts can't name a key, and the database rejects some of them.
    let id = uuid::Uuid::try_parse(id).map_err(|_| ActionError::NotFound("key"))?.to_string();
    let mut tx = app.store.begin().await?;
    if api_keys::revoke(&mut tx, workspace, &id, app.now()).await? {
        record(app, &mut tx, workspace, actor, &[(AuditAction::KeyRevoked, &id, json!({}))]).await?;
    } else if !api_keys::exists(&mut tx, workspace, &id).await? {
        return Err(ActionError::NotFound("key"));
    }
    Ok(tx.commit().await?)
}

/// Creates a key with every scope under a name, and revokes earlier keys of that name. The service itself does this.
///
/// # Errors
/// When the database fails.
pub async fn replace_key(app: &App, workspace: &WorkspaceId, name: &str) -> Result<String, ActionError> {
    let mut tx = app.store.begin().await?;
    let revoked = api_keys::revoke_named(&mut tx, workspace, name, app.now()).await?;
    let key = add_key(app, &mut tx, workspace, name, &[Scope::Admin]).await?;
    let revoked = revoked.iter().map(|id| (AuditAction::KeyRevoked, id.as_str(), json!({})));
    let done: Vec<_> = revoked.chain([key.told()]).collect();
    record(app, &mut tx, workspace, &Actor::System, &done).await?;
    tx.commit().await?;
    Ok(key.secret)
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
