//! A list of changes to one table that the kernel makes together.

use super::expression::{Expression, write_verdict};
use super::message::{Start, Writer, begin_message};
use super::{Family, SUBSYSTEM};
use crate::netlink::{ACK, APPEND, CREATE, REQUEST};

const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NFTABLES: u16 = 10;
const NEW_TABLE: u16 = SUBSYSTEM;
const DELETE_TABLE: u16 = SUBSYSTEM | 2;
const NEW_CHAIN: u16 = SUBSYSTEM | 3;
const DELETE_CHAIN: u16 = SUBSYSTEM | 5;
const NEW_RULE: u16 = SUBSYSTEM | 6;
const DELETE_RULE: u16 = SUBSYSTEM | 8;
const NEW_SET: u16 = SUBSYSTEM | 9;
const NEW_ELEMENTS: u16 = SUBSYSTEM | 12;
const DELETE_ELEMENTS: u16 = SUBSYSTEM | 14;

/// Data type number of verdicts.
const VERDICT_TYPE: u32 = 0xffff_ff00;

/// The attribute of an element that holds the end of its range.
pub(super) const KEY_END: u16 = 10;

/// Flags of sets of ranges: intervals, of concatenated fields.
const RANGES: u32 = 0x4 | 0x80;

/// Lists of elements are cut before their length overflows 16 bits.
const LONGEST_LIST: usize = 60_000;

/// Where the packets of a base chain come from, and when it sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hook {
    /// What the chain may do.
    pub kind: ChainKind,
    /// The point on a packet's way.
    pub point: HookPoint,
    /// Chains of lower priority see packets first.
    pub priority: i32,
}

/// What a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Accept, drop, reject.
    Filter,
    /// Rewrite addresses; sees only the first packet of each connection.
    Nat,
}

/// A point on a packet's way through the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HookPoint {
    /// Everything that arrives.
    Prerouting,
    /// What is for this host.
    Input,
    /// What passes through.
    Forward,
    /// What this host sends.
    Output,
    /// Everything that leaves.
    Postrouting,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Passes this hook.
    Accept,
    /// Disappears.
    Drop,
    /// Goes on in another chain, and comes back after its end.
    Jump(String),
    /// Goes on in another chain, and does not come back.
    Goto(String),
}

/// What a set holds. Types are nf_tables' numbers, so that `nft list` shows elements readably.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SetKind {
    /// Type of the key, concatenations as `nft` numbers them.
    pub key_type: u32,
    /// Bytes of the key.
    pub key_length: u32,
    /// What a key leads to.
    pub value: Value,
    /// Packets add elements, which expire.
    pub dynamic: bool,
}

/// What a key leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Nothing: a set.
    None,
    /// Bytes.
    Data {
        /// Type as `nft` numbers it.
        kind: u32,
        /// Bytes of each value.
        length: u32,
    },
    /// A verdict.
    Verdict,
}

/// Changes to one table. They are made in order, and seen by packets at one instant.
#[derive(Debug, Clone)]
pub struct Batch {
    family: Family,
    table: String,
    writer: Writer,
    names: Vec<String>,
    finished: bool,
}

impl Batch {
    /// An empty list of changes.
    pub fn new(family: Family, table: &str) -> Self {
        let mut batch = Self {
            family,
            table: table.to_owned(),
            writer: Writer::default(),
            names: Vec::new(),
            finished: false,
        };
        batch.envelope(BATCH_BEGIN);
        batch
    }

    /// Whether no change was added.
    pub fn is_empty(&self) -> bool {
        self.names.len() <= 1
    }

    /// Makes the table if it is missing.
    pub fn create_table(&mut self) {
        let table = self.table.clone();
        self.message(NEW_TABLE, CREATE, "create table", |writer| {
            writer.text(1, &table);
            writer.number(2, 0);
        });
    }

    /// Removes the table, which must exist.
    pub fn delete_table(&mut self) {
        let table = self.table.clone();
        self.message(DELETE_TABLE, 0, "delete table", |writer| writer.text(1, &table));
    }

    /// Makes a chain if it is missing; with a hook, packets enter it there.
    pub fn create_chain(&mut self, name: &str, hook: Option<Hook>) {
        let table = self.table.clone();
        self.message(NEW_CHAIN, CREATE, &format!("create chain {name}"), |writer| {
            writer.text(1, &table);
            writer.text(3, name);
            if let Some(hook) = hook {
                writer.nested(4, |writer| {
                    writer.number(1, hook.point as u32);
                    writer.raw(2, &hook.priority.to_be_bytes());
                });
                writer.number(5, 1);
                writer.text(7, if hook.kind == ChainKind::Nat { "nat" } else { "filter" });
            }
        });
    }

    /// Removes a chain that no rule or element leads to.
    pub fn delete_chain(&mut self, name: &str) {
        let table = self.table.clone();
        self.message(DELETE_CHAIN, 0, &format!("delete chain {name}"), |writer| {
            writer.text(1, &table);
            writer.text(3, name);
        });
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, name: &str) {
        let table = self.table.clone();
        self.message(DELETE_RULE, 0, &format!("flush chain {name}"), |writer| {
            writer.text(1, &table);
            writer.text(2, name);
        });
    }

    /// Adds a rule at the end of a chain.
    pub fn add_rule(&mut self, chain: &str, rule: &[Expression<'_>]) {
        let (table, family) = (self.table.clone(), self.family);
        self.message(NEW_RULE, CREATE | APPEND, &format!("add rule to {chain}"), |writer| {
            writer.text(1, &table);
            writer.text(2, chain);
            writer.nested(4, |writer| {
                for expression in rule {
                    writer.nested(1, |writer| expression.write(family, writer));
                }
            });
        });
    }

    /// Makes a set or map if it is missing.
    pub fn create_set(&mut self, name: &str, kind: SetKind) {
        self.create_set_of(name, kind, &[]);
    }

    /// Makes a set or map of ranges if it is missing; `fields` are the bytes of each of its key's at
    /// least two fields. A range holds a key when each of its fields does.
    pub fn create_ranges(&mut self, name: &str, kind: SetKind, fields: &[u32]) {
        self.create_set_of(name, kind, fields);
    }

    fn create_set_of(&mut self, name: &str, kind: SetKind, fields: &[u32]) {
        let (table, id) = (self.table.clone(), u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        self.message(NEW_SET, CREATE, &format!("create set {name}"), |writer| {
            writer.text(1, &table);
            writer.text(2, name);
            writer.number(3, set_flags(kind) | if fields.is_empty() { 0 } else { RANGES });
            writer.number(4, kind.key_type);
            writer.number(5, kind.key_length);
            match kind.value {
                Value::None => {}
                Value::Data { kind, length } => {
                    writer.number(6, kind);
                    writer.number(7, length);
                }
                Value::Verdict => writer.number(6, VERDICT_TYPE),
            }
            if !fields.is_empty() {
                writer.nested(9, |writer| writer.nested(2, |writer| write_fields(writer, fields)));
            }
            writer.number(10, id);
        });
    }

    /// Adds elements to a set or, with values, to a map.
    pub fn add_elements<'a>(
        &mut self,
        set: &str,
        elements: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) {
        self.elements(NEW_ELEMENTS, CREATE, set, elements, |writer, (key, value)| {
            write_data(writer, 1, key);
            if let Some(value) = value {
                write_data(writer, 2, value);
            }
        });
    }

    /// Adds an element to a verdict map.
    pub fn add_verdict(&mut self, map: &str, key: &[u8], verdict: &Verdict) {
        self.add_verdicts(map, [(key, verdict)]);
    }

    /// Adds elements to a verdict map.
    pub fn add_verdicts<'a>(
        &mut self,
        map: &str,
        elements: impl IntoIterator<Item = (&'a [u8], &'a Verdict)>,
    ) {
        self.elements(NEW_ELEMENTS, CREATE, map, elements, |writer, (key, verdict)| {
            write_data(writer, 1, key);
            writer.nested(2, |writer| write_verdict(writer, verdict));
        });
    }

    /// Adds ranges, both ends in them, to a verdict map of ranges. They must not overlap.
    pub fn add_verdict_ranges<'a>(
        &mut self,
        map: &str,
        ranges: impl IntoIterator<Item = ([&'a [u8]; 2], &'a Verdict)>,
    ) {
        self.elements(NEW_ELEMENTS, CREATE, map, ranges, |writer, ([first, last], verdict)| {
            write_data(writer, 1, first);
            writer.nested(2, |writer| write_verdict(writer, verdict));
            write_data(writer, KEY_END, last);
        });
    }

    /// Adds ranges, both ends in them, to a set of ranges. They must not overlap.
    pub fn add_ranges<'a>(&mut self, set: &str, ranges: impl IntoIterator<Item = [&'a [u8]; 2]>) {
        self.elements(NEW_ELEMENTS, CREATE, set, ranges, |writer, [first, last]| {
            write_data(writer, 1, first);
            write_data(writer, KEY_END, last);
        });
    }

    /// Removes ranges, which must exist, from a map of ranges.
    pub fn delete_ranges<'a>(&mut self, map: &str, ranges: impl IntoIterator<Item = [&'a [u8]; 2]>) {
        self.elements(DELETE_ELEMENTS, 0, map, ranges, |writer, [first, last]| {
            write_data(writer, 1, first);
            write_data(writer, KEY_END, last);
        });
    }

    /// Removes elements, which must exist, by their keys.
    pub fn delete_elements<'a>(&mut self, set: &str, keys: impl IntoIterator<Item = &'a [u8]>) {
        self.elements(DELETE_ELEMENTS, 0, set, keys, |writer, key| write_data(writer, 1, key));
    }

    /// Removes all elements of a set or map.
    pub fn flush_set(&mut self, set: &str) {
        let table = self.table.clone();
        self.message(DELETE_ELEMENTS, 0, &format!("flush set {set}"), |writer| {
            writer.text(1, &table);
            writer.text(2, set);
        });
    }

    /// Marks the end; nothing can be added later.
    pub fn finish(mut self) -> Self {
        if !self.finished {
            self.envelope(BATCH_END);
            self.finished = true;
        }
        self
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.writer.bytes()
    }

    /// What the change with this sequence number was to do.
    pub(super) fn describe(&self, sequence: u32) -> String {
        let what = usize::try_from(sequence).ok().and_then(|index| self.names.get(index));
        format!("table {}: {}", self.table, what.map_or("commit", String::as_str))
    }

    fn elements<E>(
        &mut self,
        kind: u16,
        flags: u16,
        set: &str,
        elements: impl IntoIterator<Item = E>,
        mut write: impl FnMut(&mut Writer, E),
    ) {
        let verb = if kind == NEW_ELEMENTS { "add elements to" } else { "delete elements of" };
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            let table = self.table.clone();
            self.message(kind, flags, &format!("{verb} {set}"), |writer| {
                writer.text(1, &table);
                writer.text(2, set);
                let list = writer.begin_nested(3);
                while writer.since(list) < LONGEST_LIST
                    && let Some(element) = elements.next()
                {
                    writer.nested(1, |writer| write(writer, element));
                }
                writer.end_nested(list);
            });
        }
    }

    fn message(&mut self, kind: u16, flags: u16, what: &str, content: impl FnOnce(&mut Writer)) {
        debug_assert!(!self.finished, "nothing is added after the end");
        let start = self.begin(kind, REQUEST | flags, self.family.number(), 0, what);
        content(&mut self.writer);
        self.writer.end_message(start);
    }

    fn envelope(&mut self, kind: u16) {
        let flags = if kind == BATCH_END { REQUEST } else { REQUEST | ACK };
        let start = self.begin(kind, flags & !ACK, 0, NFTABLES, "commit");
        self.writer.end_message(start);
    }

    fn begin(&mut self, kind: u16, flags: u16, family: u8, resource: u16, what: &str) -> Start {
        let sequence = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        self.names.push(what.to_owned());
        begin_message(&mut self.writer, kind, flags, family, resource, sequence)
    }
}

fn set_flags(kind: SetKind) -> u32 {
    let map = if kind.value == Value::None { 0 } else { 0x8 };
    let dynamic = if kind.dynamic { 0x10 | 0x20 } else { 0 };
    map | dynamic
}

fn write_fields(writer: &mut Writer, fields: &[u32]) {
    for length in fields {
        writer.nested(1, |writer| writer.number(1, *length));
    }
}

fn write_data(writer: &mut Writer, kind: u16, bytes: &[u8]) {
    writer.nested(kind, |writer| writer.raw(1, bytes));
}
