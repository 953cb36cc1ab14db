//! Replies of other resolvers, for as long as they may be kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_netplan::dns::corefile::Caching;
use plimsoll_netplan::dns::record_lifetimes;
use tokio::time::Instant;

/// Replies in each of the two generations.
const GENERATION: usize = 5_000;

/// The lifetime that stale records are told to have, in seconds.
const STALE_LIFETIME: u32 = 30;

/// Longest reply that is kept, in bytes.
const LARGEST: usize = 8192;

/// What was asked: the question in lower case, and the flags that change the answer.
pub(crate) type Key = Box<[u8]>;

/// A bounded memory: when the young generation is full, it becomes the old one, and what was old and
/// not asked for again is gone.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    young: HashMap<Key, Arc<Entry>>,
    old: HashMap<Key, Arc<Entry>>,
}

#[derive(Debug)]
struct Entry {
    reply: Vec<u8>,
    lifetimes: Vec<usize>,
    stored: Instant,
    fresh: Duration,
    /// How long it may be told after its time when nobody can be asked (RFC 8767).
    stale: Duration,
}

/// A remembered reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// The message, its lifetimes counted down.
    pub(crate) reply: Vec<u8>,
    /// Whether it says that there is nothing.
    pub(crate) denial: bool,
}

impl Cache {
    /// The reply, its lifetimes counted down; nothing when there is none or its time is over.
    pub(crate) fn get(&mut self, key: &[u8], now: Instant) -> Option<Remembered> {
        let entry = self.find(key)?;
        let age = now.saturating_duration_since(entry.stored);
        let reply = || entry.aged(|lifetime| lifetime.saturating_sub(age.as_secs() as u32));
        (age < entry.fresh).then(|| Remembered { reply: reply(), denial: is_denial(&entry.reply) })
    }

    /// The reply although its time is over, unless that was too long ago.
    pub(crate) fn get_stale(&mut self, key: &[u8], now: Instant) -> Option<Vec<u8>> {
        let entry = self.find(key)?;
        let age = now.saturating_duration_since(entry.stored);
        (age < entry.fresh + entry.stale).then(|| entry.aged(|_| STALE_LIFETIME))
    }

    /// Keeps a reply, if it may be kept, within the limits.
    pub(crate) fn put(&mut self, key: Key, reply: &[u8], limits: Caching, now: Instant) {
        let kept = reply.len() <= LARGEST && is_lasting(reply);
        let Some((lifetimes, seconds)) = record_lifetimes(reply).filter(|(_, seconds)| kept && *seconds > 0)
        else {
            return;
        };
        let longest = if is_denial(reply) { limits.denial } else { limits.success };
        let fresh = Duration::from_secs(seconds.into()).min(longest);
        if !fresh.is_zero() {
            let stale = limits.stale;
            self.insert(key, Arc::new(Entry { reply: reply.to_vec(), lifetimes, stored: now, fresh, stale }));
        }
    }

    /// How many replies that name records are kept, and how many that say there are none.
    pub(crate) fn sizes(&self) -> (usize, usize) {
        let all = || self.young.values().chain(self.old.values());
        let denials = all().filter(|entry| is_denial(&entry.reply)).count();
        (all().count() - denials, denials)
    }

    fn find(&mut self, key: &[u8]) -> Option<Arc<Entry>> {
        if let Some(entry) = self.young.get(key) {
            return Some(entry.clone());
        }
        let (key, entry) = self.old.remove_entry(key)?;
        self.insert(key, entry.clone());
        Some(entry)
    }

    fn insert(&mut self, key: Key, entry: Arc<Entry>) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, entry);
    }
}

impl Entry {
    fn aged(&self, lifetime: impl Fn(u32) -> u32) -> Vec<u8> {
        let mut reply = self.reply.clone();
        for place in &self.lifetimes {
            if let Some(Ok(bytes)) = reply.get_mut(*place..place + 4).map(<&mut [u8; 4]>::try_from) {
                *bytes = lifetime(u32::from_be_bytes(*bytes)).to_be_bytes();
            }
        }
        reply
    }
}

/// Whether a reply says that there is no such name, or no such record.
fn is_denial(reply: &[u8]) -> bool {
    let without = reply.get(6..8) == Some(&[0, 0]);
    without || reply.get(3).is_some_and(|byte| byte & 0x0f == 3)
}

/// Whether a reply is whole and says something that will be true a moment later.
fn is_lasting(reply: &[u8]) -> bool {
    let (Some(flags), Some(rcode)) = (reply.get(2), reply.get(3).map(|byte| byte & 0x0f)) else {
        return false;
    };
    flags & 0x02 == 0 && (rcode == 0 || rcode == 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Caching = Caching {
        success: Duration::from_secs(300),
        denial: Duration::from_secs(30),
        stale: Duration::from_secs(3600),
    };

    fn found(cache: &mut Cache, key: &[u8], now: Instant) -> Option<Vec<u8>> {
        cache.get(key, now).map(|remembered| remembered.reply)
    }

    /// A reply without a question and with one address record.
    fn reply(lifetime: u32) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0x80, 0x80, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1];
        bytes.extend_from_slice(&lifetime.to_be_bytes());
        bytes.extend_from_slice(&[0, 4, 192, 0, 2, 1]);
        bytes
    }

    #[test]
    fn lifetimes_count_down_and_end() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        let key: Key = b"a".to_vec().into();
        cache.put(key.clone(), &reply(60), LIMITS, start);
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(found(&mut cache, &key, after(10)), Some(reply(50)));
        assert_eq!(found(&mut cache, &key, after(60)), None);
        assert_eq!(cache.get_stale(&key, after(600)), Some(reply(30)));
        assert_eq!(cache.get_stale(&key, after(3660)), None);
        assert_eq!(found(&mut cache, b"b", start), None);
        cache.put(key.clone(), &reply(0), LIMITS, after(4000));
        assert_eq!(found(&mut cache, &key, after(4000)), None, "not to be kept");
    }

    #[test]
    fn failures_and_cut_replies_are_not_kept() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for (index, byte) in [(2, 0x82), (3, 0x82), (3, 0x85)] {
            let mut bytes = reply(60);
            bytes[index] = byte;
            cache.put(b"a".to_vec().into(), &bytes, LIMITS, now);
            assert_eq!(found(&mut cache, b"a", now), None, "{index} {byte:x}");
        }
    }

    #[test]
    fn memory_is_bounded_and_what_is_asked_for_stays() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.put(b"wanted".to_vec().into(), &reply(300), LIMITS, now);
        for number in 0..3 * GENERATION {
            cache.put(number.to_string().into_bytes().into(), &reply(300), LIMITS, now);
            if number % 1000 == 0 {
                assert!(cache.get(b"wanted", now).is_some());
            }
        }
        assert!(cache.young.len() + cache.old.len() <= 2 * GENERATION);
        assert_eq!(found(&mut cache, b"0", now), None);
    }
}
