//! A writer process is killed at odd moments; what it was told is durable must be there.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use plimsoll_store::{Change, Expect, Limits, Options, Revision, Store, Value, WatchItem};

/// Set in the child: the directory to write to.
const FOLDER: &str = "PLIMSOLL_STORE_CRASH_FOLDER";
const WRITERS: usize = 8;

fn open(path: &Path) -> Store {
    let options = Options {
        compaction_interval: None,
        window: Limits { events: 16, bytes: 1 << 20 },
        watch_queue: 4,
        transform: None,
    };
    Store::open(path, options).unwrap()
}

/// Writes, deletes and compacts until it is killed; prints what was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = open(Path::new(&folder));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move { write_for_ever(&store, writer).await });
    }
    writers.join_next().await;
}

async fn write_for_ever(store: &Store, writer: usize) {
    for turn in 0.. {
        let key = format!("/{writer}/{}", turn % 5);
        let change = match turn % 7 {
            6 if store.get(&key).is_some() => Change::Delete(Value::plain("gone")),
            _ => Change::Put(Value::spliced(format!("{turn} "), "x".repeat(turn * 37 % 3000))),
        };
        let kind = if matches!(change, Change::Put(_)) { "put" } else { "delete" };
        let revision = store.commit(&key, Expect::Any, change).await.unwrap().modified;
        // One write call, so that a line is there whole or not at all.
        let line = format!("\nacknowledged {revision} {kind} {key}\n");
        std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
        if writer == 0 && turn % 40 == 39 {
            store.compact(Revision(revision.0 - 20)).await.unwrap();
        }
    }
}

/// Lets the child run until it has acknowledged `count` writes, kills it, and returns what it said.
fn run_and_kill(folder: &Path, count: usize) -> BTreeMap<i64, (bool, String)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let parse = |line: String| {
        let mut words = line.strip_prefix("acknowledged ")?.split(' ');
        let revision = words.next()?.parse().ok()?;
        Some((revision, (words.next()? == "put", words.next()?.to_owned())))
    };
    let mut acknowledged: BTreeMap<_, _> = lines.by_ref().filter_map(parse).take(count).collect();
    child.kill().unwrap();
    acknowledged.extend(lines.filter_map(parse));
    child.wait().unwrap();
    acknowledged
}

#[tokio::test]
async fn nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut last = Revision::FIRST;
    for count in [1, 17, 120, 333, 2, 700] {
        let acknowledged = run_and_kill(folder.path(), count);
        assert!(acknowledged.len() >= count);
        let store = open(folder.path());
        let newest = *acknowledged.last_key_value().unwrap().0;
        assert!(store.revision().0 >= newest && store.revision() > last, "the revision goes on");
        check_values(&store, &acknowledged);
        check_events(&store, &acknowledged).await;
        last = store.revision();
    }
}

/// Each key is at its last acknowledged write, or at a later one that nobody was told of.
fn check_values(store: &Store, acknowledged: &BTreeMap<i64, (bool, String)>) {
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
        let value = std::str::from_utf8(&entry.value).unwrap();
        let revision = value.split(' ').nth(1).unwrap().trim_end_matches('x');
        assert_eq!(revision, entry.modified.to_string(), "{} is whole", entry.key);
    }
}

/// History since the last compaction has every acknowledged revision, once, in order, without a gap.
async fn check_events(store: &Store, acknowledged: &BTreeMap<i64, (bool, String)>) {
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
