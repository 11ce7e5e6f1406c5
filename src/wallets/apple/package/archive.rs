//! The ZIP archive of a pass, in two parts: the files that all cards of a version share, laid out once, followed by the
//! few files of one card.
//!
//! Nothing is deflated: pictures would not shrink, and the rest is a few kilobytes. Entry times are constant, so that
//! equal passes are equal bytes. Reading archives is left to the `zip` crate (see `inspect`); writing is our own
//! because the shared part must be neither copied nor hashed again for each card.

use bytes::{BufMut, Bytes, BytesMut};
use sha1::{Digest, Sha1};

/// 1 January 1980, the earliest date a ZIP entry can have.
const DOS_DATE: u16 = 0x0021;
const VERSION: u16 = 20;
const MADE_BY_UNIX: u16 = 3 << 8 | VERSION;
const REGULAR_FILE: u32 = 0o100_644 << 16;

/// The files shared by every card of a version, laid out, hashed and listed.
#[derive(Debug, Clone)]
pub struct SharedFiles {
    /// The local headers and contents.
    laid_out: Bytes,
    directory: Vec<u8>,
    count: u16,
    /// The manifest's members for these files, each followed by a comma.
    manifest: String,
}

impl SharedFiles {
    /// Lays out and hashes files in the given order; this happens once per version.
    ///
    /// # Errors
    /// When the whole would exceed the ZIP format's limits without ZIP64 (65,535 entries, 4 GiB).
    pub fn new<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Result<Self, TooLarge> {
        let mut parts = Parts::default();
        let mut manifest = String::new();
        for (name, content) in files {
            parts.add(0, name, content)?;
            list(&mut manifest, name, content);
        }
        Ok(Self { laid_out: parts.laid_out.freeze(), directory: parts.directory, count: parts.count, manifest })
    }

    /// Returns how many bytes they take in memory.
    pub fn memory(&self) -> usize {
        self.laid_out.len() + self.directory.len() + self.manifest.len()
    }

    /// Returns the manifest of these files and one card's own.
    pub fn manifest(&self, own: &[(&str, &[u8])]) -> Vec<u8> {
        let mut text = String::with_capacity(self.manifest.len() + 80 * own.len() + 2);
        text.push('{');
        for (name, content) in own {
            list(&mut text, name, content);
        }
        text.push_str(&self.manifest);
        if text.ends_with(',') {
            text.pop();
        }
        text.push('}');
        text.into_bytes()
    }

    /// Returns the archive of these files and one card's own.
    ///
    /// # Errors
    /// As [`SharedFiles::new`].
    pub fn with(&self, own: &[(&str, &[u8])]) -> Result<Archive, TooLarge> {
        let start = u32::try_from(self.laid_out.len()).map_err(|_| TooLarge)?;
        let mut parts = Parts { count: self.count, ..Parts::default() };
        for (name, content) in own {
            parts.add(start, name, content)?;
        }
        let mut tail = parts.laid_out;
        let directory_at = u32::try_from(self.laid_out.len() + tail.len()).map_err(|_| TooLarge)?;
        let directory_len = u32::try_from(self.directory.len() + parts.directory.len()).map_err(|_| TooLarge)?;
        tail.reserve(self.directory.len() + parts.directory.len() + 22);
        tail.put_slice(&self.directory);
        tail.put_slice(&parts.directory);
        tail.put_u32_le(0x0605_4b50); // end of central directory
        tail.put_u32_le(0); // this disk, disk of the directory
        tail.put_u16_le(parts.count);
        tail.put_u16_le(parts.count);
        tail.put_u32_le(directory_len);
        tail.put_u32_le(directory_at);
        tail.put_u16_le(0); // comment
        Ok(Archive { shared: self.laid_out.clone(), own: tail.freeze() })
    }
}

/// A finished archive; the shared part is not copied.
#[derive(Debug, Clone)]
pub struct Archive {
    /// The part shared by all cards of the version.
    pub shared: Bytes,
    /// The part of this card, which follows it.
    pub own: Bytes,
}

impl Archive {
    /// Returns the size in bytes.
    pub fn len(&self) -> usize {
        self.shared.len() + self.own.len()
    }

    /// Returns false: even an archive without files has an end record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the archive in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        [self.shared.as_ref(), self.own.as_ref()].concat()
    }
}

/// The files don't fit into an archive without ZIP64, which phones may not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the files of the pass are too large for a ZIP archive")]
pub struct TooLarge;

#[derive(Default)]
struct Parts {
    laid_out: BytesMut,
    directory: Vec<u8>,
    count: u16,
}

impl Parts {
    fn add(&mut self, start: u32, name: &str, content: &[u8]) -> Result<(), TooLarge> {
        let size = u32::try_from(content.len()).map_err(|_| TooLarge)?;
        let name_len = u16::try_from(name.len()).map_err(|_| TooLarge)?;
        let here = u32::try_from(self.laid_out.len()).map_err(|_| TooLarge)?;
        let at = start.checked_add(here).ok_or(TooLarge)?;
        self.count = self.count.checked_add(1).ok_or(TooLarge)?;
        let crc = crc32fast::hash(content);
        let common = |out: &mut dyn BufMut| {
            out.put_u16_le(VERSION); // needed to extract
            out.put_u16_le(if name.is_ascii() { 0 } else { 1 << 11 });
            out.put_u16_le(0); // stored
            out.put_u16_le(0); // time
            out.put_u16_le(DOS_DATE);
            out.put_u32_le(crc);
            out.put_u32_le(size);
            out.put_u32_le(size);
            out.put_u16_le(name_len);
            out.put_u16_le(0); // extra field
        };
        self.laid_out.reserve(30 + name.len() + content.len());
        self.laid_out.put_u32_le(0x0403_4b50);
        common(&mut self.laid_out);
        self.laid_out.put_slice(name.as_bytes());
        self.laid_out.put_slice(content);
        self.directory.put_u32_le(0x0201_4b50);
        self.directory.put_u16_le(MADE_BY_UNIX);
        common(&mut self.directory);
        self.directory.put_u16_le(0); // comment
        self.directory.put_u16_le(0); // disk
        self.directory.put_u16_le(0); // internal attributes
        self.directory.put_u32_le(REGULAR_FILE);
        self.directory.put_u32_le(at);
        self.directory.put_slice(name.as_bytes());
        Ok(())
    }
}

fn list(manifest: &mut String, name: &str, content: &[u8]) {
    manifest.push_str(&serde_json::Value::from(name).to_string());
    manifest.push_str(":\"");
    manifest.push_str(&hex::encode(Sha1::digest(content)));
    manifest.push_str("\",");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::Read;

    fn unzip(bytes: Vec<u8>) -> BTreeMap<String, Vec<u8>> {
        let mut archive = zip::ZipArchive::new(std::io::Cursor::new(bytes)).expect("a readable archive");
        (0..archive.len())
            .map(|i| {
                let mut file = archive.by_index(i).expect("an entry");
                let mut content = Vec::new();
                file.read_to_end(&mut content).expect("a right checksum");
                (file.name().expect("UTF-8").into_owned(), content)
            })
            .collect()
    }

    #[test]
    fn an_independent_reader_finds_every_file() {
        let shared =
            SharedFiles::new([("icon.png", b"png".as_slice()), ("lv.lproj/pass.strings", b"")]).expect("small");
        let own: [(&str, &[u8]); 2] = [("pass.json", b"{}"), ("signature", b"\x30\x00")];
        let archive = shared.with(&own).expect("small");
        let files = unzip(archive.to_vec());
        assert_eq!(files.len(), 4);
        assert_eq!(files["icon.png"], b"png");
        assert_eq!(files["pass.json"], b"{}");
        assert_eq!(archive.len(), archive.to_vec().len());
        assert_eq!(shared.with(&own).expect("small").to_vec(), archive.to_vec());
    }

    #[test]
    fn the_manifest_lists_every_file_with_its_sha1() {
        let shared = SharedFiles::new([("icon.png", b"png".as_slice())]).expect("small");
        let manifest: BTreeMap<String, String> =
            serde_json::from_slice(&shared.manifest(&[("pass.json", b"{}")])).expect("an object of texts");
        assert_eq!(manifest["pass.json"], "bf21a9e8fbc5a3846fb05b4fa0859e0917b2202f");
        assert_eq!(manifest["icon.png"], hex::encode(Sha1::digest(b"png")));
        assert_eq!(manifest.len(), 2);
    }
}
