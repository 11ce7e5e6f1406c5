//! Unpacks a `.pkpass` that may be hostile: everything is checked before anything is unpacked.
//!
//! The limits are ours: a pass is a few hundred kilobytes, and a phone holds all of it in memory.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{Cursor, Read};

use zip::{CompressionMethod, ZipArchive};

use crate::wallets::apple::rules::Files;
use crate::wallets::apple::rules::report::{Report, quoted};

const MAX_ENTRIES: usize = 1000;
const MAX_BYTES: u64 = 64 * 1024 * 1024;
/// The unpacked size from which the compression ratio is limited, in bytes; smaller entries may compress as well as
/// they like.
const RATIO_FROM: u64 = 1024 * 1024;
const MAX_RATIO: u64 = 200;

/// The content of an archive.
#[derive(Debug, Default)]
pub struct Unpacked {
    /// The files that could be unpacked safely.
    pub files: Files,
    /// False when the archive as a whole was refused, so that missing files mean nothing.
    pub readable: bool,
}

/// Reads an archive and reports the rules that it breaks.
pub fn unpack(bytes: &[u8], report: &mut Report) -> Unpacked {
    if bytes.len() as u64 > MAX_BYTES {
        report.error("zip-too-large", "", format!("the file has {} bytes; at most {MAX_BYTES} are read", bytes.len()));
        return Unpacked::default();
    }
    // Counted before the library parses the entries, because it keeps a record of each in memory.
    let headers = count_central_headers(bytes);
    if headers > MAX_ENTRIES {
        report.error(
            "zip-too-many-entries",
            "",
            format!("the archive has {headers} entries; at most {MAX_ENTRIES} are read"),
        );
        return Unpacked::default();
    }
    let mut archive = match ZipArchive::new(Cursor::new(bytes)) {
        Ok(archive) => archive,
        Err(error) => {
            report.error("zip-invalid", "", format!("the file is not a readable ZIP archive: {error}"));
            return Unpacked::default();
        }
    };
    note_prefix(bytes, &archive, report);
    note_duplicates(bytes, &archive, report);
    if !sizes_are_sane(&mut archive, report) {
        return Unpacked::default();
    }
    let files = unpack_entries(&mut archive, report);
    Unpacked { files: without_nesting(files, report), readable: true }
}

fn count_central_headers(bytes: &[u8]) -> usize {
    bytes.windows(4).filter(|window| *window == b"PK\x01\x02").count()
}

fn note_prefix(bytes: &[u8], archive: &ZipArchive<Cursor<&[u8]>>, report: &mut Report) {
    let first =
        (0..archive.len()).filter_map(|index| archive.by_index_data(index).ok()).map(|entry| entry.header_start());
    let first = first.min().unwrap_or(0);
    if archive.offset() > 0 || (first > 0 && !bytes.starts_with(b"PK\x03\x04")) {
        report.warning(
            "zip-prefix-data",
            "",
            format!("{first} bytes precede the first entry; readers that look for the archive at the start refuse it"),
        );
    }
}

/// Reports entries with the same name. The library keeps only the last of them, so the names are read once more.
fn note_duplicates(bytes: &[u8], archive: &ZipArchive<Cursor<&[u8]>>, report: &mut Report) {
    let mut seen = HashSet::new();
    let mut folded: HashMap<String, Cow<'_, str>> = HashMap::new();
    let mut rest = usize::try_from(archive.central_directory_start()).ok().and_then(|start| bytes.get(start..));
    while let Some(header) = rest.filter(|rest| rest.starts_with(b"PK\x01\x02")) {
        let number = |at: usize| {
            let field = header.get(at..at + 2).and_then(|field| <[u8; 2]>::try_from(field).ok());
            field.map(|field| usize::from(u16::from_le_bytes(field)))
        };
        let (Some(name), Some(extra), Some(comment)) = (number(28), number(30), number(32)) else { break };
        let Some(raw) = header.get(46..46 + name) else { break };
        let text = String::from_utf8_lossy(raw);
        if !seen.insert(raw) {
            report.error(
                "zip-duplicate-entry",
                text.as_ref(),
                "two entries have this name, and readers differ in which they take; keep one",
            );
        } else if let Some(other) = folded.insert(text.to_lowercase(), text.clone()) {
            report.error(
                "zip-case-collision",
                text.as_ref(),
                format!("differs from {} only in case, and some file systems hold just one of them", quoted(&other)),
            );
        }
        rest = header.get(46 + name + extra + comment..);
    }
}

fn sizes_are_sane(archive: &mut ZipArchive<Cursor<&[u8]>>, report: &mut Report) -> bool {
    let mut sane = true;
    let mut total = 0_u64;
    for index in 0..archive.len() {
        let Ok(entry) = archive.by_index_data(index) else { continue };
        let (size, packed) = (entry.size(), entry.compressed_size());
        total = total.saturating_add(size);
        if size > RATIO_FROM && size / packed.max(1) > MAX_RATIO {
            sane = false;
            let name = String::from_utf8_lossy(entry.name_raw()).into_owned();
            report.error(
                "zip-bomb-ratio",
                name,
                format!("expands from {packed} to {size} bytes; more than {MAX_RATIO} times is refused"),
            );
        }
    }
    if total > MAX_BYTES {
        sane = false;
        report.error("zip-too-large", "", format!("unpacks to {total} bytes; at most {MAX_BYTES} are allowed"));
    }
    match archive.has_overlapping_entries() {
        Ok(false) => {}
        Ok(true) => {
            sane = false;
            report.error(
                "zip-overlap",
                "",
                "entries share bytes of the archive; write each entry once, one after the other",
            );
        }
        Err(error) => {
            sane = false;
            report.error("zip-invalid", "", format!("an entry's header can't be read: {error}"));
        }
    }
    sane
}

fn unpack_entries(archive: &mut ZipArchive<Cursor<&[u8]>>, report: &mut Report) -> Files {
    let mut files = Files::new();
    for index in 0..archive.len() {
        let Ok(entry) = archive.by_index_data(index) else { continue };
        let name = match std::str::from_utf8(entry.name_raw()) {
            Ok(name) => name.to_owned(),
            Err(_) => String::from_utf8_lossy(entry.name_raw()).into_owned(),
        };
        // Every fault of an entry is reported, not only the first.
        let mut usable = true;
        let mut refuse = |rule, detail: &str| {
            usable = false;
            report.error(rule, name.as_str(), detail);
        };
        if let Some(why) = unsafe_path(&name) {
            refuse("zip-unsafe-path", why);
        }
        if is_special(entry.unix_mode()) {
            refuse("zip-special-file", "is a symbolic link or another special file; a pass holds plain files");
        }
        if entry.encrypted() {
            refuse("zip-encrypted", "is encrypted; a phone has no password for it");
        }
        if !matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
            refuse("zip-compression", "uses a compression other than stored or deflate");
        }
        let is_directory = name.ends_with('/');
        let declared = entry.size();
        if !usable || is_directory {
            continue;
        }
        match read_entry(archive, index, declared) {
            Ok(content) => {
                files.insert(name, content);
            }
            Err(error) => report.error("zip-invalid", name, format!("can't be unpacked: {error}")),
        }
    }
    files
}

/// Unpacks one entry. It never holds more than the declared size, and the declared sizes were added up before.
fn read_entry(archive: &mut ZipArchive<Cursor<&[u8]>>, index: usize, declared: u64) -> Result<Vec<u8>, String> {
    let entry = archive.by_index(index).map_err(|error| error.to_string())?;
    let mut content = Vec::new();
    let read = entry.take(declared + 1).read_to_end(&mut content).map_err(|error| error.to_string())?;
    if read as u64 != declared {
        let found = if read as u64 > declared { "more".to_owned() } else { read.to_string() };
        return Err(format!("{declared} bytes are declared, but {found} are there"));
    }
    Ok(content)
}

fn unsafe_path(name: &str) -> Option<&'static str> {
    let mut characters = name.chars();
    if name.is_empty() {
        Some("has an empty name")
    } else if name.starts_with('/') {
        Some("is an absolute path; paths are relative to the archive")
    } else if name.contains('\\') {
        Some("has a backslash in its name; folders are separated by /")
    } else if characters.next().is_some_and(|c| c.is_ascii_alphabetic()) && characters.next() == Some(':') {
        Some("begins with a drive letter")
    } else if name.chars().any(char::is_control) || name.contains('\u{fffd}') {
        Some("has a control character in its name, or one that is not UTF-8")
    } else if name.trim_end_matches('/').split('/').any(|part| matches!(part, "" | "." | "..")) {
        Some("has an empty, . or .. part in its path")
    } else {
        None
    }
}

fn is_special(mode: Option<u32>) -> bool {
    const TYPE: u32 = 0o170_000;
    const REGULAR: u32 = 0o100_000;
    const DIRECTORY: u32 = 0o040_000;
    mode.is_some_and(|mode| !matches!(mode & TYPE, 0 | REGULAR | DIRECTORY))
}

/// Removes a folder around the whole pass, and reports it. Packing a pass together with its folder is a common mistake,
/// and without the folder the other rules can be checked.
fn without_nesting(files: Files, report: &mut Report) -> Files {
    if files.contains_key("pass.json") {
        return files;
    }
    let nested = files.keys().find_map(|path| path.strip_suffix("/pass.json").map(str::to_owned));
    let Some(folder) = nested else { return files };
    report.error(
        "zip-nested-root",
        format!("{folder}/pass.json"),
        "pass.json lies in a folder; pack the folder's contents, not the folder",
    );
    let prefix = format!("{folder}/");
    let rename = |(path, content): (String, Vec<u8>)| match path.strip_prefix(&prefix) {
        Some(inner) => (inner.to_owned(), content),
        None => (path, content),
    };
    files.into_iter().map(rename).collect::<BTreeMap<_, _>>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in entries {
            writer.start_file(*name, SimpleFileOptions::default()).expect("entry");
            writer.write_all(content).expect("written");
        }
        writer.finish().expect("finished").into_inner()
    }

    fn rules_of(bytes: &[u8]) -> Vec<&'static str> {
        let mut report = Report::default();
        unpack(bytes, &mut report);
        report.finish().iter().map(|issue| issue.rule).collect()
    }

    #[test]
    fn a_plain_archive_is_unpacked_without_complaint() {
        let mut report = Report::default();
        let unpacked = unpack(&archive(&[("pass.json", b"{}"), ("en.lproj/pass.strings", b"")]), &mut report);
        assert!(report.finish().is_empty());
        assert!(unpacked.readable);
        assert_eq!(unpacked.files.get("pass.json").map(Vec::as_slice), Some(&b"{}"[..]));
    }

    #[test]
    fn what_is_no_archive_is_said_to_be_none() {
        assert_eq!(rules_of(b""), ["zip-invalid"]);
        assert_eq!(rules_of(b"%PDF-1.7"), ["zip-invalid"]);
        let whole = archive(&[("pass.json", &[7; 5000])]);
        assert_eq!(rules_of(&whole[..whole.len() / 2]), ["zip-invalid"]);
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        assert_eq!(rules_of(&archive(&[("pass.json", &vec![0; 2 << 20])])), ["zip-bomb-ratio"]);
        let many: Vec<String> = (0..1001).map(|n| n.to_string()).collect();
        let many: Vec<(&str, &[u8])> = many.iter().map(|name| (name.as_str(), &b""[..])).collect();
        assert_eq!(rules_of(&archive(&many)), ["zip-too-many-entries"]);
    }

    #[test]
    fn unsafe_names_are_refused_one_by_one() {
        for bad in ["/a", "../a", "a/../b", "a\\b", "C:x", "a\nb", "a//b", "./a"] {
            assert!(unsafe_path(bad).is_some(), "{bad:?} was taken");
        }
        for good in ["pass.json", "en.lproj/", "en.lproj/pass.strings", "icon@2x.png", "..a"] {
            assert!(unsafe_path(good).is_none(), "{good:?} was refused");
        }
    }

    #[test]
    fn names_that_differ_in_case_only_are_found() {
        assert_eq!(rules_of(&archive(&[("pass.json", b""), ("Pass.json", b"")])), ["zip-case-collision"]);
    }

    #[test]
    fn one_name_twice_is_found() {
        let mut bytes = archive(&[("icon.png", b"1"), ("icoN.png", b"2")]);
        for at in 0..bytes.len() - 8 {
            if &bytes[at..at + 8] == b"icoN.png" {
                bytes[at + 3] = b'n';
            }
        }
        assert_eq!(rules_of(&bytes), ["zip-duplicate-entry"]);
    }

    #[test]
    fn a_damaged_entry_and_bytes_before_the_archive_are_found() {
        let mut bytes = archive(&[("note", b"hello hello hello")]);
        bytes[36] ^= 0xff;
        assert_eq!(rules_of(&bytes), ["zip-invalid"]);
        let prefixed = [b"junk".to_vec(), archive(&[("a", b"b")])].concat();
        assert_eq!(rules_of(&prefixed), ["zip-prefix-data"]);
    }

    #[test]
    fn a_symbolic_link_is_refused() {
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        writer.add_symlink("icon.png", "/etc/passwd", SimpleFileOptions::default()).expect("entry");
        let bytes = writer.finish().expect("finished").into_inner();
        assert_eq!(rules_of(&bytes), ["zip-special-file"]);
    }

    #[test]
    fn a_pass_in_a_folder_is_reported_and_read_all_the_same() {
        let mut report = Report::default();
        let unpacked = unpack(&archive(&[("card/pass.json", b"{}"), ("card/icon.png", b"x")]), &mut report);
        assert!(unpacked.files.contains_key("pass.json") && unpacked.files.contains_key("icon.png"));
        assert_eq!(report.finish().first().map(|issue| issue.rule), Some("zip-nested-root"));
    }
}
