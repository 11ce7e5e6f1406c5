//! Logs and metrics.
//!
//! Logs hold no key, token, card address or personal value at any level: requests are logged with their route's
//! pattern, never their address.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use tracing_subscriber::EnvFilter;

use crate::actions::passes::renders::Reader;
use crate::domain::ids::IssuerId;
use crate::domain::input::{Lines, forbidden_character};
use crate::platform::process::Usage;

/// The label of a pass type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct CertificateLabels {
    pub pass_type: String,
}

/// The labels of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct RequestLabels {
    pub method: &'static str,
    pub route: String,
    pub status: u16,
}

/// The labels of a request's duration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct RouteLabels {
    pub method: &'static str,
    pub route: String,
}

/// The label of the build.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct BuildLabels {
    pub version: &'static str,
}

/// The label of a push.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct PushLabels {
    pub outcome: &'static str,
}

/// The label of a job.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct JobLabels {
    pub job: &'static str,
}

/// The label of a rendering.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct RenderLabels {
    pub reader: &'static str,
}

/// The labels of a pause.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
#[allow(missing_docs)]
pub struct PauseLabels {
    pub pass_type: String,
    pub cause: &'static str,
}

/// Figures read from the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InDatabase {
    /// How long the delivery that has waited longest has been due.
    pub queue_age: Duration,
    /// How many cards a phone holds in an older state, by wallet.
    pub cards_behind: Vec<(&'static str, i64)>,
    /// The database's size in bytes.
    pub size: i64,
}

/// Gauges that are read from time to time, see [`readings`](crate::actions::readings). Those that couldn't be read
/// aren't shown.
#[derive(Debug)]
pub struct Readings {
    started: Instant,
    last: Mutex<(Option<InDatabase>, Usage)>,
}

impl Readings {
    /// Replaces the figures.
    pub fn set(&self, database: Option<InDatabase>, usage: Usage) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = (database, usage);
    }
}

impl Collector for Readings {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let (database, usage) = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let seconds = |span: Duration| ConstGauge::new(span.as_secs_f64());
        let help = "How long this process has been running.";
        let uptime = encoder.encode_descriptor("uptime", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        seconds(self.started.elapsed()).encode(uptime)?;
        if let Some(bytes) = usage.resident_memory {
            let help = "Memory of this process that is in use and not swapped out.";
            let memory = encoder.encode_descriptor("resident_memory", help, Some(&Unit::Bytes), MetricType::Gauge)?;
            ConstGauge::new(bytes).encode(memory)?;
        }
        if let Some(files) = usage.open_files {
            let help = "Open files of this process, connections among them.";
            let open = encoder.encode_descriptor("open_files", help, None, MetricType::Gauge)?;
            ConstGauge::new(files).encode(open)?;
        }
        let Some(InDatabase { queue_age, cards_behind, size }) = database else { return Ok(()) };
        let help = "For how long the delivery has been due that has waited longest.";
        let age = encoder.encode_descriptor("queue_age", help, Some(&Unit::Seconds), MetricType::Gauge)?;
        seconds(queue_age).encode(age)?;
        let help = "Cards that a phone holds in an older state, by wallet, of the first 20000 phones that are behind.";
        let mut behind = encoder.encode_descriptor("cards_behind", help, None, MetricType::Gauge)?;
        for (wallet, cards) in cards_behind {
            ConstGauge::new(cards).encode(behind.encode_family(&[("wallet", wallet)])?)?;
        }
        let help = "How much the database takes.";
        let bytes = encoder.encode_descriptor("database_size", help, Some(&Unit::Bytes), MetricType::Gauge)?;
        ConstGauge::new(size).encode(bytes)
    }
}

/// The service's metrics; one set per [`App`](crate::app::App).
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests by method, route and status.
    pub requests: Family<RequestLabels, Counter>,
    /// How long the last certificate of each pass type is still valid, in seconds.
    pub certificate_remaining: Family<CertificateLabels, prometheus_client::metrics::gauge::Gauge>,
    /// How long requests took, by method and route.
    pub request_seconds: Family<RouteLabels, Histogram, fn() -> Histogram>,
    /// Gauges that are read from time to time.
    pub readings: Arc<Readings>,
    /// RSA signatures made.
    pub signatures: Counter,
    /// Files hashed to prepare published versions.
    pub files_hashed: Counter,
    /// Passes that phones and pages fetched.
    pub passes_served: Counter,
    /// Renderings of cards, by reader.
    pub renders: Family<RenderLabels, Counter>,
    /// Failures of jobs by job: it panicked, or ended before it was stopped.
    pub job_failures: Family<JobLabels, Counter>,
    /// Pushes by outcome.
    pub pushes: Family<PushLabels, Counter>,
    /// Gauge with 1 for each pass type whose pushes are paused, and which those are.
    paused: (Family<PauseLabels, Gauge>, Mutex<HashSet<PauseLabels>>),
    /// The time from when a change was due until its push was accepted.
    pub push_delay_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Makes a new set, all zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("passloom");
        let metrics = Self {
            requests: Family::default(),
            certificate_remaining: Family::default(),
            request_seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 14))),
            readings: Arc::new(Readings { started: Instant::now(), last: Mutex::default() }),
            signatures: Counter::default(),
            files_hashed: Counter::default(),
            passes_served: Counter::default(),
            renders: Family::default(),
            job_failures: Family::default(),
            pushes: Family::default(),
            paused: Default::default(),
            push_delay_seconds: Histogram::new(exponential_buckets(0.005, 2.0, 16)),
            registry: Registry::default(),
        };
        registry.register("http_requests", "Requests by method, route and status", metrics.requests.clone());
        registry.register_with_unit(
            "certificate_remaining",
            "How long the last certificate of each pass type is still valid",
            Unit::Seconds,
            metrics.certificate_remaining.clone(),
        );
        registry.register_with_unit(
            "http_request_duration",
            "How long requests took, by method and route",
            Unit::Seconds,
            metrics.request_seconds.clone(),
        );
        registry.register("signatures", "Signatures made", metrics.signatures.clone());
        registry.register("files_hashed", "Files hashed to prepare published versions", metrics.files_hashed.clone());
        registry.register("passes_served", "Passes served to phones and pages", metrics.passes_served.clone());
        registry.register("renders", "Times that cards were drawn, by for whom", metrics.renders.clone());
        registry.register(
            "job_failures",
            "Times that a job panicked, or ended before it was told to, by job",
            metrics.job_failures.clone(),
        );
        registry.register("pushes", "Pushes by outcome", metrics.pushes.clone());
        registry.register(
            "pushes_paused",
            "1 for each pass type whose pushes pause: its certificate is refused, or this node can't reach APNs",
            metrics.paused.0.clone(),
        );
        registry.register_with_unit(
            "push_delay",
            "From a change's being due to its push's being taken",
            Unit::Seconds,
            metrics.push_delay_seconds.clone(),
        );
        let build = Family::<BuildLabels, Gauge>::default();
        build.get_or_create(&BuildLabels { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "1 for the version that runs", build);
        registry.register_collector(Box::new(Arc::clone(&metrics.readings)));
        Self { registry, ..metrics }
    }

    /// Counts a rendering.
    pub fn rendered(&self, reader: Reader) {
        let reader = match reader {
            Reader::Customer => "customer",
            Reader::Backend => "backend",
            Reader::Designer => "designer",
            Reader::Comparison => "comparison",
        };
        self.renders.get_or_create(&RenderLabels { reader }).inc();
    }

    /// Returns the counter of a job's failures. From then on the metrics show it, as 0 if there were none.
    pub fn job_failures(&self, job: &'static str) -> Counter {
        self.job_failures.get_or_create(&JobLabels { job }).clone()
    }

    /// Counts a push.
    pub fn push(&self, outcome: &'static str) {
        self.pushes.get_or_create(&PushLabels { outcome }).inc();
    }

    /// Records which pass types' pushes are paused, and why. A pause that continues is shown without a gap.
    pub fn pushes_paused(&self, paused: impl Iterator<Item = (IssuerId, &'static str)>) {
        let (gauge, shown) = &self.paused;
        let mut shown = shown.lock().unwrap_or_else(PoisonError::into_inner);
        let paused: HashSet<PauseLabels> =
            paused.map(|(issuer, cause)| PauseLabels { pass_type: issuer.as_str().to_owned(), cause }).collect();
        for over in shown.difference(&paused) {
            gauge.remove(over);
        }
        for labels in paused.difference(&shown) {
            gauge.get_or_create(labels).set(1);
        }
        *shown = paused;
    }

    /// Returns all metrics in Prometheus's text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a String can't fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

/// The format of logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Sends logs to standard error. `filter` is a tracing filter such as `info` or `passloom=debug,warn`.
///
/// # Errors
/// When the filter can't be parsed.
pub fn start_logs(filter: &str, format: LogFormat) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|e| e.to_string())?;
    // Colours are for terminals only; in a file or a journal they are noise.
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    // Only the first subscriber of a process counts; tests share one.
    let _ = match format {
        LogFormat::Text => logs.with_target(false).try_init(),
        LogFormat::Json => logs.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// Makes a text from a phone fit for a log: one line, no control characters, at most 2 KiB.
pub fn from_outside(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let hidden = forbidden_character(&c.to_string(), Lines::One).is_some() || matches!(c, '\u{2028}' | '\u{2029}');
        let escaped: String = if hidden { c.escape_default().collect() } else { c.to_string() };
        if out.len() + escaped.len() > 2048 {
            out.push('…');
            break;
        }
        out.push_str(&escaped);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_from_a_phone_is_one_line_of_at_most_two_kibibytes() {
        assert_eq!(from_outside("a\u{1b}[31m\nb\u{202e}\u{2028}"), "a\\u{1b}[31m\\nb\\u{202e}\\u{2028}");
        for text in ["x".repeat(5000), "ā".repeat(5000), "\n".repeat(5000)] {
            let shown = from_outside(&text);
            assert!((2000..=2051).contains(&shown.len()) && shown.ends_with('…'), "{}", shown.len());
        }
        assert_eq!(from_outside(&"x".repeat(2048)).len(), 2048, "not cut");
    }

    #[test]
    fn a_pause_that_goes_on_is_shown_without_a_gap_and_one_that_ended_is_not() {
        let metrics = Metrics::new();
        let (one, other) = ("pass.test.one", "pass.test.other");
        let paused = |names: &[&str]| {
            let names = names.iter().map(|name| (IssuerId::parse(name).expect("valid"), "refused"));
            metrics.pushes_paused(names.collect::<Vec<_>>().into_iter());
            let text = metrics.render();
            [one, other]
                .map(|name| text.contains(&format!("pushes_paused{{pass_type=\"{name}\",cause=\"refused\"}} 1")))
        };
        assert_eq!(paused(&[one]), [true, false]);
        assert_eq!(paused(&[one, other]), [true, true]);
        assert_eq!(paused(&[other]), [false, true]);
        assert_eq!(paused(&[]), [false, false]);
    }
}
