//! Barcodes and NFC: whether a scanner will read exactly what was encoded.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use serde_json::{Map, Value};

use super::report::{Report, quoted};
use super::{Pass, is_empty, list, text};

/// The formats that iOS 26 and earlier don't draw.
const NEW_FORMATS: [&str; 4] =
    ["PKBarcodeFormatEAN13", "PKBarcodeFormatCodabar", "PKBarcodeFormatCode39", "PKBarcodeFormatI2of5"];
const OLD_FORMATS: [&str; 4] =
    ["PKBarcodeFormatQR", "PKBarcodeFormatPDF417", "PKBarcodeFormatAztec", "PKBarcodeFormatCode128"];

/// Names from the IANA registry that a phone's system knows, in lower case.
const ENCODINGS: [&str; 55] = [
    "us-ascii",
    "ascii",
    "iso-8859-1",
    "iso_8859-1",
    "latin1",
    "l1",
    "iso-8859-2",
    "iso-8859-3",
    "iso-8859-4",
    "iso-8859-5",
    "iso-8859-6",
    "iso-8859-7",
    "iso-8859-8",
    "iso-8859-9",
    "iso-8859-10",
    "iso-8859-11",
    "iso-8859-13",
    "iso-8859-14",
    "iso-8859-15",
    "iso-8859-16",
    "latin2",
    "latin5",
    "utf-8",
    "utf-16",
    "utf-16be",
    "utf-16le",
    "utf-32",
    "utf-32be",
    "utf-32le",
    "windows-1250",
    "windows-1251",
    "windows-1252",
    "windows-1253",
    "windows-1254",
    "windows-1255",
    "windows-1256",
    "windows-1257",
    "windows-1258",
    "shift_jis",
    "euc-jp",
    "iso-2022-jp",
    "euc-kr",
    "iso-2022-kr",
    "gb2312",
    "gbk",
    "gb18030",
    "big5",
    "big5-hkscs",
    "hz-gb-2312",
    "koi8-r",
    "koi8-u",
    "macintosh",
    "ibm437",
    "ibm850",
    "tis-620",
];

pub fn check(pass: &Pass<'_>, report: &mut Report) {
    let barcodes = list(pass.root, "barcodes");
    let single = pass.root.get("barcode").and_then(Value::as_object);
    let mut seen = HashSet::new();
    for (index, barcode) in barcodes.iter().enumerate() {
        let Some(barcode) = barcode.as_object() else { continue };
        let pointer = format!("/barcodes/{index}");
        check_barcode(barcode, &pointer, report);
        if let (Some(format), Some(message)) = (text(barcode, "format"), text(barcode, "message"))
            && !seen.insert((format, message))
        {
            report.warning("barcode-duplicate", pointer, "is the same barcode as an earlier one");
        }
    }
    if let Some(barcode) = single {
        check_barcode(barcode, "/barcode", report);
        if barcodes.is_empty() {
            let detail = "only the deprecated barcode key is there; list the code in barcodes as well";
            report.warning("barcode-deprecated-only", "/barcode", detail);
        }
    }
    let formats: Vec<&str> =
        barcodes.iter().filter_map(Value::as_object).chain(single).filter_map(|code| text(code, "format")).collect();
    let any = |known: &[&str]| formats.iter().any(|format| known.contains(format));
    if any(&NEW_FORMATS) && !any(&OLD_FORMATS) {
        let detail =
            "iOS 26 and earlier draw none of these formats; add a QR, Aztec, PDF417 or Code 128 code at the end";
        report.warning("barcode-legacy-fallback", "/barcodes", detail);
    }
    if let Some(nfc) = pass.root.get("nfc").and_then(Value::as_object) {
        check_nfc(nfc, report);
    }
}

fn check_barcode(barcode: &Map<String, Value>, pointer: &str, report: &mut Report) {
    if is_empty(barcode.get("format")) {
        report.error("pass-required-key", format!("{pointer}/format"), "the barcode has no format");
    }
    let at = |key: &str| format!("{pointer}/{key}");
    let encoding = match barcode.get("messageEncoding") {
        None | Some(Value::Null) => {
            report.error("barcode-encoding", at("messageEncoding"), "is absent; iso-8859-1 is what scanners expect");
            None
        }
        Some(Value::String(name)) => {
            let folded = name.to_ascii_lowercase();
            let known = ENCODINGS.contains(&folded.as_str());
            if !known {
                let detail = format!("is {}; expected an IANA name like iso-8859-1 or utf-8", quoted(name));
                report.error("barcode-encoding", at("messageEncoding"), detail);
            }
            known.then_some(folded)
        }
        Some(_) => None,
    };
    let message = match barcode.get("message") {
        Some(Value::String(message)) if !message.is_empty() => message,
        Some(Value::String(_) | Value::Null) | None => {
            report.error("barcode-message-missing", at("message"), "the barcode has no message");
            return;
        }
        Some(_) => return,
    };
    let encoding = encoding.unwrap_or_default();
    if let Some(stranger) = message.chars().find(|&c| !can_encode(c, &encoding)) {
        let detail = format!("contains {}, which {encoding} can't write; use utf-8", quoted(&stranger.to_string()));
        report.error("barcode-unencodable", at("message"), detail);
    }
    let Some(format) = text(barcode, "format") else { return };
    if let Some(fault) = content_fault(format, message) {
        report.error("barcode-content", at("message"), fault);
    }
    if format == "PKBarcodeFormatI2of5" && message.len() % 2 == 1 {
        report.warning("barcode-i2of5-odd", at("message"), "has an odd number of digits, so a leading 0 is added");
    }
    let (length, most) = (encoded_length(message, &encoding), capacity(format, message));
    if length > most {
        let detail = format!("takes {length} bytes; the symbology holds at most {most} of this kind");
        report.error("barcode-too-long", at("message"), detail);
    }
}

/// Whether an encoding has a character; true for encodings that we have no table of.
fn can_encode(character: char, encoding: &str) -> bool {
    let code = u32::from(character);
    match encoding {
        "us-ascii" | "ascii" => code < 0x80,
        "iso-8859-1" | "iso_8859-1" | "latin1" | "l1" => code < 0x100,
        "iso-8859-15" => (code < 0x100 && !"¤¦¨´¸¼½¾".contains(character)) || "€ŠšŽžŒœŸ".contains(character),
        "windows-1252" => {
            code < 0x80 || (0xa0..0x100).contains(&code) || "€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ".contains(character)
        }
        _ => true,
    }
}

fn encoded_length(message: &str, encoding: &str) -> usize {
    match encoding {
        "utf-8" => message.len(),
        "utf-16" | "utf-16be" | "utf-16le" => message.encode_utf16().count() * 2,
        _ => message.chars().count(),
    }
}

fn content_fault(format: &str, message: &str) -> Option<&'static str> {
    let digits = message.bytes().all(|c| c.is_ascii_digit());
    match format {
        "PKBarcodeFormatEAN13" if !digits || !matches!(message.len(), 12 | 13) => {
            Some("EAN-13 holds 12 digits, or 13 with the check digit")
        }
        "PKBarcodeFormatEAN13" if message.len() == 13 && !ean_check_digit_is_right(message) => {
            Some("the last digit is not the check digit of the others")
        }
        "PKBarcodeFormatI2of5" if !digits => Some("interleaved 2 of 5 holds digits only"),
        "PKBarcodeFormatCode39"
            if !message.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || "-. $/+%".contains(c)) =>
        {
            Some("Code 39 holds upper-case letters, digits and - . $ / + % and spaces only")
        }
        "PKBarcodeFormatCodabar" if !is_codabar(message) => {
            Some("Codabar holds digits and - $ : / . + only, between A, B, C or D if those are written")
        }
        "PKBarcodeFormatCode128" if !message.is_ascii() => Some("Code 128 holds ASCII characters only"),
        _ => None,
    }
}

fn ean_check_digit_is_right(digits: &str) -> bool {
    let weighted =
        digits.bytes().enumerate().map(|(place, c)| u32::from(c - b'0') * if place % 2 == 0 { 1 } else { 3 });
    weighted.sum::<u32>().is_multiple_of(10)
}

fn is_codabar(message: &str) -> bool {
    let guard = |c: char| "ABCDabcd".contains(c);
    let inner = match (message.strip_prefix(guard), message.len()) {
        (Some(rest), 2..) => match rest.strip_suffix(guard) {
            Some(inner) => inner,
            None => return false,
        },
        _ => message,
    };
    !inner.is_empty() && inner.chars().all(|c| c.is_ascii_digit() || "-$:/.+".contains(c))
}

/// Returns the most that the largest symbol holds at its lowest error correction (ISO/IEC 18004, 24778 and 15438).
fn capacity(format: &str, message: &str) -> usize {
    let digits = message.bytes().all(|c| c.is_ascii_digit());
    let simple = message.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || " $%*+-./:".contains(c));
    let (numeric, plain, bytes) = match format {
        "PKBarcodeFormatQR" => (7089, 4296, 2953),
        "PKBarcodeFormatAztec" => (3832, 3067, 1914),
        "PKBarcodeFormatPDF417" => (2710, 1850, if message.is_ascii() { 1850 } else { 1108 }),
        // The standards set no limit; a phone can't draw a longer one so that a scanner could read it.
        _ => (255, 255, 255),
    };
    if digits {
        numeric
    } else if simple {
        plain
    } else {
        bytes
    }
}

fn check_nfc(nfc: &Map<String, Value>, report: &mut Report) {
    if let Some(message) = text(nfc, "message")
        && !(1..=64).contains(&message.len())
    {
        let detail = format!("has {} bytes; expected 1 to 64", message.len());
        report.error("nfc-message-length", "/nfc/message", detail);
    }
    if let Some(key) = text(nfc, "encryptionPublicKey")
        && !is_p256_key(key)
    {
        let detail = "is not the base64 (one line, no PEM) of a P-256 public key as SubjectPublicKeyInfo";
        report.error("nfc-public-key", "/nfc/encryptionPublicKey", detail);
    }
}

fn is_p256_key(text: &str) -> bool {
    let Ok(der) = STANDARD.decode(text) else { return false };
    let Ok(key) = PKey::public_key_from_der(&der) else { return false };
    key.ec_key().is_ok_and(|key| key.group().curve_name() == Some(Nid::X9_62_PRIME256V1))
}
