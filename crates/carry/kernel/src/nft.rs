//! Packet rules: nf_tables, spoken to directly.
//!
//! What enters: a [`Batch`] of changes to one table. What leaves: all of them
//! in the kernel at one instant, or none and the reason. No process is started
//! and no text is parsed, so a small change costs tens of microseconds.
//!
//! Keys and values of elements are bytes as the kernel's registers hold them:
//! each field starts at a multiple of four bytes and is padded with zeros.

mod batch;
mod conntrack;
mod expression;
mod message;
mod watch;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

pub use batch::{Batch, ChainKind, Hook, HookPoint, SetKind, Value, Verdict};
pub use conntrack::{Flow, forget_flows};
pub use expression::{
    Address, Comparison, Conntrack, Direction, Expression, Meta, Nat, PayloadBase, Register, Rejection,
};
use message::{Writer, begin_message};
pub use watch::{Disturbance, Watch};

use crate::netlink::{Conversation, DUMP, REQUEST, attributes};

const NETFILTER_FAMILY: isize = 12;
const SUBSYSTEM: u16 = 10 << 8;
const GET_TABLE: u16 = SUBSYSTEM | 1;
const GET_CHAIN: u16 = SUBSYSTEM | 4;
const GET_ELEMENTS: u16 = SUBSYSTEM | 13;

/// Largest batch in one request: 20,000 Services with two endpoints each fit several times.
const LARGEST_BATCH: usize = 64 << 20;

/// Walks over a set before giving up; the waits between them sum up to a second.
const ATTEMPTS: u32 = 10;

/// The packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4
    Ipv4,
    /// IPv6
    Ipv6,
}

impl Family {
    fn number(self) -> u8 {
        match self {
            Self::Ipv4 => 2,
            Self::Ipv6 => 10,
        }
    }
}

/// A conversation about the packet rules of one namespace: that of the thread which opened it.
#[derive(Debug)]
pub struct Tables {
    netlink: Conversation,
}

impl Tables {
    /// Opens a conversation about the calling thread's namespace.
    pub fn open() -> io::Result<Self> {
        let netlink = Conversation::open(NETFILTER_FAMILY)?;
        netlink.allow_requests_of(1 << 20)?;
        watch::note_own(netlink.number);
        Ok(Self { netlink })
    }

    /// Makes all changes of the batch at one instant, or none of them.
    ///
    /// The error names the first change that was refused.
    pub fn commit(&mut self, batch: &Batch) -> io::Result<()> {
        let bytes = batch.bytes();
        if bytes.len() > LARGEST_BATCH {
            return Err(io::Error::other(format!("a change of {} bytes of packet rules", bytes.len())));
        }
        if bytes.len() > 1 << 20 {
            self.netlink.allow_requests_of(bytes.len() + (64 << 10))?;
        }
        match self.netlink.send(bytes)?.into_iter().next() {
            None => Ok(()),
            Some(refusal) => {
                let what = batch.describe(refusal.sequence);
                let error = io::Error::from(refusal);
                Err(io::Error::new(error.kind(), format!("{what}: {error}")))
            }
        }
    }

    /// The names of all tables of a family.
    pub fn list(&mut self, family: Family) -> io::Result<Vec<String>> {
        self.at_rest(|tables| {
            let mut names = Vec::new();
            let request = tables.get(GET_TABLE, family, |_| {});
            tables.netlink.dump(&request, |message| {
                let body = message.body.get(4..).unwrap_or_default();
                let name = attributes(body).find(|(kind, _)| *kind == 1).map(|(_, value)| text(value));
                names.extend(name);
            })?;
            Ok(names)
        })
    }

    /// The names of a table's chains; none where there is no such table.
    pub fn chains(&mut self, family: Family, table: &str) -> io::Result<Vec<String>> {
        self.at_rest(|tables| {
            let mut names = Vec::new();
            let request = tables.get(GET_CHAIN, family, |_| {});
            tables.netlink.dump(&request, |message| {
                let body = message.body.get(4..).unwrap_or_default();
                let named =
                    |wanted| attributes(body).find(|(kind, _)| *kind == wanted).map(|(_, name)| text(name));
                if named(1).is_some_and(|name| name == table) {
                    names.extend(named(3));
                }
            })?;
            Ok(names)
        })
    }

    /// The elements of a set or map by key, of ranges by first and last key, one after the other; an error of kind `NotFound` when there is no such set.
    pub fn elements(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
    ) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        self.at_rest(|tables| tables.try_elements(family, table, set))
    }

    /// Walks again while what is walked over changes, which anybody's change of any table may do.
    fn at_rest<T>(&mut self, walk: impl Fn(&mut Self) -> io::Result<T>) -> io::Result<T> {
        for attempt in 0..ATTEMPTS {
            match walk(self) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                    std::thread::sleep(Duration::from_millis(1 << attempt));
                }
                outcome => return outcome,
            }
        }
        Err(io::Error::other("the packet rules do not come to rest"))
    }

    /// One walk over a set; an error of kind `Interrupted` when the set was rearranged meanwhile.
    ///
    /// The kernel grows its hash tables in the background. A walk of several
    /// reads that meets this tells some elements twice, and as many not at all.
    fn try_elements(
        &mut self,
        family: Family,
        table: &str,
        set: &str,
    ) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let (mut found, mut doubled) = (BTreeMap::new(), false);
        let request = self.get(GET_ELEMENTS, family, |writer| {
            writer.text(1, table);
            writer.text(2, set);
        });
        self.netlink.dump(&request, |message| {
            let body = message.body.get(4..).unwrap_or_default();
            for (_, list) in attributes(body).filter(|(kind, _)| *kind == 3) {
                for (key, value) in attributes(list).filter_map(|(_, element)| key_and_value(element)) {
                    doubled |= found.insert(key, value).is_some();
                }
            }
        })?;
        if doubled { Err(io::ErrorKind::Interrupted.into()) } else { Ok(found) }
    }

    fn get(&mut self, kind: u16, family: Family, attributes: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::default();
        let sequence = self.netlink.next_sequence();
        let message = begin_message(&mut writer, kind, REQUEST | DUMP, family.number(), 0, sequence);
        attributes(&mut writer);
        writer.end_message(message);
        writer.into_bytes()
    }
}

fn key_and_value(element: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let field = |wanted| {
        let (_, data) = attributes(element).find(|(kind, _)| *kind == wanted)?;
        attributes(data).find(|(kind, _)| *kind == 1).map(|(_, value)| value.to_vec())
    };
    let mut key = field(1)?;
    key.extend(field(batch::KEY_END).unwrap_or_default());
    Some((key, field(2).unwrap_or_default()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.strip_suffix(&[0]).unwrap_or(bytes)).into_owned()
}
