//! Publishes a template's draft: a new numbered version by which every card of the template is shown from then on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::json;

use crate::actions::error::ActionError;
use crate::actions::passes::renders::Reader;
use crate::actions::retry::retry;
use crate::actions::templates::check_template::check_draft;
use crate::actions::templates::draft::Draft;
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::cards::Publication;
use crate::domain::checks::{Issue, Severity};
use crate::domain::event::EventKind;
use crate::domain::ids::{CardId, TemplateId, WorkspaceId};
use crate::domain::input::Problems;
use crate::domain::templates::Template;
use crate::domain::values::attribute::AttributeType;
use crate::platform::secrets::digest;
use crate::store::cards::{self, Issued};
use crate::store::fan_outs::{self, FanOutKey};
use crate::store::templates::{self, FileKey};
use crate::store::{Tx, events, workspaces};
use crate::wallets::images::VersionFile;

/// How often publishing starts again because the draft changed meanwhile. Pictures are cached, so only the first time
/// is slow.
const ATTEMPTS: usize = 10;
/// How many cards of the template are checked when it is published, to report which keep their version.
const CARDS_LOOKED_AT: usize = 10_000;
/// How many cards that keep their version are named.
const CARDS_NAMED: usize = 100;
/// How many cards are held in memory at a time.
const PAGE: i64 = 200;

/// The result of a publishing.
#[derive(Debug)]
pub struct PublishReport {
    /// The new version's number.
    pub version: i64,
    /// How many cards were checked.
    pub cards_checked: usize,
    /// Whether those were all.
    pub complete: bool,
    /// The cards whose values lack something for the new version, or break a rule under it.
    pub keeping: Vec<PinnedCard>,
}

/// A card that keeps its current version.
#[derive(Debug)]
pub struct PinnedCard {
    /// The card.
    pub id: CardId,
    /// The version by which it is shown.
    pub version: i64,
    /// The problems of its values under the new version.
    pub problems: Problems,
}

/// The outcome of storing a version.
enum Stored {
    /// The draft changed meanwhile.
    DraftChanged,
    /// The draft equals this version, which is the newest.
    Unchanged(i64),
    /// The new version.
    New(i64),
}

/// Publishes a draft; one equal to the newest version makes no new one. Cards are not rewritten: what phones must fetch
/// follows from the template's position, and a fan-out notifies the targets at a paced rate.
///
/// # Errors
/// When the template is unknown, breaks rules, or the workspace has no issuer; [`ActionError::DraftChanging`] when the
/// draft changes in every attempt.
pub async fn publish_template(
    app: &App,
    workspace: &WorkspaceId,
    actor: &Actor,
    id: &TemplateId,
) -> Result<PublishReport, ActionError> {
    // The slow work on pictures is done before the transaction, and again when the draft changed meanwhile.
    for _ in 0..ATTEMPTS {
        let draft = Draft::read(app, workspace, id).await?;
        let files = match prepare(app, workspace, id, &draft).await {
            Err(ActionError::DraftChanging) => continue,
            prepared => prepared?,
        };
        match retry(app, async || store(app, workspace, actor, id, &draft, &files).await).await? {
            Stored::DraftChanged => {}
            Stored::Unchanged(version) => return cards_keeping(app, workspace, id, version).await,
            Stored::New(version) => {
                app.delivery_signal.notify_one();
                return cards_keeping(app, workspace, id, version).await;
            }
        }
    }
    Err(ActionError::DraftChanging)
}

/// Finds cards that can't be shown by a new version. Bounded: checks a limited number, a page at a time.
async fn cards_keeping(
    app: &App,
    workspace: &WorkspaceId,
    id: &TemplateId,
    version: i64,
) -> Result<PublishReport, ActionError> {
    let mut publishing = PublishReport { version, cards_checked: 0, complete: false, keeping: Vec::new() };
    let published = app.published(workspace, id, version).await?;
    let secret = app.secret(workspace).await?;
    let mut after = String::new();
    while publishing.cards_checked < CARDS_LOOKED_AT && publishing.keeping.len() < CARDS_NAMED {
        let page = cards::of_template(&mut app.store.read().await?, workspace, id, &after, PAGE).await?;
        let Some(last) = page.cards.last() else {
            publishing.complete = true;
            break;
        };
        after = last.card.id.as_str().to_owned();
        publishing.cards_checked += page.cards.len();
        let (published, secret, now) = (Arc::clone(&published), secret.clone(), app.now());
        let base = format!("{}/c", app.public_url);
        let work = app.render(Reader::Designer, move || {
            let misfit = |issued: Issued| {
                let token = secret.page_token(&issued.card.serial, issued.card.page_generation);
                let url = format!("{base}/{}", token.as_str());
                let problems = published.fits(&issued.card, &url, now).err()?;
                Some((issued, url, problems))
            };
            page.cards.into_iter().filter_map(misfit).collect::<Vec<_>>()
        });
        let unfit = work.await?;
        for (issued, url, problems) in unfit {
            if publishing.keeping.len() < CARDS_NAMED {
                let (_, version) = app.shown(Reader::Designer, &issued, &url).await?;
                publishing.keeping.push(PinnedCard { id: issued.card.id, version, problems });
            }
        }
    }
    Ok(publishing)
}

/// Returns the picture files of the version to be, if the draft breaks no rule.
async fn prepare(
    app: &App,
    workspace: &WorkspaceId,
    id: &TemplateId,
    draft: &Draft,
) -> Result<Vec<VersionFile>, ActionError> {
    let template = draft.template(app, workspace).await?;
    let changed_types = changed_types(app, workspace, id, &template).await?;
    let issuer = app.find_apple_issuer(workspace).await?;
    let can_issue = !app.wallets.current(workspace, app.now()).is_empty();
    let files = draft.files(app, workspace, &template).await?;
    let design = draft.design(app).await;
    let (now, public_url) = (app.now(), app.public_url.clone());
    let work = app.render(Reader::Designer, move || {
        let mut issues =
            check_draft(&design, &template, &files, issuer.as_deref().map(|i| &i.identity), &public_url, now);
        issues.extend(changed_types);
        // Warnings don't prevent publishing.
        issues.retain(|issue| issue.severity == Severity::Error);
        if !issues.is_empty() {
            return Err(ActionError::Unpublishable(issues));
        }
        if !can_issue {
            return Err(ActionError::IssuerMissing);
        }
        Ok(files)
    });
    work.await?
}

/// Returns problems of attributes whose type differs from the published one: cards hold values of the old type, so it
/// must stay.
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
    // Newest first; an attribute that some versions removed may still have values on cards.
    for version in app.versions(workspace, id, publication.version).await? {
        let published = app.published(workspace, id, version).await?;
        for (place, attribute) in template.attributes.iter().enumerate() {
            let name = attribute.name.as_str();
            let (Some(before), false) = (published.template.attribute(name), known.contains(name)) else { continue };
            known.insert(name);
            let member = match (&before.kind, &attribute.kind) {
                (AttributeType::Money { currency: before }, AttributeType::Money { currency })
                    if before != currency =>
                {
                    Some(("currency", before.as_str().to_owned(), currency.as_str().to_owned()))
                }
                (before, now) if before.name() != now.name() => {
                    Some(("type", before.name().to_owned(), now.name().to_owned()))
                }
                _ => None,
            };
            if let Some((member, before, now)) = member {
                let detail =
                    format!("is {now}; cards hold values of the published {member} {before}, which can't change");
                let pointer = format!("/attributes/{place}/{member}");
                issues.push(Issue::error("attribute-type-changed", pointer, detail));
            }
        }
        if known.len() == template.attributes.len() {
            break;
        }
    }
    Ok(issues)
}

/// Whether a published version equals this draft, down to the scaled files: a newer release may scale the same pictures
/// differently.
async fn is_version(
    tx: &mut Tx,
    workspace: &WorkspaceId,
    id: &TemplateId,
    version: i64,
    draft: &Draft,
    files: &BTreeSet<(&str, &str, &str, &[u8])>,
) -> Result<bool, ActionError> {
    // Compared as text: the order of members may show in a pass.
    let text = draft.document.to_string();
    let published = templates::document(tx, workspace, id, version).await?.map(|document| document.to_string());
    if published.is_none_or(|published| published != text) {
        return Ok(false);
    }
    let of_draft = draft.pictures.iter().map(|p| (p.role.as_str(), p.locale.as_str(), p.tier.as_str(), &p.digest[..]));
    let of_draft: BTreeSet<_> = of_draft.collect();
    let images = templates::version_images(tx, workspace, id, version).await?;
    if of_draft != rows(&images) {
        return Ok(false);
    }
    Ok(*files == rows(&templates::file_digests(tx, workspace, id, version).await?))
}

fn key_of(file: &VersionFile) -> FileKey<'_> {
    let tier = file.tier.as_deref().unwrap_or_default();
    FileKey { tier, variant: file.variant.as_deref().unwrap_or_default(), path: &file.path }
}

fn rows(rows: &[(String, String, String, Vec<u8>)]) -> BTreeSet<(&str, &str, &str, &[u8])> {
    rows.iter().map(|(a, b, c, digest)| (a.as_str(), b.as_str(), c.as_str(), &digest[..])).collect()
}

/// Stores the version, unless the draft changed meanwhile or is the newest version already.
async fn store(
    app: &App,
    workspace: &WorkspaceId,
    actor: &Actor,
    id: &TemplateId,
    draft: &Draft,
    files: &[VersionFile],
) -> Result<Stored, ActionError> {
    let now = app.now();
    let mut tx = app.store.begin().await?;
    let row = templates::lock(&mut tx, workspace, id).await?.ok_or(ActionError::NotFound("template"))?;
    let (before, row_modified) = (row.version, row.modified);
    if Draft::of(&mut tx, workspace, id, row).await? != *draft {
        return Ok(Stored::DraftChanged);
    }
    let digests: Vec<Vec<u8>> = files.iter().map(|file| digest(&file.bytes)).collect();
    let keys = files.iter().map(key_of);
    if let Some(newest) = before {
        let files = keys.clone().zip(&digests).map(|(key, digest)| (key.tier, key.variant, key.path, &digest[..]));
        if is_version(&mut tx, workspace, id, newest, draft, &files.collect()).await? {
            return Ok(Stored::Unchanged(newest));
        }
    }
    // In a fixed order, so that two publishings that share contents can't deadlock.
    let contents: BTreeMap<&[u8], &[u8]> =
        digests.iter().zip(files).map(|(digest, file)| (digest.as_slice(), &file.bytes[..])).collect();
    for (digest, content) in contents {
        templates::put_blob(&mut tx, workspace, digest, content).await?;
    }
    let fan_out = FanOutKey::publishing(workspace, id);
    fan_outs::start(&mut tx, &fan_out, now).await?;
    let position = workspaces::next_position(&mut tx, workspace).await?;
    // Read after the position was reserved: no change of a card can commit in between with a later Last-Modified.
    let newest = cards::newest_of_template(&mut tx, workspace, id).await?.unwrap_or(0);
    let modified = now.seconds().max(newest + 1).max(row_modified + 1);
    let before = match before {
        Some(version) => version,
        None => templates::last_deleted_version(&mut tx, workspace, id).await?,
    };
    let version = before + 1;
    fan_outs::set_first(&mut tx, &fan_out, position).await?;
    let publication = Publication { version, position, modified };
    templates::publish(&mut tx, workspace, id, &draft.document, &publication, now).await?;
    for (key, digest) in keys.zip(&digests) {
        templates::put_file(&mut tx, workspace, id, version, &key, digest).await?;
    }
    let event = app.event(EventKind::TemplatePublished, None, json!({"template": id, "version": version}))?;
    events::record(&mut tx, workspace, actor, position, now, &[event]).await?;
    tx.commit().await?;
    Ok(Stored::New(version))
}
