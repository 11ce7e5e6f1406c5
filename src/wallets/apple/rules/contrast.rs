//! Whether texts are readable: their contrast with what lies behind them (WCAG 2.2, 1.4.3: at least 3 to 1 for large
//! text).

use std::io::Cursor;

use serde_json::Value;

use super::report::Report;
use super::{Files, Pass, list};
use crate::domain::values::colour::Colour;

/// The lowest contrast at which large text is readable.
const LEAST: f64 = 3.0;
/// The most pixels of a picture that is checked; a strip at the largest scale has fewer.
const MOST_PIXELS: u64 = 2_000_000;
/// The most strips that are checked; a pass has no more languages.
const MOST_STRIPS: usize = 50;
/// The area where Wallet writes the primary field on a strip (left, right, top and bottom in percent of its width and
/// height): at the left, around the middle.
const WRITTEN: [u32; 4] = [4, 60, 15, 75];

/// Checks `color-contrast`.
pub fn check(pass: &Pass<'_>, files: &Files, report: &mut Report) {
    // Posters choose their own colours, and an event ticket with a background picture shows that instead of the colour.
    let poster = pass.poster_event || pass.has_style(super::POSTER_GENERIC);
    let colour = |key: &str| pass.text(key).and_then(|text| Colour::parse(text).ok());
    let (foreground, label) = (colour("foregroundColor"), colour("labelColor"));
    let Some(background) = colour("backgroundColor").filter(|_| !poster) else { return };
    let strips = strips(pass, files);
    let pictured = super::images::has_role(files, "background") && pass.has_style("eventTicket");
    // Without a text colour Wallet writes in black (seen on iOS 18 and 26).
    let black = Colour { rgb: [0; 3] };
    let texts = [("text", "foregroundColor", foreground), ("labels", "labelColor", label.or(foreground))];
    for (what, key, given) in texts {
        let written = given.unwrap_or(black);
        let pointer = match given {
            Some(_) if pass.text(key).is_some() => format!("/{key}"),
            Some(_) => "/foregroundColor".to_owned(),
            None => "/backgroundColor".to_owned(),
        };
        let name = match given {
            Some(colour) => colour.to_hex(),
            None => "black (Wallet's choice, as no colour is given)".to_owned(),
        };
        // When one colour serves for both, it is reported once.
        let again = key == "labelColor" && label.is_none();
        let ratio = ratio(luminance(written), luminance(background));
        if ratio < LEAST && !pictured && !again {
            let detail = format!(
                "the contrast of {what} in {name} on {} is {}:1; expected at least 3:1, better 4.5:1",
                background.to_hex(),
                shown(ratio)
            );
            report.warning("color-contrast", pointer, detail);
            continue;
        }
        if again {
            continue;
        }
        for (path, picture) in &strips {
            let ratio = self::ratio(luminance(written), behind(picture, background));
            if ratio < LEAST {
                let detail = format!(
                    "the contrast of {what} in {name} on the picture {path}, where the primary field is written, is {}:1; \
                     expected at least 3:1",
                    shown(ratio)
                );
                report.warning("color-contrast", pointer, detail);
                break;
            }
        }
    }
}

/// Returns the strips on which a primary field is written, one scale of each.
fn strips<'f>(pass: &Pass<'_>, files: &'f Files) -> Vec<(&'f str, image::RgbaImage)> {
    let on_strip = |(style, fields): &(&str, &serde_json::Map<String, Value>)| {
        matches!(*style, "storeCard" | "coupon" | "eventTicket") && !list(fields, "primaryFields").is_empty()
    };
    if !pass.styles.iter().any(on_strip) {
        return Vec::new();
    }
    let named = |path: &&String| matches!(path.rsplit('/').next(), Some("strip.png"));
    let mut found: Vec<&String> = files.keys().filter(named).take(MOST_STRIPS).collect();
    if found.is_empty() {
        found.extend(files.keys().find(|path| path.ends_with("strip@2x.png") || path.ends_with("strip@3x.png")));
    }
    found.into_iter().filter_map(|path| Some((path.as_str(), decode(files.get(path)?)?))).collect()
}

fn decode(content: &[u8]) -> Option<image::RgbaImage> {
    let reader = || image::ImageReader::with_format(Cursor::new(content), image::ImageFormat::Png);
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(64 * 1024 * 1024);
    let (width, height) = reader().into_dimensions().ok()?;
    if u64::from(width) * u64::from(height) > MOST_PIXELS {
        return None;
    }
    let mut reader = reader();
    reader.limits(limits);
    Some(reader.decode().ok()?.into_rgba8())
}

/// Returns the median luminance of the pixels behind the primary field.
fn behind(picture: &image::RgbaImage, background: Colour) -> f64 {
    let part = |whole: u32, percent: u32| (u64::from(whole) * u64::from(percent) / 100) as u32;
    let (width, height) = picture.dimensions();
    let [left, right, top, bottom] = WRITTEN;
    let (columns, rows) = (part(width, left)..part(width, right), part(height, top)..part(height, bottom));
    let mut found: Vec<f64> = Vec::new();
    for (x, y, pixel) in picture.enumerate_pixels() {
        if columns.contains(&x) && rows.contains(&y) {
            let [r, g, b, alpha] = pixel.0;
            let over = |own: u8, below: u8| {
                ((u32::from(own) * u32::from(alpha) + u32::from(below) * (255 - u32::from(alpha))) / 255) as u8
            };
            let [below_r, below_g, below_b] = background.rgb;
            found.push(luminance(Colour { rgb: [over(r, below_r), over(g, below_g), over(b, below_b)] }));
        }
    }
    found.sort_by(f64::total_cmp);
    found.get(found.len() / 2).copied().unwrap_or_else(|| luminance(background))
}

/// Returns the relative luminance as WCAG 2.2 defines it.
fn luminance(colour: Colour) -> f64 {
    let linear = |channel: u8| {
        let c = f64::from(channel) / 255.0;
        if c <= 0.04045 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
    };
    let [r, g, b] = colour.rgb.map(linear);
    0.2126 * r + 0.7152 * g + 0.0722 * b
}

/// Returns the contrast ratio as WCAG 2.2 defines it: 1 to 21.
fn ratio(a: f64, b: f64) -> f64 {
    (a.max(b) + 0.05) / (a.min(b) + 0.05)
}

/// Returns a ratio with one decimal, rounded down: 2.97 isn't 3.0.
fn shown(ratio: f64) -> String {
    format!("{:.1}", (ratio * 10.0).floor() / 10.0)
}
