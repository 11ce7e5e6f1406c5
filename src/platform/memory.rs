//! One memory budget for what requests make the process hold. It is divided into shares, so that one kind of request
//! can't take the capacity of another.
//!
//! Requests can't deadlock: each takes from a share at most once, and waits for the shares in one order only: its body
//! (`strangers`, `small_documents`, `documents` or `uploads`), its parsed body (`small_parsed` or `parsed`), its
//! processing (`cards` or `templates`), its answer (`answers`). A bulk takes capacity for itself and then for one batch
//! after the other; for a batch that it reads ahead it never waits. Each wait ends after [`PATIENCE`], and at most
//! [`MOST_WAITING`] requests may wait for a share.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a request waits for capacity.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How many requests may wait for a share; more are refused at once.
pub const MOST_WAITING: usize = 256;

const MIB: usize = 1024 * 1024;

/// The shares. The caches of [`crate::app::App`], and the one picture that is decoded at a time, are not part of it.
#[derive(Debug)]
pub struct MemoryBudget {
    /// Bodies of requests without a key: phones' registrations and logs.
    pub strangers: Share,
    /// Small JSON bodies as they arrive: those of most requests, which must not queue behind large ones.
    pub small_documents: Share,
    /// Other JSON bodies as they arrive.
    pub documents: Share,
    /// Pictures and archives, received and sent.
    pub uploads: Share,
    /// Parsed JSON bodies that are small.
    pub small_parsed: Share,
    /// Other parsed JSON bodies.
    pub parsed: Share,
    /// Requests that are being processed and hold a card or something of its size.
    pub cards: Share,
    /// The same for templates: slower and larger.
    pub templates: Share,
    /// Answers that are being made or sent.
    pub answers: Share,
    /// Bulks under way: the lines read of each.
    pub bulks: Share,
    /// Batches of their lines, being parsed, planned and stored.
    pub batches: Share,
}

impl Default for MemoryBudget {
    fn default() -> Self {
        Self {
            strangers: Share::new("bodies without a key", 8 * MIB),
            small_documents: Share::new("small bodies", 4 * MIB),
            documents: Share::new("bodies", 12 * MIB),
            uploads: Share::new("pictures and archives", 128 * MIB),
            small_parsed: Share::new("small parsed bodies", 16 * MIB),
            parsed: Share::new("parsed bodies", 48 * MIB),
            cards: Share::new("cards", 64 * MIB),
            templates: Share::new("templates", 64 * MIB),
            answers: Share::new("answers", 48 * MIB),
            bulks: Share::new("bulks", 96 * MIB),
            batches: Share::new("batches of lines", 64 * MIB),
        }
    }
}

/// The error that a share has no capacity left; names the share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much is held in memory for {0} just now")]
pub struct NoRoom(pub &'static str);

/// A part of the budget, counted in KiB.
#[derive(Debug)]
pub struct Share {
    name: &'static str,
    kib: u32,
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Capacity that is taken until this is dropped.
#[derive(Debug)]
pub struct Held(OwnedSemaphorePermit);

/// Counts a waiting request until it is dropped, also when the wait is cancelled.
struct Waiting<'s>(&'s AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Share {
    /// Makes a share of `bytes` bytes.
    pub fn new(name: &'static str, bytes: usize) -> Self {
        let kib = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
        Self { name, kib, free: Arc::new(Semaphore::new(kib as usize)), waiting: AtomicUsize::new(0) }
    }

    /// Returns the size in KiB. What is larger than the whole share takes all of it, so it is processed alone.
    fn kib(&self, bytes: usize) -> u32 {
        u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).clamp(1, self.kib)
    }

    /// Takes capacity for `bytes` bytes; waits for it in turn.
    ///
    /// # Errors
    /// When there is none in time, or too many requests wait already.
    pub async fn take(&self, bytes: usize) -> Result<Held, NoRoom> {
        if let Ok(held) = self.try_take(bytes) {
            return Ok(held);
        }
        let counted = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if counted >= MOST_WAITING {
            return Err(NoRoom(self.name));
        }
        let free = Arc::clone(&self.free).acquire_many_owned(self.kib(bytes));
        match tokio::time::timeout(PATIENCE, free).await {
            Ok(Ok(permit)) => Ok(Held(permit)),
            Ok(Err(_)) | Err(_) => Err(NoRoom(self.name)),
        }
    }

    /// Takes capacity for `bytes` bytes without waiting.
    ///
    /// # Errors
    /// When there is none.
    pub fn try_take(&self, bytes: usize) -> Result<Held, NoRoom> {
        let permit = Arc::clone(&self.free).try_acquire_many_owned(self.kib(bytes));
        permit.map(Held).map_err(|_| NoRoom(self.name))
    }

    /// Returns how many requests wait for capacity.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Returns how many bytes are free.
    pub fn free(&self) -> usize {
        self.free.available_permits() * 1024
    }

    /// Returns the size of the share in bytes.
    pub fn size(&self) -> usize {
        self.kib as usize * 1024
    }
}

impl Held {
    /// Returns to the share what is more than `bytes` bytes.
    pub fn shrink_to(&mut self, bytes: usize) {
        let surplus = self.0.num_permits().saturating_sub(bytes.div_ceil(1024));
        drop(self.0.split(surplus));
    }

    /// Adds capacity of the same share.
    pub fn add(&mut self, other: Self) {
        self.0.merge(other.0);
    }
}

/// The parser's limit on nesting.
const PARSED_DEPTH: usize = 128;

/// Returns how many bytes JSON takes at most once it is parsed, counted in one pass over the text. Measured on x86-64:
/// a value takes 72 bytes, and a list of one allocates space for four. What is nested deeper than the parser's limit
/// isn't counted: the parser stops there.
pub fn parsed_size(json: &[u8]) -> ParsedSize {
    let (mut in_text, mut escaped, mut depth) = (false, false, 0_usize);
    let (mut values, mut lists, mut objects) = (1, 0, 0);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b',' => values += 1,
            b'[' => (values, lists, depth) = (values + 1, lists + 1, depth + 1),
            b'{' => (values, objects, depth) = (values + 1, objects + 1, depth + 1),
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > PARSED_DEPTH {
            break;
        }
    }
    ParsedSize { values, bytes: 2 * json.len() + 160 * values + 320 * lists + 560 * objects }
}

/// The size of a JSON text once it is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParsedSize {
    /// The most values in it.
    pub values: usize,
    /// The most bytes that they take.
    pub bytes: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_finds_no_room_waits_a_while_and_what_is_given_back_is_had() {
        let share = Share::new("tests", 4 * 1024);
        let mut three = share.take(3 * 1024).await.expect("room");
        assert_eq!(share.take(2 * 1024).await.err(), Some(NoRoom("tests")));
        three.shrink_to(1024);
        assert_eq!(share.free(), 3 * 1024);
        let mut two = share.take(2 * 1024).await.expect("room");
        two.add(share.try_take(1).expect("the last"));
        assert_eq!((share.free(), share.try_take(1).err()), (0, Some(NoRoom("tests"))));
        drop((two, three));
        // A request larger than the share takes all of it.
        let all = share.take(usize::MAX).await.expect("all of it");
        assert_eq!(share.free(), 0);
        drop(all);
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_wait() {
        let share = Share::new("tests", 1024);
        let all = share.take(1).await.expect("room");
        let mut waiting: Vec<_> = (0..MOST_WAITING).map(|_| Box::pin(share.take(1))).collect();
        for waiting in &mut waiting {
            assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        }
        let begun = tokio::time::Instant::now();
        assert!(share.take(1).await.is_err() && begun.elapsed().is_zero(), "at once");
        waiting.pop();
        drop(all);
        assert!(share.take(1).await.is_err(), "others were first and hold on to it");
        drop(waiting);
        assert!(share.take(1).await.is_ok());
    }

    #[test]
    fn json_is_never_larger_than_was_thought() {
        assert_eq!(parsed_size("[".repeat(100_000).as_bytes()).values, 130, "the parser refuses it there");
        assert_eq!(parsed_size(br#"{"a,[{\"": "[,", "b": [1, 2]}"#).values, 5);
        // What the parser and the allocator use for it, by the sizes of what they hold.
        fn held(value: &serde_json::Value) -> usize {
            use serde_json::Value::{Array, Object, String};
            std::mem::size_of_val(value)
                + match value {
                    String(text) => text.len(),
                    Array(items) => {
                        let spare = items.capacity() - items.len();
                        items.iter().map(held).sum::<usize>() + spare * std::mem::size_of::<serde_json::Value>()
                    }
                    Object(map) => {
                        map.iter().map(|(name, value)| name.len() + 40 + held(value)).sum::<usize>() + 64 + 3 * 120
                    }
                    _ => 0,
                }
        }
        for unit in ["0,", "[0],", "[],", "{},", "{\"\":0},", "[[[0]]],", "\"\",", "\"long text\","] {
            let text = format!("[{}0]", unit.repeat(1000));
            let parsed: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let (thought, held) = (parsed_size(text.as_bytes()).bytes, held(&parsed));
            assert!(held <= thought, "{unit}: {held} of {thought}");
        }
    }
}
