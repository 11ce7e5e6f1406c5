//! The real program as a process of its own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use passloom::platform::random::SystemRandom;
use passloom::sandbox::phone::{Phone, PhoneOptions};
use serde_json::Value;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_passloom");

/// A running program and what it said of itself.
pub struct Program {
    pub child: Child,
    pub base: String,
    pub key: String,
    pub demo: String,
}

/// The program, to be started in that directory with nothing but its port, for everything.
pub fn command(directory: &Path, port: u16) -> Command {
    let mut command = Command::new(PROGRAM);
    let address = format!("127.0.0.1:{port}");
    // Everything on one address: many programs run at the same time.
    command
        .current_dir(directory)
        .env_clear()
        .env("PASSLOOM_LISTEN", &address)
        .env("PASSLOOM_INTERNAL_LISTEN", address);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Program {
    /// Starts it and reads what it says of itself.
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut said = |name: &str| {
            let line = lines.next().expect("the sandbox says where it is").unwrap();
            line.strip_prefix(name).unwrap_or_else(|| panic!("{line:?} instead of {name:?}")).to_owned()
        };
        let studio = said("Studio: ");
        assert!(studio.starts_with("http://") && studio.contains("/studio"), "{studio}");
        let (key, demo) = (said("API key: "), said("Demo card: "));
        let base = studio.split("/studio").next().unwrap_or_default().replace("//localhost:", "//127.0.0.1:");
        Self { child, base, key, demo }
    }

    /// A request of the loyalty backend.
    pub async fn api(&self, method: reqwest::Method, path: &str, body: &Value) -> Result<Value, reqwest::Error> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let request = http.request(method, format!("{}{path}", self.base)).bearer_auth(&self.key);
        request.body(body.to_string()).send().await?.json().await
    }

    /// The demo card.
    pub async fn card(&self) -> Value {
        self.api(reqwest::Method::GET, "/api/v1/cards/demo", &Value::Null).await.unwrap()
    }

    /// Ends it in order.
    pub fn terminate(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A new phone that trusts the root of the sandbox in that directory.
pub fn phone(directory: &Path) -> Phone {
    let root = openssl::x509::X509::from_pem(&std::fs::read(directory.join("certs/dev/root.pem")).unwrap()).unwrap();
    Phone::new(&SystemRandom, PhoneOptions { language: "en".to_owned(), root: Some(root) }).unwrap()
}
