//! Warns before certificates expire: 60, 30, 14, 7 and 1 days ahead, and when they have expired.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::domain::ids::PassTypeId;
use crate::telemetry::CertificateLabels;
use crate::wallets::apple::issuers::AppleIssuer;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The thresholds in days before the end; 0 is the end itself.
const THRESHOLDS: [u32; 6] = [0, 1, 7, 14, 30, 60];
/// At this threshold and below, a warning is logged as an error.
const URGENT: u32 = 7;

/// A warning that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The pass type whose certificate ends.
    pub pass_type: PassTypeId,
    /// The threshold that was crossed, in days; 0 when the certificate has ended.
    pub days: u32,
    /// Whether it is logged as an error.
    pub urgent: bool,
}

/// The warnings that a node has given since its start, by certificate.
#[derive(Debug, Default)]
pub struct CertificateWatch {
    told: HashMap<String, u32>,
}

impl CertificateWatch {
    /// Checks, for each pass type, the certificate that ends last: once it is renewed, no warning is needed. Each
    /// threshold is reported once; the metric always shows the days that are left.
    pub fn look(&mut self, app: &App) -> Vec<Warning> {
        let mut last: BTreeMap<PassTypeId, Arc<AppleIssuer>> = BTreeMap::new();
        for issuer in app.issuers.all() {
            let known = last.entry(issuer.identity.pass_type.clone()).or_insert_with(|| Arc::clone(&issuer));
            if issuer.identity.not_after > known.identity.not_after {
                *known = issuer;
            }
        }
        let now = app.now();
        let mut warnings = Vec::new();
        for (pass_type, issuer) in last {
            let identity = &issuer.identity;
            let left = identity.not_after.since(now);
            let labels = CertificateLabels { pass_type: pass_type.to_string() };
            let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
            app.metrics.certificate_remaining.get_or_create(&labels).set(seconds);
            let Some(days) = THRESHOLDS.into_iter().find(|days| left <= *days * DAY) else { continue };
            if self.told.get(&identity.fingerprint).is_some_and(|warned| *warned <= days) {
                continue;
            }
            self.told.insert(identity.fingerprint.clone(), days);
            let (end, workspace) = (identity.not_after.to_rfc3339_seconds(), &issuer.workspace);
            let left_days = left.as_secs() / DAY.as_secs();
            let urgent = days <= URGENT;
            match days {
                0 => {
                    tracing::error!(%pass_type, %workspace, end, "a certificate has ended: nothing can be signed or pushed for its passes; renew it at Apple and set it")
                }
                _ if urgent => {
                    tracing::error!(%pass_type, %workspace, end, left_days, "a certificate ends within days: renew it at Apple and set it")
                }
                _ => {
                    tracing::warn!(%pass_type, %workspace, end, left_days, "a certificate ends soon: renew it at Apple and set it beside this one")
                }
            }
            warnings.push(Warning { pass_type, days, urgent });
        }
        warnings
    }
}
