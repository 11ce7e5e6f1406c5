//! Prepares what all passes of one published version share: pictures at every scale, string tables, hashes, and the
//! laid-out archive for every look. A look is what a card shows, not whose card it is: a thousand cards with six stamps
//! share one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

use crate::domain::templates::Template;
use crate::domain::templates::picture::{Look, PictureName};
use crate::wallets::apple::package::archive::{SharedFiles, TooLarge};
use crate::wallets::apple::package::strings;
use crate::wallets::images::{Fit, ImageError, VersionFile, at_scale, decode, file_name};

/// The most looks of a version that are kept laid out.
const MAX_LOOKS: usize = 200;
/// The most bytes of looks of a version that are kept laid out; others are laid out for each pass.
pub const MAX_LOOK_BYTES: usize = 16 * 1024 * 1024;

/// A picture of a design at all its scales.
#[derive(Debug, Clone)]
pub struct Picture {
    /// The picture's role, and which of the role's pictures it is.
    pub name: PictureName,
    /// The language it is for; all when absent.
    pub locale: Option<String>,
    /// The tier it is for; all when absent.
    pub tier: Option<String>,
    /// The file names without folder and the PNGs, at every scale.
    pub scales: Arc<Vec<(String, Bytes)>>,
}

/// Returns the picture files of a version.
pub fn picture_files(pictures: &[Picture]) -> Vec<VersionFile> {
    let mut files = Vec::new();
    for picture in pictures {
        let folder = picture.locale.as_ref().map_or_else(String::new, |locale| format!("{locale}.lproj/"));
        files.extend(picture.scales.iter().map(|(name, bytes)| VersionFile {
            tier: picture.tier.clone(),
            variant: picture.name.variant.clone(),
            path: format!("{folder}{name}"),
            bytes: bytes.clone(),
        }));
    }
    files
}

/// Returns an upload of that role at every scale. Slow (tenths of a second) and memory-hungry (see [`decode`]): off the
/// async threads.
///
/// # Errors
/// When the picture can't be decoded.
pub fn scales(role: &str, fit: Fit, upload: &[u8]) -> Result<Vec<(String, Bytes)>, ImageError> {
    let picture = decode(upload)?;
    (1..=3).map(|scale| Ok((file_name(role, scale), at_scale(&picture, fit, scale)?.into()))).collect()
}

/// Returns the folders of a pass's languages.
pub fn folders(template: &Template) -> BTreeSet<String> {
    strings::languages(template).iter().map(|(language, _)| strings::folder(language)).collect()
}

/// Returns the picture files in a pass of that look, by their paths.
///
/// For each role and language the most specific picture is taken: that of the chosen variant and the tier, of the
/// variant, of the tier, else the common one. A picture at the root hides those in the languages' folders, so a role
/// whose pictures differ between languages is written to every folder and not to the root; the icon alone must always
/// be at the root.
pub fn laid_out<'f>(folders: &BTreeSet<String>, files: &'f [VersionFile], look: &Look) -> BTreeMap<String, &'f Bytes> {
    let mut folders = folders.clone();
    folders.extend(files.iter().map(|f| f.folder().to_owned()).filter(|folder| !folder.is_empty()));
    let mut by_role: BTreeMap<&str, Vec<&VersionFile>> = BTreeMap::new();
    for file in files {
        by_role.entry(file.role()).or_default().push(file);
    }
    let mut out = BTreeMap::new();
    for (role, files) in by_role {
        let (tier, variant) = (look.tier.as_deref(), look.variant(role));
        let ranks = [(tier, variant), (None, variant), (tier, None), (None, None)];
        // The most specific files in one of these folders.
        let pick = |wanted: &[&str]| {
            ranks.iter().find_map(|(tier, variant)| {
                let found = files.iter().filter(|f| f.tier.as_deref() == *tier && f.variant.as_deref() == *variant);
                let found: Vec<&&VersionFile> = found.collect();
                let folder = wanted.iter().find(|folder| found.iter().any(|f| f.folder() == **folder))?;
                Some(found.into_iter().filter(|f| f.folder() == *folder).copied().collect::<Vec<&VersionFile>>())
            })
        };
        let root = pick(&[""]);
        let picks: Vec<(&String, Option<Vec<&VersionFile>>)> =
            folders.iter().map(|folder| (folder, pick(&[folder.as_str(), ""]))).collect();
        let mut put = |folder: &str, files: &[&'f VersionFile]| {
            let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
            out.extend(files.iter().map(|f| (format!("{prefix}{}", f.name()), &f.bytes)));
        };
        let first = |files: &Option<Vec<&VersionFile>>| files.as_ref().and_then(|f| Some(f.first()?.path.clone()));
        let same = picks.iter().all(|(_, pick)| first(pick) == first(&root));
        if !same {
            for (folder, pick) in &picks {
                put(folder, pick.as_deref().unwrap_or_default());
            }
        }
        if same || role == "icon" {
            let any = || picks.iter().find_map(|(_, pick)| pick.clone());
            put("", &root.clone().or_else(any).unwrap_or_default());
        }
    }
    out
}

/// The shared parts of every pass of a version.
#[derive(Debug)]
pub struct PreparedPasses {
    folders: BTreeSet<String>,
    pictures: Vec<VersionFile>,
    /// The looks laid out so far, each with or without the fixed string tables among its files.
    looks: Mutex<BTreeMap<(Look, bool), Arc<SharedFiles>>>,
    tiers: BTreeSet<String>,
    variants: BTreeSet<(String, String)>,
    /// The path, the index of the language's texts, and the fixed entries of each string table.
    tables: Vec<(String, usize, String)>,
    /// Whether every card has entries of its own, so that its tables are written for each card.
    own_tables: bool,
    files_hashed: u64,
}

impl PreparedPasses {
    /// Lays out and hashes the files of a version. The order of the files doesn't matter; equal files give equal bytes.
    ///
    /// # Errors
    /// When they don't fit into a ZIP archive.
    pub fn new(template: &Template, pictures: Vec<VersionFile>) -> Result<Self, TooLarge> {
        let tables: Vec<(String, usize, String)> = strings::languages(template)
            .into_iter()
            .map(|(language, place)| {
                let path = format!("{}/pass.strings", strings::folder(&language));
                (path, place, strings::fixed_entries(template, place))
            })
            .collect();
        let own_tables = template.phrases().iter().any(|p| p.varied && p.fixed.is_none());
        let tiers: BTreeSet<String> = pictures.iter().filter_map(|f| f.tier.clone()).collect();
        let variants = pictures.iter().filter_map(|f| Some((f.role().to_owned(), f.variant.clone()?))).collect();
        let mut prepared = Self {
            folders: folders(template),
            pictures,
            looks: Mutex::default(),
            tiers,
            variants,
            tables,
            own_tables,
            files_hashed: 0,
        };
        // The looks of the tiers are laid out now, those of chosen pictures when the first card shows them.
        let looks = std::iter::once(None).chain(prepared.tiers.iter().cloned().map(Some));
        for tier in looks.collect::<Vec<_>>() {
            if prepared.look_bytes() >= MAX_LOOK_BYTES {
                break;
            }
            let look = Look { tier, chosen: Vec::new() };
            prepared.files_hashed += prepared.lay_out(look, !own_tables)?.1;
        }
        Ok(prepared)
    }

    fn lay_out(&self, look: Look, with_tables: bool) -> Result<(Arc<SharedFiles>, u64), TooLarge> {
        let pictures = laid_out(&self.folders, &self.pictures, &look);
        let mut chosen: BTreeMap<&str, &[u8]> =
            pictures.iter().map(|(path, bytes)| (path.as_str(), &bytes[..])).collect();
        if with_tables {
            chosen.extend(self.tables.iter().map(|(path, _, table)| (path.as_str(), table.as_bytes())));
        }
        let count = chosen.len() as u64;
        let shared = Arc::new(SharedFiles::new(chosen)?);
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let held = |looks: &BTreeMap<(Look, bool), Arc<SharedFiles>>| {
            looks.values().map(|files| files.memory()).sum::<usize>() + shared.memory()
        };
        if looks.len() >= MAX_LOOKS || held(&looks) > MAX_LOOK_BYTES {
            looks.retain(|(look, _), _| look.chosen.is_empty());
        }
        if held(&looks) <= MAX_LOOK_BYTES {
            looks.insert((look, with_tables), Arc::clone(&shared));
        }
        Ok((shared, count))
    }

    fn look_bytes(&self) -> usize {
        let looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.values().map(|files| files.memory()).sum()
    }

    /// Returns about how many bytes this takes in memory: pictures, tables, and the looks laid out now or later.
    pub fn memory(&self) -> usize {
        let tables = self.tables.iter().map(|(path, _, table)| path.len() + table.len());
        let looks =
            if self.variants.is_empty() { self.look_bytes() } else { MAX_LOOK_BYTES.min(8 * self.picture_bytes()) };
        self.picture_bytes() + tables.sum::<usize>() + looks + 256 * self.pictures.len()
    }

    /// Returns the shared files for a card of that look; `with_tables` when the card has no string tables of its own.
    ///
    /// # Errors
    /// When they don't fit into a ZIP archive.
    pub fn files(&self, look: &Look, with_tables: bool) -> Result<Arc<SharedFiles>, TooLarge> {
        let key = (self.known(look), with_tables);
        let ready = self.looks.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        match ready {
            Some(shared) => Ok(shared),
            None => Ok(self.lay_out(key.0, with_tables)?.0),
        }
    }

    /// Returns a role's largest picture in that look and language, for web pages.
    pub fn picture(&self, look: &Look, language: &str, role: &str) -> Option<Bytes> {
        let files = laid_out(&self.folders, &self.pictures, &self.known(look));
        let name = format!("{role}@3x.png");
        files.get(&format!("{language}.lproj/{name}")).or_else(|| files.get(&name)).map(|bytes| (*bytes).clone())
    }

    /// Returns how many bytes the pictures have.
    pub fn picture_bytes(&self) -> usize {
        self.pictures.iter().map(|file| file.bytes.len()).sum()
    }

    /// Returns the look without what makes no difference in this version, so that as many cards as possible share one.
    fn known(&self, look: &Look) -> Look {
        Look {
            tier: look.tier.clone().filter(|tier| self.tiers.contains(tier)),
            chosen: look.chosen.iter().filter(|name| self.has_picture(name)).cloned().collect(),
        }
    }

    /// Whether the version has that picture among those prepared for its role.
    pub fn has_picture(&self, name: &PictureName) -> bool {
        let variant = name.variant.clone();
        variant.is_some_and(|variant| self.variants.contains(&(name.role.to_owned(), variant)))
    }

    /// Returns how many files were hashed to prepare this, for the counter that shows it happens once.
    pub fn files_hashed(&self) -> u64 {
        self.files_hashed
    }

    /// Returns the string tables with one card's own entries, if the card has any or the template has phrases that hold
    /// a card's values.
    pub fn own_tables(&self, own_entries: &[String]) -> Vec<(&str, String)> {
        let tables = self.tables.iter().filter(|_| self.own_tables || !own_entries.is_empty());
        tables
            .map(|(path, place, fixed)| {
                (path.as_str(), format!("{fixed}{}", own_entries.get(*place).map_or("", String::as_str)))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn template() -> Template {
        let document = json!({"name": "n", "organization": "o", "languages": ["lv", "ru"], "fields": {}, "apple": {"style": "storeCard"}});
        Template::parse(&document).expect("valid")
    }

    fn file(tier: &str, variant: &str, path: &str) -> VersionFile {
        let some = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty());
        let bytes = Bytes::from(format!("{tier}/{variant}/{path}"));
        VersionFile { tier: some(tier), variant: some(variant), path: path.to_owned(), bytes }
    }

    fn shown(files: &[VersionFile], tier: &str, chosen: &[&str]) -> Vec<(String, String)> {
        let chosen = chosen.iter().map(|name| PictureName::parse(name).expect("a name")).collect();
        let look = Look { tier: Some(tier.to_owned()), chosen };
        let laid = laid_out(&folders(&template()), files, &look);
        laid.into_iter().map(|(path, bytes)| (path, String::from_utf8_lossy(bytes).into_owned())).collect()
    }

    fn expect(files: &[VersionFile], tier: &str, chosen: &[&str], expected: &[(&str, &str)]) {
        let expected: Vec<(String, String)> =
            expected.iter().map(|(path, content)| ((*path).to_owned(), (*content).to_owned())).collect();
        assert_eq!(shown(files, tier, chosen), expected);
    }

    #[test]
    fn the_most_special_picture_is_shown() {
        let files = [
            file("", "", "strip.png"),
            file("gold", "", "strip.png"),
            file("", "6", "strip.png"),
            file("gold", "7", "strip.png"),
        ];
        expect(&files, "basic", &[], &[("strip.png", "//strip.png")]);
        expect(&files, "gold", &[], &[("strip.png", "gold//strip.png")]);
        expect(&files, "gold", &["strip@6"], &[("strip.png", "/6/strip.png")]);
        expect(&files, "gold", &["strip@7"], &[("strip.png", "gold/7/strip.png")]);
        expect(&files, "basic", &["strip@7"], &[("strip.png", "//strip.png")]);
    }

    #[test]
    fn a_picture_that_differs_between_languages_never_stands_at_the_root() {
        let files = [file("", "", "logo.png"), file("gold", "", "lv.lproj/logo.png")];
        expect(&files, "basic", &[], &[("logo.png", "//logo.png")]);
        expect(
            &files,
            "gold",
            &[],
            &[
                ("en.lproj/logo.png", "//logo.png"),
                ("lv.lproj/logo.png", "gold//lv.lproj/logo.png"),
                ("ru.lproj/logo.png", "//logo.png"),
            ],
        );
        expect(&[file("", "", "ru.lproj/logo.png")], "x", &[], &[("ru.lproj/logo.png", "//ru.lproj/logo.png")]);
    }

    #[test]
    fn the_icon_always_stands_at_the_root() {
        let only = [file("", "", "ru.lproj/icon.png")];
        expect(&only, "x", &[], &[("icon.png", "//ru.lproj/icon.png"), ("ru.lproj/icon.png", "//ru.lproj/icon.png")]);
    }
}
