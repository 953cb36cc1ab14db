//! The directory of a member of a new cluster of etcd, made of a store: what `etcdctl snapshot restore` makes of a file.
//!
//! Beside the database there are a log (`wal`) in which the members of the cluster have joined, and a snapshot behind
//! that (`snap`). Every member is made of the same file, with the same list of members, on its own machine: the numbers
//! of members and cluster follow from the list, by etcd's rule.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use prost::Message;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use super::sum::Castagnoli;
use super::write::{self, Raft};
use crate::StoreError;
use crate::disk::Disk;

/// Joining happens in the first term.
const TERM: u64 = 1;
/// etcd keeps so many events of its old interface.
const EVENTS: usize = 1000;

/// A new cluster of etcd, and which of its members is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The member's name.
    pub name: String,
    /// All members: their names, and where others reach them.
    pub members: Vec<(String, Vec<String>)>,
    /// What tells clusters with the same addresses apart.
    pub token: String,
}

/// A list of members that cannot be one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MembershipError {
    /// It is not a list.
    #[error("{0:?} is not NAME=URL,NAME=URL,…")]
    NoList(String),
    /// The member is not in it.
    #[error("{name:?} is none of the members {members}")]
    Stranger {
        /// Its name.
        name: String,
        /// Theirs.
        members: String,
    },
}

impl Membership {
    /// Reads what etcd takes as `--name`, `--initial-cluster` and `--initial-cluster-token`.
    ///
    /// # Errors
    /// When it is not a list of members, or the member is not in it.
    pub fn read(name: &str, list: &str, token: &str) -> Result<Self, MembershipError> {
        let mut members: Vec<(String, Vec<String>)> = Vec::new();
        for part in list.split(',') {
            let pair =
                part.trim().split_once('=').filter(|(name, url)| !name.is_empty() && url.contains("://"));
            let (member, url) = pair.ok_or_else(|| MembershipError::NoList(list.to_owned()))?;
            match members.iter_mut().find(|(known, _)| known == member) {
                Some((_, urls)) => urls.push(url.to_owned()),
                None => members.push((member.to_owned(), vec![url.to_owned()])),
            }
        }
        if members.iter().any(|(member, _)| member == name) {
            return Ok(Self { name: name.to_owned(), members, token: token.to_owned() });
        }
        let members = members.into_iter().map(|(member, _)| member).collect::<Vec<_>>().join(", ");
        Err(MembershipError::Stranger { name: name.to_owned(), members })
    }

    /// The members with their numbers, in the order of these.
    fn numbered(&self) -> Vec<Joined> {
        let joined = |(name, urls): &(String, Vec<String>)| {
            let mut urls = urls.clone();
            urls.sort();
            Joined {
                id: number(format!("{}{}", urls.concat(), self.token).as_bytes()),
                name: name.clone(),
                urls,
            }
        };
        let mut members: Vec<_> = self.members.iter().map(joined).collect();
        members.sort_by_key(|member| member.id);
        members
    }
}

/// A member of the cluster.
struct Joined {
    id: u64,
    name: String,
    urls: Vec<String>,
}

impl Joined {
    fn json(&self) -> String {
        json!({"id": self.id, "peerURLs": self.urls, "name": self.name}).to_string()
    }
}

fn number(bytes: &[u8]) -> u64 {
    Sha1::digest(bytes).first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Makes the directory, which is not there yet, of a store.
pub(crate) fn make(disk: &Disk, to: &Path, membership: &Membership, cluster: &str) -> Result<(), StoreError> {
    let failed = |source| StoreError::Directory { path: to.into(), source };
    let members = membership.numbered();
    let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
    let own = members.iter().find(|member| member.name == membership.name).map_or(0, |member| member.id);
    let (snap, wal) = (to.join("member/snap"), to.join("member/wal"));
    for folder in [&snap, &wal] {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
    }
    let index = ids.len() as u64;
    let raft = Raft {
        index,
        term: TERM,
        voters: json!({"voters": ids, "auto_leave": false}).to_string(),
        members: members.iter().map(|member| (format!("{:x}", member.id), member.json())).collect(),
    };
    write::write(disk, &snap.join("db"), cluster, Some(&raft))?.sync_all().map_err(failed)?;
    let bytes = cluster_number(&ids);
    let log = log(&members, own, bytes, index);
    put(&wal.join(format!("{:016x}-{:016x}.wal", 0, 0)), &log).map_err(failed)?;
    let snapshot = snapshot(&members, ids, index);
    put(&snap.join(format!("{TERM:016x}-{index:016x}.snap")), &snapshot).map_err(failed)
}

fn cluster_number(ids: &[u64]) -> u64 {
    number(&ids.iter().flat_map(|id| id.to_be_bytes()).collect::<Vec<_>>())
}

fn put(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    File::open(path.parent().unwrap_or(path))?.sync_all()
}

/// The log: whose it is, that all members joined, and that there is a snapshot behind that.
fn log(members: &[Joined], own: u64, cluster: u64, index: u64) -> Vec<u8> {
    let mut log = Log::default();
    log.add(Kind::Sum, Vec::new());
    log.add(Kind::Metadata, Metadata { node: own, cluster }.encode_to_vec());
    log.add(Kind::Snapshot, Point { index: 0, term: 0 }.encode_to_vec());
    for (at, member) in (1..).zip(members) {
        let change = Change { id: 0, kind: 0, node: member.id, context: member.json().into_bytes() };
        let entry = Entry { kind: CHANGE, term: TERM, index: at, data: change.encode_to_vec() };
        log.add(Kind::Entry, entry.encode_to_vec());
    }
    let vote = members.first().map_or(0, |member| member.id);
    log.add(Kind::State, HardState { term: TERM, vote, commit: index }.encode_to_vec());
    log.add(Kind::Snapshot, Point { index, term: TERM }.encode_to_vec());
    log.bytes
}

/// Records, each of which has the sum of all data so far.
#[derive(Default)]
struct Log {
    bytes: Vec<u8>,
    sum: Castagnoli,
}

impl Log {
    fn add(&mut self, kind: Kind, data: Vec<u8>) {
        let sum = if matches!(kind, Kind::Sum) { 0 } else { self.sum.add(&data).finish() };
        let record = Record { kind: kind as i64, sum, data }.encode_to_vec();
        let rest = record.len().next_multiple_of(8) - record.len();
        // The highest bit says that there are bytes to be left out.
        let padding = if rest > 0 { (0x80 | rest as u64) << 56 } else { 0 };
        self.bytes.extend_from_slice(&(record.len() as u64 | padding).to_le_bytes());
        self.bytes.extend_from_slice(&record);
        self.bytes.extend_from_slice(&[0; 8][..rest]);
    }
}

fn snapshot(members: &[Joined], voters: Vec<u64>, index: u64) -> Vec<u8> {
    let data = old_interface(members, index).to_string().into_bytes();
    let metadata = SnapshotMetadata { voters: Some(ConfState { voters }), index, term: TERM };
    let data = Snapshot { data, metadata: Some(metadata) }.encode_to_vec();
    Summed { sum: Castagnoli::default().add(&data).finish(), data }.encode_to_vec()
}

/// The state of etcd's old interface, in which 3.4 looks its members up.
fn old_interface(members: &[Joined], index: u64) -> Value {
    let node = |path: String, at: u64, value: String, children: Value| {
        json!({
            "Path": path, "CreatedIndex": at, "ModifiedIndex": at, "ExpireTime": "0001-01-01T00:00:00Z",
            "Value": value, "Children": children,
        })
    };
    let member = |(at, member): (u64, &Joined)| {
        let path = format!("/0/members/{:x}", member.id);
        let urls = json!({"peerURLs": member.urls}).to_string();
        let attributes = node(format!("{path}/raftAttributes"), at, urls, Value::Null);
        (format!("{:x}", member.id), node(path, at, String::new(), json!({"raftAttributes": attributes})))
    };
    let members: serde_json::Map<_, _> = (1..).zip(members).map(member).collect();
    let folder = |path: &str, at, children| node(path.to_owned(), at, String::new(), children);
    let first = folder("/0", 0, json!({"members": folder("/0/members", 1, members.into())}));
    let root = folder("/", 0, json!({"0": first, "1": folder("/1", 0, json!({}))}));
    let queue =
        json!({"Events": vec![Value::Null; EVENTS], "Size": 0, "Front": 0, "Back": 0, "Capacity": EVENTS});
    json!({
        "Root": root,
        "WatcherHub": {"EventHistory": {"Queue": queue, "StartIndex": index, "LastIndex": index}},
        "CurrentIndex": index,
        "Stats": {},
        "CurrentVersion": 2,
    })
}

/// What a record of the log is (etcd: wal/walpb).
enum Kind {
    Metadata = 1,
    Entry = 2,
    State = 3,
    Sum = 4,
    Snapshot = 5,
}

/// An entry that changes the members (etcd: raftpb).
const CHANGE: i32 = 1;

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Record {
    #[prost(int64, tag = "1")]
    kind: i64,
    #[prost(uint32, tag = "2")]
    sum: u32,
    #[prost(bytes = "vec", tag = "3")]
    data: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Metadata {
    #[prost(uint64, tag = "1")]
    node: u64,
    #[prost(uint64, tag = "2")]
    cluster: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Point {
    #[prost(uint64, tag = "1")]
    index: u64,
    #[prost(uint64, tag = "2")]
    term: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Entry {
    #[prost(int32, tag = "1")]
    kind: i32,
    #[prost(uint64, tag = "2")]
    term: u64,
    #[prost(uint64, tag = "3")]
    index: u64,
    #[prost(bytes = "vec", tag = "4")]
    data: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Change {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int32, tag = "2")]
    kind: i32,
    #[prost(uint64, tag = "3")]
    node: u64,
    #[prost(bytes = "vec", tag = "4")]
    context: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct HardState {
    #[prost(uint64, tag = "1")]
    term: u64,
    #[prost(uint64, tag = "2")]
    vote: u64,
    #[prost(uint64, tag = "3")]
    commit: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct ConfState {
    #[prost(uint64, repeated, packed = "false", tag = "1")]
    voters: Vec<u64>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct SnapshotMetadata {
    #[prost(message, optional, tag = "1")]
    voters: Option<ConfState>,
    #[prost(uint64, tag = "2")]
    index: u64,
    #[prost(uint64, tag = "3")]
    term: u64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Snapshot {
    #[prost(bytes = "vec", tag = "1")]
    data: Vec<u8>,
    #[prost(message, optional, tag = "2")]
    metadata: Option<SnapshotMetadata>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Summed {
    #[prost(uint32, tag = "1")]
    sum: u32,
    #[prost(bytes = "vec", tag = "2")]
    data: Vec<u8>,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn members_have_the_numbers_that_etcd_gives_them() {
        let list = "m0=http://127.0.0.1:1380,m1=http://127.0.0.1:1381";
        let membership = Membership::read("m0", list, "tok").unwrap();
        let members = membership.numbered();
        let ids: Vec<_> = members.iter().map(|member| member.id).collect();
        assert_eq!(ids, [0x2f9f_e8fc_6201_10b4, 0xfcb8_73ea_7946_f7bb]);
        assert_eq!(cluster_number(&ids), 0x55ca_f535_f814_91f1);
        let log = log(&members, ids[0], cluster_number(&ids), 2);
        // The sum of the first data, as in the log that etcdctl made of the same list.
        let sum = [&[0x10][..], &[0x99, 0x87, 0xb4, 0xf1, 0x0c]].concat();
        assert!(log.windows(sum.len()).any(|part| part == sum));
        for (name, list, says) in [
            ("m0", "m0", "is not NAME=URL"),
            ("m2", list, "\"m2\" is none of the members m0, m1"),
            ("m0", "", "is not NAME=URL"),
        ] {
            assert!(Membership::read(name, list, "").unwrap_err().to_string().contains(says));
        }
    }
}
