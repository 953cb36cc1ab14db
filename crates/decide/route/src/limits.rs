//! How much one client may ask for, as nginx's `limit_req` (without delay) and `limit_conn` count it.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::client::within;

/// Milliseconds from one refusal of a client to the next, and how long one waits for its turn at most. A client that asks
/// again at once would else have the processor for itself.
const PACE: u64 = 1;
const LONGEST: u64 = 1_000;

/// Clients that a ledger remembers at most; those that ask for nothing are forgotten first.
const MOST: usize = 16_384;

/// The limits of an Ingress, for each client address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests under way at once.
    pub connections: Option<u32>,
    /// Requests a second.
    pub per_second: Option<Rate>,
    /// Requests a minute.
    pub per_minute: Option<Rate>,
    /// Who is not counted.
    pub exempt: Vec<IpNet>,
}

/// A rate, and how far a client may run ahead of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests in the time.
    pub amount: u32,
    /// Requests that may come early.
    pub burst: u32,
}

impl Limits {
    /// Whether anything is limited.
    pub fn any(&self) -> bool {
        self.connections.is_some() || self.per_second.is_some() || self.per_minute.is_some()
    }

    /// Whether this client is counted.
    pub fn count(&self, client: IpAddr) -> bool {
        !within(&self.exempt, client)
    }
}

/// How far a client is ahead of a rate. One request is as many units as the rate's time has milliseconds, so that
/// each millisecond takes back exactly `amount` units.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    excess: u64,
}

impl Bucket {
    /// How far ahead the client is with one request more; none if that is too far.
    fn with_one(self, rate: Rate, millis: u64, elapsed: u64) -> Option<u64> {
        let back = elapsed.saturating_mul(rate.amount.into());
        let excess = (self.excess + millis).saturating_sub(back);
        (excess <= u64::from(rate.burst) * millis).then_some(excess)
    }

    /// Whether the next request is counted as a first one is.
    fn is_fresh(self, rate: Option<Rate>, millis: u64, elapsed: u64) -> bool {
        rate.is_none_or(|rate| self.excess + millis <= elapsed.saturating_mul(rate.amount.into()))
    }
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60_000;

#[derive(Clone, Copy, Debug)]
struct Client {
    /// Milliseconds, of the last request that passed.
    last: u64,
    second: Bucket,
    minute: Bucket,
    connections: u32,
    /// Milliseconds, of the last refusal.
    refused: u64,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// It passes.
    Passes,
    /// It is one too many, which the client is told after so many milliseconds.
    Refused(u64),
}

impl Client {
    /// The turn of one more refusal.
    fn refuse(&mut self, now: u64) -> Entry {
        self.refused = (self.refused + PACE).clamp(now, now + LONGEST);
        Entry::Refused(self.refused - now)
    }

    fn is_idle(&self, limits: &Limits, now: u64) -> bool {
        let elapsed = now.saturating_sub(self.last);
        self.connections == 0
            && self.refused < now
            && self.second.is_fresh(limits.per_second, SECOND, elapsed)
            && self.minute.is_fresh(limits.per_minute, MINUTE, elapsed)
    }
}

/// What the clients of an Ingress asked for lately.
#[derive(Clone, Debug)]
pub struct Ledger {
    clients: HashMap<IpAddr, Client>,
    /// With so many clients the idle ones are forgotten.
    sweep_at: usize,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { clients: HashMap::new(), sweep_at: 64 }
    }
}

impl Ledger {
    /// Counts a request at a time in milliseconds, or says that it is one too many, which counts for no limit. Each
    /// request that passed has to [`Self::leave`].
    pub fn enter(&mut self, limits: &Limits, client: IpAddr, now: u64) -> Entry {
        if self.clients.len() >= self.sweep_at {
            self.sweep(limits, now);
        }
        let Some(known) = self.clients.get_mut(&client) else {
            if limits.connections == Some(0) {
                return Entry::Refused(0);
            }
            let (second, minute) = Default::default();
            let first = Client { last: now, second, minute, connections: 1, refused: 0 };
            self.clients.insert(client, first);
            return Entry::Passes;
        };
        if limits.connections.is_some_and(|most| known.connections >= most) {
            return known.refuse(now);
        }
        let elapsed = now.saturating_sub(known.last);
        let count = |rate: Option<Rate>, bucket: Bucket, millis| match rate {
            Some(rate) => bucket.with_one(rate, millis, elapsed),
            None => Some(0),
        };
        let second = count(limits.per_second, known.second, SECOND);
        let minute = count(limits.per_minute, known.minute, MINUTE);
        let (Some(second), Some(minute)) = (second, minute) else { return known.refuse(now) };
        known.second.excess = second;
        known.minute.excess = minute;
        known.last = known.last.max(now);
        known.connections += 1;
        Entry::Passes
    }

    /// A request that passed is over.
    pub fn leave(&mut self, client: IpAddr) {
        if let Some(known) = self.clients.get_mut(&client) {
            known.connections = known.connections.saturating_sub(1);
        }
    }

    /// How many clients are remembered.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Whether nobody is remembered.
    pub fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    fn sweep(&mut self, limits: &Limits, now: u64) {
        self.clients.retain(|_, client| !client.is_idle(limits, now));
        if self.clients.len() >= MOST {
            // Too many to remember: those with nothing under way start anew.
            self.clients.retain(|_, client| client.connections > 0);
        }
        self.sweep_at = (self.clients.len() * 2).clamp(64, MOST.max(self.clients.len() + 64));
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(1, 1, 1, 1));

    fn limits(connections: Option<u32>, second: Option<(u32, u32)>, minute: Option<(u32, u32)>) -> Limits {
        let rate = |(amount, burst)| Rate { amount, burst };
        Limits {
            connections,
            per_second: second.map(rate),
            per_minute: minute.map(rate),
            exempt: vec!["10.0.0.0/8".parse().unwrap()],
        }
    }

    #[test]
    fn rates_with_bursts() {
        // Limits; (time, requests at that time, how many pass).
        type Row = (Limits, &'static [(u64, usize, usize)]);
        let table: [Row; 6] = [
            // The first, and as many as the burst; then one for each 1/10 s.
            (limits(None, Some((10, 50)), None), &[(0, 100, 51), (99, 5, 0), (100, 5, 1), (1100, 20, 10)]),
            (limits(None, Some((10, 50)), None), &[(0, 51, 51), (60_000, 100, 51)]),
            (limits(None, Some((1, 0)), None), &[(0, 2, 1), (999, 1, 0), (1000, 2, 1)]),
            (limits(None, None, Some((6, 1))), &[(0, 5, 2), (9_999, 1, 0), (10_000, 2, 1), (19_000, 1, 0)]),
            // The stricter one counts, and what it refuses costs nothing.
            (
                limits(None, Some((10, 0)), Some((60, 2))),
                &[(0, 1, 1), (100, 1, 1), (200, 1, 1), (300, 9, 0), (1000, 1, 1)],
            ),
            // A clock that goes back takes nothing back.
            (limits(None, Some((1, 1)), None), &[(5000, 3, 2), (1000, 1, 0), (6000, 1, 1)]),
        ];
        for (index, (limits, steps)) in table.into_iter().enumerate() {
            let mut ledger = Ledger::default();
            for (now, asked, expected) in steps {
                let passed =
                    (0..*asked).filter(|_| ledger.enter(&limits, ONE, *now) == Entry::Passes).count();
                assert_eq!(passed, *expected, "row {index} at {now}");
            }
        }
    }

    #[test]
    fn connections_are_those_under_way() {
        let limits = limits(Some(2), None, None);
        let mut ledger = Ledger::default();
        let other = "2.2.2.2".parse().unwrap();
        let passes = |ledger: &mut Ledger, client| ledger.enter(&limits, client, 0) == Entry::Passes;
        assert!(passes(&mut ledger, ONE) && passes(&mut ledger, ONE));
        assert!(!passes(&mut ledger, ONE) && passes(&mut ledger, other));
        ledger.leave(ONE);
        assert!(passes(&mut ledger, ONE) && !passes(&mut ledger, ONE));
        assert!(limits.count(ONE) && !limits.count("10.1.2.3".parse().unwrap()));
    }

    #[test]
    fn refusals_take_turns() {
        let limits = limits(None, Some((1, 0)), None);
        let mut ledger = Ledger::default();
        assert_eq!(ledger.enter(&limits, ONE, 10), Entry::Passes);
        // The time, how many ask, and how long the first and the last of them wait.
        for (now, asked, first, last) in [
            (10, 3, 0, 2),
            (11, 1, 2, 2),
            (100, 1, 0, 0),
            (100, 2_000, 1, 1_000),
            (600, 2, 501, 502),
            (600, 999, 503, 1_000),
        ] {
            let waits: Vec<_> = (0..asked).map(|_| ledger.enter(&limits, ONE, now)).collect();
            let ends = (waits.first().copied(), waits.last().copied());
            assert_eq!(ends, (Some(Entry::Refused(first)), Some(Entry::Refused(last))), "{asked} at {now}");
        }
        assert_eq!(
            ledger.enter(&limits, "2.2.2.2".parse().unwrap(), 600),
            Entry::Passes,
            "others do not wait"
        );
    }

    #[test]
    fn idle_clients_are_forgotten_and_their_number_is_bounded() {
        let limits = limits(None, Some((10, 10)), None);
        let mut ledger = Ledger::default();
        let client = |number: u32| IpAddr::from(number.to_be_bytes());
        for number in 0..1_000_u32 {
            ledger.enter(&limits, client(number), u64::from(number) * 10);
            ledger.leave(client(number));
        }
        assert!(ledger.len() <= 64, "{}", ledger.len());
        for number in 0..100_000 {
            ledger.enter(&limits, client(number), 20_000);
            ledger.leave(client(number));
        }
        assert!(ledger.len() <= MOST, "{}", ledger.len());
    }
}
