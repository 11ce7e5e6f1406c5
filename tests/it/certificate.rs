//! `passloom certificate`: from a key and a request to what the service starts with.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use openssl::pkey::{PKey, Private};
use openssl::x509::{X509, X509Req};
use passloom::domain::ids::PassTypeId;
use passloom::platform::clock::{Clock, SystemClock};
use passloom::wallets::apple::certificates::development_chain::DevelopmentChain;

const PASS_TYPE: &str = "pass.test.bakery";

fn run(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_passloom"));
    command.env_clear().current_dir(directory).arg("certificate").args(arguments).output().unwrap()
}

fn succeed(directory: &Path, arguments: &[&str]) -> String {
    let output = run(directory, arguments);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {told}");
    String::from_utf8(output.stdout).unwrap()
}

fn refuse(directory: &Path, arguments: &[&str], why: &str) {
    let output = run(directory, arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {told}");
    assert!(told.starts_with("passloom: ") && told.contains(why), "{arguments:?}: {told}");
    assert!(!told.contains("PRIVATE KEY"), "{told}");
}

/// What Apple answers to a request: here from a chain of our own, whose intermediate stands in wwdr.pem.
fn answer(directory: &Path, key: &PKey<Private>, born: Duration) -> X509 {
    let born = SystemClock.now().minus(born);
    let pass_type = PassTypeId::parse(PASS_TYPE).unwrap();
    let chain = DevelopmentChain::mint(&pass_type, "TEAM000001", born).unwrap();
    std::fs::write(directory.join("wwdr.pem"), chain.intermediate.to_pem().unwrap()).unwrap();
    chain.pass_certificate_for(key, &pass_type, "TEAM000001", born).unwrap()
}

fn file(directory: &Path, name: &str) -> Vec<u8> {
    std::fs::read(directory.join(name)).unwrap()
}

#[test]
fn a_request_becomes_a_certificate_that_the_service_takes() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let told = succeed(directory, &["request", "--name", "Kuzina", "--email", "anna@kuzina.example"]);
    assert!(told.contains("pass.key") && told.contains("pass.csr"), "{told}");
    let mode = |name: &str| std::fs::metadata(directory.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("pass.key"), 0o600);
    let key = PKey::private_key_from_pem(&file(directory, "pass.key")).unwrap();
    assert_eq!(key.bits(), 2048);
    let request = X509Req::from_pem(&file(directory, "pass.csr")).unwrap();
    assert!(request.verify(&key).unwrap() && request.public_key().unwrap().public_eq(&key));
    let subject: Vec<String> =
        request.subject_name().entries().map(|entry| entry.data().to_string().unwrap()).collect();
    assert_eq!(subject, ["Kuzina", "anna@kuzina.example"]);
    // Nothing is overwritten, and no key is left behind without its request.
    let before = file(directory, "pass.key");
    refuse(directory, &["request"], "pass.key is there already");
    refuse(directory, &["request", "--key", "other.key"], "pass.csr is there already");
    assert_eq!(file(directory, "pass.key"), before);
    assert!(!directory.join("other.key").exists());

    let certificate = answer(directory, &key, Duration::ZERO);
    std::fs::write(directory.join("pass.cer"), certificate.to_der().unwrap()).unwrap();
    let import = ["import", "pass.cer", "--key", "pass.key", "--wwdr", "wwdr.pem"];
    let told = succeed(directory, &import);
    assert!(told.contains(&format!("{PASS_TYPE} of team TEAM000001")), "{told}");
    assert!(told.contains("PASSLOOM_APPLE_CERTIFICATE=pass.pem\nPASSLOOM_APPLE_KEY=pass.key\n"), "{told}");
    refuse(directory, &import, "pass.pem is there already");

    let shown = succeed(directory, &["show", "pass.pem", "--key", "pass.key"]);
    let fingerprint = hex::encode(certificate.digest(openssl::hash::MessageDigest::sha256()).unwrap());
    for part in [PASS_TYPE, "TEAM000001", "Passloom Development WWDR", &fingerprint, "394", "Key            belongs"] {
        assert!(shown.contains(part), "{part} is missing in {shown}");
    }

    // What it wrote is what the service takes, with its intermediate in the file.
    let doctor = Command::new(env!("CARGO_BIN_EXE_passloom"))
        .env_clear()
        .current_dir(directory)
        .envs([
            ("PASSLOOM_APPLE_CERTIFICATE", "pass.pem"),
            ("PASSLOOM_APPLE_KEY", "pass.key"),
            ("PASSLOOM_SANDBOX", "on"),
        ])
        .arg("doctor")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(told.contains(&format!("{PASS_TYPE} of team TEAM000001")) && !told.contains("can't be used"), "{told}");
}

#[test]
fn every_form_is_imported_and_what_does_not_fit_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    succeed(directory, &["request"]);
    let key = PKey::private_key_from_pem(&file(directory, "pass.key")).unwrap();
    let certificate = answer(directory, &key, Duration::ZERO);
    std::fs::write(directory.join("pass.cer"), certificate.to_pem().unwrap()).unwrap();
    refuse(directory, &["import", "pass.cer", "--key", "pass.key"], "no intermediate certificate");
    refuse(directory, &["import", "pass.cer", "--wwdr", "wwdr.pem"], "comes without its key");
    refuse(directory, &["import", "nowhere.cer"], "nowhere.cer can't be read");
    succeed(directory, &["request", "--key", "other.key", "--out", "other.csr"]);
    refuse(directory, &["import", "pass.cer", "--key", "other.key", "--wwdr", "wwdr.pem"], "doesn't belong");
    let shown = run(directory, &["show", "pass.cer", "--key", "other.key"]);
    assert_eq!(shown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&shown.stdout).contains("belongs to another certificate"));
    assert!(!directory.join("pass.pem").exists(), "what is refused writes nothing");

    let mut file12 = openssl::pkcs12::Pkcs12::builder();
    file12.pkey(&key).cert(&certificate);
    std::fs::write(directory.join("pass.p12"), file12.build2("sesame").unwrap().to_der().unwrap()).unwrap();
    refuse(directory, &["import", "pass.p12", "--wwdr", "wwdr.pem"], "password");
    refuse(directory, &["show", "pass.p12"], "password");
    let import = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_passloom"));
        command.env_clear().current_dir(directory).env("PASSLOOM_APPLE_KEY_PASSWORD", "sesame");
        command.arg("certificate").args(arguments).output().unwrap()
    };
    let output = import(&["import", "pass.p12", "--wwdr", "wwdr.pem", "--out", "spa.pem"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("PASSLOOM_APPLE_KEY=spa.key"));
    let mode = std::fs::metadata(directory.join("spa.key")).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    assert!(PKey::private_key_from_pem(&file(directory, "spa.key")).unwrap().public_eq(&key));
    assert!(String::from_utf8_lossy(&import(&["show", "pass.p12"]).stdout).contains("belongs to the certificate"));

    let ended = answer(directory, &key, Duration::from_secs(500 * 86_400));
    std::fs::write(directory.join("ended.cer"), ended.to_der().unwrap()).unwrap();
    refuse(
        directory,
        &["import", "ended.cer", "--key", "pass.key", "--wwdr", "wwdr.pem", "--out", "e.pem"],
        "ended on",
    );
    let shown = run(directory, &["show", "ended.cer"]);
    assert_eq!(shown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&shown.stdout).contains("it has ended"));
}

#[test]
fn help_says_how_it_is_done() {
    let directory = tempfile::tempdir().unwrap();
    for (arguments, words) in [
        (vec!["--help"], vec!["request", "import", "show", "developer.apple.com"]),
        (vec!["request", "--help"], vec!["--key", "--out", "--name", "--email", "2048", "overwritten"]),
        (
            vec!["import", "--help"],
            vec!["--key", "--wwdr", "--out", "--out-key", "PASSLOOM_APPLE_KEY_PASSWORD", ".p12"],
        ),
        (vec!["show", "--help"], vec!["--key", "days", "PASSLOOM_APPLE_KEY_PASSWORD", "Exits with 1"]),
    ] {
        let told = succeed(directory.path(), &arguments);
        for word in words {
            assert!(told.contains(word), "{arguments:?} lacks {word}: {told}");
        }
    }
}
