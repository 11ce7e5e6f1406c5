//! The circuit breaker of a channel to a push service. It distinguishes a service that is down from a target that can't
//! be notified. Its decisions are pure: callers pass in the time.
//!
//! While a breaker is open, only one probe at a time is sent, and no target's own retries are counted: targets are not
//! at fault, and must not have to wait for hours when the service is back.

use std::time::Duration;

use crate::domain::time::Timestamp;

/// How many unwell answers in a row, with no good one between them, open the breaker.
const UNWELL_IN_A_ROW: u32 = 3;
/// The pause between two probes of a service that can't be reached.
const UNREACHABLE_PAUSE: Duration = Duration::from_secs(30);
/// The pause before the first probe of a service that says it is unwell; each further pause is twice as long.
const UNWELL_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause. Apple advises a quarter of an hour on 503 for each push; one probe in four minutes for all pushes
/// is far less load, and everything is sent soon after the service recovers.
const UNWELL_PAUSE_MOST: Duration = Duration::from_secs(4 * 60);

/// What may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Everything.
    Open,
    /// One push, to see whether the service is back.
    Probe,
    /// Nothing until that moment.
    Closed(Timestamp),
}

/// Why a push got no usable answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection could be made.
    Connect,
    /// A connection existed but no answer came, or it broke. `before` is [`Breaker::answers`] when the push was sent.
    NoAnswer {
        /// How many answers had come by then.
        before: u64,
    },
    /// The service answered that it is unwell.
    Unwell,
}

/// What is to blame for a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The service: the breaker is open.
    Service {
        /// Whether this failure opened it.
        opened: bool,
    },
    /// This push alone.
    Push,
}

#[derive(Debug, Clone)]
struct Pause {
    reason: String,
    since: Timestamp,
    unreachable: bool,
    probes: u32,
    probe_at: Timestamp,
    set_at: Timestamp,
}

/// The state of one channel to a push service.
#[derive(Debug, Clone, Default)]
pub struct Breaker {
    answers: u64,
    unwell: u32,
    pause: Option<Pause>,
}

impl Breaker {
    /// Returns how many answers have come so far.
    pub fn answers(&self) -> u64 {
        self.answers
    }

    /// Returns what may be sent at `now`.
    pub fn gate(&self, now: Timestamp) -> Gate {
        match &self.pause {
            None => Gate::Open,
            // Also a probe when the clock went back to before the moment at which the pause was set.
            Some(pause) if pause.probe_at <= now || pause.set_at > now => Gate::Probe,
            Some(pause) => Gate::Closed(pause.probe_at),
        }
    }

    /// Records that a probe is sent; the next one may follow after the pause.
    pub fn probing(&mut self, now: Timestamp) {
        if let Some(pause) = &mut self.pause {
            pause.probes += 1;
            pause.wait(now);
        }
    }

    /// Records an answer that shows the service is well, whatever it says about the push. Returns since when the
    /// service was away, if it was.
    pub fn answered(&mut self) -> Option<Timestamp> {
        self.answers += 1;
        self.unwell = 0;
        self.pause.take().map(|pause| pause.since)
    }

    /// Records that a push got no usable answer, and returns what is to blame.
    pub fn failed(&mut self, failure: Failure, reason: &str, now: Timestamp) -> Blame {
        let at_fault = match failure {
            Failure::Connect => true,
            // Other pushes were answered in the meantime: the channel works.
            Failure::NoAnswer { before } => self.answers == before,
            Failure::Unwell => {
                self.unwell += 1;
                self.unwell >= UNWELL_IN_A_ROW
            }
        };
        if let Some(pause) = &mut self.pause {
            reason.clone_into(&mut pause.reason);
            pause.unreachable = failure != Failure::Unwell;
            return Blame::Service { opened: false };
        }
        if !at_fault {
            return Blame::Push;
        }
        let unreachable = failure != Failure::Unwell;
        let mut pause =
            Pause { reason: reason.to_owned(), since: now, unreachable, probes: 0, probe_at: now, set_at: now };
        pause.wait(now);
        self.pause = Some(pause);
        Blame::Service { opened: true }
    }

    /// Returns since when only probes are sent, and why; `None` while everything is.
    pub fn trouble(&self) -> Option<(Timestamp, &str)> {
        self.pause.as_ref().map(|pause| (pause.since, pause.reason.as_str()))
    }
}

impl Pause {
    fn wait(&mut self, now: Timestamp) {
        let pause = match self.unreachable {
            true => UNREACHABLE_PAUSE,
            false => UNWELL_PAUSE.saturating_mul(1 << self.probes.min(8)).min(UNWELL_PAUSE_MOST),
        };
        self.set_at = now;
        self.probe_at = now.plus(pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_000_000 + seconds)
    }

    #[test]
    fn a_failed_connection_opens_it_and_probes_are_thirty_seconds_apart() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.failed(Failure::Connect, "refused", at(0)), Blame::Service { opened: true });
        assert_eq!(breaker.failed(Failure::Connect, "refused", at(1)), Blame::Service { opened: false });
        assert_eq!(breaker.gate(at(29)), Gate::Closed(at(30)));
        for probe in 1..100 {
            let now = at(probe * 30);
            assert_eq!(breaker.gate(now), Gate::Probe);
            breaker.probing(now);
            assert_eq!(breaker.gate(now.plus(Duration::from_secs(29))), Gate::Closed(at(probe * 30 + 30)));
            breaker.failed(Failure::Connect, "refused", now);
        }
        assert_eq!(breaker.trouble(), Some((at(0), "refused")));
        assert_eq!(breaker.answered(), Some(at(0)));
        assert_eq!(breaker.gate(at(3000)), Gate::Open);
    }

    #[test]
    fn silence_is_the_lines_fault_only_when_nobody_was_answered_meanwhile() {
        let mut breaker = Breaker::default();
        let before = breaker.answers();
        breaker.answered();
        assert_eq!(breaker.failed(Failure::NoAnswer { before }, "silence", at(0)), Blame::Push);
        let before = breaker.answers();
        assert_eq!(breaker.failed(Failure::NoAnswer { before }, "silence", at(0)), Blame::Service { opened: true });
    }

    #[test]
    fn a_service_that_is_unwell_is_probed_at_growing_pauses_up_to_four_minutes() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.failed(Failure::Unwell, "503", at(0)), Blame::Push);
        assert_eq!(breaker.failed(Failure::Unwell, "503", at(0)), Blame::Push);
        breaker.answered();
        for _ in 0..2 {
            assert_eq!(breaker.failed(Failure::Unwell, "503", at(0)), Blame::Push, "a good answer was between");
        }
        assert_eq!(breaker.failed(Failure::Unwell, "503", at(0)), Blame::Service { opened: true });
        let mut now = at(0);
        for pause in [30, 60, 120, 240, 240] {
            let next = now.plus(Duration::from_secs(pause));
            assert_eq!(breaker.gate(now), Gate::Closed(next));
            now = next;
            breaker.probing(now);
            breaker.failed(Failure::Unwell, "503", now);
        }
    }

    #[test]
    fn a_clock_that_goes_back_lets_the_next_probe_leave() {
        let mut breaker = Breaker::default();
        breaker.failed(Failure::Connect, "refused", at(10_000));
        assert_eq!(breaker.gate(at(0)), Gate::Probe);
    }
}
