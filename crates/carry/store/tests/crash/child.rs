//! A process of its own that writes to a store until something stops it, and says what was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use plimsoll_store::{
    Change, Expect, Limits, Operation, Options, Put, Revision, Span, Store, StoreError, Txn, Value, WatchItem,
};

use crate::failing;

/// Set in the child: the directory to write to.
pub(crate) const FOLDER: &str = "PLIMSOLL_STORE_CRASH_FOLDER";
/// Set in the child: what happens to its disk, and after how many writes of a writer.
pub(crate) const FAULT: &str = "PLIMSOLL_STORE_CRASH_FAULT";
/// Set in the child: how large its values are at most.
const LARGEST: &str = "PLIMSOLL_STORE_CRASH_LARGEST";
const WRITERS: usize = 8;

/// What was acknowledged: at which revision, of which key, and whether it was a put.
pub(crate) type Acknowledged = BTreeMap<(i64, String), bool>;

/// Files so small that they come and go all the time.
pub(crate) fn open(path: &Path) -> Result<Store, StoreError> {
    let options = Options {
        compaction_interval: None,
        window: Limits { events: 16, bytes: 1 << 20 },
        watch_queue: 4,
        volume: 64 << 10,
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
        if turn % 6 == 5 {
            match write_pair(store, writer, turn, largest, &mut dice).await {
                Ok(()) => continue,
                Err(error) => return error,
            }
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
            && turn % 40 == 38
            && let Err(error) = store.compact(Revision(revision.0 - 20)).await
        {
            return error;
        }
    }
    StoreError::Closed
}

/// Two keys that always change together, in one transaction.
async fn write_pair(
    store: &Store,
    writer: usize,
    turn: usize,
    largest: usize,
    dice: &mut crate::Dice,
) -> Result<(), StoreError> {
    let value: bytes::Bytes = format!("{turn} pair {}", noise(turn, largest, dice)).into();
    let delete = turn % 4 == 3 && store.get(&pair(writer)[0]).is_some();
    let operation = |key: String| match delete {
        true => Operation::Delete(Span::key(&key)),
        false => Operation::Put(Put { key: key.into(), value: Some(value.clone()), lease: Some(0) }),
    };
    let success = pair(writer).map(operation).into();
    let (revision, _) = store.transact(Txn { success, ..Txn::default() }).await?;
    let kind = if delete { "delete" } else { "put" };
    say(&pair(writer).map(|key| format!("acknowledged {revision} {kind} {key}")).join("\n"));
    Ok(())
}

fn pair(writer: usize) -> [String; 2] {
    ["one", "other"].map(|name| format!("/{writer}/pair/{name}"))
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

pub(crate) fn parse(line: &str) -> Option<((i64, String), bool)> {
    let mut words = line.strip_prefix("acknowledged ")?.split(' ');
    let (revision, kind) = (words.next()?.parse().ok()?, words.next()?);
    Some(((revision, words.next()?.to_owned()), kind == "put"))
}

/// Holds a store that was opened again against what the child said.
pub(crate) async fn check(store: &Store, acknowledged: &Acknowledged, largest: usize) {
    if let Some(((newest, _), _)) = acknowledged.last_key_value() {
        assert!(store.revision().0 >= *newest, "the revision is {} and {newest} was told", store.revision());
    }
    check_values(store, acknowledged, largest);
    check_events(store, acknowledged).await;
}

/// Each key is at its last acknowledged write, or at a later one that nobody was told of.
fn check_values(store: &Store, acknowledged: &Acknowledged, largest: usize) {
    let newest: BTreeMap<_, _> =
        acknowledged.iter().map(|((revision, key), put)| (key, (*revision, *put))).collect();
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
        let own = if entry.key.contains("/pair/") { "pair".to_owned() } else { entry.modified.to_string() };
        assert_eq!(words[1], own, "{} is its own", entry.key);
        assert_eq!(words[2].len(), 1 + turn * 37 % largest, "{} is whole", entry.key);
    }
    for writer in 0..WRITERS {
        let [one, other] =
            pair(writer).map(|key| store.get(&key).map(|entry| (entry.modified, entry.value.clone())));
        assert_eq!(one, other, "a transaction is there by half");
    }
}

/// History since the last compaction has every revision, in order, without a gap, and each change of it once.
async fn check_events(store: &Store, acknowledged: &Acknowledged) {
    let (start, newest) = (store.compacted().0, store.revision().0);
    let mut watch = store.watch("/", Some(Revision(start))).unwrap();
    let mut seen = BTreeSet::new();
    for revision in start + 1..=newest {
        loop {
            let WatchItem::Event(event) = watch.next().await.unwrap();
            assert_eq!(event.revision().0, revision);
            assert!(seen.insert((revision, event.entry.key.to_string())), "{} comes twice", event.entry.key);
            if event.last {
                break;
            }
        }
    }
    let missing: Vec<_> = acknowledged.keys().filter(|key| key.0 > start && !seen.contains(key)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
