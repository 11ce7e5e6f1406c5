//! What all passes of one published version share, made once: pictures at every scale, string tables, hashes, and
//! the laid-out archive for every look.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::archive::{SharedFiles, TooLarge};
use super::images::{Fit, ImageError, at_scale, decode, file_name};
use super::strings;
use crate::domain::template::Template;

/// A picture of a design, brought to its sizes.
#[derive(Debug, Clone)]
pub struct Picture {
    /// Apple's name of the image, without scale.
    pub role: String,
    /// For which language; all when absent.
    pub locale: Option<String>,
    /// For which tier; all when absent.
    pub tier: Option<String>,
    /// At every scale: file names without folder, and PNGs.
    pub scales: Arc<Vec<(String, Bytes)>>,
}

/// A ready file of a pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassFile {
    /// The tier whose cards have it instead of the common file of that path; all cards when absent.
    pub tier: Option<String>,
    /// Its path in the archive.
    pub path: String,
    /// Its content.
    pub bytes: Bytes,
}

/// The picture files of a version: what lies where in a pass.
pub fn picture_files(template: &Template, pictures: &[Picture]) -> Vec<PassFile> {
    let mut files = Vec::new();
    for (place, picture) in pictures.iter().enumerate() {
        let same = |other: &&Picture| other.role == picture.role && other.tier == picture.tier;
        // A picture at the root hides those in the languages' folders, so a role that some language has a picture
        // for stands in every folder and not at the root; only the icon must stand at the root whatever happens.
        let localised = pictures.iter().filter(same).any(|p| p.locale.is_some());
        let icon = picture.role == "icon";
        let mut folders: Vec<String> = match &picture.locale {
            Some(locale) => vec![format!("{locale}.lproj/")],
            None if localised && !icon => strings::languages(template)
                .iter()
                .map(|(language, _)| language.as_str())
                .filter(|language| !pictures.iter().filter(same).any(|p| p.locale.as_deref() == Some(*language)))
                .map(|language| format!("{language}.lproj/"))
                .collect(),
            None => vec![String::new()],
        };
        let first = pictures.iter().position(|p| same(&p)) == Some(place);
        if icon && first && pictures.iter().filter(same).all(|p| p.locale.is_some()) {
            folders.push(String::new());
        }
        for (name, bytes) in picture.scales.iter() {
            for folder in &folders {
                let path = format!("{folder}{name}");
                files.push(PassFile { tier: picture.tier.clone(), path, bytes: bytes.clone() });
            }
        }
    }
    files
}

/// An upload of that role at every scale. Slow (tenths of a second) and hungry (see [`decode`]): off the async threads.
///
/// # Errors
/// When the picture can't be decoded.
pub fn scales(role: &str, fit: Fit, upload: &[u8]) -> Result<Vec<(String, Bytes)>, ImageError> {
    let picture = decode(upload)?;
    (1..=3).map(|scale| Ok((file_name(role, scale), at_scale(&picture, fit, scale)?.into()))).collect()
}

/// The shared parts of every pass of a version.
#[derive(Debug)]
pub struct PreparedPasses {
    common: SharedFiles,
    by_tier: BTreeMap<String, SharedFiles>,
    /// Folder and fixed entries of each language, when cards have entries of their own, so that the tables are written per card.
    tables: Option<Vec<(String, usize, String)>>,
    files_hashed: u64,
}

impl PreparedPasses {
    /// Lays out and hashes the files of a version. The order of the files doesn't matter; equal files give equal bytes.
    ///
    /// # Errors
    /// When they don't fit into a ZIP archive.
    pub fn new(template: &Template, files: &[PassFile]) -> Result<Self, TooLarge> {
        let tables: Vec<(String, usize, String)> = strings::languages(template)
            .into_iter()
            .map(|(language, place)| {
                let path = format!("{}/pass.strings", strings::folder(&language));
                (path, place, strings::fixed_entries(template, place))
            })
            .collect();
        let own_tables = template.phrases().iter().any(|p| p.varied && p.fixed.is_none());
        let tiers: BTreeSet<&str> = files.iter().filter_map(|f| f.tier.as_deref()).collect();
        let mut files_hashed = 0;
        let mut lay_out = |tier: Option<&str>| {
            let mut chosen: BTreeMap<&str, &[u8]> = BTreeMap::new();
            for wanted in [None, tier] {
                let of_tier = files.iter().filter(|f| f.tier.as_deref() == wanted);
                chosen.extend(of_tier.map(|f| (f.path.as_str(), &f.bytes[..])));
            }
            if !own_tables {
                chosen.extend(tables.iter().map(|(path, _, table)| (path.as_str(), table.as_bytes())));
            }
            files_hashed += chosen.len() as u64;
            SharedFiles::new(chosen)
        };
        let common = lay_out(None)?;
        let by_tier =
            tiers.into_iter().map(|tier| Ok((tier.to_owned(), lay_out(Some(tier))?))).collect::<Result<_, _>>()?;
        Ok(Self { common, by_tier, tables: own_tables.then_some(tables), files_hashed })
    }

    /// The shared files for a card of that tier.
    pub fn files(&self, tier: Option<&str>) -> &SharedFiles {
        tier.and_then(|tier| self.by_tier.get(tier)).unwrap_or(&self.common)
    }

    /// How many files were hashed to prepare this; for the counter that shows it happens once.
    pub fn files_hashed(&self) -> u64 {
        self.files_hashed
    }

    /// The string tables with one card's own entries, when the template has phrases that hold a card's values.
    pub fn own_tables(&self, own_entries: &[String]) -> Vec<(&str, String)> {
        let tables = self.tables.iter().flatten();
        tables
            .map(|(path, place, fixed)| {
                (path.as_str(), format!("{fixed}{}", own_entries.get(*place).map_or("", String::as_str)))
            })
            .collect()
    }
}
