//! Tests the APNs client and the simulated service against each other over the network.

use std::sync::OnceLock;
use std::time::Duration;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Name};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::domain::ids::PassTypeId;
use crate::domain::time::Timestamp;
use crate::wallets::PushOutcome;
use crate::wallets::apple::push::apns::{Apns, ApnsEndpoint, PushType};

const TOPIC: &str = "pass.com.example.loyalty";
const EXPIRES: Timestamp = Timestamp::from_seconds(1_797_894_939);

struct Signed {
    certificate: X509,
    key: PKey<Private>,
}

/// A root, an intermediate below it, a pass type certificate below that, and a server certificate for localhost.
struct Chain {
    root: Signed,
    intermediate: Signed,
    pass: Signed,
    server: Signed,
}

/// What is particular to one kind of name or certificate.
enum Role<'a> {
    Authority,
    Pass { topic: &'a str },
    Server,
}

fn sign(name: &str, role: &Role<'_>, issuer: Option<&Signed>) -> Signed {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("known curve");
    let key = PKey::from_ec_key(EcKey::generate(&group).expect("key")).expect("key");
    let mut subject = X509Name::builder().expect("name");
    if let Role::Pass { topic } = role {
        subject.append_entry_by_nid(Nid::USERID, topic).expect("UID");
    }
    subject.append_entry_by_nid(Nid::COMMONNAME, name).expect("CN");
    let subject = subject.build();
    let mut builder = X509::builder().expect("certificate");
    builder.set_version(2).expect("version");
    let mut serial = BigNum::new().expect("number");
    serial.rand(64, openssl::bn::MsbOption::ONE, false).expect("random");
    builder.set_serial_number(&serial.to_asn1_integer().expect("number")).expect("serial");
    builder.set_subject_name(&subject).expect("subject");
    builder.set_issuer_name(issuer.map_or(&subject, |by| by.certificate.subject_name())).expect("issuer");
    builder.set_pubkey(&key).expect("key");
    builder.set_not_before(&Asn1Time::days_from_now(0).expect("time")).expect("start");
    builder.set_not_after(&Asn1Time::days_from_now(2).expect("time")).expect("end");
    match role {
        Role::Authority => {
            let constraint = BasicConstraints::new().critical().ca().build().expect("extension");
            builder.append_extension(constraint).expect("extension");
        }
        Role::Server => {
            let context = builder.x509v3_context(None, None);
            let name = SubjectAlternativeName::new().dns("localhost").build(&context).expect("extension");
            builder.append_extension(name).expect("extension");
        }
        Role::Pass { .. } => {}
    }
    builder.sign(issuer.map_or(&key, |by| &by.key), MessageDigest::sha256()).expect("signature");
    Signed { certificate: builder.build(), key }
}

fn chain() -> &'static Chain {
    static CHAIN: OnceLock<Chain> = OnceLock::new();
    CHAIN.get_or_init(|| {
        let root = sign("Test Root", &Role::Authority, None);
        let intermediate = sign("Test Intermediate", &Role::Authority, Some(&root));
        let pass = sign("Pass Type ID: loyalty", &Role::Pass { topic: TOPIC }, Some(&intermediate));
        let server = sign("localhost", &Role::Server, Some(&root));
        Chain { root, intermediate, pass, server }
    })
}

fn options(max_concurrent_streams: u32) -> SimulatedApnsOptions {
    let chain = chain();
    SimulatedApnsOptions {
        server_certificate: chain.server.certificate.clone(),
        server_key: chain.server.key.clone(),
        client_roots: vec![chain.root.certificate.clone(), chain.intermediate.certificate.clone()],
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        max_concurrent_streams,
    }
}

async fn service() -> SimulatedApns {
    SimulatedApns::start(options(1000)).await.expect("a free port")
}

fn endpoint(service: &SimulatedApns) -> ApnsEndpoint {
    ApnsEndpoint {
        url: service.url(),
        ca_pem: Some(chain().root.certificate.to_pem().expect("PEM")),
        ..ApnsEndpoint::apple()
    }
}

fn client_with(endpoint: &ApnsEndpoint, signed: &Signed) -> Apns {
    let certificate = signed.certificate.to_pem().expect("PEM");
    let key = signed.key.private_key_to_pem_pkcs8().expect("PEM");
    Apns::new(endpoint, &certificate, &key).expect("a client")
}

fn client(service: &SimulatedApns) -> Apns {
    client_with(&endpoint(service), &chain().pass)
}

fn topic() -> PassTypeId {
    PassTypeId::parse(TOPIC).expect("valid")
}

fn token(number: u64) -> PushToken {
    PushToken::parse(&format!("{number:064x}")).expect("valid")
}

async fn push(client: &Apns, to: &PushToken) -> PushOutcome {
    let outcome = client.push(&topic(), to, EXPIRES).await;
    assert!(!format!("{outcome:?}").contains(to.as_str()), "the token is in {outcome:?}");
    outcome
}

fn reason_to_try_later(outcome: PushOutcome) -> String {
    match outcome {
        PushOutcome::ServiceUnwell { reason }
        | PushOutcome::NoAnswer { reason }
        | PushOutcome::Unreachable { reason } => reason,
        other => unreachable!("expected a failure of the service, got {other:?}"),
    }
}

#[tokio::test]
async fn a_push_arrives_as_apple_wants_it() {
    let service = service().await;
    assert_eq!(push(&client(&service), &token(0xABC)).await, PushOutcome::Delivered);
    let expected = ReceivedPush {
        topic: TOPIC.to_owned(),
        token: token(0xABC),
        expiration: Some(1_797_894_939),
        priority: 10,
        push_type: None,
        payload: Bytes::from_static(b"{}"),
        connection: 1,
    };
    assert_eq!(service.pushes(), [expected]);
    assert_eq!(service.refused(), []);
}

#[tokio::test]
async fn one_connection_serves_push_after_push() {
    let service = service().await;
    let client = client(&service);
    for number in 0..5 {
        assert_eq!(push(&client, &token(number)).await, PushOutcome::Delivered);
    }
    assert_eq!((service.connections(), service.pushes().len()), (1, 5));
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let service = service().await;
    let root = reqwest::Certificate::from_pem(&chain().root.certificate.to_pem().expect("PEM")).expect("PEM");
    let bare = reqwest::Client::builder().tls_certs_only([root]).http2_prior_knowledge().no_proxy();
    let url = format!("{}/3/device/{}", service.url(), token(1).as_str());
    assert!(bare.build().expect("a client").post(url).body("{}").send().await.is_err());
    assert_eq!(*service.counts().borrow(), Counts { connections: 1, ..Counts::default() });
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_in_plain_words() {
    let service = service().await;
    let stranger = sign("Stranger", &Role::Pass { topic: TOPIC }, None);
    let outcome = push(&client_with(&endpoint(&service), &stranger), &token(1)).await;
    let reason = "the server does not accept our certificate".to_owned();
    assert_eq!(outcome, PushOutcome::IssuerRefused { reason });
    assert_eq!(service.counts().borrow().requests, 0);
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_trusted() {
    let service = service().await;
    let stranger = sign("Stranger", &Role::Authority, None);
    let ca_pem = Some(stranger.certificate.to_pem().expect("PEM"));
    let client = client_with(&ApnsEndpoint { ca_pem, ..endpoint(&service) }, &chain().pass);
    let reason = reason_to_try_later(push(&client, &token(1)).await);
    assert!(reason.starts_with("can't connect: the server's certificate is not trusted ("), "{reason}");
}

#[tokio::test]
async fn a_key_of_another_certificate_is_refused_before_any_push() {
    let service = service().await;
    let chain = chain();
    let certificate = chain.pass.certificate.to_pem().expect("PEM");
    let key = chain.server.key.private_key_to_pem_pkcs8().expect("PEM");
    let refused = Apns::new(&endpoint(&service), &certificate, &key).expect_err("they don't belong together");
    assert!(refused.to_string().ends_with("the key does not belong to the certificate"), "{refused}");
}

#[tokio::test]
async fn a_topic_that_is_not_the_certificates_pauses_the_issuer() {
    let service = service().await;
    let other = PassTypeId::parse("pass.com.example.other").expect("valid");
    let outcome = client(&service).push(&other, &token(1), EXPIRES).await;
    assert_eq!(outcome, PushOutcome::IssuerRefused { reason: "TopicDisallowed".to_owned() });
    let refused = RefusedPush { status: 400, reason: "TopicDisallowed".to_owned(), connection: 1 };
    assert_eq!((service.refused(), service.pushes()), (vec![refused], vec![]));
}

#[tokio::test]
async fn a_token_of_the_wrong_length_is_gone_and_one_of_another_shape_never_leaves() {
    let service = service().await;
    let client = client(&service);
    let short = PushToken::parse("abcdef12").expect("valid");
    let gone = PushOutcome::TargetGone { since: None, reason: "BadDeviceToken".to_owned() };
    assert_eq!(push(&client, &short).await, gone);
    for text in ["../../x", "fcm:abc", "a?b=c", "abc"] {
        let foreign = PushToken::parse(text).expect("valid");
        assert!(matches!(client.push(&topic(), &foreign, EXPIRES).await, PushOutcome::Refused { .. }), "{text}");
    }
    assert_eq!(service.counts().borrow().requests, 1);
}

#[tokio::test]
async fn a_device_that_is_gone_says_since_when_until_it_is_back() {
    let service = service().await;
    let client = client(&service);
    service.device_gone(&token(1), 1_795_302_939_123);
    let since = Some(Timestamp::from_micros(1_795_302_939_123_000));
    let gone = PushOutcome::TargetGone { since, reason: "Unregistered".to_owned() };
    assert_eq!(push(&client, &token(1)).await, gone);
    assert_eq!(push(&client, &token(2)).await, PushOutcome::Delivered);
    service.device_back(&token(1));
    assert_eq!(push(&client, &token(1)).await, PushOutcome::Delivered);
}

#[tokio::test]
async fn an_answer_is_given_to_order_as_often_as_ordered() {
    let service = service().await;
    let client = client(&service);
    let wait = Some(Duration::from_secs(120));
    let limit = Answer { retry_after: wait, ..Answer::new(429, "TooManyRequests") };
    service.answer_next(Some(&token(1)), limit, 2);
    service.answer_next(None, Answer::new(503, "ServiceUnavailable"), 1);
    let limited = PushOutcome::TryLater { after: wait, reason: "TooManyRequests".to_owned() };
    assert_eq!(push(&client, &token(1)).await, limited);
    assert_eq!(reason_to_try_later(push(&client, &token(2)).await), "ServiceUnavailable");
    assert_eq!(push(&client, &token(2)).await, PushOutcome::Delivered);
    assert_eq!(push(&client, &token(1)).await, limited);
    assert_eq!(push(&client, &token(1)).await, PushOutcome::Delivered);
    assert_eq!((service.refused().len(), service.pushes().len()), (3, 2));
}

#[tokio::test]
async fn a_connection_that_comes_to_its_end_is_left_and_the_push_sent_once_more_on_another() {
    for (status, reason) in [(400, "IdleTimeout"), (503, "Shutdown")] {
        let service = service().await;
        let client = client(&service);
        assert_eq!(push(&client, &token(1)).await, PushOutcome::Delivered);
        service.answer_next(None, Answer::new(status, reason), 1);
        assert_eq!(push(&client, &token(2)).await, PushOutcome::Delivered);
        service.answer_next(None, Answer::new(status, reason), 2);
        assert_eq!(reason_to_try_later(push(&client, &token(3)).await), reason, "no more than once");
        assert_eq!(push(&client, &token(3)).await, PushOutcome::Delivered);
        let answered: Vec<u64> = service.pushes().iter().map(|push| push.connection).collect();
        let refused: Vec<u64> = service.refused().iter().map(|refused| refused.connection).collect();
        assert_eq!((answered, refused), (vec![1, 2, 4], vec![1, 2, 3]), "{reason}");
    }
}

#[tokio::test]
async fn a_push_is_announced_as_the_operator_wants_it() {
    for (name, header, priority) in
        [("none", None, 10), ("background", Some("background"), 5), ("alert", Some("alert"), 10)]
    {
        let service = service().await;
        let push_type = PushType::parse(name).expect("a type");
        let client = client_with(&ApnsEndpoint { push_type, ..endpoint(&service) }, &chain().pass);
        assert_eq!(push(&client, &token(1)).await, PushOutcome::Delivered, "{name}");
        let pushes = service.pushes();
        assert_eq!((pushes[0].push_type.as_deref(), pushes[0].priority), (header, priority), "{name}");
    }
}

#[tokio::test]
async fn an_overlong_answer_is_read_in_part_and_counts_by_its_status() {
    let service = service().await;
    service.answer_next(None, Answer::new(403, &"x".repeat(1_000_000)), 1);
    let reason = "status 403 without a reason".to_owned();
    assert_eq!(push(&client(&service), &token(1)).await, PushOutcome::IssuerRefused { reason });
}

async fn push_all(client: &Apns, count: u64) -> Vec<PushOutcome> {
    let one = |number| {
        let client = client.clone();
        async move { push(&client, &token(number)).await }
    };
    futures_util::future::join_all((0..count).map(one)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_pushes_at_once_from_a_cold_pool_open_one_connection() {
    let service = SimulatedApns::start(options(20)).await.expect("a free port");
    let outcomes = push_all(&client(&service), 200).await;
    assert!(outcomes.iter().all(|outcome| *outcome == PushOutcome::Delivered), "{outcomes:?}");
    assert_eq!((service.connections(), service.pushes().len()), (1, 200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_that_wait_longer_for_a_stream_than_they_may_leave_a_connection_that_answers() {
    let service = SimulatedApns::start(options(2)).await.expect("a free port");
    let patience = ApnsEndpoint { timeout: Duration::from_secs(2), ..endpoint(&service) };
    let client = client_with(&patience, &chain().pass);
    assert_eq!(push(&client, &token(99)).await, PushOutcome::Delivered);
    service.set_latency(Duration::from_millis(200));
    // Few enough that a server doesn't take the abandoned requests for an attack (HTTP/2 rapid reset).
    let outcomes = push_all(&client, 26).await;
    let late = outcomes.iter().filter(|outcome| matches!(outcome, PushOutcome::NoAnswer { .. })).count();
    assert!(late >= 6, "at most ten turns of two within two seconds: {late} of 26 were late");
    service.set_latency(Duration::ZERO);
    assert_eq!(push(&client, &token(99)).await, PushOutcome::Delivered);
    assert_eq!(service.connections(), 1, "slowness is no silence");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_goaway_in_the_middle_loses_nothing() {
    let service = SimulatedApns::start(options(20)).await.expect("a free port");
    let client = client(&service);
    service.set_latency(Duration::from_millis(5));
    let mut counts = service.counts();
    let (outcomes, ()) = futures_util::future::join(push_all(&client, 200), async {
        counts.wait_for(|counts| counts.requests >= 50).await.expect("running");
        service.go_away();
    })
    .await;
    let delivered = outcomes.iter().filter(|outcome| **outcome == PushOutcome::Delivered).count();
    for (number, outcome) in (0..).zip(outcomes) {
        if outcome != PushOutcome::Delivered {
            reason_to_try_later(outcome);
            assert_eq!(push(&client, &token(number)).await, PushOutcome::Delivered);
        }
    }
    let mut tokens: Vec<PushToken> = service.pushes().into_iter().map(|push| push.token).collect();
    tokens.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    tokens.dedup();
    assert_eq!(tokens.len(), 200);
    assert!(service.connections() >= 2, "no new connection followed");
    assert!(delivered >= 50, "requests under way were not answered: {delivered}");
}

#[tokio::test]
async fn a_goaway_gives_apples_reason_on_the_wire() {
    let service = service().await;
    let mut tls = openssl::ssl::SslConnector::builder(openssl::ssl::SslMethod::tls_client()).expect("TLS");
    let chain = chain();
    tls.cert_store_mut().add_cert(chain.root.certificate.clone()).expect("root");
    tls.set_certificate(&chain.pass.certificate).expect("certificate");
    tls.set_private_key(&chain.pass.key).expect("key");
    tls.set_alpn_protos(b"\x02h2").expect("ALPN");
    let tls = tls.build().configure().expect("TLS").into_ssl("localhost").expect("TLS");
    let tcp = TcpStream::connect(("127.0.0.1", service.handle.address.port())).await.expect("connected");
    let mut tls = SslStream::new(tls, tcp).expect("TLS");
    Pin::new(&mut tls).connect().await.expect("trusted");
    // The preface and empty settings, all that HTTP/2 requires of a client (RFC 9113, section 3.4).
    tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("sent");
    service.go_away();
    let mut heard = Vec::new();
    while !heard.windows(goaway::REASON.len()).any(|part| part == goaway::REASON) {
        assert_ne!(tls.read_buf(&mut heard).await.expect("open"), 0, "closed without a reason: {heard:?}");
    }
}

#[tokio::test]
async fn a_push_whose_connection_breaks_is_sent_once_more_on_a_new_one() {
    let service = service().await;
    let client = client(&service);
    service.hang(true);
    let mut counts = service.counts();
    let sent = token(1);
    let (outcome, ()) = futures_util::future::join(push(&client, &sent), async {
        counts.wait_for(|counts| counts.requests == 1).await.expect("running");
        service.hang(false);
        service.drop_connections();
    })
    .await;
    assert_eq!(outcome, PushOutcome::Delivered);
    assert_eq!(service.connections(), 2);

    service.hang(true);
    let (outcome, ()) = futures_util::future::join(push(&client, &sent), async {
        for requests in [3, 4] {
            counts.wait_for(|counts| counts.requests == requests).await.expect("running");
            service.drop_connections();
        }
    })
    .await;
    let PushOutcome::NoAnswer { reason } = outcome else { unreachable!("{outcome:?}") };
    assert!(reason.starts_with("the connection broke"), "{reason}");
}

#[tokio::test]
async fn a_service_that_never_answers_is_given_up_and_asked_on_a_new_connection() {
    let service = service().await;
    service.hang(true);
    let client =
        client_with(&ApnsEndpoint { timeout: Duration::from_millis(300), ..endpoint(&service) }, &chain().pass);
    let silence = PushOutcome::NoAnswer { reason: "no answer within 0.3 s".to_owned() };
    assert_eq!(push(&client, &token(1)).await, silence);
    service.hang(false);
    assert_eq!(push(&client, &token(1)).await, PushOutcome::Delivered);
    assert_eq!(service.connections(), 2);
}

#[tokio::test]
async fn a_half_open_connection_is_left_behind_after_one_silence() {
    let service = service().await;
    let client =
        client_with(&ApnsEndpoint { timeout: Duration::from_millis(300), ..endpoint(&service) }, &chain().pass);
    assert_eq!(push(&client, &token(1)).await, PushOutcome::Delivered);
    // As when a firewall dropped the connection from its table: it looks open to us, and nothing comes through.
    service.freeze_connections();
    let outcomes = push_all(&client, 20).await;
    assert!(outcomes.iter().all(|outcome| matches!(outcome, PushOutcome::NoAnswer { .. })), "{outcomes:?}");
    assert_eq!(push(&client, &token(1)).await, PushOutcome::Delivered);
    assert_eq!(service.connections(), 2, "twenty that fell silent together made one new connection");
}

#[tokio::test]
async fn a_service_that_closes_at_once_or_has_stopped_can_not_be_connected_to() {
    let service = service().await;
    service.refuse_connections(true);
    let client = client(&service);
    let reason = reason_to_try_later(push(&client, &token(1)).await);
    assert!(reason.starts_with("can't connect: "), "{reason}");
    service.refuse_connections(false);
    assert_eq!(push(&client, &token(1)).await, PushOutcome::Delivered);

    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    let nowhere = ApnsEndpoint { url: format!("https://localhost:{}", closed.port()), ..endpoint(&service) };
    let reason = reason_to_try_later(push(&client_with(&nowhere, &chain().pass), &token(1)).await);
    assert!(reason.starts_with("can't connect: ") && reason.contains("refused"), "{reason}");
}

#[tokio::test]
async fn a_connected_phone_hears_every_push() {
    let service = service().await;
    let client = client(&service);
    let mut phone = service.connect_device(&PushToken::parse(&token(0xAB).as_str().to_uppercase()).expect("valid"));
    for _ in 0..3 {
        assert_eq!(push(&client, &token(0xAB)).await, PushOutcome::Delivered);
        assert_eq!(phone.recv().await.as_deref(), Some(TOPIC));
    }
    service.stop();
    assert_eq!(phone.recv().await, None);
}

#[tokio::test]
async fn a_phone_that_was_away_hears_of_it_once_when_it_connects() {
    let service = service().await;
    let client = client(&service);
    for _ in 0..3 {
        assert_eq!(push(&client, &token(1)).await, PushOutcome::Delivered);
    }
    assert_eq!(client.push(&topic(), &token(2), Timestamp::default()).await, PushOutcome::Delivered);
    let (mut first, mut second) = (service.connect_device(&token(1)), service.connect_device(&token(2)));
    assert_eq!(first.recv().await.as_deref(), Some(TOPIC));
    service.stop();
    assert_eq!((first.recv().await, second.recv().await), (None, None));
}

#[tokio::test]
async fn the_service_ends_with_its_last_handle() {
    let service = service().await;
    let client = client(&service);
    let other = service.clone();
    drop(service);
    assert_eq!(push(&client, &token(1)).await, PushOutcome::Delivered);
    let mut phone = other.connect_device(&token(1));
    assert_eq!(phone.recv().await.as_deref(), Some(TOPIC));
    drop(other);
    assert_eq!(phone.recv().await, None);
}
