//! Publishes a template's draft: a new numbered version that every card of the template shows from then on.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::check_template::check_draft;
use super::draft::Draft;
use super::error::ActionError;
use crate::app::App;
use crate::domain::card::Publication;
use crate::domain::checks::{Issue, Severity};
use crate::domain::event::EventKind;
use crate::domain::ids::{TemplateId, WorkspaceId};
use crate::domain::template::Template;
use crate::outside::secrets::digest;
use crate::store::{cards, events, refreshes, templates, workspaces};
use crate::wallets::apple::prepare::PassFile;

/// Publishes; the new version's number. Cards are not rewritten: what phones must reach follows from the template's
/// position, and a job tells the devices at a paced rate.
///
/// # Errors
/// When the template is unknown, breaks rules, or the workspace has no issuer.
pub async fn publish_template(app: &App, workspace: &WorkspaceId, id: &TemplateId) -> Result<i64, ActionError> {
    // The slow work on pictures is done before the transaction; when the draft changed meanwhile, again.
    for _ in 0..5 {
        let draft = Draft::read(app, workspace, id).await?;
        let files = prepare(app, workspace, id, &draft).await?;
        if let Some(version) = store(app, workspace, id, &draft, &files).await? {
            app.wake.notify_one();
            return Ok(version);
        }
    }
    Err(ActionError::Fault("the draft kept changing while it was being published".to_owned()))
}

/// The picture files of the version to be, when nothing is wrong with the draft.
async fn prepare(
    app: &App,
    workspace: &WorkspaceId,
    id: &TemplateId,
    draft: &Draft,
) -> Result<Vec<PassFile>, ActionError> {
    let template = draft.template(app).await?;
    let changed_types = changed_types(app, workspace, id, &template).await?;
    let issuer = app.find_apple_issuer(workspace).await?;
    let files = draft.files(app, workspace, &template).await?;
    let (now, public_url) = (app.now(), app.public_url.clone());
    let work = tokio::task::spawn_blocking(move || {
        let mut issues = check_draft(&template, &files, issuer.as_deref().map(|i| &i.identity), &public_url, now);
        issues.extend(changed_types);
        // What is only worth knowing doesn't keep anybody from publishing.
        issues.retain(|issue| issue.severity == Severity::Error);
        if !issues.is_empty() {
            return Err(ActionError::Unpublishable(issues));
        }
        if issuer.is_none() {
            return Err(ActionError::IssuerMissing);
        }
        Ok(files)
    });
    work.await.map_err(|_| ActionError::Fault("preparing a version panicked".to_owned()))?
}

/// Attributes whose type differs from the published one: cards hold values of the old type, so it must stay.
///
/// # Errors
/// When the database fails.
pub async fn changed_types(
    app: &App,
    workspace: &WorkspaceId,
    id: &TemplateId,
    template: &Template,
) -> Result<Vec<Issue>, ActionError> {
    let row = templates::find(&mut app.store.read().await?, workspace, id).await?;
    let Some(publication) = row.and_then(|row| row.publication()) else { return Ok(Vec::new()) };
    let mut issues = Vec::new();
    let mut known: BTreeSet<&str> = BTreeSet::new();
    // Newest first; an attribute that was removed for some versions still has its values on cards.
    for version in app.versions(workspace, id, publication.version).await? {
        let published = app.published(workspace, id, version).await?;
        for (place, attribute) in template.attributes.iter().enumerate() {
            let name = attribute.name.as_str();
            let (Some(before), false) = (published.template.attribute(name), known.contains(name)) else { continue };
            known.insert(name);
            let (before, now) = (before.kind.name(), attribute.kind.name());
            if before != now {
                let detail = format!("is {now}; cards hold values of the published type {before}, which can't change");
                issues.push(Issue::error("attribute-type-changed", format!("/attributes/{place}/type"), detail));
            }
        }
        if known.len() == template.attributes.len() {
            break;
        }
    }
    Ok(issues)
}

/// Stores the version unless the draft is another one by now.
async fn store(
    app: &App,
    workspace: &WorkspaceId,
    id: &TemplateId,
    draft: &Draft,
    files: &[PassFile],
) -> Result<Option<i64>, ActionError> {
    let now = app.now();
    let mut tx = app.store.begin().await?;
    let row = templates::lock(&mut tx, workspace, id).await?.ok_or(ActionError::NotFound("template"))?;
    let (before, row_modified) = (row.version, row.modified);
    if Draft::of(&mut tx, workspace, id, row).await? != *draft {
        return Ok(None);
    }
    let digests: Vec<Vec<u8>> = files.iter().map(|file| digest(&file.bytes)).collect();
    // In one order, so that two publishings that share contents don't wait for each other in a circle.
    let contents: BTreeMap<&[u8], &[u8]> =
        digests.iter().zip(files).map(|(digest, file)| (digest.as_slice(), &file.bytes[..])).collect();
    for (digest, content) in contents {
        templates::put_blob(&mut tx, workspace, digest, content).await?;
    }
    refreshes::start(&mut tx, workspace, id, now).await?;
    let position = workspaces::take_position(&mut tx, workspace).await?;
    // Read after the position was taken: no change of a card can commit in between with a later Last-Modified.
    let newest = cards::newest_of_template(&mut tx, workspace, id).await?.unwrap_or(0);
    let modified = now.seconds().max(newest + 1).max(row_modified + 1);
    let before = match before {
        Some(version) => version,
        None => templates::last_deleted_version(&mut tx, workspace, id).await?,
    };
    let version = before + 1;
    let publication = Publication { version, position, modified };
    templates::publish(&mut tx, workspace, id, &draft.document, &publication, now).await?;
    for (file, digest) in files.iter().zip(&digests) {
        let tier = file.tier.as_deref().unwrap_or_default();
        templates::put_file(&mut tx, workspace, id, version, (tier, &file.path), digest).await?;
    }
    let event = app.event(EventKind::TemplatePublished, None, json!({"template": id, "version": version}))?;
    events::record(&mut tx, workspace, position, now, &[event]).await?;
    tx.commit().await?;
    Ok(Some(version))
}
