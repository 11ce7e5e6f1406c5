//! Identifies the holder of a pass: the client that presents the authentication token in it.
//!
//! A token is derived from its workspace's secret and its serial number, so it is verified before anything of a card is
//! read. A request with a wrong token costs the same whether the card exists or not: response times don't reveal which
//! serial numbers exist.

use crate::actions::error::ActionError;
use crate::actions::keys::default_workspace;
use crate::app::App;
use crate::domain::ids::{PassTypeId, SerialNumber, WorkspaceId};
use crate::platform::secrets::same;
use crate::store::cards::{self, Issued};
use crate::store::passes;

/// Returns the card that the token belongs to; `None` for a wrong token and for a missing card alike.
///
/// # Errors
/// When the database fails.
pub async fn held_card(
    app: &App,
    pass_type: &PassTypeId,
    serial: &SerialNumber,
    token: &str,
) -> Result<Option<Issued>, ActionError> {
    let Some(workspace) = holder(app, pass_type, serial, token).await? else { return Ok(None) };
    let issued = cards::by_serial(&mut app.store.read().await?, &pass_type.into(), serial).await?;
    Ok(issued.filter(|issued| issued.card.workspace == workspace))
}

/// Returns the workspace that the token of this serial number belongs to.
///
/// # Errors
/// When the database fails.
pub async fn holder(
    app: &App,
    pass_type: &PassTypeId,
    serial: &SerialNumber,
    token: &str,
) -> Result<Option<WorkspaceId>, ActionError> {
    let issuing = app.issuers.workspaces_of(pass_type);
    for workspace in &issuing {
        if proves(app, workspace, serial, token).await? {
            return Ok(Some(workspace.clone()));
        }
    }
    // The card may belong to a workspace that no longer issues under the pass type. Where there is no card, another
    // workspace's secret is tried, so that the work is the same.
    let owner = passes::workspace_of(&mut app.store.read().await?, &pass_type.into(), serial).await?;
    let stand_in = || issuing.into_iter().next().unwrap_or_else(default_workspace);
    let workspace = owner.unwrap_or_else(stand_in);
    Ok(proves(app, &workspace, serial, token).await?.then_some(workspace))
}

async fn proves(app: &App, workspace: &WorkspaceId, serial: &SerialNumber, token: &str) -> Result<bool, ActionError> {
    let expected = app.secret(workspace).await?.auth_token(serial);
    Ok(same(expected.as_str(), token))
}
