//! What commands share that talk to a running service: its address, a key, and its problems in words.

use anyhow::{Context, anyhow, bail};
use clap::Args;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

use crate::platform::secrets::digest;
use crate::wallets::apple::rules::values::is_loopback;

/// Where the service is.
#[derive(Debug, Args)]
pub struct ServiceArgs {
    /// The service's address [default: PASSLOOM_URL, else http://127.0.0.1:8080].
    ///
    /// The API key is read from PASSLOOM_API_KEY, never from an argument, where others on the machine could see it.
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
}

/// A running service, as its backends use it.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    key: String,
    http: reqwest::Client,
}

impl Client {
    /// Reads the address and the key.
    ///
    /// # Errors
    /// When there is no key.
    pub fn new(args: &ServiceArgs) -> anyhow::Result<Self> {
        let given = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let base = args.url.clone().or_else(|| given("PASSLOOM_URL"));
        let base = base.unwrap_or_else(|| "http://127.0.0.1:8080".to_owned()).trim_end_matches('/').to_owned();
        let key = given("PASSLOOM_API_KEY")
            .ok_or_else(|| anyhow!("PASSLOOM_API_KEY: found nothing; expected an API key of the workspace"))?;
        let mut http = reqwest::Client::builder();
        // A proxy from the environment isn't meant for this machine, and could read the key.
        if is_loopback(&base) {
            http = http.no_proxy();
        }
        Ok(Self { base, key, http: http.build()? })
    }

    /// Returns a text that distinguishes this workspace's service from others without revealing the key.
    pub fn identity(&self) -> String {
        format!("{} {}", self.base, hex::encode(digest(self.key.as_bytes())))
    }

    /// Returns a request to the API; `path` is what follows `/api/v1`.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/api/v1{path}", self.base)).bearer_auth(&self.key)
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When nobody answers, or the service reports a problem.
    pub async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let answer = request
            .send()
            .await
            .map_err(|error| anyhow!("{} can't be asked: {}", self.base, crate::platform::http_cause::cause(&error)))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let problem: Value = answer.json().await.unwrap_or_default();
        bail!("{}", describe_problem(status.as_u16(), &problem))
    }

    /// Sends a request and parses its answer as JSON.
    ///
    /// # Errors
    /// As [`Self::send`], and when the answer is not JSON.
    pub async fn json(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        self.send(request).await?.json().await.context("the service answered something else than JSON")
    }
}

/// Returns a problem in words, one line for each thing that is wrong.
pub fn describe_problem(status: u16, problem: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut described = match problem.get("detail") {
        Some(detail) => format!("{} ({status})", text(detail)),
        None => format!("the service answered {status}"),
    };
    for error in problem.get("errors").and_then(Value::as_array).into_iter().flatten() {
        let (at, detail) = (text(&error["pointer"]), text(&error["detail"]));
        described.push_str(&format!("\n  {}: {detail}", if at.is_empty() { "the whole" } else { &at }));
    }
    described
}

/// Runs the requests of a command to the end.
///
/// # Errors
/// Those of `conversation`.
pub fn block_on<T>(conversation: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Runtime::new()?.block_on(conversation)
}
