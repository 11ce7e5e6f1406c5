//! Exports a template's draft as an archive, and imports a template from one: ours, a pass, or a `.pkpasstemplate`.
//!
//! Our archive holds `template.json`, the document with its `id`, and the pictures as they were uploaded:
//! `images/[<language>.lproj/][<tier>.tier/]<role>[@<name>].<png, jpg or webp>`, a tier's name percent-encoded.

use std::collections::HashSet;
use std::io::{Cursor, Write};
use std::sync::Arc;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Value, json};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::actions::audit::record;
use crate::actions::error::ActionError;
use crate::actions::retry::retry;
use crate::actions::templates::draft::Draft;
use crate::actions::templates::images::{ImagePlace, LARGEST_PICTURE, MAX_BYTES, MAX_PICTURES, usable};
use crate::actions::templates::put_template::{LARGEST_DOCUMENT, checked, get_template, new_id, take_added};
use crate::app::App;
use crate::domain::actor::Actor;
use crate::domain::audit::AuditAction;
use crate::domain::checks::Severity;
use crate::domain::ids::{TemplateId, WorkspaceId};
use crate::domain::input::{Problems, normalise_line_ends, pointer};
use crate::platform::secrets::digest;
use crate::store::templates::{self, ImageRow};
use crate::wallets::apple::import::{PASS, design_of_pass};
use crate::wallets::apple::inspect::unpack::unpack;
use crate::wallets::apple::rules::Files;
use crate::wallets::apple::rules::report::Report;
use crate::wallets::images::media_type;

/// The document's file in our archives.
const DOCUMENT: &str = "template.json";
/// The folder of the pictures in our archives.
const PICTURES: &str = "images/";
/// The characters of a tier's name that are not encoded.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// Returns a template's draft as an archive.
///
/// # Errors
/// When there is no such template.
pub async fn export_template(app: &App, workspace: &WorkspaceId, id: &TemplateId) -> Result<Vec<u8>, ActionError> {
    let mut document = get_template(app, workspace, id).await?;
    let _ = document.as_object_mut().map(|members| members.shift_remove("published_version"));
    let _turn = app.archives.acquire().await.map_err(|_| ActionError::ShuttingDown)?;
    let draft = Draft::read(app, workspace, id).await?;
    let mut files = vec![(DOCUMENT.to_owned(), serde_json::to_vec_pretty(&document).unwrap_or_default())];
    for row in draft.pictures {
        let content = templates::blob(&mut app.store.read().await?, workspace, &row.digest).await?;
        let content = content.ok_or(ActionError::NotFound("image"))?;
        files.push((path_of(&row), content));
    }
    let packed = tokio::task::spawn_blocking(move || pack(&files)).await;
    packed
        .map_err(|_| ActionError::Fault("packing panicked".to_owned()))?
        .map_err(|e| ActionError::Fault(e.to_string()))
}

fn path_of(row: &ImageRow) -> String {
    let mut path = PICTURES.to_owned();
    if !row.locale.is_empty() {
        path = format!("{path}{}.lproj/", row.locale);
    }
    if !row.tier.is_empty() {
        path = format!("{path}{}.tier/", utf8_percent_encode(&row.tier, PLAIN));
    }
    let kind = match media_type(&row.beginning) {
        Some("image/jpeg") => "jpg",
        Some("image/webp") => "webp",
        _ => "png",
    };
    format!("{path}{}.{kind}", row.role)
}

/// Returns which picture a file of our archive is.
fn place_of(path: &str) -> Option<ImagePlace> {
    let (mut locale, mut tier) = (None, None);
    let mut rest = path.strip_prefix(PICTURES)?;
    if let Some((language, inner)) = rest.split_once(".lproj/") {
        (locale, rest) = (Some(language), inner);
    }
    if let Some((name, inner)) = rest.split_once(".tier/") {
        (tier, rest) = (Some(percent_decode_str(name).decode_utf8().ok()?), inner);
    }
    let (role, _) = rest.rsplit_once('.')?;
    ImagePlace::parse(role, locale, tier.as_deref()).ok()
}

fn pack(files: &[(String, Vec<u8>)]) -> Result<Vec<u8>, zip::result::ZipError> {
    // Reserved at once: growing by doubling, it would take up to three times its size.
    let size = files.iter().map(|(path, content)| content.len() + 2 * path.len() + 128).sum::<usize>() + 1024;
    let mut archive = ZipWriter::new(Cursor::new(Vec::with_capacity(size)));
    for (path, content) in files {
        // Entries have no time, so that equal drafts give equal bytes. Pictures are compressed already, and one that
        // compresses well would look like a zip bomb.
        archive
            .start_file(path.as_str(), SimpleFileOptions::default().compression_method(CompressionMethod::Stored))?;
        archive.write_all(content)?;
    }
    Ok(archive.finish()?.into_inner())
}

/// The content of an archive, to be stored.
#[derive(Debug)]
struct Found {
    document: Value,
    pictures: Vec<FoundPicture>,
    /// Adds a problem of the document at its pointer in the archive.
    tell: fn(&mut Problems, &str, &str),
}

#[derive(Debug)]
struct FoundPicture {
    place: ImagePlace,
    path: String,
    bytes: Vec<u8>,
}

/// Creates a template from an archive, as a draft; nothing is published. Its id is `wanted`, else the archive's unless
/// a template has it already, else a generated one.
///
/// # Errors
/// Every problem of the archive, at its pointer there; [`ActionError::TemplateExists`] when the wanted id is in use.
/// Then nothing is stored.
pub async fn import_template(
    app: &App,
    workspace: &WorkspaceId,
    actor: &Actor,
    wanted: Option<TemplateId>,
    archive: Bytes,
) -> Result<TemplateId, ActionError> {
    let _turn = app.archives.acquire().await.map_err(|_| ActionError::ShuttingDown)?;
    let found = tokio::task::spawn_blocking(move || read(&archive)).await;
    let found = found.map_err(|_| ActionError::Fault("unpacking panicked".to_owned()))?;
    let Found { mut document, pictures, tell } = found?;
    let [own_id, _] = take_added(&mut document);
    let mut problems = Problems::new();
    let document = Arc::new(document);
    match checked(app, &document, Problems::new()).await {
        Ok(()) => {}
        Err(ActionError::Invalid(all)) => {
            all.into_vec().iter().for_each(|problem| tell(&mut problems, &problem.pointer, &problem.detail));
        }
        Err(error) => return Err(error),
    }
    if pictures.len() > MAX_PICTURES
        || pictures.iter().map(|picture| picture.bytes.len() as i64).sum::<i64>() > MAX_BYTES
    {
        problems.add("", format!("is too much: a template has at most {MAX_PICTURES} pictures of 64 MiB together"));
    }
    for picture in pictures.iter().filter(|picture| picture.bytes.len() > LARGEST_PICTURE) {
        let size = picture.bytes.len();
        problems.add(pointer("", &picture.path), format!("has {size} bytes; expected at most {LARGEST_PICTURE}"));
    }
    problems.or(Some(()))?;
    let (mut problems, mut kept) = (Problems::new(), Vec::new());
    for FoundPicture { place, path, bytes } in pictures {
        match usable(app, bytes.into()).await? {
            Ok(bytes) => kept.push((place, digest(&bytes), bytes)),
            Err(why) => problems.add(pointer("", &path), why),
        }
    }
    problems.or(Some(()))?;
    let own_id = own_id.and_then(|id| TemplateId::parse(id.as_str()?).ok());
    let explicit = wanted.is_some();
    let first = wanted.or(own_id).map_or_else(|| new_id(app), Ok)?;
    // In a fixed order, so that two imports that share pictures can't deadlock.
    kept.sort_by(|(_, a, _), (_, b, _)| a.cmp(b));
    retry(app, async || {
        let mut tx = app.store.begin().await?;
        let mut id = first.clone();
        if !templates::insert_draft(&mut tx, workspace, &id, &document, app.now()).await? {
            if explicit {
                return Err(ActionError::TemplateExists);
            }
            id = new_id(app)?;
            templates::insert_draft(&mut tx, workspace, &id, &document, app.now()).await?;
        }
        for (place, digest, bytes) in &kept {
            templates::put_blob(&mut tx, workspace, digest, bytes).await?;
            templates::put_image(&mut tx, workspace, &id, &place.key(), digest).await?;
        }
        let done = (AuditAction::TemplateImported, id.as_str(), json!({}));
        record(app, &mut tx, workspace, actor, &[done]).await?;
        tx.commit().await?;
        Ok(id)
    })
    .await
}

fn read(archive: &[u8]) -> Result<Found, Problems> {
    let mut report = Report::default();
    let unpacked = unpack(archive, &mut report);
    let mut problems = Problems::new();
    // Such bundles are usually packed inside a folder, so a nested root is allowed.
    for issue in report.finish() {
        // Names that differ only in case are different pictures here.
        if issue.severity == Severity::Error && !["zip-nested-root", "zip-case-collision"].contains(&issue.rule) {
            let at = if issue.pointer.is_empty() { String::new() } else { pointer("", &issue.pointer) };
            problems.add(at, issue.detail);
        }
    }
    problems.or(Some(()))?;
    let mut files = unpacked.files;
    let document = files.keys().find(|path| path.rsplit('/').next() == Some(DOCUMENT)).cloned();
    match document {
        Some(path) => {
            let folder = path.strip_suffix(DOCUMENT).unwrap_or_default();
            read_ours(files.remove(&path).unwrap_or_default(), folder, files)
        }
        None if files.contains_key(PASS) => read_pass(&files),
        None => Err(Problems::one("", format!("is no template: expected {DOCUMENT} (our export) or {PASS} in it"))),
    }
}

fn read_ours(document: Vec<u8>, folder: &str, files: Files) -> Result<Found, Problems> {
    if document.len() > LARGEST_DOCUMENT {
        let size = document.len();
        return Err(Problems::one(
            pointer("", DOCUMENT),
            format!("has {size} bytes; expected at most {LARGEST_DOCUMENT}"),
        ));
    }
    let mut document = serde_json::from_slice(&document).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        Problems::one(pointer("", DOCUMENT), format!("is not JSON at line {line}, column {column}"))
    })?;
    normalise_line_ends(&mut document);
    let (mut pictures, mut problems, mut places) = (Vec::new(), Problems::new(), HashSet::new());
    for (path, bytes) in files {
        let inner = path.strip_prefix(folder).unwrap_or(&path);
        if inner.starts_with("__MACOSX/") || inner.rsplit('/').next().is_some_and(|name| name.starts_with('.')) {
            continue;
        }
        match place_of(inner) {
            Some(place) if places.insert(format!("{:?}", place.key())) => {
                pictures.push(FoundPicture { place, path, bytes });
            }
            Some(_) => problems.add(pointer("", &path), "is a second picture for the same place; keep one"),
            None => {
                let expected = "images/[<language>.lproj/][<tier>.tier/]<role>[@<name>].png";
                problems.add(pointer("", &path), format!("is no file of a template; expected {expected}"));
            }
        }
    }
    let tell = |problems: &mut Problems, at: &str, detail: &str| problems.add(format!("/{DOCUMENT}{at}"), detail);
    problems.or(Some(Found { document, pictures, tell }))
}

fn read_pass(files: &Files) -> Result<Found, Problems> {
    let mut design = design_of_pass(files)?;
    normalise_line_ends(&mut design.document);
    let pictures = design.pictures.into_iter().filter_map(|picture| {
        let language = picture.language.as_ref().map(crate::domain::values::locale::Language::as_str);
        let place = ImagePlace::parse(picture.role, language, None).ok()?;
        Some(FoundPicture { place, path: picture.path, bytes: picture.bytes })
    });
    let tell = |problems: &mut Problems, at: &str, detail: &str| {
        problems.add(format!("/{PASS}"), format!("makes a template document in which {at} {detail}"));
    };
    Ok(Found { document: design.document, pictures: pictures.collect(), tell })
}
