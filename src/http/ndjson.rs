//! Reads a body of many lines as it arrives, never holding all of it.

use std::collections::VecDeque;
use std::time::Duration;

use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::StreamExt;

use crate::platform::memory::parsed_size;

/// The most bytes of a line, without its ending.
pub const LONGEST: usize = 1024 * 1024;
/// How many bytes of lines are enough for one batch, however few lines they are.
const ENOUGH: usize = 1024 * 1024;
/// How long to wait for more lines when some are there already.
const LINGER: Duration = Duration::from_millis(10);
/// How long a sender may pause before the body counts as broken off.
const PATIENCE: Duration = Duration::from_secs(60);

/// A line of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// The text without its ending.
    Text(Bytes),
    /// A line longer than [`LONGEST`]; its bytes were not kept.
    TooLong,
}

impl Line {
    /// Returns at most how many bytes the line takes once it is parsed.
    pub fn parsed_bytes(&self) -> usize {
        match self {
            Self::Text(text) => parsed_size(text).bytes,
            Self::TooLong => 0,
        }
    }
}

/// The reason why no more lines come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokenOff {
    /// The sender closed the connection before the end.
    Gone,
    /// The sender paused for too long.
    Slow,
}

/// Splits bytes into lines as they arrive. Empty lines are left out; a carriage return before the line feed belongs to
/// the ending.
#[derive(Debug, Default)]
pub struct Lines {
    rest: BytesMut,
    /// How many bytes of `rest` were searched for an ending.
    searched: usize,
    skipping: bool,
    ready: VecDeque<Line>,
    bytes: usize,
}

impl Lines {
    fn push(&mut self, chunk: &[u8]) {
        self.rest.extend_from_slice(chunk);
        while let Some(end) = self.rest[self.searched..].iter().position(|byte| *byte == b'\n') {
            let line = self.rest.split_to(self.searched + end + 1);
            self.searched = 0;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            self.take(line.freeze());
        }
        self.searched = self.rest.len();
        // One byte more, for the carriage return of a possible ending.
        if self.skipping || self.rest.len() > LONGEST + 1 {
            if !self.skipping {
                self.ready.push_back(Line::TooLong);
            }
            self.skipping = true;
            self.rest = BytesMut::new();
            self.searched = 0;
        }
    }

    fn take(&mut self, line: Bytes) {
        let mut end = line.len();
        while end > 0 && matches!(line[end - 1], b'\n' | b'\r') {
            end -= 1;
        }
        let line = line.slice(..end);
        if line.iter().all(u8::is_ascii_whitespace) {
            return;
        }
        if line.len() > LONGEST {
            return self.ready.push_back(Line::TooLong);
        }
        self.bytes += line.len();
        self.ready.push_back(Line::Text(line));
    }

    /// Adds the text after the last line feed as a line, too.
    fn finish(&mut self) {
        let rest = self.rest.split().freeze();
        self.searched = 0;
        if !std::mem::take(&mut self.skipping) {
            self.take(rest);
        }
    }

    fn put_back(&mut self, lines: impl DoubleEndedIterator<Item = Line>) {
        for line in lines.rev() {
            if let Line::Text(text) = &line {
                self.bytes += text.len();
            }
            self.ready.push_front(line);
        }
    }

    fn batch(&mut self, most: usize) -> Vec<Line> {
        let count = self.ready.len().min(most);
        let batch: Vec<Line> = self.ready.drain(..count).collect();
        for line in &batch {
            if let Line::Text(text) = line {
                self.bytes -= text.len();
            }
        }
        batch
    }
}

/// The lines of a request's body.
#[allow(missing_debug_implementations)] // a payload has none
pub struct Body {
    payload: Payload,
    lines: Lines,
    ended: bool,
}

impl Body {
    /// Creates a reader that has read nothing yet.
    pub fn new(payload: Payload) -> Self {
        Self { payload, lines: Lines::default(), ended: false }
    }

    /// Puts back lines that were returned last; they come first again.
    pub fn put_back(&mut self, lines: impl DoubleEndedIterator<Item = Line>) {
        self.lines.put_back(lines);
    }

    /// Returns the next lines, at most `most` of them: those that are there when the sender pauses. Empty at the end.
    ///
    /// # Errors
    /// When the body breaks off. Complete lines read before that are returned first.
    pub async fn next(&mut self, most: usize) -> Result<Vec<Line>, BrokenOff> {
        while !self.ended && self.lines.ready.len() < most && self.lines.bytes < ENOUGH {
            let wait = if self.lines.ready.is_empty() { PATIENCE } else { LINGER };
            match tokio::time::timeout(wait, self.payload.next()).await {
                Ok(Some(Ok(chunk))) => self.lines.push(&chunk),
                Ok(Some(Err(_))) if self.lines.ready.is_empty() => return Err(BrokenOff::Gone),
                Ok(None) => {
                    self.ended = true;
                    self.lines.finish();
                }
                Err(_) if self.lines.ready.is_empty() => return Err(BrokenOff::Slow),
                Ok(Some(Err(_))) | Err(_) => break,
            }
        }
        Ok(self.lines.batch(most))
    }
}

#[cfg(test)]
mod tests {
    use actix_web::error::PayloadError;
    use actix_web::test::TestRequest;
    use actix_web::{FromRequest, dev};
    use futures_util::stream;
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<Line> {
        let mut lines = Lines::default();
        for chunk in chunks {
            lines.push(chunk);
        }
        lines.finish();
        lines.batch(usize::MAX)
    }

    fn text(line: &str) -> Line {
        Line::Text(Bytes::from(line.to_owned()))
    }

    #[test]
    fn line_endings_of_both_kinds_and_empty_lines_are_understood() {
        assert_eq!(split(&[b"a\r\n\n  \r\nb\nc"]), [text("a"), text("b"), text("c")]);
        assert_eq!(split(&[b"a\r", b"\nb\r"]), [text("a"), text("b")]);
        assert_eq!(split(&[b"", b"\n\n"]), []);
    }

    #[test]
    fn a_line_that_is_too_long_takes_no_room_and_no_other_with_it() {
        let mut lines = Lines::default();
        lines.push(b"a\n");
        for _ in 0..100 {
            lines.push(&[b'x'; 100_000]);
            assert!(lines.rest.len() <= LONGEST + 1);
        }
        lines.push(b"\nb\n");
        assert_eq!(lines.batch(9), [text("a"), Line::TooLong, text("b")]);
        let longest = "y".repeat(LONGEST);
        assert_eq!(split(&[longest.as_bytes(), b"\r\n"]), [text(&longest)]);
        assert_eq!(split(&[longest.as_bytes(), b"y\n", b"z"]), [Line::TooLong, text("z")]);
    }

    /// Returns a body of those pieces, after which its sender stays silent.
    async fn silent_after(pieces: &'static [&'static str]) -> Body {
        let pieces =
            stream::iter(pieces.iter().map(|piece| Ok::<_, PayloadError>(Bytes::from_static(piece.as_bytes()))));
        let mut payload = dev::Payload::from(pieces.chain(stream::pending()).boxed_local());
        let request = TestRequest::default().to_http_request();
        Body::new(Payload::from_request(&request, &mut payload).await.expect("a payload"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_is_silent_for_a_minute_counts_as_gone_after_its_lines_were_taken() {
        let mut body = silent_after(&["a\nb\nc"]).await;
        let started = Instant::now();
        assert_eq!(body.next(9).await, Ok(vec![text("a"), text("b")]));
        assert!(started.elapsed() < Duration::from_secs(1), "what is there isn't kept waiting");
        assert_eq!(body.next(9).await, Err(BrokenOff::Slow), "half a line is none");
        assert_eq!(started.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn lines_that_are_put_back_come_first_again() {
        let mut body = silent_after(&["a\nb\nc\nd\n"]).await;
        let mut lines = body.next(3).await.expect("lines");
        body.put_back(lines.drain(1..));
        assert_eq!(body.next(9).await, Ok(vec![text("b"), text("c"), text("d")]));
        assert_eq!(body.lines.bytes, 0);
    }

    proptest! {
        #[test]
        fn where_the_pieces_are_cut_makes_no_difference(body in "[ab\r\n]{0,40}", cuts in proptest::collection::vec(0usize..40, 0..6)) {
            let whole = split(&[body.as_bytes()]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(body.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([body.len()]) {
                pieces.push(&body.as_bytes()[from..cut]);
                from = cut;
            }
            prop_assert_eq!(split(&pieces), whole);
        }
    }
}
