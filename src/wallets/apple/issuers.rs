//! The registry of Apple issuers: each workspace's signing certificates in memory, and which of them is in use.
//!
//! The database holds the truth (`store::issuers`); `actions::issuers` loads it, and a job looks for changes made by
//! other nodes. A workspace may have several pass types, since a card keeps the one that it was issued under, and each
//! pass type several certificates, so that a renewal overlaps with the certificate that it replaces.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use crate::domain::ids::{IssuerId, PassTypeId, WorkspaceId};
use crate::domain::time::Timestamp;
use crate::wallets::apple::certificates::identity::SigningIdentity;
use crate::wallets::apple::certificates::trust::Proof;
use crate::wallets::apple::push::apns::Apns;

/// The origin of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The configuration of this node, or the sandbox's own certificates.
    Configuration,
    /// The API, at that moment. Takes precedence over the configuration.
    Api(Timestamp),
}

/// A certificate with which a workspace signs passes and sends pushes.
#[derive(Debug)]
pub struct AppleIssuer {
    /// Its id: the pass type.
    pub id: IssuerId,
    /// The workspace that it belongs to.
    pub workspace: WorkspaceId,
    /// The certificate and key.
    pub identity: SigningIdentity,
    /// The connection to APNs under that certificate.
    pub apns: Apns,
    /// The origin of the certificate.
    pub source: Source,
    /// How well the certificate proves that the pass type belongs to its workspace.
    pub proof: Proof,
}

/// The Apple issuers of all workspaces.
#[derive(Debug, Default)]
pub struct AppleIssuers(RwLock<HashMap<WorkspaceId, Vec<Arc<AppleIssuer>>>>);

impl AppleIssuers {
    /// Returns the issuer for new cards: the newest valid certificate of the most recently configured pass type.
    pub fn current(&self, workspace: &WorkspaceId, now: Timestamp) -> Option<Arc<AppleIssuer>> {
        let issuers = self.of_workspace(workspace);
        let newest = issuers.iter().max_by_key(|issuer| issuer.source)?.id.clone();
        serving(issuers.into_iter(), &newest, now)
    }

    /// Returns the issuer of a pass type: its newest valid certificate; when none is valid, the one that expires last.
    pub fn of(&self, workspace: &WorkspaceId, id: &IssuerId, now: Timestamp) -> Option<Arc<AppleIssuer>> {
        serving(self.of_workspace(workspace).into_iter(), id, now)
    }

    /// Returns every certificate of a workspace.
    pub fn of_workspace(&self, workspace: &WorkspaceId) -> Vec<Arc<AppleIssuer>> {
        let issuers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        issuers.get(workspace).cloned().unwrap_or_default()
    }

    /// Returns the workspaces that have certificates of a pass type, in a stable order.
    pub fn workspaces_of(&self, pass_type: &PassTypeId) -> Vec<WorkspaceId> {
        let issuers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let with_it = issuers.iter().filter(|(_, of)| of.iter().any(|issuer| &issuer.identity.pass_type == pass_type));
        let mut workspaces: Vec<WorkspaceId> = with_it.map(|(workspace, _)| workspace.clone()).collect();
        workspaces.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        workspaces
    }

    /// Returns the issuer in use for each pass type of each workspace.
    pub fn all_serving(&self, now: Timestamp) -> Vec<Arc<AppleIssuer>> {
        let issuers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut serving_now = Vec::new();
        for of_workspace in issuers.values() {
            let ids: BTreeSet<&IssuerId> = of_workspace.iter().map(|issuer| &issuer.id).collect();
            serving_now.extend(ids.into_iter().filter_map(|id| serving(of_workspace.iter().cloned(), id, now)));
        }
        serving_now
    }

    /// Returns every certificate.
    pub fn all(&self) -> Vec<Arc<AppleIssuer>> {
        let issuers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        issuers.values().flatten().cloned().collect()
    }

    /// Adds a certificate and keeps the others.
    pub fn add(&self, issuer: AppleIssuer) {
        let mut issuers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        issuers.entry(issuer.workspace.clone()).or_default().push(Arc::new(issuer));
    }

    /// Removes the certificates for which `keep` returns false.
    pub fn retain(&self, keep: impl Fn(&AppleIssuer) -> bool) {
        let mut issuers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        issuers.values_mut().for_each(|of_workspace| of_workspace.retain(|issuer| keep(issuer)));
    }
}

fn serving(issuers: impl Iterator<Item = Arc<AppleIssuer>>, id: &IssuerId, now: Timestamp) -> Option<Arc<AppleIssuer>> {
    let mine = issuers.filter(|issuer| &issuer.id == id);
    mine.max_by_key(|issuer| {
        let identity = &issuer.identity;
        let valid = identity.is_valid(now);
        (valid, if valid { identity.not_before } else { identity.not_after }, issuer.source)
    })
}
