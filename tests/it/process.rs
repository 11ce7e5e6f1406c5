//! The real program: it starts in an empty directory, does the main job, survives kill -9 between any two steps, and
//! ends in order.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::Duration;

use passloom::domain::ids::PushToken;
use passloom::platform::clock::{Clock, SystemClock};
use passloom::sandbox::certificates;
use passloom::wallets::apple::certificates::identity::SigningIdentity;
use serde_json::{Value, json};

use crate::support::program::{PROGRAM, Program, command, free_port, phone};
use crate::support::service::simulated_apns;
use crate::support::{Database, TestDatabase, run};

#[test]
fn in_an_empty_directory_the_main_job_works_and_ends_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let program = Program::start(command(directory.path(), port));
    let mut phone_command = Command::new(PROGRAM)
        .args(["phone", &program.demo])
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(phone_command.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("Added to the wallet."));
    let mut seen =
        |text: &str| lines.find(|line| line.contains(text)).unwrap_or_else(|| panic!("the phone never showed {text}"));
    seen("120");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let patched = runtime.block_on(program.api(
        reqwest::Method::PATCH,
        "/api/v1/cards/demo",
        &json!({"attributes": {"points": 150}}),
    ));
    assert_eq!(patched.unwrap()["revision"], 2);
    seen("You now have 150 points");
    seen("150");
    // The phone's open line doesn't hold up the end.
    assert!(program.terminate().success());
    assert!(phone_command.wait().unwrap().success());
}

#[test]
fn after_a_restore_one_command_brings_phones_to_what_the_database_holds() {
    let directory = tempfile::tempdir().unwrap();
    let (runtime, port) = (tokio::runtime::Runtime::new().unwrap(), free_port());
    let points = |program: &Program, points: i64| {
        let body = json!({"attributes": {"points": points}});
        runtime.block_on(program.api(reqwest::Method::PATCH, "/api/v1/cards/demo", &body)).unwrap();
    };
    let program = Program::start(command(directory.path(), port));
    let mut phone = phone(directory.path());
    let serial = runtime.block_on(phone.add(&program.demo, SystemClock.now())).unwrap();
    assert!(program.terminate().success());
    let database = directory.path().join("data/passloom.db");
    let backup = directory.path().join("backup.db");
    std::fs::copy(&database, &backup).unwrap();

    let program = Program::start(command(directory.path(), port));
    points(&program, 999);
    let topic = certificates::PASS_TYPE;
    assert_eq!(runtime.block_on(phone.update(topic, SystemClock.now())).unwrap().len(), 1);
    assert_eq!(phone.field(&serial, "points").as_deref(), Some("999"));
    assert!(program.terminate().success());
    for rest in ["data/passloom.db-wal", "data/passloom.db-shm"] {
        let _ = std::fs::remove_file(directory.path().join(rest));
    }
    std::fs::copy(&backup, &database).unwrap();

    let done = command(directory.path(), port).arg("after-restore").output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = String::from_utf8(done.stdout).unwrap();
    assert_eq!(said, "Raised the epoch in 1 workspace: every card is told to its phones anew.\n");
    let program = Program::start(command(directory.path(), port));
    assert_eq!(runtime.block_on(phone.update(topic, SystemClock.now())).unwrap().len(), 1);
    assert_eq!(phone.field(&serial, "points").as_deref(), Some("120"), "what the database holds");
    assert!(program.terminate().success());

    let nowhere = command(directory.path(), port)
        .arg("after-restore")
        .env("PASSLOOM_DATABASE_URL", "postgres://nobody:hidden@127.0.0.1:1/none")
        .output()
        .unwrap();
    let said = String::from_utf8(nowhere.stderr).unwrap();
    assert!(!nowhere.status.success() && said.contains("PASSLOOM_DATABASE_URL") && !said.contains("hidden"), "{said}");
}

#[test]
fn each_start_makes_a_key_and_revokes_the_last_ones() {
    let directory = tempfile::tempdir().unwrap();
    let (runtime, port) = (tokio::runtime::Runtime::new().unwrap(), free_port());
    let status = |program: &Program, key: &str| {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = http.get(format!("{}/api/v1/cards/demo", program.base)).bearer_auth(key);
        runtime.block_on(async { request.send().await.unwrap().status().as_u16() })
    };
    let first = Program::start(command(directory.path(), port));
    let old = first.key.clone();
    assert_eq!(status(&first, &old), 200);
    assert!(first.terminate().success());
    let second = Program::start(command(directory.path(), port));
    assert_eq!((status(&second, &old), status(&second, &second.key)), (401, 200));
    assert!(second.terminate().success());
}

#[test]
fn an_embedded_database_belongs_to_one_process_and_is_readable_by_its_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let first = Program::start(command(directory.path(), free_port()));
    let second = command(directory.path(), free_port()).output().unwrap();
    let problem = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(2), "{problem}");
    assert!(
        problem
            .starts_with("passloom: PASSLOOM_DATABASE_URL: found sqlite://data/passloom.db in use by another process")
            && problem.lines().count() == 1,
        "{problem}"
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    assert_eq!(runtime.block_on(first.card())["id"], "demo", "its key is still one");
    for file in ["passloom.db", "passloom.db-wal"] {
        let file = std::fs::metadata(directory.path().join("data").join(file)).unwrap();
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&file) & 0o777, 0o600);
    }
    drop(first);
    // However the first one ended.
    assert!(Program::start(command(directory.path(), free_port())).terminate().success());
}

#[test]
fn a_phone_on_the_terminal_goes_on_when_the_service_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let first = Program::start(command(directory.path(), port));
    let mut phone = Command::new(PROGRAM)
        .args(["phone", &first.demo])
        .current_dir(directory.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(phone.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().as_deref(), Some("Added to the wallet."));
    // It dies without a word.
    drop(first);
    let second = Program::start(command(directory.path(), port));
    let patch = json!({"attributes": {"points": 151}});
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(second.api(reqwest::Method::PATCH, "/api/v1/cards/demo", &patch)).unwrap();
    assert!(lines.any(|line| line.contains("151")), "the phone never showed it");
    assert!(second.terminate().success());
    assert!(phone.wait().unwrap().success());
}

#[test]
fn inspect_shows_a_pass_and_every_rule_that_it_breaks_and_exits_by_it() {
    let directory = tempfile::tempdir().unwrap();
    let (runtime, port) = (tokio::runtime::Runtime::new().unwrap(), free_port());
    let program = Program::start(command(directory.path(), port));
    let pass = runtime.block_on(async {
        let address = format!("{}/card.pkpass", program.demo);
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        http.get(address).send().await.unwrap().bytes().await.unwrap()
    });
    assert!(program.terminate().success());
    std::fs::write(directory.path().join("good.pkpass"), &pass).unwrap();
    // A changed picture is no longer the one that was signed.
    let mut files: Vec<_> = crate::passes::unzip(&pass).into_iter().collect();
    files.iter_mut().find(|(path, _)| path == "icon.png").unwrap().1.push(0);
    let files: Vec<_> = files.iter().map(|(path, content)| (path.as_str(), content.as_slice())).collect();
    let changed = crate::http::template_archives::zip_of(&files);
    std::fs::write(directory.path().join("changed.pkpass"), changed).unwrap();
    let inspect = |arguments: &[&str]| {
        let mut command = Command::new(PROGRAM);
        let output = command.arg("inspect").args(arguments).current_dir(directory.path()).env_clear().output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), output.stderr)
    };
    let json = |arguments: &[&str]| {
        let (code, said, _) = inspect(arguments);
        let report: Value = serde_json::from_str(&said).unwrap();
        let errors: Vec<String> = report["issues"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|issue| issue["severity"] == "error")
            .map(|issue| issue["rule"].as_str().unwrap().to_owned())
            .collect();
        (code, report["valid"].as_bool().unwrap(), errors, report["pass"]["organizationName"].clone())
    };
    let root = ["--json", "--root", "certs/dev/root.pem"];
    let none = Vec::<String>::new();
    assert_eq!(json(&[&root[..], &["good.pkpass"]].concat()), (0, true, none, json!("Kuzina")));
    // Whoever trusts Apple alone doesn't trust the sandbox.
    assert_eq!(json(&["--json", "good.pkpass"]), (1, false, vec!["signature-chain".to_owned()], json!("Kuzina")));
    let (code, valid, errors, _) = json(&[&root[..], &["changed.pkpass"]].concat());
    assert_eq!((code, valid, errors), (1, false, vec!["manifest-hash-mismatch".to_owned()]));
    let (code, said, _) = inspect(&["--root", "certs/dev/root.pem", "changed.pkpass"]);
    assert!(code == 1 && said.contains("manifest-hash-mismatch") && said.contains("icon.png"), "{said}");
    let (code, said, _) = inspect(&["--root", "certs/dev/root.pem", "good.pkpass"]);
    assert!(
        code == 0 && said.contains("points Points: 120") && !said.contains("l10n:"),
        "texts, not their keys: {said}"
    );
    let (code, said, problem) = inspect(&["nowhere.pkpass"]);
    let problem = String::from_utf8(problem).unwrap();
    assert!(code == 2 && said.is_empty() && problem.contains("can't read nowhere.pkpass"), "{problem}");
}

/// Runs a command against a program; how it ended, and what it said.
fn ask(program: &Program, directory: &std::path::Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(PROGRAM);
    command.args(arguments).current_dir(directory).env_clear();
    command.env("PASSLOOM_URL", &program.base).env("PASSLOOM_API_KEY", &program.key);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn templates_and_cards_are_handled_on_the_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let program = Program::start(command(directory.path(), free_port()));
    let ask = |arguments: &[&str]| ask(&program, directory.path(), arguments);
    // In the sandbox our own address is a warning.
    let (code, said, _) = ask(&["template", "check", "bakery-points"]);
    assert!(code == 0 && said.starts_with("warning  web-service-https  the whole: is \"http://"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let (code, said, _) = ask(&["template", "export", "bakery-points"]);
    assert!(code == 0 && said.starts_with("Wrote bakery-points.zip ("), "{said}");
    let (code, _, problem) = ask(&["template", "export", "bakery-points"]);
    assert!(code == 2 && problem.contains("bakery-points.zip can't be made"), "nothing is overwritten: {problem}");
    let (code, said, _) = ask(&["template", "import", "bakery-points.zip", "--id", "copy"]);
    assert_eq!((code, said.as_str()), (0, "copy\n"));
    let (code, _, problem) = ask(&["template", "import", "data/master.key"]);
    assert!(code == 2 && problem.contains("(422)"), "{problem}");
    let (code, _, problem) = ask(&["template", "check", "nobodys"]);
    assert_eq!((code, problem.as_str()), (2, "passloom: there is no such template (404)\n"));

    let document = r#"{"template": "bakery-points", "attributes": {"points": 7, "name": "Anna"}}"#;
    std::fs::write(directory.path().join("card.json"), document).unwrap();
    let (code, said, _) = ask(&["card", "put", "a@b:1", "card.json"]);
    let card: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &card["id"], &card["attributes"]["points"]), (0, &json!("a@b:1"), &json!(7)));
    assert_eq!(ask(&["card", "get", "a@b:1"]).1, said);
    std::fs::write(directory.path().join("card.json"), document.replace("7", "\"x\"").replace("name", "nmae")).unwrap();
    let (code, _, problem) = ask(&["card", "put", "a@b:1", "card.json"]);
    assert!(
        code == 2 && problem.contains("\n  /attributes/points: ") && problem.contains("/attributes/nmae: "),
        "{problem}"
    );

    let nobody = Command::new(PROGRAM).args(["card", "get", "x"]).env_clear().output().unwrap();
    let problem = String::from_utf8(nobody.stderr).unwrap();
    assert_eq!(problem, "passloom: PASSLOOM_API_KEY: found nothing; expected an API key of the workspace\n");
    assert!(program.terminate().success());
}

#[test]
fn a_table_of_cards_is_imported_and_goes_on_where_it_broke_off() {
    const ROWS: usize = 20_000;
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    // A key that outlives the sandbox's: what was answered counts for its workspace.
    let start = || {
        let mut command = command(directory.path(), port);
        command.env("PASSLOOM_ADMIN_KEY", "import-0123456789abcdef0123456789abcdef");
        let mut program = Program::start(command);
        program.key = "import-0123456789abcdef0123456789abcdef".to_owned();
        program
    };
    let mut program = start();
    let row = |n: usize| match n {
        10 | 19_990 => format!("M-{n},many,Anna,,\n"),
        11 => format!("M-{n},1,\"Anna, \"\"the\"\" second\",lv,2030-01-01T00:00:00Z\n"),
        _ => format!("M-{n},{n},Anna,,\n"),
    };
    let table = format!("id,points,name,locale,expires_at\n{}", (0..ROWS).map(row).collect::<String>());
    std::fs::write(directory.path().join("cards.csv"), table).unwrap();
    let mut import = Command::new(PROGRAM);
    import.args(["card", "import", "cards.csv", "--template", "bakery-points"]).current_dir(directory.path());
    import.env("PASSLOOM_URL", &program.base).env("PASSLOOM_API_KEY", &program.key);
    let import = import.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let progress = directory.path().join("cards.csv.progress");
    let begun = std::time::Instant::now();
    while !progress.exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it never got anywhere");
        std::thread::yield_now();
    }
    program.child.kill().unwrap();
    let broken = import.wait_with_output().unwrap();
    let problem = String::from_utf8(broken.stderr).unwrap();
    assert_eq!(broken.status.code(), Some(2), "{problem}");
    assert!(
        problem.contains(&format!("of {ROWS} rows were answered; the same command goes on from there")),
        "{problem}"
    );
    drop(program);

    let program = start();
    let ask = |arguments: &[&str]| ask(&program, directory.path(), arguments);
    let (code, said, problem) = ask(&["card", "import", "cards.csv", "--template", "bakery-points"]);
    assert!(code == 1 && problem.is_empty(), "{said} {problem}");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("Going on after ") && lines[0].ends_with(&format!(" of {ROWS} rows.")), "{said}");
    assert!(!lines[0].contains(" 0 of") && lines[1] == format!("{ROWS} rows, of which 2 failed."), "{said}");
    assert!(!progress.exists());
    let failed = std::fs::read_to_string(directory.path().join("cards.csv.failed.csv")).unwrap();
    let failed: Vec<&str> = failed.lines().collect();
    assert_eq!(failed.len(), 3, "{failed:?}");
    assert_eq!(failed[0], "id,points,name,locale,expires_at,problem");
    assert!(failed[1].starts_with("M-10,many,Anna,,,") && failed[1].contains("/attributes/points"), "{failed:?}");
    assert!(failed[2].starts_with("M-19990,many,"), "{failed:?}");
    let mode =
        |name: &str| std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(directory.path().join(name)).unwrap());
    assert_eq!(mode("cards.csv.failed.csv") & 0o777, 0o600, "it holds members' data");
    // What failed again has its reason once, and is taken as it is.
    let mut again = "cards.csv.failed.csv".to_owned();
    for _ in 0..2 {
        let (code, said, problem) = ask(&["card", "import", &again, "--template", "bakery-points"]);
        assert!(code == 1 && problem.is_empty() && said.starts_with("2 rows, of which 2 failed."), "{said} {problem}");
        again = format!("{again}.failed.csv");
        let table = std::fs::read_to_string(directory.path().join(&again)).unwrap();
        assert_eq!(table.lines().next(), Some("id,points,name,locale,expires_at,problem"));
        assert_eq!((table.lines().count(), table.matches("(422)").count()), (3, 2), "{table}");
    }
    for (id, points, name) in [("M-0", 0, "Anna"), ("M-11", 1, "Anna, \"the\" second"), ("M-19999", 19_999, "Anna")] {
        let card: Value = serde_json::from_str(&ask(&["card", "get", id]).1).unwrap();
        assert_eq!(
            (&card["attributes"]["points"], &card["attributes"]["name"]),
            (&json!(points), &json!(name)),
            "{id}"
        );
    }
    let card: Value = serde_json::from_str(&ask(&["card", "get", "M-11"]).1).unwrap();
    assert_eq!((&card["locale"], &card["expires_at"]), (&json!("lv"), &json!("2030-01-01T00:00:00.000000Z")));
    assert!(ask(&["card", "get", "M-10"]).2.contains("(404)"));

    // What is changed leaves the rest.
    std::fs::write(directory.path().join("more.csv"), "id,points\nM-11,5\nM-nobody,5\n").unwrap();
    let (code, said, _) = ask(&["card", "import", "more.csv", "--patch", "--template", "bakery-points"]);
    assert_eq!((code, said.lines().next()), (1, Some("2 rows, of which 1 failed.")));
    let card: Value = serde_json::from_str(&ask(&["card", "get", "M-11"]).1).unwrap();
    assert_eq!((&card["locale"], &card["attributes"]["points"]), (&json!("lv"), &json!(5)));
    for (table, wrong) in [
        ("points\n1\n", "found no column id"),
        ("id,points,points\n1,2,3\n", "the column points stands twice"),
        ("id,points\n1\n", "row 1"),
    ] {
        std::fs::write(directory.path().join("wrong.csv"), table).unwrap();
        let (code, _, problem) = ask(&["card", "import", "wrong.csv"]);
        assert!(code == 2 && problem.contains(wrong), "{problem}");
    }
    assert!(program.terminate().success());
}

#[test]
fn a_backup_of_a_running_service_is_restored() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let program = Program::start(command(directory.path(), port));
    let ask = |arguments: &[&str]| ask(&program, directory.path(), arguments);
    let (code, said, problem) = ask(&["backup", "copy.db"]);
    assert!(code == 0 && said.starts_with("Copied data/passloom.db to copy.db ("), "{said} {problem}");
    assert!(said.ends_with("The master key is not in it: keep that elsewhere.\n"), "{said}");
    let copy = directory.path().join("copy.db");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&copy).unwrap());
    assert_eq!(mode & 0o777, 0o600, "it holds members' data");
    let (code, _, problem) = ask(&["backup", "copy.db"]);
    assert!(code == 2 && problem.contains("copy.db can't be made"), "{problem}");
    let card: Value = serde_json::from_str(&ask(&["card", "get", "demo"]).1).unwrap();
    assert!(program.terminate().success());

    let master = std::fs::read(directory.path().join("data/master.key")).unwrap();
    std::fs::remove_dir_all(directory.path().join("data")).unwrap();
    std::fs::create_dir(directory.path().join("data")).unwrap();
    std::fs::rename(&copy, directory.path().join("data/passloom.db")).unwrap();
    let lost = command(directory.path(), port).output().unwrap();
    let problem = String::from_utf8(lost.stderr).unwrap();
    assert!(!lost.status.success() && problem.contains("master.key is missing"), "the key is not in it: {problem}");
    std::fs::write(directory.path().join("data/master.key"), master).unwrap();
    let raised = command(directory.path(), port).arg("after-restore").output().unwrap();
    assert!(raised.status.success());
    let program = Program::start(command(directory.path(), port));
    let restored: Value =
        serde_json::from_str(&self::ask(&program, directory.path(), &["card", "get", "demo"]).1).unwrap();
    assert_eq!((&restored["attributes"], &restored["urls"]), (&card["attributes"], &card["urls"]));
    assert!(program.terminate().success());
}

#[test]
fn the_schema_is_brought_up_to_date_without_serving() {
    let directory = tempfile::tempdir().unwrap();
    let migrate = || {
        let output = command(directory.path(), 1).arg("migrate").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let count =
        std::fs::read_dir(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/sqlite")).unwrap().count();
    let noun = if count == 1 { "migration" } else { "migrations" };
    assert_eq!(migrate(), format!("Applied {count} {noun}; the schema is up to date.\n"));
    assert_eq!(migrate(), format!("The schema is up to date ({count} {noun}).\n"));
    let program = Program::start(command(directory.path(), free_port()));
    let refused = command(directory.path(), 1).arg("migrate").output().unwrap();
    let problem = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && problem.contains("in use by another process"), "{problem}");
    assert!(program.terminate().success());
}

async fn a_bulk_takes_little_memory(database: TestDatabase, lines: usize) {
    const MOST_MIB: u64 = 300;
    let cards = lines * 3 / 5;
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path(), free_port());
    command.env("PASSLOOM_DATABASE_URL", database.url());
    let program = Program::start(command);
    let line = move |n: usize| match n < cards {
        true => {
            json!({"id": format!("M-{n}"), "template": "bakery-points", "attributes": {"points": n, "name": "Anna"}})
        }
        false => json!({"id": format!("M-{}", n - cards), "patch": true, "attributes": {"points": -1}}),
    };
    let pieces = (0..lines).step_by(100).map(move |from| {
        Ok::<_, std::io::Error>((from..from + 100).map(|n| format!("{}\n", line(n))).collect::<String>())
    });
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let request = http.post(format!("{}/api/v1/cards/bulk", program.base)).bearer_auth(&program.key);
    let request = request.header("content-type", "application/x-ndjson");
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
    let mut answer = request.body(body).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    let (mut rest, mut read) = (Vec::new(), 0);
    while let Some(piece) = answer.chunk().await.unwrap() {
        rest.extend_from_slice(&piece);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let told: Value = serde_json::from_slice(&rest[..end]).unwrap();
            let expected = if read < cards { "created" } else { "updated" };
            let id = format!("M-{}", read % cards);
            assert_eq!((told["id"].as_str(), told["status"].as_str()), (Some(id.as_str()), Some(expected)), "{told}");
            rest.drain(..=end);
            read += 1;
        }
    }
    assert_eq!((read, rest.len()), (lines, 0));
    let status = std::fs::read_to_string(format!("/proc/{}/status", program.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").trim().parse().unwrap();
    assert!(peak / 1024 < MOST_MIB, "{} MiB", peak / 1024);
    assert!(program.terminate().success());
}

#[test]
fn fifty_thousand_lines_of_a_bulk_take_less_than_300_mib_on_sqlite() {
    run(Database::Sqlite, |database| a_bulk_takes_little_memory(database, 50_000));
}

#[test]
fn ten_thousand_lines_of_a_bulk_take_less_than_300_mib_on_postgres() {
    run(Database::Postgres, |database| a_bulk_takes_little_memory(database, 10_000));
}

async fn every_phone_is_current_after_a_crash(database: TestDatabase, point: &'static str) {
    let directory = tempfile::tempdir().unwrap();
    // An APNs that outlives the service, as the real one does.
    let chain = certificates::load_or_make(&directory.path().join("certs/dev"), SystemClock.now()).unwrap();
    let apns = simulated_apns(&chain, vec![chain.root.clone(), chain.intermediate.clone()]).await;
    let port = free_port();
    let start = |crash: Option<&str>| {
        let mut command = command(directory.path(), port);
        command.env("PASSLOOM_DATABASE_URL", database.url());
        command.env("PASSLOOM_APNS_URL", apns.url()).env("PASSLOOM_APNS_CA", "certs/dev/root.pem");
        if let Some(point) = crash {
            command.env("PASSLOOM_CRASH_POINT", point);
        }
        Program::start(command)
    };
    let program = start(None);
    let mut phones = Vec::new();
    for _ in 0..3 {
        let mut phone = phone(directory.path());
        let serial = phone.add(&program.demo, SystemClock.now()).await.unwrap();
        let line = apns.connect_device(&PushToken::parse(phone.push_token()).unwrap());
        phones.push((phone, serial, line));
    }
    assert!(program.terminate().success());

    let mut crashing = start(Some(point));
    let patch = json!({"attributes": {"points": 777}});
    let answer = crashing.api(reqwest::Method::PATCH, "/api/v1/cards/demo", &patch).await;
    let status = crashing.child.wait().unwrap();
    assert!(!status.success(), "it died at {point}");
    drop(crashing);

    let program = start(None);
    let stored = program.card().await["attributes"]["points"].as_i64().unwrap();
    match point {
        "before-change-commit" => assert_eq!(stored, 120, "nothing is half done"),
        _ => assert_eq!(stored, 777, "what was committed stands"),
    }
    assert!(answer.is_err() || stored == 777, "what was answered is stored");
    // Nothing but the push makes a phone ask: a device that the crash made the service forget would wait forever.
    for (mut phone, serial, mut line) in phones.into_iter().filter(|_| stored == 777) {
        while phone.field(&serial, "points").unwrap() != "777" {
            let topic = line.recv().await.expect("a push");
            phone.update(&topic, SystemClock.now()).await.unwrap();
        }
        assert_eq!(phone.complaints(), [] as [String; 0]);
    }
    assert_eq!(program.card().await["wallets"]["apple"], json!({"devices": 3, "current": 3}));
    assert!(program.terminate().success());
}

macro_rules! crash_points {
    ($($name:ident $point:literal)*) => { $(
        mod $name {
            #[test]
            fn sqlite() {
                super::run(super::Database::Sqlite, |db| super::every_phone_is_current_after_a_crash(db, $point));
            }
            #[test]
            fn postgres() {
                super::run(super::Database::Postgres, |db| super::every_phone_is_current_after_a_crash(db, $point));
            }
        }
    )* };
}

crash_points! {
    killed_before_a_change_is_committed "before-change-commit"
    killed_after_a_change_is_committed "after-change-commit"
    killed_after_a_delivery_is_claimed "after-claim"
    killed_after_a_push_left "after-push"
    killed_after_an_outcome_is_recorded "after-record"
}

#[test]
fn a_wrong_setting_stops_the_start_with_one_line() {
    let directory = tempfile::tempdir().unwrap();
    for (name, value, expected) in [
        ("PASSLOOM_LISTEN", "nowhere", "PASSLOOM_LISTEN: found \"nowhere\"; expected"),
        ("PASSLOOM_PUBLIC_URL", "https://cards.example.com", "PASSLOOM_PUBLIC_URL: found the public address"),
        ("PASSLOOM_MASTER_KEY", "hunter2", "PASSLOOM_MASTER_KEY: found a secret of 7 characters"),
        ("PASSLOOM_APPLE_CERTIFICATE", "nowhere.pem", "PASSLOOM_APPLE_CERTIFICATE: nowhere.pem can't be read"),
        (
            "PASSLOOM_DATABASE_URL",
            "postgres://nobody:hunter2@127.0.0.1:1/x",
            "PASSLOOM_DATABASE_URL: the database can't be opened",
        ),
    ] {
        let mut child = command(directory.path(), free_port())
            .env("PASSLOOM_MASTER_KEY", "5e".repeat(32))
            .env(name, value)
            .spawn()
            .unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(2), "{name}: {said}");
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with(&format!("passloom: {expected}")), "{name}: {said}");
        assert!(!said.contains("hunter2"), "{name}: {said}");
    }
}

#[test]
fn a_key_or_an_intermediate_that_does_not_fit_the_certificate_stops_the_start_with_one_line() {
    let directory = tempfile::tempdir().unwrap();
    certificates::load_or_make(directory.path(), SystemClock.now()).unwrap();
    let unusable = |setting: &str, found: &str, why: &str, expected: &str| {
        format!("PASSLOOM_APPLE_{setting}: found {found}, but {why}; expected {expected}")
    };
    let unreadable =
        |setting: &str, path: &str| format!("{setting}: {path} can't be read: No such file or directory (os error 2)");
    let a_key = "the key with which the certificate was requested, as PEM or DER or in one PKCS#12 file with it";
    let an_intermediate = "the certificate that issued it, as PEM or DER (Apple's own are built in)";
    let issuer = "Passloom Development WWDR, DEV, Passloom";
    for (key, wwdr, told) in [
        ("wwdr.key", "wwdr.pem", unusable("KEY", "wwdr.key", "the key doesn't belong to the certificate", a_key)),
        (
            "pass.key",
            "root.pem",
            unusable(
                "WWDR",
                "root.pem",
                &format!("the intermediate did not issue the certificate, which was issued by {issuer}"),
                an_intermediate,
            ),
        ),
        (
            "pass.pem",
            "wwdr.pem",
            unusable(
                "KEY",
                "pass.pem",
                "the key can't be read: it is not a PEM or DER private key, or the password is wrong or missing",
                a_key,
            ),
        ),
        (
            "pass.key",
            "pass.key",
            unusable(
                "WWDR",
                "pass.key",
                "the intermediate certificate can't be read: it is neither PEM nor DER",
                an_intermediate,
            ),
        ),
        // Set to nothing is not set.
        ("", "wwdr.pem", unusable("KEY", "nothing", "the certificate comes without its key", a_key)),
        (
            "pass.key",
            "",
            unusable(
                "WWDR",
                "nothing",
                &format!(
                    "no intermediate certificate that issued the certificate was given; it was issued by {issuer}"
                ),
                an_intermediate,
            ),
        ),
        ("nowhere.key", "wwdr.pem", unreadable("PASSLOOM_APPLE_KEY", "nowhere.key")),
        ("pass.key", "nowhere.pem", unreadable("PASSLOOM_APPLE_WWDR", "nowhere.pem")),
    ] {
        let output = command(directory.path(), free_port())
            .env("PASSLOOM_MASTER_KEY", "5e".repeat(32))
            .env("PASSLOOM_APPLE_CERTIFICATE", "pass.pem")
            .env("PASSLOOM_APPLE_KEY", key)
            .env("PASSLOOM_APPLE_WWDR", wwdr)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stderr).unwrap(), format!("passloom: {told}\n"), "{key} and {wwdr}");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{key} and {wwdr}");
    }
}

#[test]
fn a_certificate_file_that_has_ended_is_told_aloud_and_costs_nothing_but_readiness() {
    let directory = tempfile::tempdir().unwrap();
    let (runtime, port) = (tokio::runtime::Runtime::new().unwrap(), free_port());
    let sandbox = Program::start(command(directory.path(), port));
    let (key, demo) = (sandbox.key.clone(), sandbox.demo.clone());
    assert!(sandbox.terminate().success());
    let born = SystemClock.now().minus(Duration::from_secs(500 * 86_400));
    let chain = certificates::load_or_make(&directory.path().join("ended"), born).unwrap();
    let ended = SigningIdentity::new(&chain.leaf, chain.leaf_key.clone(), &chain.intermediate).unwrap();

    let mut command = command(directory.path(), port);
    let master = std::fs::read_to_string(directory.path().join("data/master.key")).unwrap();
    command.env("PASSLOOM_MASTER_KEY", master).env("PASSLOOM_LOG_FORMAT", "json");
    command.env("PASSLOOM_APPLE_CERTIFICATE", "ended/pass.pem").env("PASSLOOM_APPLE_KEY", "ended/pass.key");
    command.env("PASSLOOM_APPLE_WWDR", "ended/wwdr.pem").env("PASSLOOM_APNS_URL", "https://127.0.0.1:1");
    command.env("PASSLOOM_APPLE_ROOT", "ended/root.pem");
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let program = Program { child, base: format!("http://127.0.0.1:{port}"), key, demo };
    let mut said: Vec<String> = Vec::new();
    while !said.last().is_some_and(|line| line.contains("passloom serves")) {
        said.push(log.next().expect("the service starts"));
    }

    let (ready, alive, page) = runtime.block_on(async {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let get = async |address: String| {
            let answer = http.get(address).send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        };
        let ready = get(format!("{}/readyz", program.base)).await;
        (ready, get(format!("{}/healthz", program.base)).await.0, get(program.demo.clone()).await.0)
    });
    let (pass_type, from, until) = (certificates::PASS_TYPE, ended.not_before, ended.not_after);
    let reason = format!("the certificate of {pass_type} is valid from {from} to {until}");
    let told: Value = serde_json::from_str(&ready.1).unwrap();
    assert_eq!((ready.0, told), (503, json!({"status": "not ready", "reasons": [reason]})));
    assert_eq!((alive, page), (200, 200), "the process and the pages");
    let change = json!({"attributes": {"points": 150}});
    let changed = runtime.block_on(program.api(reqwest::Method::PATCH, "/api/v1/cards/demo", &change)).unwrap();
    assert_eq!((&changed["revision"], &changed["attributes"]["points"]), (&json!(2), &json!(150)), "the API");

    assert!(program.terminate().success());
    said.extend(log);
    let aloud: Vec<&String> = said.iter().filter(|line| line.contains("a certificate has ended")).collect();
    assert_eq!(aloud.len(), 1, "{said:#?}");
    let aloud: Value = serde_json::from_str(aloud[0]).unwrap();
    let end = until.to_rfc3339_seconds();
    assert_eq!(
        (&aloud["level"], &aloud["pass_type"], &aloud["workspace"], &aloud["end"]),
        (&json!("ERROR"), &json!(pass_type), &json!("default"), &json!(end))
    );
}

#[test]
fn another_master_key_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    assert!(Program::start(command(directory.path(), port)).terminate().success());
    let mut child = command(directory.path(), port).env("PASSLOOM_MASTER_KEY", "5e".repeat(32)).spawn().unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(said.contains("PASSLOOM_MASTER_KEY: does not open the secrets in the database"), "{said}");
}

#[test]
fn a_lost_master_key_is_never_replaced_by_a_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    assert!(Program::start(command(directory.path(), port)).terminate().success());
    let path = directory.path().join("data/master.key");
    let key = std::fs::read(&path).unwrap();
    for content in [None, Some(b"no key".as_slice()), Some(b"\xff\xfe".as_slice())] {
        std::fs::remove_file(&path).unwrap();
        if let Some(content) = content {
            std::fs::write(&path, content).unwrap();
        }
        let mut child = command(directory.path(), port).spawn().unwrap();
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(said.contains("master.key"), "{said}");
        assert_eq!(std::fs::read(&path).ok().as_deref(), content, "the file is left as it is");
        std::fs::write(&path, &key).unwrap();
    }
    assert!(Program::start(command(directory.path(), port)).terminate().success());
}

#[test]
fn a_failure_inside_is_told_once_in_the_log_with_the_request_id_and_not_in_the_answer() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let log = directory.path().join("log");
    let mut command = command(directory.path(), port);
    command.env("PASSLOOM_LOG_FORMAT", "json").stderr(std::fs::File::create(&log).unwrap());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut said = |name: &str| lines.next().unwrap().strip_prefix(name).unwrap().to_owned();
    let (_, key, demo) = (said("Studio: "), said("API key: "), said("Demo card: "));
    let program = Program { child, base: format!("http://127.0.0.1:{port}"), key, demo };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (status, id, body) = runtime.block_on(async {
        let url = format!("sqlite://{}", directory.path().join("data/passloom.db").display());
        let broken = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url).await;
        sqlx::query("DROP TABLE unchanged_faces").execute(&mut broken.unwrap()).await.unwrap();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = http.get(format!("{}/api/v1/cards/demo", program.base)).bearer_auth(&program.key);
        let answer = request.send().await.unwrap();
        let id = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        (answer.status().as_u16(), id, answer.text().await.unwrap())
    });
    assert_eq!(status, 500);
    assert!(!body.contains("unchanged_faces") && !body.contains("sql"), "{body}");
    assert!(program.terminate().success());
    let log = std::fs::read_to_string(&log).unwrap();
    // A job that reads the same table says so for itself.
    let of_requests = |line: &&str| line.contains("unchanged_faces") && !line.contains("passloom::jobs::");
    let told: Vec<&str> = log.lines().filter(of_requests).collect();
    assert_eq!(told.len(), 1, "{log}");
    assert!(told[0].contains(&id), "{}", told[0]);
}

#[test]
fn logs_hold_no_key_token_address_or_name() {
    let directory = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut command = command(directory.path(), port);
    command.env("PASSLOOM_LOG", "trace").env("PASSLOOM_LOG_FORMAT", "json");
    let log = directory.path().join("log");
    command.stderr(std::fs::File::create(&log).unwrap());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut said = |name: &str| lines.next().unwrap().strip_prefix(name).unwrap().to_owned();
    let (_, key, demo) = (said("Studio: "), said("API key: "), said("Demo card: "));
    let program = Program { child, base: format!("http://127.0.0.1:{port}"), key: key.clone(), demo: demo.clone() };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (push_token, auth_token, made_key) = runtime.block_on(async {
        let mut phone = phone(directory.path());
        let serial = phone.add(&demo, SystemClock.now()).await.unwrap();
        let mut line = phone.listen(&serial).await.unwrap();
        let patch = json!({"attributes": {"points": 1, "name": "Zenta Zvirbule"}});
        program.api(reqwest::Method::PATCH, "/api/v1/cards/demo", &patch).await.unwrap();
        let topic = line.next().await.unwrap().unwrap();
        phone.update(&topic, SystemClock.now()).await.unwrap();
        program.api(reqwest::Method::PUT, "/api/v1/cards/demo", &json!({"attributes": {"name": 7}})).await.unwrap();
        let file = |name: &str| std::fs::read_to_string(directory.path().join("certs/dev").join(name)).unwrap();
        let issuer = json!({"certificate": file("pass.pem"), "key": file("pass.key"), "key_password": "sesame-72"});
        for path in ["/api/v1/issuers/apple", "/api/v1/cards/demo"] {
            program.api(reqwest::Method::PUT, path, &issuer).await.unwrap();
        }
        let made = json!({"name": "till", "scopes": ["cards:read"]});
        let made = program.api(reqwest::Method::POST, "/api/v1/keys", &made).await.unwrap();
        let token = phone.passes()[&serial].pass["authenticationToken"].as_str().unwrap().to_owned();
        (phone.push_token().to_owned(), token, made["secret"].as_str().unwrap().to_owned())
    });
    assert!(program.terminate().success());
    let log = std::fs::read_to_string(&log).unwrap();
    assert!(log.lines().count() > 20, "trace is on");
    let page = demo.rsplit('/').next().unwrap().to_owned();
    let master = std::fs::read_to_string(directory.path().join("data/master.key")).unwrap();
    let private = std::fs::read_to_string(directory.path().join("certs/dev/pass.key")).unwrap();
    for (what, secret) in [
        ("API key", key),
        ("card address", page),
        ("push token", push_token),
        ("authentication token", auth_token),
        ("name", "Zvirbule".to_owned()),
        ("master key", master),
        ("made key", made_key),
        ("password", "sesame-72".to_owned()),
        ("private key", private.lines().nth(1).unwrap().to_owned()),
    ] {
        let line = log.lines().find(|line| line.contains(&secret));
        assert!(
            line.is_none(),
            "the log holds a {what}: {}",
            line.unwrap_or_default().chars().take(400).collect::<String>()
        );
    }
}

#[test]
fn an_inner_port_that_is_taken_is_skipped_in_the_sandbox_and_stops_a_production_node() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let log = directory.path().join("log");
    let mut sandbox = command(directory.path(), free_port());
    sandbox.env("PASSLOOM_INTERNAL_LISTEN", &address).stderr(std::fs::File::create(&log).unwrap());
    let mut child = sandbox.spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.take(3).last().unwrap().starts_with("Demo card: "), "the sandbox serves");
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    let said = std::fs::read_to_string(&log).unwrap();
    let warning = format!("WARN PASSLOOM_INTERNAL_LISTEN: found {address} in use by another program");
    assert_eq!(said.matches(&warning).count(), 1, "{said}");

    let mut production = command(directory.path(), free_port());
    production.env("PASSLOOM_INTERNAL_LISTEN", &address).env("PASSLOOM_SANDBOX", "off");
    let output = production.env("PASSLOOM_MASTER_KEY", "5e".repeat(32)).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let expected =
        format!("passloom: PASSLOOM_INTERNAL_LISTEN: {address} can't be listened on; expected a free address");
    assert!(said.lines().last().unwrap_or_default().starts_with(&expected), "{said}");
}

#[test]
fn each_request_is_one_line_at_info_with_its_route_and_without_its_address() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let mut command = command(directory.path(), free_port());
    command.env("PASSLOOM_LOG_FORMAT", "json").stderr(std::fs::File::create(&log).unwrap());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut said = |name: &str| lines.next().unwrap().strip_prefix(name).unwrap().to_owned();
    let (studio, key, demo) = (said("Studio: "), said("API key: "), said("Demo card: "));
    let base = studio.split("/studio").next().unwrap().to_owned();
    let program = Program { child, base: base.clone(), key, demo: demo.clone() };
    let asked = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut asked = Vec::new();
        for (path, route, status) in [
            (demo.strip_prefix(&base).unwrap(), "/c/{token}", 200),
            ("/api/v1/cards/M-Zvirbule", "/api/v1/cards/{id}", 401),
            ("/Zvirbule", "(none)", 404),
            ("/readyz", "/readyz", 200),
        ] {
            let answer = http.get(format!("{base}{path}")).send().await.unwrap();
            assert_eq!(answer.status(), status, "{path}");
            asked.push((answer.headers()["x-request-id"].to_str().unwrap().to_owned(), route, status));
        }
        asked
    });
    assert!(program.terminate().success());
    let log = std::fs::read_to_string(&log).unwrap();
    for (id, route, status) in asked {
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(&id)).collect();
        assert_eq!(lines.len(), 1, "{log}");
        let line: Value = serde_json::from_str(lines[0]).unwrap();
        assert_eq!((&line["level"], &line["message"]), (&json!("INFO"), &json!("request")));
        let told = (&line["request"], &line["method"], &line["route"], &line["status"]);
        assert_eq!(told, (&json!(id), &json!("GET"), &json!(route), &json!(status)));
        assert!(line["ms"].is_u64(), "{line}");
    }
    let token = demo.rsplit('/').next().unwrap();
    assert!(!log.contains("Zvirbule") && !log.contains(token), "{log}");
}
