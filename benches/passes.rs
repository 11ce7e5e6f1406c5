//! Passes per second on one core, beside the RSA-2048 signatures per second of the same library in the same run.
//!
//! The template has two languages, twelve fields and about 300 kB of pictures. Rounds of both alternate, so that a
//! busy machine slows both; the ratio is what counts. `cargo bench --bench passes`

use std::time::Instant;

use passloom::domain::cards::Card;
use passloom::domain::ids::{AuthToken, PassTypeId, SerialNumber};
use passloom::domain::render::render;
use passloom::domain::templates::Template;
use passloom::platform::clock::{Clock, SystemClock};
use passloom::wallets::apple::certificates::development_chain::DevelopmentChain;
use passloom::wallets::apple::certificates::identity::SigningIdentity;
use passloom::wallets::apple::package::pass::build;
use passloom::wallets::apple::package::pass_json::PassIdentity;
use passloom::wallets::apple::package::prepare::PreparedPasses;
use passloom::wallets::images::VersionFile;
use serde_json::json;

const ROUNDS: usize = 15;
const PER_ROUND: usize = 200;

fn template() -> serde_json::Value {
    let field = |key: &str, value: &str| json!({"key": key, "label": format!("Label {key}"), "value": value, "change_message": "Now %@"});
    json!({
        "name": "Bench", "organization": "Kuzina", "description": "Kuzina card", "languages": ["en", "lv"], "logo_text": "Kuzina",
        "colors": {"background": "#1B4D3E", "foreground": "#FFFFFF", "label": "#CFE8DC"},
        "attributes": [
            {"name": "points", "type": "integer"}, {"name": "balance", "type": "money", "currency": "EUR"},
            {"name": "tier", "type": "text"}, {"name": "name", "type": "text"}, {"name": "until", "type": "date"}],
        "fields": {
            "header": [field("points", "{{ points }}")],
            "primary": [field("balance", "{{ balance }}")],
            "secondary": [field("tier", "{{ tier | upper }}"), field("name", "{{ name }}")],
            "auxiliary": [field("until", "{{ until }}"), field("half", "{{ points / 2 }}")],
            "back": [field("a", "Some words"), field("b", "More words"), field("c", "https://kuzina.example"), field("d", "{{ card.id }}"), field("e", "Five"), field("f", "Six")]},
        "barcode": {"format": "qr", "value": "{{ card.id }}", "text": "{{ card.id }}"},
        "strings": {"lv": {"Label points": "Punkti", "Label name": "Vārds", "Some words": "Daži vārdi", "Now %@": "Tagad %@"}},
        "apple": {"style": "storeCard"}
    })
}

/// Bytes that look like nine pictures of 300 kB in all; what is in them makes no difference to copying.
fn pictures() -> Vec<VersionFile> {
    let sizes = [("icon", 3_000), ("logo", 12_000), ("strip", 85_000)];
    sizes
        .into_iter()
        .flat_map(|(role, size)| {
            ["", "@2x", "@3x"].map(|scale| VersionFile {
                tier: None,
                variant: None,
                path: format!("{role}{scale}.png"),
                bytes: (0..size).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect(),
            })
        })
        .collect()
}

fn rate(work: &mut dyn FnMut()) -> f64 {
    let started = Instant::now();
    for _ in 0..PER_ROUND {
        work();
    }
    PER_ROUND as f64 / started.elapsed().as_secs_f64()
}

fn main() {
    let now = SystemClock.now();
    let pass_type = PassTypeId::parse("pass.com.example.bench").expect("valid");
    let chain = DevelopmentChain::mint(&pass_type, "BENCH00000", now).expect("minted");
    let identity = SigningIdentity::new(&chain.leaf, chain.leaf_key.clone(), &chain.intermediate).expect("fits");
    let template = Template::parse(&template()).expect("valid");
    let prepared = PreparedPasses::new(&template, pictures()).expect("fits");
    let mut card = Card {
        serial: SerialNumber::parse("01a200ae-bc99-737f-a9aa-1d8e78c2212b").expect("valid"),
        ..Card::sample(serde_json::Map::new(), now)
    };
    let auth_token = AuthToken::parse("kCj-0FYmaZjKKhcXRDBF_UOJkzL85Ozc_UOJkzL85Oz").expect("valid");
    let mut points = 0;
    let mut size = 0;
    let mut make_pass = || {
        points += 1;
        let values =
            json!({"points": points, "balance": "12.50", "tier": "gold", "name": "Anna", "until": "2027-12-31"});
        card.content.attributes = values.as_object().cloned().unwrap_or_default();
        let rendered = render(&template, &card, "https://cards.example.com/c/kCj-0FYmaZjKKhcXRDBF").expect("renders");
        let pass_identity = PassIdentity {
            serial: &card.serial,
            pass_type: &identity.pass_type,
            team: &identity.team,
            auth_token: &auth_token,
            web_service_url: "https://cards.example.com/apple",
        };
        let pass = build(&rendered, &pass_identity, &prepared, &identity.signer, now).expect("builds");
        size = pass.archive().len();
        std::hint::black_box(pass);
    };
    let digest = [7; 32];
    let mut make_signature = || {
        std::hint::black_box(identity.signer.bare_signature(&digest).expect("signs"));
    };
    rate(&mut make_pass);
    rate(&mut make_signature);
    let mut rounds: Vec<(f64, f64)> = (0..ROUNDS).map(|_| (rate(&mut make_pass), rate(&mut make_signature))).collect();
    rounds.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
    let ratios: Vec<f64> = rounds.iter().map(|(passes, signatures)| passes / signatures).collect();
    let best = |pick: fn(&(f64, f64)) -> f64| rounds.iter().map(pick).fold(0.0, f64::max);
    println!("pass of {size} bytes, {ROUNDS} rounds of {PER_ROUND}, one thread");
    println!("passes per second, best round        {:8.0}", best(|r| r.0));
    println!("RSA-2048 signatures per second, best {:8.0}", best(|r| r.1));
    println!(
        "ratio: lowest {:.3}, median {:.3}, highest {:.3}  (floor 0.75, aim 0.90)",
        ratios[0],
        ratios[ROUNDS / 2],
        ratios[ROUNDS - 1]
    );
}
