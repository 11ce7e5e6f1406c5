//! The names of packaged files: what belongs in a pass and what was packed by accident.

use super::report::{Report, quoted};
use super::{Files, images};

/// The files that a pass consists of or is made from, apart from pictures and translations.
const KNOWN: [&str; 5] = ["pass.json", "manifest.json", "signature", "personalization.json", "tooling.json"];

pub fn check(files: &Files, report: &mut Report) {
    let mut folders = std::collections::BTreeSet::new();
    for path in files.keys() {
        if is_junk(path) {
            report.warning("zip-junk-file", path, "is a leftover of an operating system or editor; leave it out");
            continue;
        }
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
        if let Some(language) = folder.strip_suffix(".lproj") {
            if !is_language(language) && folders.insert(folder) {
                let detail = format!("{} is not a language tag like en, pt-BR or zh-Hans", quoted(language));
                report.warning("lproj-name", folder, detail);
            }
        } else if name == "pass.strings" {
            let detail = "lies outside a language's folder such as en.lproj, so nobody reads it";
            report.warning("strings-misplaced", path, detail);
            continue;
        }
        let known = match folder {
            "" => KNOWN.contains(&name),
            _ => folder.ends_with(".lproj") && name == "pass.strings",
        };
        let image = images::looks_like_image(name) && (folder.is_empty() || folder.ends_with(".lproj"));
        if !known && !image {
            report.warning("file-unknown", path, "a pass does not use this file");
        }
    }
}

fn is_junk(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    path.starts_with("__MACOSX/")
        || path.split('/').any(|part| matches!(part, ".git" | ".svn" | ".hg"))
        || matches!(name, ".DS_Store" | "Thumbs.db" | "desktop.ini" | ".gitignore" | ".gitkeep")
        || name.starts_with("._")
        || name.ends_with('~')
        || name.ends_with(".swp")
        || name.ends_with(".bak")
}

/// Whether a text has the form of BCP 47: a language of two or three letters, then parts of two to eight.
fn is_language(text: &str) -> bool {
    let mut parts = text.split('-');
    let language = parts.next().unwrap_or_default();
    matches!(language.len(), 2 | 3)
        && language.bytes().all(|c| c.is_ascii_lowercase())
        && parts.all(|part| (2..=8).contains(&part.len()) && part.bytes().all(|c| c.is_ascii_alphanumeric()))
}
