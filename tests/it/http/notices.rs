//! What a change of a card says to its owner, and which changes are late, the same again, or bring a card back.

use std::time::Duration;

use passloom::actions::cards::expire_cards::expire_step;
use passloom::sandbox::phone::Phone;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::service::{Service, bakery};
use crate::support::{TestDatabase, on_both_databases};

on_both_databases![
    the_same_change_sent_twice_is_no_late_change,
    in_a_bulk_the_same_line_again_is_unchanged_and_another_one_stale,
    a_new_end_brings_back_a_card_that_its_old_end_expired,
    a_translated_value_announces_itself_in_the_owners_language,
    a_field_that_appears_announces_itself_and_one_that_goes_away_does_not,
    a_message_that_can_not_be_shown_gives_way_to_the_next,
    a_change_says_what_its_backend_wants_said,
    a_text_of_its_own_is_no_event_and_goes_with_the_card,
    a_wrong_message_is_refused_at_its_place,
    the_template_orders_what_is_announced_first,
];

/// The status, and the revision or the type of the problem.
async fn send(service: &Service, method: Method, body: &Value) -> (u16, Value) {
    let answer = service.api(method, "/api/v1/cards/M-1", body).await;
    let json = answer.json();
    (answer.status, json.get("revision").unwrap_or(&json["type"]).clone())
}

/// Changes the card M-1, and gives what each phone announces when it fetches that, if anything.
async fn change<const N: usize>(service: &Service, phones: [&mut Phone; N], patch: &Value) -> [Option<String>; N] {
    service.patch_card("M-1", patch).await;
    let mut notices = [const { None }; N];
    for (phone, notice) in phones.into_iter().zip(&mut notices) {
        for refreshed in service.wake(phone).await {
            *notice = refreshed.notice;
        }
    }
    notices
}

/// Lets pushes that are still due leave, so that the service stops with nothing left to do.
async fn finish(service: Service) {
    service.deliver().await;
    service.clock.advance(Duration::from_secs(5));
    service.deliver().await;
    service.stop().await;
}

async fn the_same_change_sent_twice_is_no_late_change(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let late = (409, json!("/problems/stale"));
    let put = json!({"template": "bakery", "sequence": 1, "attributes": {"points": 1}});
    assert_eq!(send(&service, Method::PUT, &put).await, (201, json!(1)));
    assert_eq!(send(&service, Method::PUT, &put).await, (200, json!(1)));
    // The same by another spelling has the same outcome.
    let aloud =
        json!({"template": "bakery", "sequence": 1, "locale": "en", "attributes": {"points": 1, "tier": "basic"}});
    assert_eq!(send(&service, Method::PUT, &aloud).await, (200, json!(1)));
    let patch = json!({"sequence": 2, "attributes": {"points": 2}});
    for _ in 0..2 {
        assert_eq!(send(&service, Method::PATCH, &patch).await, (200, json!(2)));
    }
    // Another content under the same number, and any content under an older one, is late; values don't matter then.
    for body in [
        json!({"sequence": 2, "attributes": {"points": 3}}),
        json!({"sequence": 1, "attributes": {"points": 2}}),
        json!({"sequence": 1}),
    ] {
        assert_eq!(send(&service, Method::PATCH, &body).await, late, "{body}");
    }
    assert_eq!(send(&service, Method::PUT, &put).await, late);
    // What came without a number meanwhile isn't undone by a retry.
    service.patch_card("M-1", &json!({"attributes": {"points": 7}})).await;
    assert_eq!(send(&service, Method::PATCH, &patch).await, late);
    let card = service.card("M-1").await;
    assert_eq!(
        (&card["attributes"]["points"], &card["sequence"], &card["revision"]),
        (&json!(7), &json!(2), &json!(3))
    );
    service.stop().await;
}

async fn in_a_bulk_the_same_line_again_is_unchanged_and_another_one_stale(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let put = json!({"id": "M-1", "template": "bakery", "sequence": 1, "attributes": {"points": 1}});
    let patch = json!({"id": "M-1", "patch": true, "sequence": 2, "attributes": {"points": 2}});
    let other = json!({"id": "M-1", "patch": true, "sequence": 2, "attributes": {"points": 3}});
    let lines = [&put, &put, &patch, &patch, &other, &put].map(Value::to_string).join("\n");
    let headers =
        [("authorization", format!("Bearer {}", service.key)), ("content-type", "application/x-ndjson".into())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let answer = service.send(Method::POST, "/api/v1/cards/bulk", &headers, lines.into_bytes()).await;
    let statuses: Vec<Value> = String::from_utf8(answer.body)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["status"].clone())
        .collect();
    assert_eq!(statuses, ["created", "unchanged", "updated", "unchanged", "stale", "stale"]);
    service.stop().await;
}

async fn a_new_end_brings_back_a_card_that_its_old_end_expired(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    document["fields"]["back"][1]["value"] = json!("{{ 'Your card ended' if card.state == 'expired' else 'Welcome' }}");
    service.publish("bakery", &document).await;
    let end = |days: u64| json!(service.now().plus(Duration::from_secs(days * 86_400)));
    let card = service.put_card("M-1", &json!({"template": "bakery", "expires_at": end(1)})).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    assert_eq!(phone.field(&serial, "hello").as_deref(), Some("Welcome"));
    let states = async |patch: &Value| {
        let card = service.patch_card("M-1", patch).await;
        card["state"].as_str().unwrap().to_owned()
    };

    service.clock.advance(Duration::from_secs(2 * 86_400));
    assert_eq!(expire_step(&service.app).await.unwrap(), 1);
    service.wake(&mut phone).await;
    assert_eq!(phone.field(&serial, "hello").as_deref(), Some("Your card ended"));
    assert_eq!(states(&json!({"attributes": {"points": 5}})).await, "expired", "its end stands");
    assert_eq!(states(&json!({"expires_at": service.now()})).await, "expired", "that isn't in the future");
    assert_eq!(states(&json!({"expires_at": end(1), "state": "expired"})).await, "expired", "an explicit state wins");
    // Expired by word, not by its end.
    assert_eq!(states(&json!({"expires_at": end(2)})).await, "expired");

    assert_eq!(states(&json!({"state": "active", "expires_at": end(1)})).await, "active");
    service.clock.advance(Duration::from_secs(2 * 86_400));
    assert_eq!(expire_step(&service.app).await.unwrap(), 1);
    let (before, later) = (service.card("M-1").await["revision"].as_i64().unwrap(), end(3));
    assert_eq!(states(&json!({"expires_at": later})).await, "active");
    let card = service.card("M-1").await;
    assert_eq!((&card["expires_at"], &card["revision"]), (&later, &json!(before + 1)));
    service.wake(&mut phone).await;
    assert_eq!(phone.field(&serial, "hello").as_deref(), Some("Welcome"));
    assert_eq!(expire_step(&service.app).await.unwrap(), 0);

    // Without any end it is active, too.
    service.clock.advance(Duration::from_secs(4 * 86_400));
    assert_eq!(expire_step(&service.app).await.unwrap(), 1);
    assert_eq!(states(&json!({"expires_at": null})).await, "active");
    finish(service).await;
}

fn said(text: &str) -> Option<String> {
    Some(text.to_owned())
}

async fn a_translated_value_announces_itself_in_the_owners_language(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    document["fields"]["secondary"][0]["value"] = json!("{{ 'Gold' if tier == 'gold' else 'Basic' }} card");
    document["fields"]["primary"][0]["value"] = json!("{{ balance | money }}");
    document["fields"]["primary"][0]["change_message"] = json!("Balance: %@");
    document["strings"]["lv"]["{{ 'Gold' if tier == 'gold' else 'Basic' }} card"] =
        json!("{{ 'Zelta' if tier == 'gold' else 'Pamata' }} karte");
    document["strings"]["lv"]["Your status is now %@"] = json!("Jūsu statuss: %@");
    service.publish("bakery", &document).await;
    let card = service.put_card("M-1", &json!({"template": "bakery", "attributes": {"balance": "5"}})).await;
    let (mut english, _) = service.phone_with(&card).await;
    let mut latvian = service.phone("lv");
    latvian.add(card["urls"]["page"].as_str().unwrap(), service.now()).await.unwrap();
    for (points, (tier, en, lv)) in [
        ("gold", "Your status is now Gold card", "Jūsu statuss: Zelta karte"),
        ("basic", "Your status is now Basic card", "Jūsu statuss: Pamata karte"),
        ("gold", "Your status is now Gold card", "Jūsu statuss: Zelta karte"),
        ("silver", "Your status is now Basic card", "Jūsu statuss: Pamata karte"),
    ]
    .into_iter()
    .enumerate()
    {
        let patch = json!({"attributes": {"tier": tier, "points": points + 1}});
        assert_eq!(change(&service, [&mut english, &mut latvian], &patch).await, [said(en), said(lv)], "{tier}");
    }
    // Another tier that is called the same is no news, and doesn't keep the points from theirs.
    let patch = json!({"attributes": {"tier": "basic", "points": 9}});
    let points = [said("You now have 9 points"), said("You now have 9 points")];
    assert_eq!(change(&service, [&mut english, &mut latvian], &patch).await, points);
    let patch = json!({"attributes": {"balance": "12.50"}});
    assert_eq!(
        change(&service, [&mut english, &mut latvian], &patch).await,
        [said("Balance: €12.50"), said("Balance: 12,50\u{a0}€")]
    );
    assert!(english.complaints().is_empty() && latvian.complaints().is_empty());
    finish(service).await;
}

/// [`bakery`] with news on its front.
fn with_news() -> Value {
    let mut document = bakery();
    document["attributes"].as_array_mut().unwrap().push(json!({"name": "news", "type": "text"}));
    document["fields"]["auxiliary"]
        .as_array_mut()
        .unwrap()
        .push(json!({"key": "news", "label": "News", "value": "{{ news }}", "change_message": "News: %@"}));
    document
}

async fn a_field_that_appears_announces_itself_and_one_that_goes_away_does_not(database: TestDatabase) {
    let service = Service::start(&database).await;
    service.publish("bakery", &with_news()).await;
    let card = service.put_card("M-1", &json!({"template": "bakery"})).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    let keys = |phone: &Phone| phone.front(&serial).into_iter().map(|field| field.key).collect::<Vec<_>>();
    let news = |text: Value| json!({"attributes": {"news": text}});
    // It has its place on the phone, where next to nothing is to be seen of it.
    assert_eq!(keys(&phone), ["points", "tier"]);
    let back = phone.passes()[&serial].pass["storeCard"]["backFields"].as_array().unwrap();
    assert!(back.contains(&json!({"key": "news", "value": ""})), "{back:?}");
    assert_eq!(change(&service, [&mut phone], &news(json!("Buns"))).await, [said("News: Buns")]);
    assert_eq!(keys(&phone), ["points", "tier", "news"]);
    assert_eq!(change(&service, [&mut phone], &news(json!("Cakes"))).await, [said("News: Cakes")]);
    for nothing in [Value::Null, json!(""), json!(" ")] {
        assert_eq!(change(&service, [&mut phone], &news(nothing.clone())).await, [None], "{nothing}");
        assert_eq!(change(&service, [&mut phone], &news(json!("Buns"))).await, [said("News: Buns")], "{nothing}");
        let patch = json!({"attributes": {"news": nothing, "points": nothing.to_string().len()}});
        let points = format!("You now have {} points", nothing.to_string().len());
        assert_eq!(change(&service, [&mut phone], &patch).await, [Some(points)], "{nothing}");
    }
    // News that no phone has fetched when they are taken back don't keep others quiet.
    service.patch_card("M-1", &news(json!("Rye bread"))).await;
    let patch = json!({"attributes": {"news": null, "points": 50}});
    assert_eq!(change(&service, [&mut phone], &patch).await, [said("You now have 50 points")]);
    assert!(phone.complaints().is_empty(), "{:?}", phone.complaints());
    finish(service).await;
}

async fn a_message_that_can_not_be_shown_gives_way_to_the_next(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = bakery();
    document["fields"]["secondary"][0]["change_message"] = json!("{{ name }}, you are %@ now");
    service.publish("bakery", &document).await;
    let card = service.put_card("M-1", &json!({"template": "bakery"})).await;
    let (mut phone, _) = service.phone_with(&card).await;
    let tier = |tier: &str, points: i64| json!({"attributes": {"tier": tier, "points": points}});
    assert_eq!(change(&service, [&mut phone], &tier("gold", 1)).await, [said("You now have 1 points")]);
    service.patch_card("M-1", &json!({"attributes": {"name": "Anna"}})).await;
    service.wake(&mut phone).await;
    assert_eq!(change(&service, [&mut phone], &tier("silver", 2)).await, [said("Anna, you are silver now")]);
    finish(service).await;
}

async fn a_change_says_what_its_backend_wants_said(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = with_news();
    // No text with values is translated: the string tables are those of all cards until a card says something.
    document["fields"]["back"].as_array_mut().unwrap().truncate(1);
    service.publish("bakery", &document).await;
    let card = service.put_card("M-1", &json!({"template": "bakery"})).await;
    let (mut english, serial) = service.phone_with(&card).await;
    let mut latvian = service.phone("lv");
    latvian.add(card["urls"]["page"].as_str().unwrap(), service.now()).await.unwrap();
    let both = |text: &str| [said(text), said(text)];

    let patch = json!({"attributes": {"points": 1, "news": "Buns"}, "message": {"field": "news"}});
    assert_eq!(change(&service, [&mut english, &mut latvian], &patch).await, both("News: Buns"));
    let patch = json!({"attributes": {"points": 2}, "message": {"silent": true}});
    assert_eq!(change(&service, [&mut english, &mut latvian], &patch).await, [None, None]);
    let patch = json!({"attributes": {"points": 3}, "message": {"field": "news"}});
    assert_eq!(change(&service, [&mut english, &mut latvian], &patch).await, [None, None], "news didn't change");
    let patch = json!({"attributes": {"points": 4, "news": "Cakes"}});
    let points = [said("You now have 4 points"), said("You now have 4 points")];
    assert_eq!(change(&service, [&mut english, &mut latvian], &patch).await, points);

    // A text alone is a change; the same again is none, so a request may be repeated.
    let patch = json!({"message": {"text": {"en": "Happy birthday!", "lv": "Daudz laimes!"}}, "sequence": 1});
    let birthday = [said("Happy birthday!"), said("Daudz laimes!")];
    assert_eq!(change(&service, [&mut english, &mut latvian], &patch).await, birthday);
    let revision = service.card("M-1").await["revision"].clone();
    for repeated in [&patch, &json!({"message": {"field": "news"}}), &json!({"message": {"silent": true}})] {
        assert_eq!(service.patch_card("M-1", repeated).await["revision"], revision, "{repeated}");
    }
    assert!(service.wake(&mut english).await.is_empty());
    let late = json!({"message": {"text": "Another"}, "sequence": 1});
    assert_eq!(send(&service, Method::PATCH, &late).await, (409, json!("/problems/stale")));

    // It stays on the back, whatever comes, until the next.
    let labels = [(&english, "Message", "Happy birthday!"), (&latvian, "Ziņa", "Daudz laimes!")];
    for (phone, label, text) in labels {
        let back = phone.back(&serial);
        let shown = back.iter().find(|field| field.key == "passloom.message").unwrap();
        assert_eq!((shown.label.as_str(), shown.value.as_str()), (label, text));
    }
    let put = json!({"template": "bakery", "attributes": {"points": 9}});
    service.put_card("M-1", &put).await;
    for refreshed in service.wake(&mut english).await {
        assert_eq!(refreshed.notice.as_deref(), Some("You now have 9 points"));
    }
    assert_eq!(english.field(&serial, "passloom.message").as_deref(), Some("Happy birthday!"));

    // The same text with another change is said again; until a phone has it, it comes before what changes later.
    for points in [10, 11, 12] {
        let put = json!({"template": "bakery", "attributes": {"points": points}, "message": {"text": "Thank you!"}});
        service.put_card("M-1", &put).await;
        let line = json!({"id": "M-1", "patch": true, "attributes": {"tier": "gold"}, "message": {"silent": true}});
        let headers = [("authorization", format!("Bearer {}", service.key))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        service.send(Method::POST, "/api/v1/cards/bulk", &headers, line.to_string().into_bytes()).await;
        service.patch_card("M-1", &json!({"attributes": {"points": points + 100}})).await;
        let notice = service.wake(&mut english).await.pop().and_then(|refreshed| refreshed.notice).unwrap();
        assert_eq!(notice.trim_end_matches('\u{200B}'), "Thank you!", "{points}");
    }
    let lines = json!({"id": "M-1", "patch": true, "message": {"text": "Bread!"}}).to_string();
    let key = format!("Bearer {}", service.key);
    service.send(Method::POST, "/api/v1/cards/bulk", &[("authorization", &key)], lines.into_bytes()).await;
    assert_eq!(service.wake(&mut english).await.pop().unwrap().notice.as_deref(), Some("Bread!"));
    assert!(english.complaints().is_empty(), "{:?}", english.complaints());
    finish(service).await;
}

async fn a_text_of_its_own_is_no_event_and_goes_with_the_card(database: TestDatabase) {
    let service = Service::shop(&database).await;
    let text = "Anna, your rye bread is ready";
    let card = json!({"template": "bakery", "message": {"text": text}});
    let card = service.put_card("M-1", &card).await;
    let (mut phone, serial) = service.phone_with(&card).await;
    // What is there when a phone takes the card is shown, not announced.
    assert_eq!(phone.field(&serial, "passloom.message").as_deref(), Some(text));
    service.patch_card("M-1", &json!({"message": {"text": format!("{text} now")}})).await;
    let events = service.api(Method::GET, "/api/v1/cards/M-1/events", &Value::Null).await.json();
    assert!(events.to_string().contains("\"members\":[\"message\"]"), "{events}");
    assert!(!events.to_string().contains("rye bread"), "{events}");
    assert_eq!(service.api(Method::DELETE, "/api/v1/cards/M-1", &Value::Null).await.status, 204);
    let notices = service.wake(&mut phone).await;
    assert_eq!(notices.into_iter().map(|refreshed| refreshed.notice).collect::<Vec<_>>(), [None]);
    assert!(!phone.passes()[&serial].pass.to_string().contains("rye bread"));
    let again = service.put_card("M-1", &json!({"template": "bakery"})).await;
    let (phone, serial) = service.phone_with(&again).await;
    assert_eq!(phone.field(&serial, "passloom.message").as_deref(), Some(""));
    finish(service).await;
}

async fn a_wrong_message_is_refused_at_its_place(database: TestDatabase) {
    let service = Service::shop(&database).await;
    service.put_card("M-1", &json!({"template": "bakery"})).await;
    for (message, at) in [
        (json!({"field": "nothing"}), "/message/field"),
        (json!({"field": "name"}), "/message/field"),
        (json!({"field": "points", "silent": true}), "/message"),
        (json!({"text": "a", "field": "points"}), "/message"),
        (json!({"text": {"en": ""}}), "/message/text/en"),
        (json!({}), "/message"),
        (json!({"silent": true, "loud": true}), "/message/loud"),
    ] {
        for (method, body) in [
            (Method::PUT, json!({"template": "bakery", "message": message, "attributes": {"points": 1}})),
            (Method::PATCH, json!({"message": message, "attributes": {"points": 1}})),
        ] {
            let answer = service.api(method.clone(), "/api/v1/cards/M-1", &body).await;
            assert_eq!((answer.status, answer.pointers()), (422, vec![at.to_owned()]), "{method} {message}");
        }
    }
    assert_eq!(service.card("M-1").await["revision"], 1);
    service.stop().await;
}

async fn the_template_orders_what_is_announced_first(database: TestDatabase) {
    let service = Service::start(&database).await;
    let mut document = with_news();
    document["message_order"] = json!(["news", "points"]);
    service.publish("bakery", &document).await;
    let card = service.put_card("M-1", &json!({"template": "bakery"})).await;
    let (mut phone, _) = service.phone_with(&card).await;
    let patch = json!({"attributes": {"points": 1, "tier": "gold", "news": "Buns"}});
    assert_eq!(change(&service, [&mut phone], &patch).await, [said("News: Buns")]);
    let patch = json!({"attributes": {"points": 2, "tier": "silver"}});
    assert_eq!(change(&service, [&mut phone], &patch).await, [said("You now have 2 points")]);
    let patch = json!({"attributes": {"tier": "gold"}});
    assert_eq!(change(&service, [&mut phone], &patch).await, [said("Your status is now gold")]);
    document["message_order"] = json!(["news", "nothing", "name", "news", "a b"]);
    let answer = service.api(Method::PUT, "/api/v1/templates/bakery", &document).await;
    let expected = ["/message_order/1", "/message_order/2", "/message_order/3", "/message_order/4"];
    assert_eq!((answer.status, answer.pointers()), (422, expected.map(str::to_owned).to_vec()));
    finish(service).await;
}
