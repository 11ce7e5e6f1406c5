//! Converts drawings (SVG) to pictures (PNG) as wallets take them.
//!
//! For our own drawings only: customers upload PNG, JPEG or WebP, which never come here. Even so a drawing has no
//! access to the machine's fonts, to files or to addresses, and its size is bounded.

use std::sync::Arc;

use resvg::{tiny_skia, usvg};

/// The longest side of a picture, in pixels; a larger drawing would only cost memory.
pub const MAX_SIDE: u32 = 4096;

/// Why a drawing couldn't be made into a picture.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// Not an SVG, or one that the renderer refuses (too many elements, an entity bomb, no size).
    #[error("the drawing can't be read: {0}")]
    Unreadable(#[from] usvg::Error),
    /// The requested box is empty or larger than [`MAX_SIDE`].
    #[error("a picture of {width} x {height} pixels was asked for; expected 1 to {MAX_SIDE} on each side")]
    Size {
        /// The box's width in pixels.
        width: u32,
        /// The box's height in pixels.
        height: u32,
    },
    /// The picture couldn't be written as PNG.
    #[error("the picture can't be written: {0}")]
    Encode(String),
}

/// Returns the largest box of a role in pixels: three times its points, the largest scale that phones ask for (Apple,
/// "Human Interface Guidelines: Wallet", and Google, "Brand guidelines" for its three, read 2026-11). The strip is that
/// of a store card or coupon. `None` for a role that no wallet knows.
pub fn largest_box(role: &str) -> Option<(u32, u32)> {
    Some(match role {
        "icon" => (114, 114),
        "logo" => (480, 150),
        "strip" => (1125, 432),
        "thumbnail" => (270, 270),
        "background" => (1035, 1515),
        "footer" => (858, 45),
        "primaryLogo" => (378, 90),
        "secondaryLogo" => (405, 36),
        "artwork" | "venueMap" => (1074, 1344),
        "personalizationLogo" => (450, 120),
        "programLogo" => (660, 660),
        "heroImage" => (1032, 336),
        "wideLogo" => (1280, 400),
        _ => return None,
    })
}

/// Draws an SVG as large as fits into `width` x `height` pixels and returns it as PNG.
///
/// The drawing keeps its proportions: a logo wider than its box becomes lower and isn't squeezed. No margin is added,
/// because wallets align logos by their edge.
///
/// # Errors
/// [`PictureError`]; nothing is drawn before the size is known to be bounded.
pub fn rasterise(svg: &[u8], width: u32, height: u32) -> Result<Vec<u8>, PictureError> {
    let wrong_size = || PictureError::Size { width, height };
    if !(1..=MAX_SIDE).contains(&width) || !(1..=MAX_SIDE).contains(&height) {
        return Err(wrong_size());
    }
    let tree = usvg::Tree::from_data(svg, &closed_options())?;
    let size = tree.size();
    let scale = (width as f32 / size.width()).min(height as f32 / size.height());
    // An extreme shape would round to nothing on its short side, hence the clamp.
    let fitted = |side: f32, limit: u32| (side * scale).round().clamp(1.0, limit as f32) as u32;
    let (w, h) = (fitted(size.width(), width), fitted(size.height(), height));
    let mut pixmap = tiny_skia::Pixmap::new(w, h).ok_or_else(wrong_size)?;
    // Each axis is scaled to the rounded size, so that an opaque drawing has no half-transparent edge.
    let to_pixels = tiny_skia::Transform::from_scale(w as f32 / size.width(), h as f32 / size.height());
    resvg::render(&tree, to_pixels, &mut pixmap.as_mut());
    pixmap.encode_png().map_err(|error| PictureError::Encode(error.to_string()))
}

/// Returns options under which a drawing can load nothing. The default resolvers would read pictures from disk.
fn closed_options() -> usvg::Options<'static> {
    usvg::Options {
        image_href_resolver: usvg::ImageHrefResolver {
            resolve_data: Box::new(|_, _, _| None),
            resolve_string: Box::new(|_, _| None),
        },
        font_resolver: usvg::FontResolver {
            select_font: Box::new(|_, _| None),
            select_fallback: Box::new(|_, _, _| None),
        },
        fontdb: Arc::new(usvg::fontdb::Database::new()),
        ..usvg::Options::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(png: &[u8]) -> image::RgbaImage {
        image::load_from_memory(png).expect("a PNG").to_rgba8()
    }

    #[test]
    fn a_drawing_keeps_its_shape_within_the_box() {
        let wide = br##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 10"><rect width="40" height="10" fill="#f00"/></svg>"##;
        let picture = decoded(&rasterise(wide, 480, 150).expect("drawn"));
        assert_eq!(picture.dimensions(), (480, 120));
        assert!(picture.pixels().all(|p| p.0 == [255, 0, 0, 255]), "opaque to the edge");
    }

    #[test]
    fn a_box_without_bounds_is_refused() {
        let svg = br#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"/>"#;
        for (w, h) in [(0, 10), (10, 0), (MAX_SIDE + 1, 10), (10, u32::MAX)] {
            assert!(matches!(rasterise(svg, w, h), Err(PictureError::Size { .. })), "{w} x {h}");
        }
    }

    #[test]
    fn a_drawing_of_any_stated_size_stays_within_the_box() {
        let huge =
            br#"<svg xmlns="http://www.w3.org/2000/svg" width="1e9" height="1"><rect width="1e9" height="1"/></svg>"#;
        assert_eq!(decoded(&rasterise(huge, 100, 100).expect("drawn")).dimensions(), (100, 1));
    }

    #[test]
    fn a_drawing_reads_no_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("red.svg");
        std::fs::write(
            &file,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><rect width="9" height="9" fill="red"/></svg>"#,
        )
        .expect("written");
        let svg = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><image href="{}" width="9" height="9"/></svg>"#,
            file.display()
        );
        let picture = decoded(&rasterise(svg.as_bytes(), 9, 9).expect("drawn"));
        assert!(picture.pixels().all(|p| p.0[3] == 0), "the file was drawn");
    }

    #[test]
    fn what_is_no_drawing_is_an_error() {
        assert!(matches!(rasterise(b"GIF89a", 10, 10), Err(PictureError::Unreadable(_))));
    }
}
