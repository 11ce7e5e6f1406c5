//! A simulated APNs on the network: TLS with a client certificate, HTTP/2, the checks of the real service, and delivery
//! to simulated phones.
//!
//! It serves the sandbox, the Studio's virtual phone and the tests. Unlike the real service it keeps a log, and fails
//! on request: [`SimulatedApns::answer_next`], [`SimulatedApns::go_away`], [`SimulatedApns::drop_connections`],
//! [`SimulatedApns::hang`], [`SimulatedApns::freeze_connections`], [`SimulatedApns::refuse_connections`],
//! [`SimulatedApns::set_latency`]. It does not know which tokens exist (every well-formed one does, until
//! [`SimulatedApns::device_gone`]), has no provider tokens (.p8), and limits no rates. All memory is bounded.

mod check;
mod courier;
mod goaway;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{Request, Response};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{AlpnError, Ssl, SslAcceptor, SslMethod, SslOptions, SslSessionCacheMode, SslVerifyMode};
use openssl::x509::X509;
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::verify::X509VerifyFlags;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_openssl::SslStream;

use crate::domain::ids::PushToken;
use check::{Accepted, PAYLOAD_LIMIT, check};
use courier::{Courier, Keep, Mailbox, Newest};
use goaway::WithReason;

/// The most pushes, refusals and dead tokens remembered, each.
const LOG_LIMIT: usize = 10_000;

/// The most bytes of headers in one request.
const HEADERS_LIMIT: u32 = 16 * 1024;

/// The longest time that a client may take for TLS and the start of HTTP/2.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause after a connection that couldn't be accepted (no file descriptors left), so that the loop doesn't spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The settings of a simulated APNs.
pub struct SimulatedApnsOptions {
    /// The server's certificate, for `localhost`; clients trust its issuer.
    pub server_certificate: X509,
    /// The key of the server's certificate.
    pub server_key: PKey<Private>,
    /// The root and intermediate certificates trusted to issue pass type certificates.
    pub client_roots: Vec<X509>,
    /// The address to listen on, on loopback; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The number of concurrent streams announced for a connection; the real service announces about 1,000, varying
    /// with its load.
    pub max_concurrent_streams: u32,
}

/// A push that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedPush {
    /// The pass type identifier.
    pub topic: String,
    /// The push token, in lower case.
    pub token: PushToken,
    /// The expiry in seconds since 1970, 0 for a single attempt, `None` when the request named none.
    pub expiration: Option<u64>,
    /// The priority: 1, 5 or 10.
    pub priority: u8,
    /// The push type, as in the request.
    pub push_type: Option<String>,
    /// The body, at most 4096 bytes.
    pub payload: Bytes,
    /// The number of the connection that it came on, counting from 1.
    pub connection: u64,
}

/// A request that was refused, by the rules or by [`SimulatedApns::answer_next`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedPush {
    /// The HTTP status of the answer.
    pub status: u16,
    /// The reason in the answer.
    pub reason: String,
    /// The number of the connection that it came on, counting from 1.
    pub connection: u64,
}

/// Counters of what happened so far; they never decrease.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// TCP connections, including refused ones.
    pub connections: u64,
    /// Requests read to their end, including those that never get an answer.
    pub requests: u64,
    /// Pushes that passed every check.
    pub pushes: u64,
    /// Requests refused, by the rules or by [`SimulatedApns::answer_next`].
    pub refused: u64,
}

/// An answer given in place of the regular one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status; 200 means success, but nothing is delivered.
    pub status: u16,
    /// Apple's reason in the body; empty for no body.
    pub reason: String,
    /// The time in a 410, in milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// The Retry-After header, in whole seconds.
    pub retry_after: Option<Duration>,
}

impl Answer {
    /// Creates an answer with a status and Apple's reason.
    pub fn new(status: u16, reason: &str) -> Self {
        Self { status, reason: reason.to_owned(), timestamp_ms: None, retry_after: None }
    }

    fn into_response(self) -> (Response<()>, Bytes) {
        let mut response = Response::builder().status(self.status);
        if let Some(wait) = self.retry_after {
            response = response.header("retry-after", wait.as_secs());
        }
        let mut body = serde_json::Map::new();
        if !self.reason.is_empty() {
            body.insert("reason".to_owned(), self.reason.into());
        }
        if let Some(millis) = self.timestamp_ms {
            body.insert("timestamp".to_owned(), millis.into());
        }
        let bytes = if body.is_empty() { Bytes::new() } else { serde_json::Value::from(body).to_string().into() };
        // A status outside HTTP's range can only come from `answer_next`; the client then sees an empty 200.
        (response.body(()).unwrap_or_default(), bytes)
    }
}

/// The running service. Clones are handles of the same one; it stops when the last one is dropped.
#[derive(Clone)]
pub struct SimulatedApns {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl std::fmt::Debug for SimulatedApns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SimulatedApns").field("address", &self.handle.address).finish_non_exhaustive()
    }
}

impl SimulatedApns {
    /// Starts listening and serving, on the current tokio runtime.
    ///
    /// # Errors
    /// When the address isn't available, or certificate and key can't be used.
    pub async fn start(options: SimulatedApnsOptions) -> io::Result<Self> {
        let tls = Tls { acceptor: acceptor(&options)?, options };
        let listener = TcpListener::bind(tls.options.listen).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(tls));
        tokio::spawn(listen(Arc::clone(&shared), listener));
        Ok(Self { handle: Arc::new(Handle { shared, address }) })
    }

    /// Also trusts these certificates to issue pass type certificates from now on; a certificate may vouch for itself.
    ///
    /// # Errors
    /// When one can't be used.
    pub fn trust(&self, certificates: Vec<X509>) -> io::Result<()> {
        let mut tls = self.shared().tls.lock().unwrap_or_else(PoisonError::into_inner);
        for certificate in certificates {
            let der = certificate.to_der()?;
            if tls.options.client_roots.iter().all(|known| known.to_der().is_ok_and(|known| known != der)) {
                tls.options.client_roots.push(certificate);
            }
        }
        tls.acceptor = acceptor(&tls.options)?;
        Ok(())
    }

    fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    /// Returns the service's address: `https://localhost:<port>`.
    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.handle.address.port())
    }

    /// Returns the newest 10,000 accepted pushes, oldest first.
    pub fn pushes(&self) -> Vec<ReceivedPush> {
        self.shared().state().pushes.iter().cloned().collect()
    }

    /// Returns the newest 10,000 refused requests, oldest first.
    pub fn refused(&self) -> Vec<RefusedPush> {
        self.shared().state().refused.iter().cloned().collect()
    }

    /// Returns how many TCP connections were opened, including refused ones.
    pub fn connections(&self) -> u64 {
        self.shared().counts.borrow().connections
    }

    /// Returns the counters, to read or to wait for: `apns.counts().wait_for(|counts| counts.pushes >= 3).await`.
    pub fn counts(&self) -> watch::Receiver<Counts> {
        self.shared().counts.subscribe()
    }

    /// Answers pushes to this token with 410 `Unregistered` and this time (milliseconds since 1970) from now on.
    pub fn device_gone(&self, token: &PushToken, since_ms: i64) {
        self.shared().state().gone.insert(key(token), since_ms);
    }

    /// Makes the token valid again, as when its phone registers anew.
    pub fn device_back(&self, token: &PushToken) {
        self.shared().state().gone.remove(&key(token));
    }

    /// Answers the next `times` requests that pass the checks with this answer in place of the regular one; with a
    /// token, only requests to it. Answers are used in the order in which they were set.
    pub fn answer_next(&self, token: Option<&PushToken>, answer: Answer, times: u32) {
        if times > 0 {
            self.shared().state().orders.push_back(AnswerOrder { token: token.map(key), answer, times });
        }
    }

    /// Removes the set answers that weren't used up.
    pub fn answer_as_usual(&self) {
        self.shared().state().orders.clear();
    }

    /// Waits this long before each answer.
    pub fn set_latency(&self, latency: Duration) {
        self.shared().state().latency = latency;
    }

    /// While on, closes connections as soon as they are opened; existing ones stay.
    pub fn refuse_connections(&self, on: bool) {
        self.shared().state().refuse = on;
    }

    /// While on, reads requests and never answers them, not even after it is switched off again.
    pub fn hang(&self, on: bool) {
        self.shared().state().hang = on;
    }

    /// Closes every connection gracefully: GOAWAY with a reason; pending requests are still answered.
    pub fn go_away(&self) {
        let newest = self.connections();
        self.shared().ends.send_modify(|ends| ends.go_away_through = newest);
    }

    /// Stops reading and writing on the existing connections and leaves them open, as when a firewall dropped them from
    /// its table.
    pub fn freeze_connections(&self) {
        let newest = self.connections();
        self.shared().ends.send_modify(|ends| ends.frozen_through = newest);
    }

    /// Cuts every connection with its pending requests.
    pub fn drop_connections(&self) {
        let newest = self.connections();
        self.shared().ends.send_modify(|ends| ends.cut_through = newest);
    }

    /// Connects a phone: it receives every push to the token from now on, and those kept while it was away.
    pub fn connect_device(&self, token: &PushToken) -> DeviceChannel {
        let token = key(token);
        let (id, mailbox) = self.shared().state().courier.connect(&token);
        DeviceChannel { shared: Arc::clone(&self.handle.shared), token, id, mailbox }
    }

    /// Stops listening, cuts every connection and ends every [`DeviceChannel`].
    pub fn stop(&self) {
        self.shared().stop();
    }
}

/// A phone's connection to the simulated service; dropping it disconnects.
pub struct DeviceChannel {
    shared: Arc<Shared>,
    token: String,
    id: u64,
    mailbox: Arc<Mailbox>,
}

impl DeviceChannel {
    /// Returns the topic of the next push; `None` once the service has stopped. Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Option<String> {
        self.mailbox.next().await
    }
}

impl Drop for DeviceChannel {
    fn drop(&mut self) {
        self.shared.state().courier.disconnect(&self.token, self.id);
    }
}

impl std::fmt::Debug for DeviceChannel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceChannel").field("id", &self.id).finish_non_exhaustive()
    }
}

fn key(token: &PushToken) -> String {
    token.as_str().to_ascii_lowercase()
}

struct AnswerOrder {
    token: Option<String>,
    answer: Answer,
    times: u32,
}

/// The numbers (counting from 1) up to which connections have to end, for each way of ending.
#[derive(Debug, Clone, Copy, Default)]
struct Ends {
    go_away_through: u64,
    cut_through: u64,
    frozen_through: u64,
    stopped: bool,
}

/// The settings that connections are opened with.
struct Tls {
    acceptor: SslAcceptor,
    options: SimulatedApnsOptions,
}

struct Shared {
    tls: Mutex<Tls>,
    state: Mutex<State>,
    counts: watch::Sender<Counts>,
    ends: watch::Sender<Ends>,
    max_concurrent_streams: u32,
}

struct State {
    pushes: VecDeque<ReceivedPush>,
    refused: VecDeque<RefusedPush>,
    gone: Newest<String, i64>,
    orders: VecDeque<AnswerOrder>,
    courier: Courier,
    latency: Duration,
    refuse: bool,
    hang: bool,
}

impl State {
    /// Takes the answer set for this request by [`SimulatedApns::answer_next`], if there is one.
    fn ordered(&mut self, token: &str) -> Option<Answer> {
        let fits = |order: &AnswerOrder| order.token.as_deref().is_none_or(|own| own == token);
        let position = self.orders.iter().position(fits)?;
        let order = self.orders.get_mut(position)?;
        order.times -= 1;
        let answer = order.answer.clone();
        if order.times == 0 {
            self.orders.remove(position);
        }
        Some(answer)
    }
}

fn remember<T>(log: &mut VecDeque<T>, entry: T) {
    if log.len() >= LOG_LIMIT {
        log.pop_front();
    }
    log.push_back(entry);
}

impl Shared {
    fn new(tls: Tls) -> Self {
        let max_concurrent_streams = tls.options.max_concurrent_streams;
        let state = State {
            pushes: VecDeque::new(),
            refused: VecDeque::new(),
            gone: Newest::new(LOG_LIMIT),
            orders: VecDeque::new(),
            courier: Courier::new(),
            latency: Duration::ZERO,
            refuse: false,
            hang: false,
        };
        Self {
            tls: Mutex::new(tls),
            state: Mutex::new(state),
            counts: watch::Sender::new(Counts::default()),
            ends: watch::Sender::new(Ends::default()),
            max_concurrent_streams,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.ends.send_modify(|ends| ends.stopped = true);
        self.state().courier.close();
    }

    /// Completes when the connection has to be cut.
    async fn cut(&self, connection: u64) {
        // It can't fail while `self` holds the sender.
        let _ = self.ends.subscribe().wait_for(|ends| ends.stopped || ends.cut_through >= connection).await;
    }

    /// Completes when the connection has to be frozen.
    async fn freeze(&self, connection: u64) {
        let _ = self.ends.subscribe().wait_for(|ends| ends.frozen_through >= connection).await;
    }

    /// Completes when the connection has to close gracefully.
    async fn leave(&self, connection: u64) {
        let _ = self.ends.subscribe().wait_for(|ends| ends.go_away_through >= connection).await;
    }

    /// Checks one request, delivers or refuses it, records it and returns the answer.
    fn judge(&self, connection: u64, head: &http::request::Parts, body: Bytes, topic: Option<&str>) -> Answer {
        let checked = check(&head.method, head.uri.path(), &head.headers, &body, topic);
        let mut state = self.state();
        let answer = match checked {
            Err(refusal) => Answer::new(refusal.status, refusal.reason),
            Ok(Accepted { token, topic, expiration, priority, push_type }) => {
                if let Some(answer) = state.ordered(token.as_str()) {
                    answer
                } else if let Some(&since) = state.gone.get(&key(&token)) {
                    Answer { timestamp_ms: Some(since), ..Answer::new(410, "Unregistered") }
                } else {
                    let keep = if expiration == Some(0) { Keep::Never } else { Keep::UntilConnected };
                    state.courier.deliver(token.as_str(), &topic, keep);
                    let push =
                        ReceivedPush { topic, token, expiration, priority, push_type, payload: body, connection };
                    remember(&mut state.pushes, push);
                    drop(state);
                    self.counts.send_modify(|counts| counts.pushes += 1);
                    return Answer::new(200, "");
                }
            }
        };
        let refused = RefusedPush { status: answer.status, reason: answer.reason.clone(), connection };
        remember(&mut state.refused, refused);
        drop(state);
        self.counts.send_modify(|counts| counts.refused += 1);
        answer
    }
}

fn acceptor(options: &SimulatedApnsOptions) -> io::Result<SslAcceptor> {
    // TLS 1.2 and later, as Apple requires of its clients.
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_certificate(&options.server_certificate)?;
    builder.set_private_key(&options.server_key)?;
    builder.check_private_key()?;
    let mut trusted = X509StoreBuilder::new()?;
    // The chain of an explicitly trusted issuer ends at its intermediate, not at a root.
    trusted.set_flags(X509VerifyFlags::PARTIAL_CHAIN)?;
    for certificate in &options.client_roots {
        trusted.add_cert(certificate.clone())?;
        builder.add_client_ca(certificate)?;
    }
    builder.set_cert_store(trusted.build());
    builder.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    // Without sessions, every connection has to present its certificate anew.
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_options(SslOptions::NO_TICKET);
    builder.set_alpn_select_callback(|_, offered| {
        openssl::ssl::select_next_proto(b"\x02h2", offered)
            // The result has to borrow from the client's list.
            .and_then(|chosen| offered.windows(chosen.len()).find(|part| *part == chosen))
            .ok_or(AlpnError::ALERT_FATAL)
    });
    Ok(builder.build())
}

async fn listen(shared: Arc<Shared>, listener: TcpListener) {
    let stopped = async {
        let _ = shared.ends.subscribe().wait_for(|ends| ends.stopped).await;
    };
    let accepting = async {
        loop {
            let Ok((tcp, _)) = listener.accept().await else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let mut connection = 0;
            shared.counts.send_modify(|counts| {
                counts.connections += 1;
                connection = counts.connections;
            });
            if shared.state().refuse {
                continue;
            }
            let shared = Arc::clone(&shared);
            let acceptor = shared.tls.lock().unwrap_or_else(PoisonError::into_inner).acceptor.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = shared.cut(connection) => {}
                    // However the client ends the connection is no error here.
                    _ = serve(&shared, connection, tcp, &acceptor) => {}
                }
            });
        }
    };
    tokio::select! {
        () = stopped => {}
        () = accepting => {}
    }
}

type Connection = h2::server::Connection<WithReason<SslStream<TcpStream>>, Bytes>;

/// Serves one connection to its end. Pending requests end with it.
async fn serve(shared: &Arc<Shared>, connection: u64, tcp: TcpStream, acceptor: &SslAcceptor) -> io::Result<()> {
    let opening = open(tcp, acceptor, shared.max_concurrent_streams);
    let (mut http, topic) = tokio::time::timeout(HANDSHAKE_TIMEOUT, opening).await.map_err(io::Error::other)??;
    let topic: Option<Arc<str>> = topic.map(Arc::from);
    let mut requests = JoinSet::new();
    let leave = shared.leave(connection);
    tokio::pin!(leave);
    let freeze = shared.freeze(connection);
    tokio::pin!(freeze);
    let mut leaving = false;
    loop {
        tokio::select! {
            next = http.accept() => {
                let Some(next) = next else { return Ok(()) };
                let (request, respond) = next.map_err(io::Error::other)?;
                requests.spawn(answer(Arc::clone(shared), connection, topic.clone(), request, respond));
            }
            _ = requests.join_next(), if !requests.is_empty() => {}
            () = &mut freeze => {
                // The socket stays open, but nothing reads or writes it.
                requests.abort_all();
                std::future::pending::<()>().await;
            }
            () = &mut leave, if !leaving => {
                leaving = true;
                http.graceful_shutdown();
            }
        }
    }
}

async fn open(tcp: TcpStream, acceptor: &SslAcceptor, streams: u32) -> io::Result<(Connection, Option<String>)> {
    tcp.set_nodelay(true)?;
    let mut tls = SslStream::new(Ssl::new(acceptor.context())?, tcp)?;
    if let Err(error) = Pin::new(&mut tls).accept().await {
        let refused = tls.get_mut();
        refused.shutdown().await?;
        // Reads away what the client has already sent: closing with unread data would reset the connection, and the
        // alert with the reason would be lost.
        tokio::io::copy(refused, &mut tokio::io::sink()).await?;
        return Err(io::Error::other(error));
    }
    let topic = tls.ssl().peer_certificate().as_ref().and_then(certificate_topic);
    let http = h2::server::Builder::new()
        .max_concurrent_streams(streams)
        .max_header_list_size(HEADERS_LIMIT)
        .handshake(WithReason::new(tls))
        .await
        .map_err(io::Error::other)?;
    Ok((http, topic))
}

/// Returns the pass type identifier: the UID (0.9.2342.19200300.100.1.1) in the subject of a pass type certificate.
fn certificate_topic(certificate: &X509) -> Option<String> {
    let uid = certificate.subject_name().entries_by_nid(Nid::USERID).next()?;
    Some(uid.data().to_string().ok()?.to_owned())
}

async fn answer(
    shared: Arc<Shared>,
    connection: u64,
    topic: Option<Arc<str>>,
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (head, stream) = request.into_parts();
    // A client that broke off within the body doesn't wait for an answer.
    let Ok(body) = read_body(stream).await else { return };
    let (hang, latency) = {
        let state = shared.state();
        (state.hang, state.latency)
    };
    shared.counts.send_modify(|counts| counts.requests += 1);
    if hang {
        // Until the client gives up; when the connection ends, so does this task.
        let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
        return;
    }
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    let (mut response, text) = shared.judge(connection, &head, body, topic.as_deref()).into_response();
    let id = head.headers.get("apns-id").cloned();
    let id = id.or_else(|| http::HeaderValue::from_str(&uuid::Uuid::new_v4().to_string().to_uppercase()).ok());
    if let Some(id) = id {
        response.headers_mut().insert("apns-id", id);
    }
    // An error here only means that the client is gone.
    if let Ok(mut body) = respond.send_response(response, text.is_empty())
        && !text.is_empty()
    {
        let _ = body.send_data(text, true);
    }
}

/// Reads the body, cut one byte beyond the payload limit.
async fn read_body(mut stream: h2::RecvStream) -> Result<Bytes, h2::Error> {
    let mut body = Vec::new();
    while let Some(part) = stream.data().await {
        let part = part?;
        stream.flow_control().release_capacity(part.len())?;
        let room = PAYLOAD_LIMIT + 1 - body.len();
        body.extend_from_slice(part.get(..room).unwrap_or(&part));
        if body.len() > PAYLOAD_LIMIT {
            break;
        }
    }
    Ok(body.into())
}
