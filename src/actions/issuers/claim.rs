//! Decides which workspace a pass type belongs to.
//!
//! The first to set it has it until another workspace proves a better right: with a valid certificate from Apple that
//! begins later than all of the holder's. So nobody can keep a pass type from its owner by having been faster, and
//! losing it at Apple means losing it here. Data of the former workspace stays separate: its cards remain its own, but
//! phones no longer find them.

use std::collections::BTreeSet;

use serde_json::json;

use crate::actions::audit::record;
use crate::actions::error::ActionError;
use crate::actions::issuers::load_issuers;
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::audit::AuditAction;
use crate::domain::ids::{IssuerId, PassTypeId, WorkspaceId};
use crate::domain::time::Timestamp;
use crate::domain::wallet::WalletKind;
use crate::store::{StoreError, Tx, issuers, targets, workspaces};
use crate::wallets::apple::certificates::identity::SigningIdentity;
use crate::wallets::apple::certificates::trust::Proof;

/// A workspace's claim to a pass type, as read before the transaction.
#[derive(Debug)]
pub(super) struct Claim {
    workspace: WorkspaceId,
    pass_type: PassTypeId,
    team: String,
    /// The workspace that has to give it up.
    former: Option<WorkspaceId>,
}

/// Whether a newcomer with this proof takes a pass type from a holder whose best proof is `holder`.
fn outranks(newcomer: (Proof, Timestamp), holder: Option<(Proof, Timestamp)>) -> bool {
    newcomer.0 > Proof::Nothing && holder.is_none_or(|holder| newcomer > holder)
}

impl Claim {
    /// Reads who has the pass type; `None` when the certificate doesn't suffice to take it from them.
    pub(super) async fn of(
        app: &App,
        workspace: &WorkspaceId,
        identity: &SigningIdentity,
        proof: Proof,
    ) -> Result<Option<Self>, ActionError> {
        let pass_type = &identity.pass_type;
        let id = IssuerId::from(pass_type);
        let owner = issuers::owner(&mut app.store.read().await?, &id).await?;
        let former = owner.filter(|owner| owner != workspace);
        if let Some(holder) = &former {
            load_issuers(app).await?;
            let all = app.issuers.of_workspace(holder).into_iter();
            let own = all.filter(|issuer| &issuer.identity.pass_type == pass_type);
            let best = own.map(|issuer| (issuer.proof, issuer.identity.not_before)).max();
            if !identity.is_valid(app.now()) || !outranks((proof, identity.not_before), best) {
                return Ok(None);
            }
        }
        let (workspace, pass_type) = (workspace.clone(), pass_type.clone());
        Ok(Some(Self { workspace, pass_type, team: identity.team.clone(), former }))
    }

    /// Assigns the pass type to the workspace and locks the workspace; false when another workspace was faster.
    pub(super) async fn take(&self, app: &App, tx: &mut Tx) -> Result<bool, ActionError> {
        let (pass_type, workspace) = (&self.pass_type, &self.workspace);
        let id = IssuerId::from(pass_type);
        let Some(former) = &self.former else {
            workspaces::hold(tx, workspace).await?;
            let account = (WalletKind::Apple, self.team.as_str());
            let claimed = issuers::claim(tx, &id, workspace, account, app.now()).await;
            return match claimed {
                Err(StoreError::RowGone(_)) => Ok(false),
                other => Ok(other.map(|()| true)?),
            };
        };
        targets::leave_issuer(tx, former, &id).await?;
        // In a fixed order, so that two workspaces that take pass types from each other can't deadlock.
        for held in BTreeSet::from([former, workspace]) {
            workspaces::hold(tx, held).await?;
        }
        // Registrations that arrived meanwhile.
        targets::leave_issuer(tx, former, &id).await?;
        if issuers::hold(tx, &id).await?.as_ref() != Some(former) {
            return Ok(false);
        }
        // The holder may have proven a better right meanwhile.
        let stored = issuers::of_pass_type(tx, former, pass_type).await?;
        let known = app.issuers.of_workspace(former);
        let is_known = |key| known.iter().any(|issuer| super::is(issuer, key)) || app.unusable().contains(key);
        if !stored.iter().all(is_known) {
            return Ok(false);
        }
        issuers::move_to(tx, &id, former, workspace, &self.team).await?;
        issuers::remove_of_pass_type(tx, former, pass_type).await?;
        // The former workspace must not learn who took it.
        let lost = (AuditAction::PassTypeLost, pass_type.as_str(), json!({"wallet": "apple"}));
        record(app, tx, former, &Actor::System, &[lost]).await?;
        Ok(true)
    }

    /// Logs that the pass type was taken from another workspace. Call it after the commit.
    pub(super) fn tell(&self) {
        if let Some(former) = &self.former {
            let (pass_type, workspace) = (&self.pass_type, &self.workspace);
            tracing::warn!(%pass_type, %former, %workspace, "a pass type went to another workspace, whose certificate is newer: the former can't sign its cards of it any more");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_type_goes_to_the_better_proof_and_then_to_the_newer() {
        use Proof::{Apple, GivenRoot, Nothing};
        let at = Timestamp::from_seconds;
        for (newcomer, holder, taken) in [
            ((Apple, 1), None, true),
            ((GivenRoot, 1), None, true),
            ((Nothing, 9), None, false),
            ((Nothing, 9), Some((Nothing, 1)), false),
            ((GivenRoot, 1), Some((Nothing, 9)), true),
            ((GivenRoot, 9), Some((GivenRoot, 1)), true),
            ((GivenRoot, 1), Some((GivenRoot, 1)), false),
            ((GivenRoot, 9), Some((Apple, 1)), false),
            ((Apple, 1), Some((GivenRoot, 9)), true),
            ((Apple, 9), Some((Apple, 1)), true),
            ((Apple, 1), Some((Apple, 1)), false),
            ((Apple, 1), Some((Apple, 9)), false),
        ] {
            let holder = holder.map(|(proof, begins)| (proof, at(begins)));
            assert_eq!(outranks((newcomer.0, at(newcomer.1)), holder), taken, "{newcomer:?} against {holder:?}");
        }
    }
}
