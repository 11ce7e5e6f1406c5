//! The pictures of a pass: names, format, sizes, and whether the style shows them.

use std::collections::BTreeMap;
use std::io::Cursor;

use super::report::{Report, quoted};
use super::{Files, POSTER_GENERIC, Pass};

/// The longest side of a picture that is decoded, in pixels.
const LARGEST_SIDE: u32 = 4096;
const LARGEST_FILE: usize = 5 * 1024 * 1024;
/// The most pixels decoded in one pass; of further images only the headers are read, since a few kilobytes of PNG can
/// hold megapixels.
const DECODED_PIXELS: u64 = 64 * 1024 * 1024;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A picture's role on the card, with the sizes in points that Apple's texts of different years give (Human Interface
/// Guidelines and github.com/apple/pass-builder, read 2026-11).
struct Role {
    name: &'static str,
    size: Size,
}

enum Size {
    Exactly(&'static [(u32, u32)]),
    AtMost(u32, u32),
    /// The longer side has this length, and the sides have a ratio of at most 3 to 2.
    Square(u32),
    Free,
}

const ROLES: [Role; 11] = [
    Role { name: "icon", size: Size::Exactly(&[(38, 38), (29, 29)]) },
    Role { name: "logo", size: Size::AtMost(160, 50) },
    Role { name: "strip", size: Size::Exactly(&[(375, 144), (375, 123), (375, 98)]) },
    Role { name: "background", size: Size::Exactly(&[(345, 505), (343, 503), (180, 220), (358, 448)]) },
    Role { name: "thumbnail", size: Size::Square(90) },
    Role { name: "footer", size: Size::AtMost(286, 15) },
    Role { name: "primaryLogo", size: Size::AtMost(126, 30) },
    Role { name: "secondaryLogo", size: Size::AtMost(135, 12) },
    Role { name: "artwork", size: Size::Exactly(&[(358, 448)]) },
    Role { name: "personalizationLogo", size: Size::AtMost(150, 40) },
    Role { name: "venueMap", size: Size::Free },
];

/// The parts of a file name.
struct Name<'a> {
    role: Option<&'static Role>,
    stem: &'a str,
    scale: Option<u32>,
    extension: &'a str,
}

/// The scale, and the width and height in pixels.
type Picture = (u32, u32, u32);

/// Whether the name looks like that of a picture.
pub fn looks_like_image(name: &str) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    ["png", "jpg", "jpeg", "gif", "webp", "pdf", "svg", "heic", "bmp", "tiff"]
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

/// Whether the pass has a PNG of a role, at any scale and in any language.
pub fn has_role(files: &Files, role: &str) -> bool {
    files.keys().filter_map(|path| parse(path)).any(|(_, name)| {
        name.scale.is_some() && name.extension == "png" && name.role.is_some_and(|found| found.name == role)
    })
}

fn parse(path: &str) -> Option<(&str, Name<'_>)> {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    if !looks_like_image(file) || !(folder.is_empty() || folder.ends_with(".lproj")) {
        return None;
    }
    let (stem, extension) = file.rsplit_once('.')?;
    let (stem, scale) = match stem.split_once('@') {
        None => (stem, Some(1)),
        Some((stem, "2x")) => (stem, Some(2)),
        Some((stem, "3x")) => (stem, Some(3)),
        Some((stem, _)) => (stem, None),
    };
    Some((folder, Name { role: ROLES.iter().find(|role| role.name == stem), stem, scale, extension }))
}

pub fn check(pass: &Pass<'_>, files: &Files, report: &mut Report) {
    check_icons(files, report);
    let mut pixels_left = DECODED_PIXELS;
    let mut pictures: BTreeMap<(&str, &str), Vec<Picture>> = BTreeMap::new();
    for (path, content) in files {
        let Some((folder, name)) = parse(path) else { continue };
        let (Some(role), Some(scale)) = (name.role, name.scale) else {
            let known = ROLES.map(|role| role.name).join(", ");
            let detail =
                format!("Wallet knows no such image; expected one of {known}, with @2x, @3x or nothing, and .png");
            report.warning("image-name-unknown", path, detail);
            continue;
        };
        if !shown(pass, role.name) {
            report.warning("image-style-unused", path, format!("the pass's style does not show {}", name.stem));
        }
        let Some((width, height)) = check_picture(path, name.extension, content, &mut pixels_left, report) else {
            continue;
        };
        if !role.size.allows(width, height, scale) {
            let detail = format!("has {width}×{height} pixels; expected {}, times {scale}", role.size);
            report.warning("image-dimensions", path, detail);
        }
        pictures.entry((folder, role.name)).or_default().push((scale, width, height));
    }
    for ((folder, role), sizes) in pictures {
        if !same_picture(&sizes) {
            let found: Vec<String> = sizes.iter().map(|(scale, w, h)| format!("{w}×{h} at @{scale}x")).collect();
            let path = if folder.is_empty() { format!("{role}.png") } else { format!("{folder}/{role}.png") };
            let detail = format!("the scales are not the same picture: {}", found.join(", "));
            report.warning("image-scale-mismatch", path, detail);
        }
    }
}

fn check_icons(files: &Files, report: &mut Report) {
    if !has_role(files, "icon") {
        report.error(
            "image-icon-missing",
            "icon.png",
            "the pass has no icon, and Wallet refuses it; add icon.png, icon@2x.png and icon@3x.png",
        );
        return;
    }
    for (rule, file) in [
        ("image-icon-1x-missing", "icon.png"),
        ("image-icon-2x-missing", "icon@2x.png"),
        ("image-icon-3x-missing", "icon@3x.png"),
    ] {
        let ending = format!("/{file}");
        if !files.keys().any(|path| path == file || (path.ends_with(&ending) && path.contains(".lproj/"))) {
            report.warning(rule, file, format!("{file} is missing beside the other icons"));
        }
    }
}

/// Checks one file and returns its size in pixels. The declared size is checked before anything is decoded.
fn check_picture(
    path: &str,
    extension: &str,
    content: &[u8],
    pixels_left: &mut u64,
    report: &mut Report,
) -> Option<(u32, u32)> {
    if extension != "png" {
        report.error("image-format", path, "is not named .png; Wallet reads PNG only");
        return None;
    }
    if content.len() > LARGEST_FILE {
        report.error(
            "image-oversize",
            path,
            format!("has {} bytes; at most {LARGEST_FILE} are allowed", content.len()),
        );
        return None;
    }
    if !content.starts_with(PNG) {
        let kind = if content.starts_with(b"\xff\xd8\xff") { "a JPEG" } else { "no PNG" };
        report.error("image-format", path, format!("is {kind}; Wallet reads PNG only"));
        return None;
    }
    let Some((width, height)) = declared_size(content) else {
        report.error("image-corrupt", path, "is damaged: the PNG has no header");
        return None;
    };
    if width > LARGEST_SIDE || height > LARGEST_SIDE {
        let detail = format!("has {width}×{height} pixels; at most {LARGEST_SIDE} a side are allowed");
        report.error("image-oversize", path, detail);
        return None;
    }
    let pixels = u64::from(width) * u64::from(height);
    if pixels <= *pixels_left {
        *pixels_left -= pixels;
        if let Err(error) = decode(content) {
            report.error("image-corrupt", path, format!("is damaged: {}", quoted(&error)));
            return None;
        }
    }
    Some((width, height))
}

/// Returns width and height from the header chunk, which is always the first (PNG, 11.2.1).
fn declared_size(content: &[u8]) -> Option<(u32, u32)> {
    let header = content.get(8..33)?;
    if header.get(4..8)? != b"IHDR" {
        return None;
    }
    let number = |at: usize| Some(u32::from_be_bytes(<[u8; 4]>::try_from(header.get(at..at + 4)?).ok()?));
    let (width, height) = (number(8)?, number(12)?);
    (width > 0 && height > 0).then_some((width, height))
}

fn decode(content: &[u8]) -> Result<(), String> {
    let mut reader = image::ImageReader::with_format(Cursor::new(content), image::ImageFormat::Png);
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(LARGEST_SIDE);
    limits.max_image_height = Some(LARGEST_SIDE);
    limits.max_alloc = Some(256 * 1024 * 1024);
    reader.limits(limits);
    reader.decode().map(drop).map_err(|error| error.to_string())
}

impl Size {
    fn allows(&self, width: u32, height: u32, scale: u32) -> bool {
        match *self {
            Self::Exactly(sizes) => sizes.iter().any(|&(w, h)| width == w * scale && height == h * scale),
            Self::AtMost(w, h) => width <= w * scale && height <= h * scale,
            Self::Square(side) => {
                let (long, short) = (width.max(height), width.min(height));
                long == side * scale && short * 3 >= long * 2
            }
            Self::Free => true,
        }
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::Exactly(sizes) => {
                let sizes: Vec<String> = sizes.iter().map(|(w, h)| format!("{w}×{h}")).collect();
                f.write_str(&sizes.join(" or "))
            }
            Self::AtMost(w, h) => write!(f, "at most {w}×{h}"),
            Self::Square(side) => write!(f, "{side} on the longer side and two thirds of it or more on the other"),
            Self::Free => f.write_str("any size"),
        }
    }
}

/// Whether all scales have the same size in points, give or take half a point of rounding at each scale.
fn same_picture(sizes: &[Picture]) -> bool {
    sizes.iter().enumerate().all(|(index, a)| {
        sizes.iter().skip(index + 1).all(|b| {
            let close = |x: u32, y: u32| (x * b.0).abs_diff(y * a.0) <= a.0 * b.0;
            close(a.1, b.1) && close(a.2, b.2)
        })
    })
}

fn shown(pass: &Pass<'_>, role: &str) -> bool {
    if pass.styles.is_empty() || matches!(role, "icon" | "personalizationLogo") {
        return true;
    }
    let by_style = pass.styles.iter().any(|(style, _)| match *style {
        "boardingPass" => matches!(role, "logo" | "footer"),
        "coupon" | "storeCard" => matches!(role, "logo" | "strip"),
        "generic" => matches!(role, "logo" | "thumbnail"),
        "eventTicket" => matches!(role, "logo" | "strip" | "background" | "thumbnail"),
        POSTER_GENERIC => matches!(role, "logo" | "background" | "artwork" | "primaryLogo"),
        _ => false,
    });
    by_style
        || (pass.poster_event
            && matches!(role, "artwork" | "background" | "primaryLogo" | "secondaryLogo" | "venueMap"))
        || (pass.semantic_boarding && role == "primaryLogo")
}
