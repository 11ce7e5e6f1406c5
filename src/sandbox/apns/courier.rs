//! Delivers pushes from the simulated service to its phones: at once when connected, else when they connect next.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// The most pushes kept for phones that are away, over all phones.
const STORED_LIMIT: usize = 10_000;

/// The most pushes waiting for one connected phone that doesn't read.
const MAILBOX_LIMIT: usize = 256;

/// A map of bounded size that forgets the oldest entry.
#[derive(Debug)]
pub(super) struct Newest<K, V> {
    limit: usize,
    next: u64,
    by_key: HashMap<K, (u64, V)>,
    by_age: BTreeMap<u64, K>,
}

impl<K: Clone + Eq + Hash, V> Newest<K, V> {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, next: 0, by_key: HashMap::new(), by_age: BTreeMap::new() }
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.by_key.get(key).map(|(_, value)| value)
    }

    /// Adds an entry or makes it the newest.
    pub(super) fn insert(&mut self, key: K, value: V) {
        self.remove(&key);
        self.by_age.insert(self.next, key.clone());
        self.by_key.insert(key, (self.next, value));
        self.next += 1;
        if self.by_key.len() > self.limit
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_key.remove(&oldest);
        }
    }

    pub(super) fn remove(&mut self, key: &K) {
        if let Some((age, _)) = self.by_key.remove(key) {
            self.by_age.remove(&age);
        }
    }

    /// Returns the matching keys, oldest first. Scans every entry.
    fn matching(&self, fits: impl Fn(&K) -> bool) -> Vec<K> {
        self.by_age.values().filter(|key| fits(key)).cloned().collect()
    }
}

/// The pushes waiting for one connected phone.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    topics: VecDeque<String>,
    closed: bool,
}

impl Mailbox {
    fn put(&self, topic: &str) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.topics.len() >= MAILBOX_LIMIT {
            // A push only asks the phone to check for changes, so a second one for the same topic adds nothing.
            if waiting.topics.iter().any(|known| known == topic) {
                return;
            }
            waiting.topics.pop_front();
        }
        waiting.topics.push_back(topic.to_owned());
        drop(waiting);
        self.changed.notify_one();
    }

    fn close(&self) -> VecDeque<String> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.closed = true;
        let left = std::mem::take(&mut waiting.topics);
        drop(waiting);
        self.changed.notify_one();
        left
    }

    /// Returns the next topic; `None` once the service has stopped. For one reader.
    pub(super) async fn next(&self) -> Option<String> {
        loop {
            {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(topic) = waiting.topics.pop_front() {
                    return Some(topic);
                }
                if waiting.closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }
}

/// All phones of the service, connected or not. Tokens are in lower case.
#[derive(Debug)]
pub(super) struct Courier {
    next: u64,
    connected: HashMap<String, Vec<(u64, Arc<Mailbox>)>>,
    stored: Newest<(String, String), ()>,
    closed: bool,
}

impl Courier {
    pub(super) fn new() -> Self {
        Self { next: 0, connected: HashMap::new(), stored: Newest::new(STORED_LIMIT), closed: false }
    }

    /// Delivers a push to every connection of the device; when there is none, keeps it as `keep` says.
    pub(super) fn deliver(&mut self, token: &str, topic: &str, keep: Keep) {
        match (self.connected.get(token), keep) {
            (Some(boxes), _) => boxes.iter().for_each(|(_, mailbox)| mailbox.put(topic)),
            (None, Keep::UntilConnected) => self.stored.insert((token.to_owned(), topic.to_owned()), ()),
            (None, Keep::Never) => {}
        }
    }

    /// Connects a device and hands over the pushes kept for it.
    pub(super) fn connect(&mut self, token: &str) -> (u64, Arc<Mailbox>) {
        let mailbox = Arc::new(Mailbox::default());
        if self.closed {
            mailbox.close();
            return (0, mailbox);
        }
        for key in self.stored.matching(|(kept, _)| kept == token) {
            mailbox.put(&key.1);
            self.stored.remove(&key);
        }
        self.next += 1;
        self.connected.entry(token.to_owned()).or_default().push((self.next, Arc::clone(&mailbox)));
        (self.next, mailbox)
    }

    /// Ends a connection; pushes that the phone didn't read are kept for its next one.
    pub(super) fn disconnect(&mut self, token: &str, id: u64) {
        let Some(boxes) = self.connected.get_mut(token) else { return };
        let Some(position) = boxes.iter().position(|(own, _)| *own == id) else { return };
        let (_, mailbox) = boxes.swap_remove(position);
        if !boxes.is_empty() {
            return;
        }
        self.connected.remove(token);
        for topic in mailbox.close() {
            self.stored.insert((token.to_owned(), topic), ());
        }
    }

    /// Ends every connection for good.
    pub(super) fn close(&mut self) {
        self.closed = true;
        for (_, mailbox) in self.connected.drain().flat_map(|(_, boxes)| boxes) {
            mailbox.close();
        }
    }
}

/// Whether a push is kept for a phone that is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Kept until the phone connects.
    UntilConnected,
    /// Not kept: `apns-expiration: 0` asks for a single attempt.
    Never,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(mailbox: &Mailbox) -> Vec<String> {
        mailbox.close().into()
    }

    #[test]
    fn the_oldest_entry_makes_room_and_a_renewed_one_is_young() {
        let mut map = Newest::new(2);
        map.insert("a", 1);
        map.insert("b", 2);
        map.insert("a", 3);
        map.insert("c", 4);
        assert_eq!((map.get(&"a"), map.get(&"b"), map.get(&"c")), (Some(&3), None, Some(&4)));
        assert_eq!((map.by_key.len(), map.by_age.len()), (2, 2));
    }

    #[test]
    fn what_a_phone_did_not_read_waits_for_its_next_connection() {
        let mut courier = Courier::new();
        let (id, _first) = courier.connect("aa");
        courier.deliver("aa", "pass.x", Keep::Never);
        courier.deliver("aa", "pass.x", Keep::Never);
        courier.disconnect("aa", id);
        assert_eq!(drain(&courier.connect("aa").1), ["pass.x"]);
    }

    #[test]
    fn every_connection_of_a_device_hears_a_push() {
        let mut courier = Courier::new();
        let boxes = [courier.connect("aa").1, courier.connect("aa").1];
        courier.deliver("aa", "pass.x", Keep::UntilConnected);
        assert_eq!(boxes.map(|mailbox| drain(&mailbox)), [["pass.x"], ["pass.x"]]);
    }

    #[test]
    fn a_phone_that_never_reads_costs_bounded_memory() {
        let mut courier = Courier::new();
        let (_, mailbox) = courier.connect("aa");
        for _ in 0..2 * MAILBOX_LIMIT {
            courier.deliver("aa", "pass.x", Keep::UntilConnected);
        }
        courier.deliver("aa", "pass.last", Keep::UntilConnected);
        let waiting = drain(&mailbox);
        assert_eq!((waiting.len(), waiting.last().map(String::as_str)), (MAILBOX_LIMIT, Some("pass.last")));
    }
}
