//! Pictures of a pass: the known roles, their sizes, and the scales made from one upload.
//!
//! Sizes are in points (Apple, Human Interface Guidelines "Wallet", read 2026-11). Pixels are points × scale.

use std::io::Cursor;

use bytes::Bytes;
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::imageops::{FilterType as Resample, crop_imm, resize};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

pub use crate::domain::templates::picture::ROLES;
use crate::domain::templates::styles::Style;

/// A ready picture file of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionFile {
    /// The tier whose cards have it instead of the common file; all cards when absent.
    pub tier: Option<String>,
    /// Which of its role's pictures it belongs to; when absent, the one shown when no other was chosen.
    pub variant: Option<String>,
    /// Its path in an archive: in a language's folder, or at the root for every language.
    pub path: String,
    /// The file's content.
    pub bytes: Bytes,
}

impl VersionFile {
    /// Returns the folder of its language; empty for every language.
    pub fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// Returns its name without the folder.
    pub fn name(&self) -> &str {
        self.path.rsplit_once('/').map_or(&self.path, |(_, name)| name)
    }

    /// Returns the role of its picture.
    pub fn role(&self) -> &str {
        self.name().split(['@', '.']).next().unwrap_or_default()
    }
}

/// The largest side of an upload, in pixels.
pub const MAX_SIDE: u32 = 16_384;
/// The most pixels of an upload.
pub const MAX_PIXELS: u64 = 40_000_000;
/// The most memory that decoding an upload may take, in bytes.
const MAX_MEMORY: u64 = 192 * 1024 * 1024;
/// The most pixels of a picture that is rotated at its full size.
const MAX_TURNED: u64 = 10_000_000;
/// The sides to which a larger picture is reduced before it is rotated, in pixels: twice what the largest role needs.
const TURNED_SIDE: u32 = 3072;
/// The most memory that reading a picture's size may take, in bytes.
const PROBE_MEMORY: u64 = 16 * 1024 * 1024;

/// The most pixels of a part that is copied before it is scaled.
const COPIED: u64 = 4_000_000;

/// How a picture is brought to its size, in points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fit {
    /// Exactly this many points: scaled to fill, then cropped around the middle.
    Fill(u32, u32),
    /// At most this many points, in its own proportions.
    Within(u32, u32),
}

/// Returns how a role's picture is fitted in a pass of that style; `None` when Apple's passes don't hold the role.
pub fn fit(role: &str, style: &Style) -> Option<Fit> {
    Some(match role {
        "icon" => Fit::Fill(38, 38),
        "logo" => Fit::Within(160, 50),
        "strip" => {
            let (width, height) = style.strip?;
            Fit::Fill(width, height)
        }
        "thumbnail" => Fit::Within(90, 90),
        "background" => Fit::Fill(345, 505),
        "footer" => Fit::Within(286, 15),
        "primaryLogo" => Fit::Within(126, 30),
        "secondaryLogo" => Fit::Within(135, 12),
        "artwork" => Fit::Fill(358, 448),
        "venueMap" => Fit::Within(358, 448),
        "personalizationLogo" => Fit::Within(150, 40),
        _ => return None,
    })
}

/// Why an upload isn't a usable picture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum ImageError {
    #[error("is not a PNG, JPEG or WebP picture")]
    Format,
    #[error("is {width} × {height} pixels; expected at most {MAX_SIDE} a side and 40 megapixels")]
    TooLarge { width: u32, height: u32 },
    #[error("needs more than 192 MiB to decode; expected fewer pixels or 8 bits a channel")]
    TooDeep,
    #[error("is damaged and can't be decoded")]
    Damaged,
}

/// Opens a picture with a memory limit, since what is stored beside the pixels (a colour profile) may unpack to any
/// size.
fn reader(bytes: &[u8], side: Option<u32>, memory: u64) -> Result<ImageReader<Cursor<&[u8]>>, ImageError> {
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|_| ImageError::Format)?;
    match reader.format() {
        Some(ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP) => {}
        _ => return Err(ImageError::Format),
    }
    let mut limits = Limits::no_limits();
    limits.max_image_width = side;
    limits.max_image_height = side;
    limits.max_alloc = Some(memory);
    reader.limits(limits);
    Ok(reader)
}

/// Reads the declared width and height without decoding anything, and refuses a picture that is too large.
///
/// # Errors
/// When the format isn't one we accept, or the picture is too large.
pub fn check_size(bytes: &[u8]) -> Result<(u32, u32), ImageError> {
    // Without a limit on the sides: it would hide the size that it refuses.
    let probe = reader(bytes, None, PROBE_MEMORY)?;
    let (width, height) = probe.into_dimensions().map_err(|_| ImageError::Damaged)?;
    if width > MAX_SIDE || height > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(ImageError::TooLarge { width, height });
    }
    if width == 0 || height == 0 {
        return Err(ImageError::Damaged);
    }
    Ok((width, height))
}

/// Returns the width and height of an upload as it is shown, turned upright as its Exif orientation says, without decoding it.
///
/// # Errors
/// When it is no picture we take, or too large.
pub fn upright_size(bytes: &[u8]) -> Result<(u32, u32), ImageError> {
    use Orientation::{Rotate90, Rotate90FlipH, Rotate270, Rotate270FlipH};
    let (width, height) = check_size(bytes)?;
    let mut decoder = reader(bytes, None, PROBE_MEMORY)?.into_decoder().map_err(|_| ImageError::Damaged)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let on_its_side = matches!(orientation, Rotate90 | Rotate90FlipH | Rotate270 | Rotate270FlipH);
    Ok(if on_its_side { (height, width) } else { (width, height) })
}

/// Decodes an upload after checking its size, and rotates it upright by its Exif orientation, since cameras store how
/// they were held beside the pixels. Takes up to 192 MiB: call it for one picture at a time, off the async threads. A
/// large photo is reduced before it is rotated, since rotating makes a copy.
///
/// # Errors
/// When the format isn't one we accept, or the picture is too large or damaged.
pub fn decode(bytes: &[u8]) -> Result<DynamicImage, ImageError> {
    check_size(bytes)?;
    if is_cut_off_jpeg(bytes) {
        return Err(ImageError::Damaged);
    }
    let failed = |error| match error {
        image::ImageError::Limits(_) => ImageError::TooDeep,
        _ => ImageError::Damaged,
    };
    let mut decoder = reader(bytes, Some(MAX_SIDE), MAX_MEMORY)?.into_decoder().map_err(failed)?;
    // An unreadable orientation is no reason to refuse a picture.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder).map_err(failed)?;
    let large = u64::from(picture.width()) * u64::from(picture.height()) > MAX_TURNED;
    if large && orientation != Orientation::NoTransforms {
        picture = picture.resize(TURNED_SIDE, TURNED_SIDE, Resample::Lanczos3);
    }
    picture.apply_orientation(orientation);
    Ok(picture)
}

/// Whether a JPEG ends before its end marker: the decoder would fill the missing part with grey. The marker occurs
/// nowhere else after the header segments, which may hold a thumbnail with markers of its own.
fn is_cut_off_jpeg(bytes: &[u8]) -> bool {
    let Some(mut rest) = bytes.strip_prefix(b"\xff\xd8") else { return false };
    // The header's segments state their length; a scan doesn't.
    while let [0xff, marker, high, low, ..] = rest
        && *marker != 0xda
    {
        let length = 2 + usize::from(u16::from_be_bytes([*high, *low]));
        match rest.get(length..) {
            Some(after) => rest = after,
            None => return true,
        }
    }
    !rest.windows(2).any(|pair| pair == [0xff, 0xd9])
}

/// Returns the media type of an upload, detected from its content; `None` when we don't accept the format.
pub fn media_type(bytes: &[u8]) -> Option<&'static str> {
    match image::guess_format(bytes).ok()? {
        ImageFormat::Png => Some("image/png"),
        ImageFormat::Jpeg => Some("image/jpeg"),
        ImageFormat::WebP => Some("image/webp"),
        _ => None,
    }
}

/// Returns a picture at one scale (1, 2 or 3) as PNG.
///
/// # Errors
/// When the encoder fails.
pub fn at_scale(picture: &DynamicImage, fit: Fit, scale: u32) -> Result<Vec<u8>, ImageError> {
    let scaled = match fit {
        Fit::Fill(width, height) => {
            // Cropped before scaling: scaling a very narrow picture first would make a huge one on the way.
            let (own_width, own_height) = (u64::from(picture.width()), u64::from(picture.height()));
            let crop_width = (own_height * u64::from(width) / u64::from(height)).clamp(1, own_width) as u32;
            let crop_height = (own_width * u64::from(height) / u64::from(width)).clamp(1, own_height) as u32;
            let (x, y) = ((picture.width() - crop_width) / 2, (picture.height() - crop_height) / 2);
            cropped_to(picture, [x, y, crop_width, crop_height], (width * scale, height * scale))
        }
        Fit::Within(width, height) => picture.resize(width * scale, height * scale, Resample::Lanczos3),
    };
    let scaled = if scaled.color().has_alpha() {
        DynamicImage::ImageRgba8(scaled.into_rgba8())
    } else {
        DynamicImage::ImageRgb8(scaled.into_rgb8())
    };
    let mut out = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut out, CompressionType::Default, FilterType::Adaptive);
    scaled.write_with_encoder(encoder).map_err(|_| ImageError::Damaged)?;
    Ok(out)
}

/// Scales a part of a picture (left, top, width and height) to a size, without copying the part when it is large.
fn cropped_to(picture: &DynamicImage, [x, y, width, height]: [u32; 4], size: (u32, u32)) -> DynamicImage {
    // Faster than the view below, most of all in a debug build, since this one is compiled with the library.
    if u64::from(width) * u64::from(height) <= COPIED {
        return picture.crop_imm(x, y, width, height).resize_exact(size.0, size.1, Resample::Lanczos3);
    }
    macro_rules! by_kind {
        ($($kind:ident),*) => {
            match picture {
                $(DynamicImage::$kind(pixels) => {
                    let part = crop_imm(pixels, x, y, width, height);
                    DynamicImage::$kind(resize(&*part, size.0, size.1, Resample::Lanczos3))
                })*
                other => other.crop_imm(x, y, width, height).resize_exact(size.0, size.1, Resample::Lanczos3),
            }
        };
    }
    by_kind!(ImageLuma8, ImageLumaA8, ImageRgb8, ImageRgba8, ImageLuma16, ImageLumaA16, ImageRgb16, ImageRgba16)
}

/// Returns the picture's file name in a pass.
pub fn file_name(role: &str, scale: u32) -> String {
    match scale {
        1 => format!("{role}.png"),
        _ => format!("{role}@{scale}x.png"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut out = Vec::new();
        DynamicImage::new_rgb8(width, height).write_with_encoder(PngEncoder::new(&mut out)).expect("encodes");
        out
    }

    #[test]
    fn every_scale_has_the_size_of_its_role() {
        let picture = decode(&png(400, 300)).expect("a picture");
        for scale in 1..=3 {
            let icon = decode(&at_scale(&picture, Fit::Fill(38, 38), scale).expect("encodes")).expect("a picture");
            assert_eq!((icon.width(), icon.height()), (38 * scale, 38 * scale));
            let logo = decode(&at_scale(&picture, Fit::Within(160, 50), scale).expect("encodes")).expect("a picture");
            assert_eq!(logo.height(), 50 * scale);
        }
    }

    #[test]
    fn a_bomb_is_refused_by_its_declared_size() {
        // A valid header that promises 30,000 × 30,000 pixels, without the pixels.
        let mut bomb = png(1, 1);
        bomb[16..20].copy_from_slice(&30_000u32.to_be_bytes());
        bomb[20..24].copy_from_slice(&30_000u32.to_be_bytes());
        let crc = crc32fast::hash(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(decode(&bomb).err(), Some(ImageError::TooLarge { width: 30_000, height: 30_000 }));
    }

    #[test]
    fn a_colour_profile_that_unpacks_to_too_much_is_not_unpacked() {
        use image::{ImageDecoder, ImageEncoder};
        let mut bomb = Vec::new();
        let mut encoder = PngEncoder::new(&mut bomb);
        encoder.set_icc_profile(vec![0; PROBE_MEMORY as usize + 1]).expect("taken");
        DynamicImage::new_rgb8(1, 1).write_with_encoder(encoder).expect("encodes");
        assert!(bomb.len() < 64 * 1024, "{} bytes", bomb.len());
        let profile = |side: Option<u32>, memory: u64| {
            let mut decoder = reader(&bomb, side, memory).expect("a picture").into_decoder().expect("a header");
            decoder.icc_profile().expect("read").map(|profile| profile.len())
        };
        assert_eq!(profile(None, 2 * PROBE_MEMORY), Some(PROBE_MEMORY as usize + 1), "it is there");
        assert_eq!(profile(None, PROBE_MEMORY), None);
        assert_eq!(check_size(&bomb), Ok((1, 1)));
    }

    /// An Exif block (TIFF, big endian) whose only entry is the orientation.
    fn exif(orientation: u8) -> Vec<u8> {
        let mut block = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\0\0\0\0\0\0\0".to_vec();
        block[19] = orientation;
        block
    }

    #[test]
    fn a_photo_is_turned_upright_as_its_exif_orientation_says() {
        use image::{ImageEncoder, Rgb, RgbImage};
        // As stored: 96 × 64, red on top, blue below.
        let stored = RgbImage::from_fn(96, 64, |_, y| if y < 32 { Rgb([255, 0, 0]) } else { Rgb([0, 0, 255]) });
        let (red, blue) = ([255, 0, 0], [0, 0, 255]);
        for (orientation, size, first, last) in [
            (1, (96, 64), red, blue),
            (2, (96, 64), red, blue),
            (3, (96, 64), blue, red),
            (6, (64, 96), blue, red), // turned to the right: the top is on the right
            (8, (64, 96), red, blue),
            (99, (96, 64), red, blue),
        ] {
            let jpeg = || {
                let mut out = Vec::new();
                let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut out, 95);
                encoder.set_exif_metadata(exif(orientation)).expect("taken");
                encoder.write_image(&stored, 96, 64, image::ExtendedColorType::Rgb8).expect("encodes");
                out
            };
            let png = || {
                let mut out = Vec::new();
                let mut encoder = PngEncoder::new(&mut out);
                encoder.set_exif_metadata(exif(orientation)).expect("taken");
                encoder.write_image(&stored, 96, 64, image::ExtendedColorType::Rgb8).expect("encodes");
                out
            };
            let webp = || {
                let mut out = Vec::new();
                let mut encoder = image::codecs::webp::WebPEncoder::new_lossless(&mut out);
                encoder.set_exif_metadata(exif(orientation)).expect("taken");
                encoder.write_image(&stored, 96, 64, image::ExtendedColorType::Rgb8).expect("encodes");
                out
            };
            for (format, bytes) in [("JPEG", jpeg()), ("PNG", png()), ("WebP", webp())] {
                let picture = decode(&bytes).expect("a picture").into_rgb8();
                assert_eq!(picture.dimensions(), size, "{format}, orientation {orientation}");
                let near = |x, y, expected: [u8; 3]| {
                    let off = picture.get_pixel(x, y).0.iter().zip(expected).map(|(a, b)| a.abs_diff(b)).max();
                    assert!(off <= Some(16), "{format}, orientation {orientation}: {:?}", picture.get_pixel(x, y));
                };
                assert_eq!(upright_size(&bytes), Ok(size), "{format}, orientation {orientation}");
                near(1, 1, first);
                near(size.0 - 2, size.1 - 2, last);
            }
        }
    }

    #[test]
    fn a_jpeg_that_broke_off_is_refused() {
        let mut whole = Vec::new();
        let encoder = image::codecs::jpeg::JpegEncoder::new(&mut whole);
        DynamicImage::new_rgb8(600, 600).write_with_encoder(encoder).expect("encodes");
        assert!(decode(&whole).is_ok());
        assert!(decode(&[&whole[..], b"what cameras add"].concat()).is_ok());
        assert_eq!(decode(&whole[..whole.len() / 2]).err(), Some(ImageError::Damaged));
    }

    #[test]
    fn a_sliver_is_cropped_before_it_is_scaled() {
        let sliver = decode(&png(1, 16_000)).expect("a picture");
        for fit in [Fit::Fill(375, 144), Fit::Within(160, 50)] {
            let strip = decode(&at_scale(&sliver, fit, 3).expect("encodes")).expect("a picture");
            assert!(strip.width() <= 1125 && strip.height() <= 432);
        }
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        for bad in [b"".as_slice(), b"GIF89a\x01\0\x01\0\0\0\0;", b"<svg/>", &png(4, 4)[..40]] {
            assert!(decode(bad).is_err());
        }
    }
}
