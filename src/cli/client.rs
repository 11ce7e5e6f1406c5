//! What commands that speak to a running service have in common: its address, a key, and its problems in words.

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

/// A running service, as its backends see it.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    key: String,
    http: reqwest::Client,
}

impl Client {
    /// Reads address and key.
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
        // A proxy of the environment isn't for this machine, and would read the key.
        if is_loopback(&base) {
            http = http.no_proxy();
        }
        Ok(Self { base, key, http: http.build()? })
    }

    /// Tells this workspace's service from others, without telling the key.
    pub fn identity(&self) -> String {
        format!("{} {}", self.base, hex::encode(digest(self.key.as_bytes())))
    }

    /// A request to the API; `path` begins behind `/api/v1`.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/api/v1{path}", self.base)).bearer_auth(&self.key)
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When nobody answers, and what the service says is wrong.
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

    /// Sends a request and reads the JSON of its answer.
    ///
    /// # Errors
    /// As [`Self::send`], and when the answer is no JSON.
    pub async fn json(&self, request: RequestBuilder) -> anyhow::Result<Value> {
        self.send(request).await?.json().await.context("the service answered something else than JSON")
    }
}

/// A problem in words, a line for each thing that is wrong.
pub fn describe_problem(status: u16, problem: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut describe_problem = match problem.get("detail") {
        Some(detail) => format!("{} ({status})", text(detail)),
        None => format!("the service answered {status}"),
    };
    for error in problem.get("errors").and_then(Value::as_array).into_iter().flatten() {
        let (at, detail) = (text(&error["pointer"]), text(&error["detail"]));
        describe_problem.push_str(&format!("\n  {}: {detail}", if at.is_empty() { "the whole" } else { &at }));
    }
    describe_problem
}

/// Runs a command's conversation with the service.
///
/// # Errors
/// The conversation's.
pub fn block_on<T>(conversation: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Runtime::new()?.block_on(conversation)
}
