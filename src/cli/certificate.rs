//! `passloom certificate`: everything from the request for Apple to the files that the service uses.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use openssl::asn1::Asn1Type;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::x509::{X509Name, X509Req};

use crate::domain::time::Timestamp;
use crate::platform::clock::{Clock, SystemClock};
use crate::wallets::apple::certificates::identity::{
    CertificateFacts, KEY_BITS, SigningIdentity, pass_type_and_team, read_parts,
};
use crate::wallets::apple::certificates::private_key::{Work, read_key};
use crate::wallets::apple::certificates::trust::{Trust, intermediates};

/// The variable with the password of an encrypted key or PKCS#12 file; on the command line others would see it.
const PASSWORD: &str = "PASSLOOM_APPLE_KEY_PASSWORD";

/// Get and examine Apple's certificate for a pass type.
///
/// The way to one: `passloom certificate request` makes a key and a request; upload the request at
/// developer.apple.com (Certificates, Identifiers & Profiles, Pass Type IDs, Create Certificate); download the answer
/// (pass.cer); `passloom certificate import pass.cer --key pass.key` checks it and writes what the service takes.
#[derive(Debug, Args)]
pub struct CertificateArgs {
    #[command(subcommand)]
    command: CertificateCommand,
}

#[derive(Debug, Subcommand)]
enum CertificateCommand {
    Request(RequestArgs),
    Import(ImportArgs),
    Show(ShowArgs),
}

/// Make a private key and the request for a certificate that Apple asks for.
///
/// The key is RSA with 2048 bits, unencrypted, in a file that only you may read. Keep it: without it Apple's answer is
/// worth nothing. No file is ever overwritten.
#[derive(Debug, Args)]
pub struct RequestArgs {
    /// Where the private key goes.
    #[arg(long, value_name = "FILE", default_value = "pass.key")]
    pub key: PathBuf,

    /// Where the request goes; this is what you upload.
    #[arg(long, value_name = "FILE", default_value = "pass.csr")]
    pub out: PathBuf,

    /// The name in the request. Apple replaces it by the name of your pass type.
    #[arg(long, default_value = "Passloom")]
    pub name: String,

    /// An e-mail address in the request, as Apple's own tool asks for.
    #[arg(long)]
    pub email: Option<String>,
}

/// Join Apple's answer with its key into files that PASSLOOM_APPLE_CERTIFICATE and PASSLOOM_APPLE_KEY take.
///
/// Checks that it is a pass type certificate within its dates, that the key belongs to it and that the intermediate issued
/// it; Apple's intermediates are built in. Prints the settings to use. A password of the key or of a PKCS#12 file is read
/// from PASSLOOM_APPLE_KEY_PASSWORD. No file is ever overwritten.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Apple's answer (.cer, DER or PEM), or a PKCS#12 file (.p12) with the key in it.
    #[arg(value_name = "FILE")]
    pub certificate: PathBuf,

    /// The private key (PEM or DER); not for a PKCS#12 file.
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,

    /// The intermediate that issued the certificate, when it is none of Apple's.
    #[arg(long, value_name = "FILE")]
    pub wwdr: Option<PathBuf>,

    /// Where the certificate goes, with its intermediate, as PEM.
    #[arg(long, value_name = "FILE", default_value = "pass.pem")]
    pub out: PathBuf,

    /// Where the key goes as plain PEM, readable by you only. Without it a key that is plain PEM already stays where it
    /// is, and another goes beside the certificate, with the ending .key.
    #[arg(long, value_name = "FILE")]
    pub out_key: Option<PathBuf>,
}

/// Show what a certificate is, how many days are left, and whether a key belongs to it.
///
/// Exits with 1 when it can't sign passes now: it has ended or hasn't begun, is no pass type certificate, or the key is
/// another's. A password is read from PASSLOOM_APPLE_KEY_PASSWORD.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// The certificate: PEM, DER or PKCS#12.
    #[arg(value_name = "FILE")]
    pub certificate: PathBuf,

    /// The private key to compare with it (PEM or DER).
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// When a file can't be read or written, or the certificate can't be used.
pub fn run(args: CertificateArgs) -> anyhow::Result<ExitCode> {
    let now = SystemClock.now();
    match args.command {
        CertificateCommand::Request(args) => request(&args),
        CertificateCommand::Import(args) => import(&args, now),
        CertificateCommand::Show(args) => show(&args, now),
    }
}

fn request(args: &RequestArgs) -> anyhow::Result<ExitCode> {
    // Checked first, so that no key is left behind by a request that can't be written.
    for path in [&args.key, &args.out] {
        refuse_existing(path)?;
    }
    let key = PKey::from_rsa(Rsa::generate(KEY_BITS)?)?;
    let mut name = X509Name::builder()?;
    name.append_entry_by_nid_with_type(Nid::COMMONNAME, &args.name, Asn1Type::UTF8STRING)
        .with_context(|| format!("--name {:?} can't stand in a request", args.name))?;
    if let Some(email) = &args.email {
        name.append_entry_by_nid_with_type(Nid::PKCS9_EMAILADDRESS, email, Asn1Type::IA5STRING)
            .with_context(|| format!("--email {email:?} can't stand in a request"))?;
    }
    let mut request = X509Req::builder()?;
    request.set_version(0)?;
    request.set_subject_name(&name.build())?;
    request.set_pubkey(&key)?;
    request.sign(&key, MessageDigest::sha256())?;
    let request = request.build().to_pem()?;
    write_new(&args.key, &key.private_key_to_pem_pkcs8()?, 0o600)?;
    write_new(&args.out, &request, 0o644)?;
    println!("Key:     {} (keep it; only you may read it)", args.key.display());
    println!("Request: {} (upload it at developer.apple.com)", args.out.display());
    println!("Then:    passloom certificate import pass.cer --key {}", args.key.display());
    Ok(ExitCode::SUCCESS)
}

fn import(args: &ImportArgs, now: Timestamp) -> anyhow::Result<ExitCode> {
    let certificate = read(&args.certificate)?;
    let key = args.key.as_deref().map(read).transpose()?;
    let wwdr = args.wwdr.as_deref().map(read).transpose()?;
    let password = std::env::var(PASSWORD).ok();
    let identity = SigningIdentity::from_files(
        &certificate,
        key.as_deref(),
        password.as_deref(),
        wwdr.as_deref(),
        &intermediates(),
    )
    .with_context(|| format!("{} can't be used", args.certificate.display()))?;
    if identity.not_after <= now {
        bail!("{} ended on {}", args.certificate.display(), identity.not_after.to_rfc3339_seconds());
    }
    let plain = key.as_deref().is_some_and(is_plain_pem);
    let key_path = match (&args.out_key, &args.key) {
        (Some(path), _) => path.clone(),
        (None, Some(path)) if plain => path.clone(),
        (None, _) => args.out.with_extension("key"),
    };
    let key_stays = args.out_key.is_none() && plain;
    refuse_existing(&args.out)?;
    if !key_stays {
        refuse_existing(&key_path)?;
        write_new(&key_path, &identity.key_pem.0, 0o600)?;
    }
    write_new(&args.out, &identity.chain_pem, 0o644)?;
    println!(
        "{} of team {}, valid until {}",
        identity.pass_type,
        identity.team,
        identity.not_after.to_rfc3339_seconds()
    );
    println!("PASSLOOM_APPLE_CERTIFICATE={}", args.out.display());
    println!("PASSLOOM_APPLE_KEY={}", key_path.display());
    if now < identity.not_before {
        eprintln!("passloom: it is not valid before {}", identity.not_before.to_rfc3339_seconds());
    }
    if !Trust::apple().trusts_pass_certificate(&identity.chain_pem, now) {
        eprintln!("passloom: it does not chain to Apple's roots: no phone will take passes that it signs");
    }
    Ok(ExitCode::SUCCESS)
}

fn show(args: &ShowArgs, now: Timestamp) -> anyhow::Result<ExitCode> {
    let bytes = read(&args.certificate)?;
    let key = args.key.as_deref().map(read).transpose()?;
    let password = std::env::var(PASSWORD).ok();
    let parts = read_parts(&bytes, key.as_deref(), password.as_deref())
        .with_context(|| format!("{} can't be read", args.certificate.display()))?;
    let found = &parts.certificate;
    let facts = CertificateFacts::of(found)?;
    let mut out = String::new();
    let mut usable = true;
    line(&mut out, "Name", &facts.name)?;
    match pass_type_and_team(found) {
        Ok((pass_type, team)) => {
            line(&mut out, "Pass type", pass_type.as_str())?;
            line(&mut out, "Team", &team)?;
        }
        Err(error) => {
            usable = false;
            line(&mut out, "Pass type", &format!("none: {error}"))?;
        }
    }
    line(&mut out, "Issued by", &facts.issued_by)?;
    line(&mut out, "Serial number", &facts.serial_number)?;
    line(&mut out, "SHA-256", &facts.fingerprint)?;
    line(&mut out, "Valid from", &facts.not_before.to_rfc3339_seconds())?;
    line(&mut out, "Valid until", &facts.not_after.to_rfc3339_seconds())?;
    let days = facts.not_after.since(now).as_secs() / 86_400;
    if facts.not_after <= now {
        usable = false;
        line(&mut out, "Days left", "none: it has ended")?;
    } else if now < facts.not_before {
        usable = false;
        line(&mut out, "Days left", &format!("{days}, but it isn't valid yet"))?;
    } else {
        line(&mut out, "Days left", &days.to_string())?;
    }
    if let Some(key) = &parts.key {
        let belongs = found.public_key()?.public_eq(key);
        usable &= belongs;
        line(&mut out, "Key", if belongs { "belongs to the certificate" } else { "belongs to another certificate" })?;
    }
    std::io::stdout().lock().write_all(out.as_bytes())?;
    Ok(if usable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn line(out: &mut String, label: &str, text: &str) -> std::fmt::Result {
    // A certificate's texts must not be able to send control sequences to the terminal.
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    writeln!(out, "{label:<14} {plain}")
}

fn is_plain_pem(key: &[u8]) -> bool {
    // An encrypted key fails to be read without a password.
    key.starts_with(b"-----BEGIN ") && read_key(key, "", &mut Work::default()).is_ok()
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("{} can't be read", path.display()))
}

fn refuse_existing(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        bail!("{} is there already, and nothing is overwritten; move it away or name another file", path.display());
    }
    Ok(())
}

/// Writes a new file, which others see complete or not at all.
fn write_new(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    write().with_context(|| format!("{} can't be written", path.display()))
}
