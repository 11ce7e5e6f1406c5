//! Adds Apple's reason to the GOAWAY frames of an HTTP/2 connection.
//!
//! APNs states in a frame's debug data why it closes a connection (Apple, "Handling notification responses from APNs",
//! read 2026-11). The `h2` crate has no way to set it, so this writer follows the frames it forwards (RFC 9113, section
//! 4.1) and extends the GOAWAY frames.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The debug data.
pub(super) const REASON: &[u8] = br#"{"reason":"Shutdown"}"#;

const HEAD: usize = 9;
const GOAWAY: u8 = 7;
/// The size in bytes of a GOAWAY without debug data: last stream and error code.
const PLAIN_PAYLOAD: usize = 8;
/// The most bytes held back before the writer waits for the reader.
const HELD_LIMIT: usize = 64 * 1024;

/// A connection that adds a reason to its GOAWAY frames.
#[derive(Debug)]
pub(super) struct WithReason<S> {
    inner: S,
    frames: Frames,
}

impl<S> WithReason<S> {
    pub(super) fn new(inner: S) -> Self {
        Self { inner, frames: Frames::default() }
    }
}

/// Follows the frames in a stream of bytes, wherever it is split.
#[derive(Debug, Default)]
struct Frames {
    head: Vec<u8>,
    payload_left: usize,
    reason_due: bool,
    ready: BytesMut,
}

impl Frames {
    fn pass(&mut self, mut input: &[u8]) {
        while !input.is_empty() {
            let wanted = if self.payload_left > 0 { self.payload_left } else { HEAD - self.head.len() };
            let (now, later) = input.split_at(wanted.min(input.len()));
            input = later;
            if self.payload_left > 0 {
                self.ready.extend_from_slice(now);
                self.payload_left -= now.len();
            } else {
                self.head.extend_from_slice(now);
                self.finish_head();
            }
            if self.payload_left == 0 && std::mem::take(&mut self.reason_due) {
                self.ready.extend_from_slice(REASON);
            }
        }
    }

    fn finish_head(&mut self) {
        let &[a, b, c, kind, ref rest @ ..] = self.head.as_slice() else { return };
        if rest.len() < HEAD - 4 {
            return;
        }
        let payload = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.payload_left = payload;
        // A payload of another length already has a reason.
        self.reason_due = kind == GOAWAY && payload == PLAIN_PAYLOAD;
        if self.reason_due {
            let length = u8::try_from(payload + REASON.len()).unwrap_or(u8::MAX);
            self.ready.extend_from_slice(&[0, 0, length, kind]);
            self.ready.extend_from_slice(rest);
        } else {
            self.ready.extend_from_slice(&self.head);
        }
        self.head.clear();
    }
}

impl<S: AsyncWrite + Unpin> WithReason<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.frames.ready.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.frames.ready))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.frames.ready.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for WithReason<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.frames.ready.len() > HELD_LIMIT {
            ready!(self.poll_drain(cx))?;
        }
        self.frames.pass(bytes);
        // What can't be sent now goes with the next flush, which h2 requests after every write.
        match self.poll_drain(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(bytes.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WithReason<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_goaway_without_a_reason_gets_one_however_the_bytes_are_cut() {
        let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], &[1; 8]].concat();
        let settings = [0, 0, 0, 4, 1, 0, 0, 0, 0];
        let goaway = [&[0, 0, 8, 7, 0, 0, 0, 0, 0][..], &[2; 8]].concat();
        let own = [&[0, 0, 9, 7, 0, 0, 0, 0, 0][..], &[3; 9]].concat();
        let input = [&ping[..], &settings, &goaway, &own, &goaway, &settings].concat();
        let length = u8::try_from(8 + REASON.len()).expect("short");
        let explained = [&[0, 0, length, 7, 0, 0, 0, 0, 0][..], &[2; 8], REASON].concat();
        let expected = [&ping[..], &settings, &explained, &own, &explained, &settings].concat();
        for size in [1, 2, 3, 7, 9, 10, 17, input.len()] {
            let mut frames = Frames::default();
            input.chunks(size).for_each(|part| frames.pass(part));
            assert_eq!(&frames.ready[..], expected, "cut after every {size} bytes");
        }
    }
}
