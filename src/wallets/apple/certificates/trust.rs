//! Apple's public certificates, built into the binary, and the roots that a pass has to chain to.
//!
//! To add a new certificate of Apple's: put the file into `certs/apple`, add a line below and one to that folder's
//! README.

use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509, X509PurposeId, X509Ref, X509StoreContext, X509VerifyResult};

use crate::domain::time::Timestamp;

const APPLE_ROOTS: [&[u8]; 3] = [
    include_bytes!("../../../../certs/apple/AppleIncRootCertificate.pem"),
    include_bytes!("../../../../certs/apple/AppleRootCA-G2.pem"),
    include_bytes!("../../../../certs/apple/AppleRootCA-G3.pem"),
];

const APPLE_INTERMEDIATES: [&[u8]; 7] = [
    include_bytes!("../../../../certs/apple/AppleWWDRCAG2.pem"),
    include_bytes!("../../../../certs/apple/AppleWWDRCAG3.pem"),
    include_bytes!("../../../../certs/apple/AppleWWDRCAG4.pem"),
    include_bytes!("../../../../certs/apple/AppleWWDRCAG5.pem"),
    include_bytes!("../../../../certs/apple/AppleWWDRCAG6.pem"),
    include_bytes!("../../../../certs/apple/AppleWWDRCAG7.pem"),
    include_bytes!("../../../../certs/apple/AppleWWDRCAG8.pem"),
];

/// The trusted roots, and the intermediates that are known without being presented.
#[derive(Clone, Debug)]
pub struct Trust {
    roots: Vec<X509>,
    intermediates: Vec<X509>,
    name: &'static str,
}

impl Trust {
    /// Returns Apple's roots and Worldwide Developer Relations intermediates.
    pub fn apple() -> Self {
        Self { roots: built_in(&APPLE_ROOTS), intermediates: built_in(&APPLE_INTERMEDIATES), name: "Apple's roots" }
    }

    /// Trusts exactly one root: that of a development chain, or a file named by `--root`.
    pub fn only(root: X509) -> Self {
        Self { roots: vec![root], intermediates: Vec::new(), name: "the given root" }
    }

    /// Trusts the roots that an operator names in addition to Apple's.
    fn given(roots: Vec<X509>) -> Self {
        Self { roots, intermediates: Vec::new(), name: "the given roots" }
    }

    /// Returns the name of the trusted roots for use in a sentence.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether one of the roots issued this certificate directly.
    pub fn root_issued(&self, certificate: &X509Ref) -> bool {
        self.roots.iter().any(|root| issued(root, certificate))
    }

    /// Checks whether the certificate chains to a trusted root at a moment, through the certificates presented with it
    /// or known here. Extended key usage is not checked: OpenSSL doesn't know Apple's.
    ///
    /// Returns OpenSSL's reason when it doesn't.
    ///
    /// # Errors
    /// OpenSSL's, when the check can't be made at all.
    pub fn verify(
        &self,
        certificate: &X509Ref,
        shown: &[X509],
        at: Timestamp,
    ) -> Result<Result<(), X509VerifyResult>, ErrorStack> {
        let store = self.store(at)?;
        let mut between = Stack::new()?;
        for other in shown.iter().chain(&self.intermediates) {
            between.push(other.clone())?;
        }
        let mut context = X509StoreContext::new()?;
        context.init(&store, certificate, &between, |context| {
            Ok(if context.verify_cert()? { Ok(()) } else { Err(context.error()) })
        })
    }

    /// Whether a certificate with its intermediate, in PEM, chains to a trusted root at a moment.
    pub fn trusts_pass_certificate(&self, chain_pem: &[u8], at: Timestamp) -> bool {
        let Ok(chain) = X509::stack_from_pem(chain_pem) else { return false };
        let Some((leaf, between)) = chain.split_first() else { return false };
        matches!(self.verify(leaf, between, at), Ok(Ok(())))
    }

    fn store(&self, at: Timestamp) -> Result<X509Store, ErrorStack> {
        let mut parameters = X509VerifyParam::new()?;
        parameters.set_time(at.seconds());
        parameters.set_purpose(X509PurposeId::ANY)?;
        // A certificate that the operator names as root is trusted even if another authority issued it.
        parameters.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
        let mut builder = X509StoreBuilder::new()?;
        for root in &self.roots {
            builder.add_cert(root.clone())?;
        }
        builder.set_param(&parameters)?;
        Ok(builder.build())
    }
}

/// The proof that somebody may sign for a pass type. Later variants outrank earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// No proof: the certificate chains to no known root, as those of the sandbox.
    Nothing,
    /// A certificate that chains to a root named by the operator.
    GivenRoot,
    /// A certificate that chains to one of Apple's roots.
    Apple,
}

/// The roots that a node's signing certificates may chain to.
#[derive(Debug, Clone)]
pub struct Roots {
    apple: Trust,
    given: Option<Trust>,
    /// Whether a certificate that chains to none of them is refused; the sandbox accepts any.
    pub demanded: bool,
}

impl Roots {
    /// Combines Apple's roots with those that the operator named.
    pub fn new(given: Vec<X509>, demanded: bool) -> Self {
        Self { apple: Trust::apple(), given: (!given.is_empty()).then(|| Trust::given(given)), demanded }
    }

    /// Returns what a certificate with its intermediate, in PEM, proves. Expiry is reported elsewhere: the chain is
    /// checked at the moment of its validity that is nearest to `now`.
    pub fn proof(&self, chain_pem: &[u8], (not_before, not_after): (Timestamp, Timestamp), now: Timestamp) -> Proof {
        // OpenSSL counts the last second as expired.
        let within = now.min(not_after.minus(Duration::from_secs(1))).max(not_before);
        if self.apple.trusts_pass_certificate(chain_pem, within) {
            Proof::Apple
        } else if self.given.as_ref().is_some_and(|given| given.trusts_pass_certificate(chain_pem, within)) {
            Proof::GivenRoot
        } else {
            Proof::Nothing
        }
    }

    /// Whether a certificate with that proof is accepted.
    pub fn take(&self, proof: Proof) -> bool {
        !self.demanded || proof > Proof::Nothing
    }
}

fn built_in(files: &[&[u8]]) -> Vec<X509> {
    // A test reads each of them, so none is ever skipped.
    files.iter().filter_map(|pem| X509::from_pem(pem).ok()).collect()
}

/// Whether `issuer` issued `certificate`: names and key identifiers match, and its key made the signature.
pub fn issued(issuer: &X509Ref, certificate: &X509Ref) -> bool {
    issuer.issued(certificate) == X509VerifyResult::OK
        && issuer.public_key().is_ok_and(|key| certificate.verify(&key).unwrap_or(false))
}

/// Returns Apple's intermediates.
pub fn intermediates() -> Vec<X509> {
    built_in(&APPLE_INTERMEDIATES)
}

/// Returns the candidate that issued a certificate; several may have the issuer's name.
pub fn issuer_among<'c>(certificate: &X509Ref, candidates: &'c [X509]) -> Option<&'c X509> {
    candidates.iter().find(|candidate| issued(candidate, certificate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::PassTypeId;
    use crate::wallets::apple::certificates::development_chain::DevelopmentChain;

    fn now() -> Timestamp {
        Timestamp::from_seconds(1_795_000_000)
    }

    #[test]
    fn every_certificate_of_apple_is_read_and_chains_to_its_root() {
        let trust = Trust::apple();
        assert_eq!((trust.roots.len(), trust.intermediates.len()), (APPLE_ROOTS.len(), APPLE_INTERMEDIATES.len()));
        for intermediate in &trust.intermediates {
            assert!(trust.root_issued(intermediate), "{:?}", intermediate.subject_name());
        }
    }

    #[test]
    fn an_intermediate_of_apple_is_not_its_own_issuer() {
        for pem in APPLE_INTERMEDIATES {
            let certificate = X509::from_pem(pem).expect("built in");
            assert!(issuer_among(&certificate, &intermediates()).is_none());
        }
    }

    #[test]
    fn of_intermediates_with_one_name_that_is_found_which_issued() {
        let pass_type = PassTypeId::trusted("pass.com.example.sandbox".into());
        let [one, other] = [(); 2].map(|()| DevelopmentChain::mint(&pass_type, "ABCDE12345", now()).expect("minted"));
        let name = |certificate: &X509| certificate.subject_name().to_der().expect("a name");
        assert_eq!(name(&one.intermediate), name(&other.intermediate));
        let all = [intermediates(), vec![one.intermediate.clone(), other.intermediate.clone()]].concat();
        for chain in [&one, &other] {
            let found = issuer_among(&chain.leaf, &all).expect("it is among them").to_der().expect("DER");
            assert_eq!(found, chain.intermediate.to_der().expect("DER"));
        }
        assert!(issuer_among(&one.leaf, &[other.intermediate]).is_none());
    }

    #[test]
    fn a_certificate_proves_by_the_best_root_that_it_leads_to_also_before_and_after_its_dates() {
        let pass_type = PassTypeId::trusted("pass.com.example.sandbox".into());
        let [own, other] = [(); 2].map(|()| DevelopmentChain::mint(&pass_type, "ABCDE12345", now()).expect("minted"));
        let pem = [own.leaf.to_pem().expect("PEM"), own.intermediate.to_pem().expect("PEM")].concat();
        let born = now().minus(Duration::from_secs(3600));
        let dates = (born, born.plus(Duration::from_secs(395 * 24 * 3600)));
        for (roots, proof, taken) in [
            (Roots::new(vec![], true), Proof::Nothing, false),
            (Roots::new(vec![], false), Proof::Nothing, true),
            (Roots::new(vec![other.root.clone()], true), Proof::Nothing, false),
            (Roots::new(vec![other.root, own.root.clone()], true), Proof::GivenRoot, true),
        ] {
            for days in [0, 2000] {
                let apart = Duration::from_secs(days * 24 * 3600);
                for at in [now().plus(apart), now().minus(apart)] {
                    assert_eq!(roots.proof(&pem, dates, at), proof);
                }
            }
            assert_eq!(roots.take(proof), taken);
        }
    }

    #[test]
    fn a_development_certificate_chains_to_its_own_root_only_and_only_while_valid() {
        let pass_type = PassTypeId::trusted("pass.com.example.sandbox".into());
        let chain = DevelopmentChain::mint(&pass_type, "ABCDE12345", now()).expect("minted");
        let shown = [chain.intermediate.clone()];
        let own = Trust::only(chain.root.clone());
        assert_eq!(own.verify(&chain.leaf, &shown, now()).expect("checked"), Ok(()));
        assert!(own.verify(&chain.leaf, &[], now()).expect("checked").is_err());
        assert!(Trust::apple().verify(&chain.leaf, &shown, now()).expect("checked").is_err());
        let later = now().plus(std::time::Duration::from_secs(400 * 24 * 3600));
        assert!(own.verify(&chain.leaf, &shown, later).expect("checked").is_err());
        assert!(issuer_among(&chain.leaf, &intermediates()).is_none());
    }
}
