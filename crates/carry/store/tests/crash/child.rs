//! A process of its own that writes to a store until something stops it, and says what was acknowledged.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use plimsoll_store::{Change, Expect, Limits, Options, Revision, Store, StoreError, Value, WatchItem};

use crate::failing;

/// Set in the child: the directory to write to.
pub(crate) const FOLDER: &str = "PLIMSOLL_STORE_CRASH_FOLDER";
/// Set in the child: what happens to its disk, and after how many writes of a writer.
pub(crate) const FAULT: &str = "PLIMSOLL_STORE_CRASH_FAULT";
/// Set in the child: how large its values are at most.
const LARGEST: &str = "PLIMSOLL_STORE_CRASH_LARGEST";
const WRITERS: usize = 8;

/// What was acknowledged: whether it was a put, and of which key.
pub(crate) type Acknowledged = BTreeMap<i64, (bool, String)>;

/// Memtables so small that all of fjall's machinery is at work.
pub(crate) fn open(path: &Path) -> Result<Store, StoreError> {
    let options = Options {
        compaction_interval: None,
        window: Limits { events: 16, bytes: 1 << 20 },
        watch_queue: 4,
        memtable: 256 << 10,
        ..Options::default()
    };
    Store::open(path, options)
}

/// Writes, deletes and compacts until it is stopped; prints what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let largest = crate::setting(LARGEST, 3000) as usize;
    let store = match open(Path::new(&folder)) {
        Ok(store) => store,
        Err(error) => return say(&format!("refused {error}")),
    };
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move { write_until_refused(&store, writer, largest).await });
    }
    let error = writers.join_next().await.unwrap().unwrap();
    say(&format!("broken {error}"));
    writers.join_all().await;
    assert!(!store.is_healthy());
    let read = store.range("/", None, 0, None).unwrap().entries.len();
    say(&format!("reads {read}"));
}

/// One write call, so that a line is there whole or not at all.
fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("\n{line}\n").as_bytes()).unwrap();
}

async fn write_until_refused(store: &Store, writer: usize, largest: usize) -> StoreError {
    let mut dice = crate::Dice(writer as u64);
    for turn in 0.. {
        if writer == 0 {
            failing::arm(turn);
        }
        let key = format!("/{writer}/{}", turn % 5);
        let change = match turn % 7 {
            6 if store.get(&key).is_some() => Change::Delete(Value::plain("gone")),
            _ => Change::Put(Value::spliced(
                format!("{turn} "),
                format!(" {}", noise(turn, largest, &mut dice)),
            )),
        };
        let kind = if matches!(change, Change::Put(_)) { "put" } else { "delete" };
        let revision = match store.commit(&key, Expect::Any, change).await {
            Ok(entry) => entry.modified,
            Err(error) => return error,
        };
        say(&format!("acknowledged {revision} {kind} {key}"));
        if writer == 0
            && turn % 40 == 39
            && let Err(error) = store.compact(Revision(revision.0 - 20)).await
        {
            return error;
        }
    }
    StoreError::Closed
}

/// As long as the number of its write asks for, so that a shorter one is noticed.
fn noise(turn: usize, largest: usize, dice: &mut crate::Dice) -> String {
    dice.noise(1 + turn * 37 % largest)
}

/// This program as a child, with a folder to write to.
pub(crate) fn command(folder: &Path, largest: usize) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child::child", "--nocapture", "--test-threads=1"]);
    command
        .env(FOLDER, folder)
        .env(LARGEST, largest.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

pub(crate) fn lines(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok)
}

pub(crate) fn parse(line: &str) -> Option<(i64, (bool, String))> {
    let mut words = line.strip_prefix("acknowledged ")?.split(' ');
    let revision = words.next()?.parse().ok()?;
    Some((revision, (words.next()? == "put", words.next()?.to_owned())))
}

/// Holds a store that was opened again against what the child said.
pub(crate) async fn check(store: &Store, acknowledged: &Acknowledged, largest: usize) {
    if let Some((newest, _)) = acknowledged.last_key_value() {
        assert!(store.revision().0 >= *newest, "the revision is {} and {newest} was told", store.revision());
    }
    check_values(store, acknowledged, largest);
    check_events(store, acknowledged).await;
}

/// Each key is at its last acknowledged write, or at a later one that nobody was told of.
fn check_values(store: &Store, acknowledged: &Acknowledged, largest: usize) {
    let newest: BTreeMap<_, _> =
        acknowledged.iter().map(|(revision, (put, key))| (key, (*revision, *put))).collect();
    for (key, (revision, put)) in newest {
        match store.get(key) {
            Some(entry) => assert!(entry.modified.0 >= revision, "{key} went back behind {revision}"),
            None if !put => {}
            // Deleted by a write that was not acknowledged any more: then the revision went on.
            None => assert!(store.revision().0 > revision, "{key} of {revision} is lost"),
        }
    }
    for entry in store.range("/", None, 0, None).unwrap().entries {
        let words: Vec<_> = std::str::from_utf8(&entry.value).unwrap().split(' ').collect();
        let turn: usize = words[0].parse().unwrap();
        assert_eq!(words[1], entry.modified.to_string(), "{} is its own", entry.key);
        assert_eq!(words[2].len(), 1 + turn * 37 % largest, "{} is whole", entry.key);
    }
}

/// History since the last compaction has every revision, once, in order, without a gap.
async fn check_events(store: &Store, acknowledged: &Acknowledged) {
    let start = store.compacted();
    let mut watch = store.watch("/", Some(start)).unwrap();
    for revision in start.0 + 1..=store.revision().0 {
        let WatchItem::Event(event) = watch.next().await.unwrap();
        assert_eq!(event.revision().0, revision);
        if let Some((_, key)) = acknowledged.get(&revision) {
            assert_eq!(&*event.entry.key, key);
        }
    }
}
