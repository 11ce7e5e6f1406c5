//! A strict DER reader, for the parts of signatures, keys and PKCS#12 files that OpenSSL's Rust interface doesn't
//! expose, or that must be known before OpenSSL processes them.
//!
//! It only reads: findings are reported, and whether a signature is valid is always OpenSSL's decision.
//! Rules: ITU-T X.690 (2021), chapter 10; the structures are those of RFC 5652 and RFC 5280.
//! Input is hostile: every length is checked, nothing recurses, nothing panics.

use crate::domain::time::Timestamp;

/// Universal and context tags that occur in CMS, X.509 and PKCS#12.
pub(super) mod tag {
    pub const INTEGER: u8 = 0x02;
    pub const OCTET_STRING: u8 = 0x04;
    pub const OID: u8 = 0x06;
    /// An octet string in parts, which exists only in BER.
    pub const OCTET_STRING_IN_PARTS: u8 = 0x24;
    pub const UTC_TIME: u8 = 0x17;
    pub const GENERALIZED_TIME: u8 = 0x18;
    pub const SEQUENCE: u8 = 0x30;
    pub const SET: u8 = 0x31;
    pub const CONTEXT_0: u8 = 0xa0;
    pub const CONTEXT_1: u8 = 0xa1;
    pub const CONTEXT_3: u8 = 0xa3;
    /// A subject key identifier that identifies a signer: `[0]`, primitive.
    pub const CONTEXT_0_PRIMITIVE: u8 = 0x80;
}

/// Object identifiers, as the bytes of their DER content.
pub mod oid {
    /// 1.2.840.113549.1.7.2
    pub const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
    /// 1.2.840.113549.1.9.5
    pub const SIGNING_TIME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x05];
    /// 1.3.14.3.2.26
    pub const SHA1: &[u8] = &[0x2b, 0x0e, 0x03, 0x02, 0x1a];
    /// 1.2.840.113549.2.5
    pub const MD5: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x02, 0x05];
    /// 1.2.840.113635.100.6.1.16: Apple's extension that repeats the pass type identifier.
    pub const APPLE_PASS_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x63, 0x64, 0x06, 0x01, 0x10];
    /// 1.2.840.113635.100.6.1.26: Apple's extension of certificates that may sign passes with NFC.
    pub const APPLE_NFC: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x63, 0x64, 0x06, 0x01, 0x1a];
}

/// Why some bytes are not what was expected: half a sentence, fit for a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotDer(&'static str);

/// One element: its tag and its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Element<'a> {
    pub(super) tag: u8,
    pub(super) content: &'a [u8],
    /// Tag, length and content.
    pub(super) whole: &'a [u8],
}

/// Reads elements one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn peek_tag(self) -> Option<u8> {
        self.0.first().copied()
    }

    pub(super) fn next(&mut self) -> Result<Element<'a>, NotDer> {
        let (&tag, after_tag) = self.0.split_first().ok_or(NotDer("it ends where an element is expected"))?;
        if tag & 0x1f == 0x1f {
            return Err(NotDer("it has a tag above 30, which no signature uses"));
        }
        let (length, after_length) = read_length(after_tag)?;
        let (content, rest) =
            after_length.split_at_checked(length).ok_or(NotDer("an element is longer than what holds it"))?;
        let whole = self.0.get(..self.0.len() - rest.len()).unwrap_or_default();
        self.0 = rest;
        Ok(Element { tag, content, whole })
    }

    pub(super) fn expect(&mut self, tag: u8, otherwise: &'static str) -> Result<Element<'a>, NotDer> {
        let element = self.next()?;
        if element.tag == tag { Ok(element) } else { Err(NotDer(otherwise)) }
    }

    pub(super) fn optional(&mut self, tag: u8) -> Result<Option<Element<'a>>, NotDer> {
        if self.peek_tag() == Some(tag) { self.next().map(Some) } else { Ok(None) }
    }
}

fn read_length(bytes: &[u8]) -> Result<(usize, &[u8]), NotDer> {
    let (&first, rest) = bytes.split_first().ok_or(NotDer("it ends inside a length"))?;
    if first < 0x80 {
        return Ok((usize::from(first), rest));
    }
    if first == 0x80 {
        return Err(NotDer("it uses an indefinite length (BER); DER is required"));
    }
    let count = usize::from(first & 0x7f);
    if count > 4 {
        return Err(NotDer("a length has more than four bytes"));
    }
    let (digits, rest) = rest.split_at_checked(count).ok_or(NotDer("it ends inside a length"))?;
    let length = digits.iter().fold(0_u64, |sum, &digit| (sum << 8) | u64::from(digit));
    if length < 0x80 || digits.first() == Some(&0) {
        return Err(NotDer("a length is not written in its shortest form"));
    }
    Ok((usize::try_from(length).map_err(|_| NotDer("a length is too large"))?, rest))
}

/// The deepest nesting of BER.
const DEPTH: usize = 32;

/// Rewrites BER as DER, as far as lengths and octet strings in parts are concerned: Keychain and Firefox write PKCS#12
/// files with indefinite lengths. Anything after the first element is left out.
///
/// # Errors
/// When it isn't BER, or is nested deeper than any file of keys.
pub fn from_ber(bytes: &[u8]) -> Result<Vec<u8>, NotDer> {
    let mut out = Vec::with_capacity(bytes.len());
    rewrite(&mut &*bytes, &mut out, DEPTH)?;
    Ok(out)
}

fn rewrite(bytes: &mut &[u8], out: &mut Vec<u8>, depth: usize) -> Result<(), NotDer> {
    let deeper = depth.checked_sub(1).ok_or(NotDer("it is nested too deeply"))?;
    let (&tag, after_tag) = bytes.split_first().ok_or(NotDer("it ends where an element is expected"))?;
    if tag & 0x1f == 0x1f {
        return Err(NotDer("it has a tag above 30, which no file of keys uses"));
    }
    let in_parts = tag & 0x20 != 0;
    let mut content = Vec::new();
    let (&first, after_first) = after_tag.split_first().ok_or(NotDer("it ends inside a length"))?;
    if first == 0x80 {
        if !in_parts {
            return Err(NotDer("an element without parts has an indefinite length"));
        }
        *bytes = after_first;
        while !bytes.starts_with(&[0, 0]) {
            rewrite(bytes, &mut content, deeper)?;
        }
        *bytes = bytes.get(2..).unwrap_or_default();
    } else {
        let count = if first < 0x80 { 0 } else { usize::from(first & 0x7f) };
        let (digits, rest) = after_first.split_at_checked(count).ok_or(NotDer("it ends inside a length"))?;
        let length = match count {
            0 => u64::from(first),
            1..=7 => digits.iter().fold(0_u64, |sum, &digit| (sum << 8) | u64::from(digit)),
            _ => return Err(NotDer("a length has more than seven bytes")),
        };
        let length = usize::try_from(length).map_err(|_| NotDer("a length is too large"))?;
        let (mut inner, rest) =
            rest.split_at_checked(length).ok_or(NotDer("an element is longer than what holds it"))?;
        *bytes = rest;
        if in_parts {
            while !inner.is_empty() {
                rewrite(&mut inner, &mut content, deeper)?;
            }
        } else {
            content.extend_from_slice(inner);
        }
    }
    if tag == tag::OCTET_STRING_IN_PARTS {
        write(tag::OCTET_STRING, &octets_in_parts(&content)?, out);
        return Ok(());
    }
    write(tag, &content, out);
    Ok(())
}

/// Joins the octets of a string in parts.
pub(super) fn octets_in_parts(content: &[u8]) -> Result<Vec<u8>, NotDer> {
    let (mut parts, mut octets) = (Reader(content), Vec::with_capacity(content.len()));
    while !parts.is_empty() {
        octets.extend_from_slice(parts.expect(tag::OCTET_STRING, "a part of an octet string is none")?.content);
    }
    Ok(octets)
}

pub(super) fn write(tag: u8, content: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    match u8::try_from(content.len()) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = content.len().to_be_bytes();
            let digits = bytes.get(content.len().leading_zeros() as usize / 8..).unwrap_or_default();
            // At most eight digits.
            out.push(0x80 | digits.len() as u8);
            out.extend_from_slice(digits);
        }
    }
    out.extend_from_slice(content);
}

/// Returns a non-negative integer; a negative one, or one of more than 63 bits, counts as the largest value.
pub(super) fn counted(content: &[u8]) -> u64 {
    match (content.first(), without_leading_zeros(content)) {
        (Some(0..0x80), digits) if digits.len() <= 8 => {
            digits.iter().fold(0_u64, |sum, &digit| (sum << 8) | u64::from(digit))
        }
        _ => u64::MAX,
    }
}

/// Returns how many bits a non-negative integer has.
pub(super) fn bits(content: &[u8]) -> u32 {
    let digits = without_leading_zeros(content);
    let first = digits.first().map_or(0, |first| first.leading_zeros());
    u32::try_from(digits.len() * 8).unwrap_or(u32::MAX).saturating_sub(first)
}

/// How a signature names its signer's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignerName<'a> {
    /// By the issuer's name (DER) and the serial number (big-endian, without leading zeros).
    IssuerAndSerial {
        /// DER of the issuer's distinguished name.
        issuer: &'a [u8],
        /// The serial number without leading zeros.
        serial: &'a [u8],
    },
    /// By the certificate's subject key identifier.
    KeyIdentifier(&'a [u8]),
}

/// One signer of a CMS signature.
#[derive(Debug, Clone)]
pub struct Signer<'a> {
    /// The identification of the certificate.
    pub name: SignerName<'a>,
    /// The content of the digest algorithm's object identifier.
    pub digest: &'a [u8],
    /// The signed attribute signingTime, when present and readable.
    pub signing_time: Option<Timestamp>,
}

/// The parts of a CMS SignedData (RFC 5652, 5.1) that a report needs.
#[derive(Debug, Clone)]
pub struct SignedData<'a> {
    /// Whether the signed content is included.
    pub attached: bool,
    /// DER of each certificate.
    pub certificates: Vec<&'a [u8]>,
    /// All signers.
    pub signers: Vec<Signer<'a>>,
}

/// Reads a CMS SignedData.
///
/// # Errors
/// The fault of the first part that isn't strict DER or isn't SignedData.
pub fn signed_data(bytes: &[u8]) -> Result<SignedData<'_>, NotDer> {
    let mut outer = Reader(bytes);
    let mut info = Reader(outer.expect(tag::SEQUENCE, "it does not begin with a sequence")?.content);
    if !outer.is_empty() {
        return Err(NotDer("bytes follow the end of the signature"));
    }
    if info.expect(tag::OID, "it names no content type")?.content != oid::SIGNED_DATA {
        return Err(NotDer("its content type is not signedData"));
    }
    let mut explicit = Reader(info.expect(tag::CONTEXT_0, "it has no content")?.content);
    let mut data = Reader(explicit.expect(tag::SEQUENCE, "SignedData is not a sequence")?.content);
    data.expect(tag::INTEGER, "SignedData has no version")?;
    data.expect(tag::SET, "SignedData has no list of digest algorithms")?;
    let mut encapsulated = Reader(data.expect(tag::SEQUENCE, "SignedData has no content information")?.content);
    encapsulated.expect(tag::OID, "the content information names no type")?;
    let attached = encapsulated.optional(tag::CONTEXT_0)?.is_some();
    let mut certificates = Vec::new();
    if let Some(set) = data.optional(tag::CONTEXT_0)? {
        let mut set = Reader(set.content);
        while !set.is_empty() {
            let certificate = set.next()?;
            // Other choices (attribute certificates and the like) have no use in a pass.
            if certificate.tag == tag::SEQUENCE {
                certificates.push(certificate.whole);
            }
        }
    }
    data.optional(tag::CONTEXT_1)?;
    let mut infos = Reader(data.expect(tag::SET, "SignedData has no list of signers")?.content);
    let mut signers = Vec::new();
    while !infos.is_empty() {
        signers.push(signer(infos.expect(tag::SEQUENCE, "a signer is not a sequence")?.content)?);
    }
    Ok(SignedData { attached, certificates, signers })
}

fn signer(content: &[u8]) -> Result<Signer<'_>, NotDer> {
    let mut info = Reader(content);
    info.expect(tag::INTEGER, "a signer has no version")?;
    let identifier = info.next()?;
    let name = match identifier.tag {
        tag::SEQUENCE => {
            let mut parts = Reader(identifier.content);
            let issuer = parts.expect(tag::SEQUENCE, "a signer's issuer is not a name")?.whole;
            let serial = parts.expect(tag::INTEGER, "a signer's serial number is not an integer")?.content;
            SignerName::IssuerAndSerial { issuer, serial: without_leading_zeros(serial) }
        }
        tag::CONTEXT_0_PRIMITIVE => SignerName::KeyIdentifier(identifier.content),
        _ => return Err(NotDer("a signer is named in an unknown way")),
    };
    let mut algorithm = Reader(info.expect(tag::SEQUENCE, "a signer has no digest algorithm")?.content);
    let digest = algorithm.expect(tag::OID, "a signer's digest algorithm has no identifier")?.content;
    let mut signing_time = None;
    if let Some(attributes) = info.optional(tag::CONTEXT_0)? {
        let mut attributes = Reader(attributes.content);
        while !attributes.is_empty() {
            let mut attribute =
                Reader(attributes.expect(tag::SEQUENCE, "a signed attribute is not a sequence")?.content);
            let kind = attribute.expect(tag::OID, "a signed attribute has no identifier")?.content;
            let mut values = Reader(attribute.expect(tag::SET, "a signed attribute has no values")?.content);
            if kind == oid::SIGNING_TIME {
                signing_time = values.next().ok().and_then(time);
            }
        }
    }
    info.expect(tag::SEQUENCE, "a signer has no signature algorithm")?;
    info.expect(tag::OCTET_STRING, "a signer has no signature")?;
    Ok(Signer { name, digest, signing_time })
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let start = number.iter().position(|&byte| byte != 0).unwrap_or(number.len());
    number.get(start..).unwrap_or_default()
}

/// Reads a UTCTime or GeneralizedTime in the only form that DER allows: to the second and with `Z`.
fn time(element: Element<'_>) -> Option<Timestamp> {
    let text = std::str::from_utf8(element.content).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (element.tag, text.len()) {
        (tag::UTC_TIME, 12) => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i16 = year.parse().ok()?;
            // RFC 5652, 11.3: 50 to 99 belong to the last century.
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        (tag::GENERALIZED_TIME, 14) => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let part = |from: usize| rest.get(from..from + 2)?.parse::<i8>().ok();
    let civil = jiff::civil::DateTime::new(year, part(0)?, part(2)?, part(4)?, part(6)?, part(8)?, 0).ok()?;
    let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp::from_seconds(zoned.timestamp().as_second()))
}

/// Returns the value of a certificate's extension, or `None` when it has none of that kind or can't be read.
pub fn certificate_extension<'a>(certificate: &'a [u8], kind: &[u8]) -> Option<&'a [u8]> {
    let mut outer = Reader(Reader(certificate).expect(tag::SEQUENCE, "").ok()?.content);
    let mut body = Reader(outer.expect(tag::SEQUENCE, "").ok()?.content);
    while !body.is_empty() {
        let part = body.next().ok()?;
        if part.tag != tag::CONTEXT_3 {
            continue;
        }
        let mut extensions = Reader(Reader(part.content).expect(tag::SEQUENCE, "").ok()?.content);
        while !extensions.is_empty() {
            let mut extension = Reader(extensions.expect(tag::SEQUENCE, "").ok()?.content);
            if extension.expect(tag::OID, "").ok()?.content != kind {
                continue;
            }
            // The optional "critical" flag precedes the value.
            while !extension.is_empty() {
                let value = extension.next().ok()?;
                if value.tag == tag::OCTET_STRING {
                    return Some(value.content);
                }
            }
        }
    }
    None
}

/// Returns the text in an extension: a DER string of any kind, or the bare text that some issuers write.
pub fn text_of(value: &[u8]) -> Option<&str> {
    let mut reader = Reader(value);
    let content = match reader.next() {
        // UTF8String, PrintableString, IA5String
        Ok(Element { tag: 0x0c | 0x13 | 0x16, content, .. }) if reader.is_empty() => content,
        _ => value,
    };
    std::str::from_utf8(content).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn element(tag: u8, text: &str) -> Element<'_> {
        Element { tag, content: text.as_bytes(), whole: text.as_bytes() }
    }

    #[test]
    fn lengths_must_be_definite_and_shortest() {
        assert_eq!(read_length(&[0x05, 1]), Ok((5, &[1_u8][..])));
        assert_eq!(read_length(&[0x81, 0x80]), Ok((128, &[][..])));
        assert_eq!(read_length(&[0x82, 0x01, 0x00]), Ok((256, &[][..])));
        for bad in [&[][..], &[0x80], &[0x81, 0x05], &[0x82, 0x00, 0x90], &[0x85, 1, 1, 1, 1, 1], &[0x82, 1]] {
            assert!(read_length(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn an_element_longer_than_its_container_is_refused() {
        assert!(Reader(&[0x30, 0x05, 0x02, 0x01]).next().is_err());
    }

    #[test]
    fn both_kinds_of_time_are_read_and_other_texts_are_not() {
        let expected = Timestamp::parse_rfc3339("2026-11-21T23:15:39Z");
        assert_eq!(time(element(tag::UTC_TIME, "261121231539Z")), expected);
        assert_eq!(time(element(tag::GENERALIZED_TIME, "20261121231539Z")), expected);
        for bad in ["2611212315Z", "261121231539+0100", "261321231539Z", "26112123153éZ", "", "Z", "+61121231539Z"] {
            assert_eq!(time(element(tag::UTC_TIME, bad)), None, "{bad:?} was taken");
        }
    }

    #[test]
    fn extension_texts_are_read_with_and_without_a_string_header() {
        assert_eq!(text_of(&[0x0c, 0x02, b'a', b'b']), Some("ab"));
        assert_eq!(text_of(b"pass.com.example"), Some("pass.com.example"));
        assert_eq!(text_of(&[0xff, 0xfe]), None);
    }

    #[test]
    fn lengths_that_only_the_end_tells_and_octets_in_parts_become_der() {
        let ber = [0x30, 0x80, 0x24, 0x80, 0x04, 0x01, b'a', 0x04, 0x81, 0x01, b'b', 0, 0, 0x02, 0x01, 7, 0, 0, 9];
        let der = [0x30, 0x07, 0x04, 0x02, b'a', b'b', 0x02, 0x01, 7];
        assert_eq!(from_ber(&ber).as_deref(), Ok(&der[..]));
        assert_eq!(from_ber(&der).as_deref(), Ok(&der[..]));
        for bad in [&[0x30, 0x80, 0x02, 0x01, 7][..], &[0x04, 0x80, 0, 0], &[0x30, 0x05, 0x02], &[0x24, 3, 2, 1, 7]] {
            assert!(from_ber(bad).is_err(), "{bad:?} was taken");
        }
        assert!(from_ber(&[0x30, 0x80].repeat(1000)).is_err(), "nothing is followed without end");
    }

    #[test]
    fn integers_are_counted_and_measured() {
        for (content, count, length) in [
            (&[0_u8][..], 0, 0),
            (&[0x08, 0x00], 2048, 12),
            (&[0x00, 0xff], 255, 8),
            (&[0xff], u64::MAX, 8),
            (&[1, 0, 0, 0, 0, 0, 0, 0, 0], u64::MAX, 65),
            (&[], u64::MAX, 0),
        ] {
            assert_eq!((counted(content), bits(content)), (count, length), "{content:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = signed_data(&bytes);
            let _ = certificate_extension(&bytes, oid::APPLE_NFC);
            let _ = text_of(&bytes);
            let _ = from_ber(&bytes);
        }
    }
}
