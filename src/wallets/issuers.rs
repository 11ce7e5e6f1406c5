//! By what the workspaces of this node sign and push: the certificates in memory, and which of them serves now.
//!
//! The database holds the truth (`store::issuers`); `actions::issuers` loads it, and a job looks for what other nodes
//! have set. A workspace may have several pass types, since a card keeps the one that it was issued under, and each
//! pass type several certificates, so that a renewal overlaps with what it replaces.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use crate::domain::ids::{PassTypeId, WorkspaceId};
use crate::domain::time::Timestamp;
use crate::wallets::apple::certificates::identity::SigningIdentity;
use crate::wallets::apple::certificates::trust::Proof;
use crate::wallets::apple::push::apns::Apns;

/// Where a certificate came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// From the configuration of this node, or the sandbox's own.
    Configuration,
    /// Set by API, at that moment. What was set by API goes before what is configured.
    Api(Timestamp),
}

/// By what a workspace signs and pushes.
#[derive(Debug)]
pub struct AppleIssuer {
    /// Whose.
    pub workspace: WorkspaceId,
    /// The certificate and key.
    pub identity: SigningIdentity,
    /// The connection to APNs under that certificate.
    pub apns: Apns,
    /// Where it came from.
    pub source: Source,
    /// How well it proves that the pass type is its workspace's.
    pub proof: Proof,
}

/// All of them.
#[derive(Debug, Default)]
pub struct AppleIssuers(RwLock<HashMap<WorkspaceId, Vec<Arc<AppleIssuer>>>>);

impl AppleIssuers {
    /// By what new cards are issued: the newest valid certificate of the pass type that was set last.
    pub fn current(&self, workspace: &WorkspaceId, now: Timestamp) -> Option<Arc<AppleIssuer>> {
        let issuers = self.of_workspace(workspace);
        let newest = issuers.iter().max_by_key(|issuer| issuer.source)?.identity.pass_type.clone();
        serving(issuers.into_iter(), &newest, now)
    }

    /// What signs and pushes for a pass type: its newest valid certificate; when none is valid, the one that ends last.
    pub fn of(&self, workspace: &WorkspaceId, pass_type: &PassTypeId, now: Timestamp) -> Option<Arc<AppleIssuer>> {
        serving(self.of_workspace(workspace).into_iter(), pass_type, now)
    }

    /// Every certificate of a workspace.
    pub fn of_workspace(&self, workspace: &WorkspaceId) -> Vec<Arc<AppleIssuer>> {
        let issuers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        issuers.get(workspace).cloned().unwrap_or_default()
    }

    /// The workspaces that have certificates of a pass type, in an order that stays.
    pub fn workspaces_of(&self, pass_type: &PassTypeId) -> Vec<WorkspaceId> {
        let issuers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let with_it = issuers.iter().filter(|(_, of)| of.iter().any(|issuer| &issuer.identity.pass_type == pass_type));
        let mut workspaces: Vec<WorkspaceId> = with_it.map(|(workspace, _)| workspace.clone()).collect();
        workspaces.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        workspaces
    }

    /// What serves now for each pass type of each workspace.
    pub fn all_serving(&self, now: Timestamp) -> Vec<Arc<AppleIssuer>> {
        let issuers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut serving_now = Vec::new();
        for of_workspace in issuers.values() {
            let pass_types: BTreeSet<&PassTypeId> = of_workspace.iter().map(|i| &i.identity.pass_type).collect();
            serving_now.extend(pass_types.into_iter().filter_map(|p| serving(of_workspace.iter().cloned(), p, now)));
        }
        serving_now
    }

    /// Every certificate.
    pub fn all(&self) -> Vec<Arc<AppleIssuer>> {
        let issuers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        issuers.values().flatten().cloned().collect()
    }

    /// Adds one beside the others.
    pub fn add(&self, issuer: AppleIssuer) {
        let mut issuers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        issuers.entry(issuer.workspace.clone()).or_default().push(Arc::new(issuer));
    }

    /// Takes out those that `keep` doesn't want.
    pub fn retain(&self, keep: impl Fn(&AppleIssuer) -> bool) {
        let mut issuers = self.0.write().unwrap_or_else(PoisonError::into_inner);
        issuers.values_mut().for_each(|of_workspace| of_workspace.retain(|issuer| keep(issuer)));
    }
}

fn serving(
    issuers: impl Iterator<Item = Arc<AppleIssuer>>,
    pass_type: &PassTypeId,
    now: Timestamp,
) -> Option<Arc<AppleIssuer>> {
    let mine = issuers.filter(|issuer| &issuer.identity.pass_type == pass_type);
    mine.max_by_key(|issuer| {
        let identity = &issuer.identity;
        let valid = identity.is_valid(now);
        (valid, if valid { identity.not_before } else { identity.not_after }, issuer.source)
    })
}
