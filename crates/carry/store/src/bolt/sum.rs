//! The sum by which members of etcd are held against each other (`etcdctl endpoint hashkv`): of all versions up to a
//! revision, without those that compaction let go.

use std::collections::HashMap;

use plimsoll_mvcc::{EventKind, Revision};

use super::write::{item, rows};
use crate::StoreError;
use crate::disk::Disk;

/// What the rows up to a revision come to.
pub(crate) fn sum(disk: &Disk, compacted: Revision, upto: Revision) -> Result<u32, StoreError> {
    // Of what lies before the compaction only that counts which is still there.
    let mut kept = HashMap::new();
    let within = || {
        rows(disk).take_while(|row| row.as_ref().is_ok_and(|row| row.entry.modified <= upto) || row.is_err())
    };
    for row in within() {
        let row = row?;
        if row.kind == EventKind::Put && row.entry.modified <= compacted {
            kept.insert(row.entry.key, row.entry.modified);
        } else {
            kept.remove(&row.entry.key);
        }
    }
    let mut sum = Castagnoli::default();
    sum.add(b"key");
    for row in within() {
        let row = row?;
        if row.entry.modified > compacted || kept.get(&row.entry.key) == Some(&row.entry.modified) {
            let (key, value, _) = item(row);
            sum.add(&key);
            sum.add(&value);
        }
    }
    Ok(sum.finish())
}

/// CRC-32C.
pub(crate) struct Castagnoli(u32);

impl Default for Castagnoli {
    fn default() -> Self {
        Self(u32::MAX)
    }
}

impl Castagnoli {
    pub(crate) fn add(&mut self, bytes: &[u8]) -> &Self {
        self.0 = bytes.iter().fold(self.0, |sum, byte| TABLE[usize::from(sum as u8 ^ byte)] ^ (sum >> 8));
        self
    }

    pub(crate) fn finish(&self) -> u32 {
        !self.0
    }
}

const TABLE: [u32; 256] = table();

const fn table() -> [u32; 256] {
    const POLYNOMIAL: u32 = 0x82F6_3B78;
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let (mut sum, mut bit) = (at as u32, 0);
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ POLYNOMIAL } else { sum >> 1 };
            bit += 1;
        }
        table[at] = sum;
        at += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_that_of_the_catalogue() {
        let mut sum = Castagnoli::default();
        sum.add(b"12345");
        sum.add(b"6789");
        assert_eq!(sum.finish(), 0xE306_9283);
    }
}
