//! Changes to a workspace that no event reports: keys, issuers, drafts.

use super::event::EventKind;

/// A kind of audit entry. Kinds are never renamed, because backends rely on their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum AuditAction {
    WorkspaceCreated,
    /// The workspace's secret was encrypted under another master key.
    SecretRotated,
    KeyCreated,
    KeyRevoked,
    /// A certificate was added to the workspace's issuer.
    IssuerPut,
    CertificateRemoved,
    /// Another workspace proved that a pass type is its own.
    PassTypeLost,
    /// A draft was created or replaced.
    TemplatePut,
    /// A template was created from an archive.
    TemplateImported,
    /// A published version became the draft.
    TemplateRestored,
    TemplateDeleted,
    ImagePut,
    ImageDeleted,
}

impl AuditAction {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::WorkspaceCreated,
        Self::SecretRotated,
        Self::KeyCreated,
        Self::KeyRevoked,
        Self::IssuerPut,
        Self::CertificateRemoved,
        Self::PassTypeLost,
        Self::TemplatePut,
        Self::TemplateImported,
        Self::TemplateRestored,
        Self::TemplateDeleted,
        Self::ImagePut,
        Self::ImageDeleted,
    ];

    /// Returns the name in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WorkspaceCreated => "workspace.created",
            Self::SecretRotated => "workspace.secret_rotated",
            Self::KeyCreated => "key.created",
            Self::KeyRevoked => "key.revoked",
            Self::IssuerPut => "issuer.put",
            Self::CertificateRemoved => "certificate.removed",
            Self::PassTypeLost => "issuer.pass_type_lost",
            Self::TemplatePut => "template.put",
            Self::TemplateImported => "template.imported",
            Self::TemplateRestored => "template.restored",
            Self::TemplateDeleted => "template.deleted",
            Self::ImagePut => "template.image_put",
            Self::ImageDeleted => "template.image_deleted",
        }
    }

    /// Returns the kind of thing that the subject's id names.
    pub fn subject(self) -> &'static str {
        match self {
            Self::WorkspaceCreated | Self::SecretRotated => "workspace",
            Self::KeyCreated | Self::KeyRevoked => "key",
            Self::IssuerPut | Self::PassTypeLost => "issuer",
            Self::CertificateRemoved => "certificate",
            Self::TemplatePut
            | Self::TemplateImported
            | Self::TemplateRestored
            | Self::TemplateDeleted
            | Self::ImagePut
            | Self::ImageDeleted => "template",
        }
    }
}

/// Returns the names of everything that the audit list holds: its own entries, and the events that are changes.
pub fn kinds() -> Vec<&'static str> {
    let events = EventKind::ALL.into_iter().filter(|kind| kind.is_change()).map(EventKind::as_str);
    AuditAction::ALL.map(AuditAction::as_str).into_iter().chain(events).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_kind_has_a_word_of_its_own() {
        assert_eq!(kinds().into_iter().collect::<BTreeSet<_>>().len(), kinds().len());
    }
}
