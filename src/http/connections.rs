//! Limits on connections: how many one address may have, and how long one may be without a request.
//!
//! actix limits the first request's headers and an idle connection, but not the headers of a later request: a client
//! that was answered once could send half a header and stay for ever. So connections are watched here: one that isn't
//! answering a request is closed after a while, whatever arrives on it.

use std::collections::HashMap;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::body::{BodySize, MessageBody};
use actix_web::rt::net::TcpStream;
use actix_web::web::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::platform::proxies::TrustedProxies;
use crate::platform::rate_limit::network_of;

/// How long a connection without a request stays open.
pub const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long the headers of a request may take.
pub const HEADERS: Duration = Duration::from_secs(10);
/// The most connections of a node: each takes some kilobytes while idle.
const MOST: usize = 8192;
/// Open files reserved for everything else: the database, connections to push services, files that are read.
const OTHER_FILES: std::ops::RangeInclusive<u64> = 128..=1024;
/// The divisor of the connections that gives the most an address may have.
const PART_OF_AN_ADDRESS: usize = 4;

/// Returns how many connections a process may have with this limit of open files: most of the files, and never more
/// than a node can use.
pub fn room(files: u64) -> usize {
    let others = (files / 4).clamp(*OTHER_FILES.start(), *OTHER_FILES.end()).min(files / 2);
    usize::try_from(files - others).unwrap_or(MOST).clamp(1, MOST)
}

/// The connections of a node.
#[derive(Debug)]
pub struct Connections {
    most: usize,
    trusted: TrustedProxies,
    /// How long a client may leave sent data unread.
    unread: Duration,
    open: AtomicUsize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

impl Connections {
    /// Creates an empty set with this capacity. Trusted proxies and this machine may use all of it.
    pub fn new(most: usize, trusted: TrustedProxies, unread: Duration) -> Self {
        Self { most, trusted, unread, open: AtomicUsize::new(0), by_address: Mutex::default() }
    }

    /// Returns the capacity.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Whether so many are open that none should be kept for a later request.
    pub fn are_scarce(&self) -> bool {
        self.open.load(Ordering::Relaxed) > self.most / 4 * 3
    }

    /// Admits a connection; `None` when its address has too many.
    fn admit(self: &Arc<Self>, peer: Option<SocketAddr>) -> Option<Admitted> {
        let address = peer.map(|peer| peer.ip().to_canonical());
        let address = address.filter(|address| !address.is_loopback() && !self.trusted.has(*address)).map(network_of);
        if let Some(address) = address {
            let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            let its = by_address.entry(address).or_default();
            if *its >= (self.most / PART_OF_AN_ADDRESS).max(1) {
                return None;
            }
            *its += 1;
        }
        self.open.fetch_add(1, Ordering::Relaxed);
        Some(Admitted { connections: Arc::clone(self), address })
    }

    /// Admits and watches a stream.
    ///
    /// # Errors
    /// When its address has too many.
    pub fn watch(self: &Arc<Self>, stream: TcpStream) -> Result<(Watched<TcpStream>, Option<SocketAddr>)> {
        let peer = stream.peer_addr().ok();
        let Some(admitted) = self.admit(peer) else {
            tracing::debug!("an address has too many connections: one more was closed");
            return Err(Error::new(ErrorKind::ConnectionRefused, "the address has too many connections"));
        };
        // A pass is sent in two pieces; Nagle would hold back the second until the first is acknowledged (40 ms).
        let _ = stream.set_nodelay(true);
        close_when_unread(&stream, self.unread);
        Ok((Watched::new(stream, Some(admitted)), peer))
    }
}

/// Makes the system close a connection whose client leaves sent data unread for that long: one that went away, or one
/// that keeps its window shut so that its answers stay in memory.
fn close_when_unread(stream: &TcpStream, unread: Duration) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    if let Err(error) = socket2::SockRef::from(stream).set_tcp_user_timeout(Some(unread)) {
        tracing::debug!(%error, "a connection has no deadline for what isn't read");
    }
}

/// A connection counted in the set; the count is released when this is dropped.
#[derive(Debug)]
struct Admitted {
    connections: Arc<Connections>,
    address: Option<IpAddr>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.connections.open.fetch_sub(1, Ordering::Relaxed);
        let Some(address) = self.address else { return };
        let mut by_address = self.connections.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(its) = by_address.get_mut(&address) {
            *its -= 1;
            if *its == 0 {
                by_address.remove(&address);
            }
        }
    }
}

/// Whether a connection is answering a request, and since when it isn't.
#[derive(Debug, Clone)]
pub struct Activity(Arc<Mutex<(usize, Instant)>>);

impl Activity {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((0, Instant::now()))))
    }

    /// Returns until when a connection may stay without a request; `None` while it answers one.
    fn idle_until(&self) -> Option<Instant> {
        let (answering, since) = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (answering == 0).then(|| since + KEEP_ALIVE + HEADERS)
    }

    /// Starts a request of that connection; it ends when the answer's body was sent or dropped.
    pub fn begin(request: &HttpRequest) -> Option<Answering> {
        let activity = request.conn_data::<Self>()?.clone();
        activity.0.lock().unwrap_or_else(PoisonError::into_inner).0 += 1;
        Some(Answering(activity))
    }
}

/// A request that is being answered.
#[derive(Debug)]
pub struct Answering(Activity);

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = (state.0.saturating_sub(1), Instant::now());
    }
}

/// A body that keeps its connection from counting as idle until the body was sent.
#[derive(Debug)]
pub struct Answered<B> {
    body: B,
    _answering: Option<Answering>,
}

impl<B> Answered<B> {
    /// Wraps that body.
    pub fn new(body: B, answering: Option<Answering>) -> Self {
        Self { body, _answering: answering }
    }
}

impl<B: MessageBody + Unpin> MessageBody for Answered<B> {
    type Error = B::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}

/// A stream that fails once its connection has been without a request for too long.
#[derive(Debug)]
pub struct Watched<S> {
    stream: S,
    activity: Activity,
    timer: Pin<Box<Sleep>>,
    _admitted: Option<Admitted>,
}

impl<S> Watched<S> {
    fn new(stream: S, admitted: Option<Admitted>) -> Self {
        let timer = Box::pin(sleep_until(Instant::now() + KEEP_ALIVE + HEADERS));
        Self { stream, activity: Activity::new(), timer, _admitted: admitted }
    }

    /// Returns the connection's activity, which its requests update.
    pub fn activity(&self) -> Activity {
        self.activity.clone()
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        let this = &mut *self;
        if let ready @ Poll::Ready(_) = Pin::new(&mut this.stream).poll_read(context, buffer) {
            return ready;
        }
        if let Some(until) = this.activity.idle_until() {
            while this.timer.as_mut().poll(context).is_ready() {
                if until <= Instant::now() {
                    return Poll::Ready(Err(ErrorKind::TimedOut.into()));
                }
                // It was set before the last request. Moving it with each request would cost more than it is worth.
                this.timer.as_mut().reset(until);
            }
        }
        Poll::Pending
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn most_files_are_connections_and_never_all() {
        for (files, room_for) in [(1024, 768), (256, 128), (64, 32), (20_000, 8192), (u64::MAX, 8192), (0, 1)] {
            assert_eq!(room(files), room_for, "{files}");
        }
    }

    #[test]
    fn an_address_has_a_part_of_the_connections_and_a_proxy_all_of_them() {
        let trusted = TrustedProxies::parse("10.0.0.1").expect("an address");
        let connections = Arc::new(Connections::new(8, trusted, Duration::from_secs(30)));
        let admit = |address: &str| connections.admit(format!("{address}:1").parse().ok());
        let mut held: Vec<_> = (0..2).map(|_| admit("198.51.100.1").expect("room")).collect();
        assert!(admit("198.51.100.1").is_none() && admit("198.51.100.2").is_some());
        held.extend(admit("[2001:db8:1:2::1]"));
        held.extend(admit("[2001:db8:1:2::2]"));
        assert!(admit("[2001:db8:1:2::3]").is_none(), "a network counts as one");
        assert_eq!(held.len(), 4);
        assert!(!connections.are_scarce());
        held.extend((0..3).filter_map(|_| admit("10.0.0.1")));
        held.extend((0..3).filter_map(|_| admit("127.0.0.1")));
        assert_eq!(held.len(), 10);
        assert!(connections.are_scarce());
        held.clear();
        assert!(admit("198.51.100.1").is_some() && !connections.are_scarce());
        assert!(connections.by_address.lock().expect("free").is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_a_request_ends_whatever_drips_on_it() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut watched = Watched::new(near, None);
        let activity = watched.activity();
        let answering = {
            activity.0.lock().expect("free").0 += 1;
            Answering(activity)
        };
        tokio::spawn(async move {
            while far.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        });
        let began = Instant::now();
        let mut byte = [0];
        while began.elapsed() < Duration::from_secs(300) {
            watched.read_exact(&mut byte).await.expect("a request is being answered");
        }
        drop(answering);
        let ended = Instant::now();
        let error = loop {
            match watched.read_exact(&mut byte).await {
                Ok(_) => assert!(ended.elapsed() < Duration::from_secs(90)),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(ended.elapsed(), KEEP_ALIVE + HEADERS);
    }
}
