//! Limits on log lines that strangers can cause.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::domain::time::Timestamp;

/// A limit on log lines of one kind per minute. Further lines are counted, and the next line that is written gives
/// their number. It is kept in this node's memory, since it protects this node's disk.
#[derive(Debug)]
pub struct LogLines {
    most: u32,
    minute: Mutex<Minute>,
}

#[derive(Debug)]
struct Minute {
    began: Timestamp,
    written: u32,
    left_out: u64,
}

impl LogLines {
    /// Makes a limit of `most` lines per minute.
    pub fn new(most: u32) -> Self {
        let minute = Minute { began: Timestamp::from_seconds(0), written: 0, left_out: 0 };
        Self { most, minute: Mutex::new(minute) }
    }

    /// Counts a line. Returns `None` when it must not be written, otherwise the number of lines left out before it.
    pub fn next(&self, now: Timestamp) -> Option<u64> {
        let mut minute = self.minute.lock().unwrap_or_else(PoisonError::into_inner);
        if now < minute.began || now.since(minute.began) >= Duration::from_secs(60) {
            minute.began = now;
            minute.written = 0;
        }
        if minute.written >= self.most {
            minute.left_out += 1;
            return None;
        }
        minute.written += 1;
        Some(std::mem::take(&mut minute.left_out))
    }
}

/// The kinds of log lines that strangers can cause.
#[derive(Debug)]
pub struct StrangersLines {
    /// Log entries that phones send.
    pub reports: LogLines,
    /// Outcomes of pushes to tokens that anybody may register.
    pub pushes: LogLines,
    /// Requests that failed because of us.
    pub failures: LogLines,
}

impl Default for StrangersLines {
    fn default() -> Self {
        Self { reports: LogLines::new(20), pushes: LogLines::new(60), failures: LogLines::new(60) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_exceeds_a_minutes_lines_is_counted_and_told_with_the_next_line() {
        let (lines, at) = (LogLines::new(3), Timestamp::from_seconds);
        let written: Vec<Option<u64>> = (0..1000).map(|_| lines.next(at(100))).collect();
        assert_eq!(written.iter().flatten().count(), 3);
        assert_eq!(lines.next(at(159)), None);
        assert_eq!(lines.next(at(160)), Some(998));
        assert_eq!(lines.next(at(160)), Some(0));
        assert_eq!(lines.next(at(10)), Some(0), "a clock that goes back begins a new minute");
    }
}
