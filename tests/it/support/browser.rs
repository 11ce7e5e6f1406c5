//! A real browser, without a window.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// What a browser made of a page.
#[derive(Debug)]
pub struct Seen {
    /// The page after it was loaded.
    pub html: String,
    /// What the browser had to say; must hold no complaint.
    pub log: String,
    /// A picture of the window.
    pub picture: image::RgbImage,
}

/// Opens a page in Chromium, in a window of that size.
///
/// # Panics
/// When Chromium is missing, or complains about the page.
pub async fn open(page: &str, user_agent: Option<&str>, width: u32, height: u32) -> Seen {
    let (page, user_agent) = (page.to_owned(), user_agent.map(str::to_owned));
    tokio::task::spawn_blocking(move || {
        let directory = TempDir::new().unwrap();
        let shot = directory.path().join("page.png");
        let run = |what: &str| {
            let mut command = Command::new("chromium");
            command.args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--hide-scrollbars",
                "--enable-logging=stderr",
                "--v=0",
            ]);
            command.arg(format!("--window-size={width},{height}"));
            command.arg(format!("--user-data-dir={}", directory.path().join("profile").display()));
            command.args(user_agent.as_ref().map(|user_agent| format!("--user-agent={user_agent}")));
            let output = command.arg(what).arg(&page).output();
            output.expect("Chromium is missing; scripts/test-tools.sh installs it")
        };
        let (dom, picture) = (run("--dump-dom"), run(&format!("--screenshot={}", shot.display())));
        let log = String::from_utf8_lossy(&dom.stderr).into_owned() + &String::from_utf8_lossy(&picture.stderr);
        assert!(!log.contains("Content Security Policy") && !log.contains("Failed to load resource"), "{log}");
        keep(&shot);
        let picture = image::open(&shot).unwrap().into_rgb8();
        Seen { html: String::from_utf8_lossy(&dom.stdout).into_owned(), log, picture }
    })
    .await
    .unwrap()
}

/// Leaves the picture where PASSLOOM_SCREENSHOTS says, for eyes.
fn keep(shot: &Path) {
    if let Some(folder) = std::env::var_os("PASSLOOM_SCREENSHOTS") {
        let name = std::thread::current().id();
        std::fs::copy(shot, Path::new(&folder).join(format!("{name:?}.png").replace(['(', ')'], "-"))).unwrap();
    }
}
