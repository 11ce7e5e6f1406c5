//! The card templates that come with the product, built into the binary.
//!
//! A starter is a folder under `templates/cards`: `template.json`, the document as the API takes it plus its `id`, and
//! `images/<role>[.<tier>].svg`, our own drawings, which are rendered to PNGs when needed. To add one, add a folder.

use std::collections::BTreeSet;

use rust_embed::RustEmbed;
use serde_json::Value;

use crate::wallets::drawings::{self, PictureError};

#[derive(RustEmbed)]
#[folder = "templates/cards"]
struct Files;

/// A template with its pictures, ready to be loaded into a workspace.
#[derive(Debug, Clone)]
pub struct Starter {
    /// The template's id, e.g. `bakery-points`.
    pub id: String,
    /// The template document, without the id.
    pub document: Value,
    /// Its pictures, in the order of their file names.
    pub images: Vec<StarterImage>,
}

/// One picture of a starter, at three times its points.
#[derive(Debug, Clone)]
pub struct StarterImage {
    /// The role, e.g. `strip`.
    pub role: String,
    /// The tier whose look this picture belongs to, as the document spells it, e.g. `Gold`; `None` is for every look
    /// without a picture of its own.
    pub tier: Option<String>,
    /// The picture.
    pub png: Vec<u8>,
}

/// The reason why a starter can't be used. All of them are mistakes in this repository, never of an operator.
#[derive(Debug, thiserror::Error)]
#[error("starter template {folder}: {problem}")]
pub struct StarterError {
    /// The folder under `templates/cards`.
    pub folder: String,
    /// What is wrong with it.
    #[source]
    pub problem: StarterProblem,
}

/// What is wrong with a starter.
#[derive(Debug, thiserror::Error)]
pub enum StarterProblem {
    /// A file that every starter needs is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// The document isn't JSON.
    #[error("template.json: {0}")]
    Json(#[from] serde_json::Error),
    /// A picture's file name has no role that a wallet knows, or no tier of the document.
    #[error("{0} is not named <role>[.<tier>].svg")]
    Name(String),
    /// A drawing can't be rendered.
    #[error("{file}: {source}")]
    Picture {
        /// The drawing's name.
        file: String,
        /// The reason.
        source: PictureError,
    },
}

/// Returns all starters, in the order of their folders' names.
///
/// Renders every picture, which takes a moment: call it once, and not on a thread that answers requests.
///
/// # Errors
/// The first broken starter; a test prevents that in a release.
pub fn all() -> Result<Vec<Starter>, StarterError> {
    let folders: BTreeSet<String> =
        Files::iter().filter_map(|path| path.split_once('/').map(|(folder, _)| folder.to_owned())).collect();
    folders
        .into_iter()
        .map(|folder| read(&folder).map_err(|problem| StarterError { folder: folder.clone(), problem }))
        .collect()
}

/// Returns the ids of all starters, without rendering their pictures.
pub fn ids() -> Vec<String> {
    let documents = Files::iter().filter(|path| path.ends_with("/template.json")).filter_map(|path| Files::get(&path));
    documents
        .filter_map(|file| serde_json::from_slice::<Value>(&file.data).ok()?.get("id")?.as_str().map(ToOwned::to_owned))
        .collect()
}

fn read(folder: &str) -> Result<Starter, StarterProblem> {
    let file = Files::get(&format!("{folder}/template.json")).ok_or(StarterProblem::Missing("template.json"))?;
    let mut document: Value = serde_json::from_slice(&file.data)?;
    // `shift_remove` rather than `remove`: the other members keep their order, so equal documents stay equal bytes.
    let id = document.as_object_mut().and_then(|members| members.shift_remove("id"));
    let id = id.as_ref().and_then(Value::as_str).ok_or(StarterProblem::Missing("the id in template.json"))?.to_owned();

    let prefix = format!("{folder}/images/");
    let mut names: Vec<String> =
        Files::iter().filter_map(|path| path.strip_prefix(&prefix).map(ToOwned::to_owned)).collect();
    names.sort();
    let images = names.iter().map(|name| picture(&prefix, name, &document)).collect::<Result<_, _>>()?;
    Ok(Starter { id, document, images })
}

fn picture(prefix: &str, name: &str, document: &Value) -> Result<StarterImage, StarterProblem> {
    let unnamed = || StarterProblem::Name(name.to_owned());
    let stem = name.strip_suffix(".svg").ok_or_else(unnamed)?;
    let (role, slug) = stem.split_once('.').map_or((stem, None), |(role, slug)| (role, Some(slug)));
    let (width, height) = drawings::largest_box(role).ok_or_else(unnamed)?;
    let tier = slug.map(|slug| tier_of(slug, document).ok_or_else(unnamed)).transpose()?;
    let file = Files::get(&format!("{prefix}{name}")).ok_or_else(unnamed)?;
    let png = drawings::rasterise(&file.data, width, height)
        .map_err(|source| StarterProblem::Picture { file: name.to_owned(), source })?;
    Ok(StarterImage { role: role.to_owned(), tier, png })
}

/// Returns the tier whose lower-case name is the slug.
fn tier_of(slug: &str, document: &Value) -> Option<String> {
    let looks = document.pointer("/tiers/looks")?.as_object()?;
    looks.keys().find(|choice| choice.to_lowercase() == slug).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::values::colour::Colour;

    fn starters() -> Vec<Starter> {
        all().expect("every starter is whole")
    }

    fn texts<'a>(document: &'a Value, pointer: &str) -> Vec<&'a str> {
        document.pointer(pointer).and_then(Value::as_str).into_iter().collect()
    }

    fn fields(document: &Value) -> Vec<(&str, &Value)> {
        let groups = document["fields"].as_object().expect("fields");
        groups
            .iter()
            .flat_map(|(g, list)| list.as_array().expect("a list").iter().map(move |f| (g.as_str(), f)))
            .collect()
    }

    /// Returns the relative luminance of WCAG 2.2.
    fn luminance(rgb: [u8; 3]) -> f64 {
        let [r, g, b] = rgb.map(|c| {
            let c = f64::from(c) / 255.0;
            if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        });
        0.2126 * r + 0.7152 * g + 0.0722 * b
    }

    fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// Returns every look: its tier and its colours, those of the document where the look has none.
    fn looks(document: &Value) -> Vec<(Option<String>, [Colour; 3])> {
        let colours = |look: &Value| {
            ["background", "foreground", "label"].map(|name| {
                let text = look["colors"].get(name).or_else(|| document["colors"].get(name)).and_then(Value::as_str);
                Colour::parse(text.expect("a colour")).expect("a colour")
            })
        };
        let mut all = vec![(None, colours(document))];
        if let Some(looks) = document.pointer("/tiers/looks").and_then(Value::as_object) {
            all.extend(looks.iter().map(|(tier, look)| (Some(tier.clone()), colours(look))));
        }
        all
    }

    fn image_of(starter: &Starter, role: &str, tier: Option<&str>) -> image::RgbaImage {
        let found = starter.images.iter().find(|i| i.role == role && i.tier.as_deref() == tier);
        let found = found.or_else(|| starter.images.iter().find(|i| i.role == role && i.tier.is_none()));
        image::load_from_memory(&found.expect("the role has a picture").png).expect("a PNG").to_rgba8()
    }

    #[test]
    fn both_starters_are_there_and_say_what_they_are() {
        let ids: Vec<(String, Value, Value)> = starters()
            .into_iter()
            .map(|s| (s.id, s.document["kind"].clone(), s.document["apple"]["style"].clone()))
            .collect();
        assert_eq!(
            ids,
            [
                ("bakery-points".to_owned(), "points".into(), "storeCard".into()),
                ("club-tiers".to_owned(), "tiers".into(), "storeCard".into())
            ]
        );
        assert!(starters().iter().all(|s| s.document.get("id").is_none()), "the document is what the API takes");
    }

    #[test]
    fn no_more_fields_than_a_phone_shows_and_each_attribute_is_declared() {
        for Starter { id, document, .. } in starters() {
            let count = |group: &str| document["fields"][group].as_array().map_or(0, Vec::len);
            assert!(count("header") <= 3 && count("primary") <= 1, "{id}");
            assert!(count("secondary") + count("auxiliary") <= 4, "{id}");
            let keys: BTreeSet<&str> = fields(&document).iter().filter_map(|(_, f)| f["key"].as_str()).collect();
            assert_eq!(keys.len(), fields(&document).len(), "{id}: a key stands twice");
            let declared: Vec<&str> =
                document["attributes"].as_array().expect("a list").iter().filter_map(|a| a["name"].as_str()).collect();
            for (_, field) in fields(&document) {
                let value = field["value"].as_str().expect("a text");
                if let Some(name) = value.strip_prefix("{{ ").and_then(|v| v.strip_suffix(" }}")) {
                    let name = name.split(" | ").next().unwrap_or_default();
                    assert!(declared.contains(&name), "{id}: {name}");
                }
                if let Some(message) = field.get("change_message").and_then(Value::as_str) {
                    assert_eq!(message.matches("%@").count(), 1, "{id}: {message}");
                }
            }
        }
    }

    #[test]
    fn every_text_is_translated_and_no_translation_is_left_over() {
        for Starter { id, document, .. } in starters() {
            let mut wanted: BTreeSet<&str> = texts(&document, "/description").into_iter().collect();
            wanted.extend(texts(&document, "/logo_text"));
            for (group, field) in fields(&document) {
                wanted.extend(texts(field, "/label"));
                wanted.extend(texts(field, "/change_message"));
                let value = field["value"].as_str().expect("a text");
                // An address (of the web or of mail) is one word and the same in every language.
                if group == "back" && !value.contains("{{") && value.contains(' ') {
                    wanted.insert(value);
                }
            }
            for location in document["locations"].as_array().into_iter().flatten() {
                wanted.extend(texts(location, "/text"));
            }
            for language in document["languages"].as_array().expect("languages").iter().skip(1) {
                let language = language.as_str().expect("a tag");
                let table = document["strings"][language].as_object().expect("a table");
                let there: BTreeSet<&str> = table.keys().map(String::as_str).collect();
                assert_eq!(there, wanted, "{id}, {language}");
                for (text, translation) in table {
                    let translation = translation.as_str().expect("a text");
                    assert!(!translation.trim().is_empty(), "{id}, {language}: {text}");
                    assert_eq!(translation.matches("%@").count(), text.matches("%@").count(), "{id}: {translation}");
                }
            }
        }
    }

    #[test]
    fn every_picture_has_the_size_of_its_role_and_shows_something() {
        for starter in starters() {
            for role in ["icon", "logo", "strip"] {
                assert!(starter.images.iter().any(|i| i.role == role && i.tier.is_none()), "{}: no {role}", starter.id);
            }
            for image in &starter.images {
                let picture = image::load_from_memory(&image.png).expect("a PNG").to_rgba8();
                let name = format!("{} {} {:?}", starter.id, image.role, image.tier);
                let (width, height) = drawings::largest_box(&image.role).expect("a known role");
                let (w, h) = picture.dimensions();
                if image.role == "logo" {
                    assert!(w <= width && h <= height && (w == width || h == height), "{name}: {w} x {h}");
                    assert!(picture.pixels().any(|p| p.0[3] == 0), "{name}: not cut out");
                } else {
                    assert_eq!((w, h), (width, height), "{name}");
                    assert!(picture.pixels().all(|p| p.0[3] == 255), "{name}: not opaque");
                }
                let first = picture.get_pixel(0, 0);
                let other = picture.pixels().filter(|p| *p != first).count();
                assert!(other * 20 > (w * h) as usize, "{name}: nearly blank");
            }
        }
    }

    #[test]
    fn texts_stand_out_from_the_card_in_every_look() {
        for starter in starters() {
            for (tier, [background, foreground, label]) in looks(&starter.document) {
                for (what, colour) in [("foreground", foreground), ("label", label)] {
                    let ratio = contrast(background.rgb, colour.rgb);
                    assert!(ratio >= 4.5, "{} {tier:?}: {what} has {ratio:.2}", starter.id);
                }
            }
        }
    }

    #[test]
    fn the_primary_field_can_be_read_on_the_strip() {
        for starter in starters() {
            for (tier, [_, foreground, _]) in looks(&starter.document) {
                let strip = image_of(&starter, "strip", tier.as_deref());
                // Phones write text over the left and the middle; pictures keep to the right half.
                let worst = (0..strip.width() / 2)
                    .flat_map(|x| (60..380).map(move |y| (x, y)))
                    .map(|(x, y)| strip.get_pixel(x, y).0)
                    .map(|[r, g, b, _]| contrast(foreground.rgb, [r, g, b]))
                    .fold(f64::MAX, f64::min);
                assert!(worst >= 4.5, "{} {tier:?}: {worst:.2}", starter.id);
            }
        }
    }

    #[test]
    fn the_logo_stands_out_from_the_card_in_every_look() {
        for starter in starters() {
            for (tier, [background, ..]) in looks(&starter.document) {
                let logo = image_of(&starter, "logo", tier.as_deref());
                let solid: Vec<f64> = logo
                    .pixels()
                    .filter(|p| p.0[3] == 255)
                    .map(|p| contrast(background.rgb, [p.0[0], p.0[1], p.0[2]]))
                    .collect();
                let clear = solid.iter().filter(|ratio| **ratio >= 3.0).count();
                assert!(clear * 10 >= solid.len() * 8, "{} {tier:?}: {clear} of {}", starter.id, solid.len());
            }
        }
    }
}
