//! Passes as others see them: a reader that shares no line with us, and OpenSSL's command line.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use sha1::{Digest, Sha1};

/// Checks every entry's CRC, then asks the package `pkpass` to read the file. It answers `{}` to what it takes for no
/// archive, hence the question before.
const READ: &str = "
import json, sys, zipfile
from pkpass import Pkpass
broken = zipfile.ZipFile(sys.argv[1]).testzip()
if broken is not None:
    sys.exit(f'{broken} is damaged')
reader = Pkpass(sys.argv[1])
if not reader.isValid():
    sys.exit('this is no .pkpass archive')
json.dump(reader.read(), sys.stdout)
";

/// A program that scripts/test-tools.sh installs from PyPI.
pub fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/venv/bin").join(name)
}

/// What an independent reader (PyPI's `pkpass`) finds in the pass: its pass.json.
///
/// # Panics
/// When the reader refuses the pass, or isn't installed.
pub fn read_independently(pkpass: &[u8]) -> Value {
    let python = tool("python");
    assert!(python.exists(), "the independent reader is missing; install it with scripts/test-tools.sh");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("card.pkpass");
    fs::write(&file, pkpass).unwrap();
    let output = Command::new(python).args(["-c", READ]).arg(file).output().unwrap();
    assert!(output.status.success(), "the independent reader refuses the pass: {}", complaint(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Checks the pass as a phone does: every file is in the manifest with its SHA-1 and no other file is, and the
/// signature over the manifest leads to the root certificate in the PEM file.
///
/// # Panics
/// When one of that doesn't hold, or there is no `openssl`.
pub fn openssl_cms_verify(pkpass: &[u8], root_pem: &Path) {
    let mut files = unzip(pkpass);
    let manifest = files.remove("manifest.json").expect("a pass has a manifest.json");
    let signature = files.remove("signature").expect("a pass has a signature");

    let listed: BTreeMap<String, String> = serde_json::from_slice(&manifest).unwrap();
    let present: BTreeMap<String, String> =
        files.into_iter().map(|(name, content)| (name, hex::encode(Sha1::digest(content)))).collect();
    assert_eq!(listed, present, "the manifest on the left, the files on the right");

    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &[u8]| -> PathBuf {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let mut command = Command::new("openssl");
    command.args(["cms", "-verify", "-binary", "-purpose", "any", "-inform", "DER", "-out", "/dev/null"]);
    command.arg("-in").arg(write("signature", &signature));
    command.arg("-content").arg(write("manifest.json", &manifest));
    command.arg("-CAfile").arg(root_pem);
    // Only the given root is to be believed, whatever this machine trusts.
    command.args(["-no-CApath", "-no-CAstore"]);
    let output = command.output().expect("the command line tool openssl is installed");
    assert!(output.status.success(), "openssl refuses the signature: {}", complaint(&output));
}

/// Each file's content by its path.
pub fn unzip(pkpass: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut archive = zip::ZipArchive::new(Cursor::new(pkpass)).unwrap();
    let mut files = BTreeMap::new();
    for index in 0..archive.len() {
        let mut file = archive.by_index(index).unwrap();
        let name = file.name().unwrap().into_owned();
        let mut content = Vec::new();
        file.read_to_end(&mut content).unwrap();
        assert!(files.insert(name, content).is_none(), "a file is in the archive twice");
    }
    files
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use passloom::domain::ids::PassTypeId;
    use passloom::platform::clock::{Clock, SystemClock};
    use passloom::wallets::apple::certificates::development_chain::DevelopmentChain;
    use passloom::wallets::apple::package::archive::SharedFiles;
    use passloom::wallets::apple::package::signature::PassSigner;
    use serde_json::json;

    use super::*;

    /// A small pass, the root that it leads to, and the directory which holds that root's PEM file.
    fn signed_pass(sign: impl FnOnce(&[u8]) -> Vec<u8>) -> (Vec<u8>, PathBuf, tempfile::TempDir) {
        let now = SystemClock.now();
        let chain = DevelopmentChain::mint(&PassTypeId::parse("pass.test").unwrap(), "TEAM", now).unwrap();
        let shared = SharedFiles::new([("icon.png", b"not really".as_slice())]).unwrap();
        let pass_json = json!({"formatVersion": 1, "description": "Карта"}).to_string();
        let manifest = shared.manifest(&[("pass.json", pass_json.as_bytes())]);
        let signer = PassSigner::new(&chain.leaf, &chain.intermediate, chain.leaf_key).unwrap();
        let signature = signer.sign(&sign(&manifest), now).unwrap();
        let own = [("pass.json", pass_json.as_bytes()), ("manifest.json", &manifest), ("signature", &signature)];
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("root.pem");
        fs::write(&root, chain.root.to_pem().unwrap()).unwrap();
        (shared.with(&own).unwrap().to_vec(), root, directory)
    }

    #[test]
    fn a_pass_of_ours_is_read_by_others() {
        let (pass, root, _directory) = signed_pass(<[u8]>::to_vec);
        assert_eq!(read_independently(&pass), json!({"formatVersion": 1, "description": "Карта"}));
        openssl_cms_verify(&pass, &root);
    }

    #[test]
    #[should_panic(expected = "openssl refuses the signature")]
    fn a_signature_over_something_else_is_refused() {
        let (pass, root, _directory) = signed_pass(|_| b"something else".to_vec());
        openssl_cms_verify(&pass, &root);
    }

    #[test]
    #[should_panic(expected = "openssl refuses the signature")]
    fn a_signature_that_leads_to_another_root_is_refused() {
        let (pass, ..) = signed_pass(<[u8]>::to_vec);
        let (_, root, _directory) = signed_pass(<[u8]>::to_vec);
        openssl_cms_verify(&pass, &root);
    }

    #[test]
    #[should_panic(expected = "the independent reader refuses the pass")]
    fn a_damaged_archive_is_refused() {
        let (mut pass, ..) = signed_pass(<[u8]>::to_vec);
        let place = pass.windows(10).position(|bytes| bytes == b"not really").unwrap();
        pass[place] ^= 1;
        read_independently(&pass);
    }
}
