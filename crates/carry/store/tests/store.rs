//! The store as its callers use it.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_store::{
    Change, Event, EventKind, Expect, Limits, Options, Revision, Store, StoreError, Value, Watch, WatchEnd,
    WatchItem,
};

/// A window and queues so small that every test meets the log.
fn small() -> Options {
    Options {
        compaction_interval: None,
        window: Limits { events: 4, bytes: 1 << 20 },
        watch_queue: 2,
        ..Options::default()
    }
}

fn open(path: &Path) -> Store {
    Store::open(path, small()).unwrap()
}

fn put(text: &str) -> Change {
    Change::Put(Value::spliced(format!("{text}@"), ""))
}

async fn write(store: &Store, key: &str, text: &str) -> i64 {
    store.commit(key, Expect::Any, put(text)).await.unwrap().modified.0
}

async fn delete(store: &Store, key: &str) -> i64 {
    let gone = Change::Delete(Value::spliced("gone@", ""));
    store.commit(key, Expect::Any, gone).await.unwrap().modified.0
}

async fn next(watch: &mut Watch) -> Arc<Event> {
    let WatchItem::Event(event) = watch.next().await.unwrap();
    event
}

fn text(event: &Event) -> (EventKind, &str, Option<i64>) {
    let value = std::str::from_utf8(&event.entry.value).unwrap();
    (event.kind, value, event.previous.as_ref().map(|entry| entry.modified.0))
}

fn listed(store: &Store, prefix: &str, at: Option<i64>) -> Vec<String> {
    let page = store.range(prefix, None, 0, at.map(Revision)).unwrap();
    page.entries.iter().map(|entry| String::from_utf8_lossy(&entry.value).into_owned()).collect()
}

#[tokio::test]
async fn a_write_meets_its_precondition_or_learns_the_truth() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let first = store.commit("/a", Expect::Absent, put("one")).await.unwrap();
    assert_eq!((&*first.value, first.create, first.version), (&b"one@2"[..], Revision(2), 1));
    for (expect, change) in [
        (Expect::Absent, put("two")),
        (Expect::Revision(Revision(1)), put("two")),
        (Expect::Revision(Revision(9)), Change::Delete(Value::plain(""))),
    ] {
        let refused = store.commit("/a", expect, change).await.unwrap_err();
        let StoreError::Precondition { current: Some(current) } = refused else { panic!("{refused}") };
        assert!(Arc::ptr_eq(&current, &first));
    }
    let nothing = store.commit("/b", Expect::Any, Change::Delete(Value::plain(""))).await.unwrap_err();
    assert!(matches!(nothing, StoreError::Precondition { current: None }));
    let second = store.commit("/a", Expect::Revision(first.modified), put("two")).await.unwrap();
    assert_eq!((second.create, second.modified, second.version), (Revision(2), Revision(3), 2));
    assert!(Arc::ptr_eq(&store.get("/a").unwrap(), &second));
    let large = store.commit(&"k".repeat(5000), Expect::Any, put("")).await.unwrap_err();
    assert!(matches!(large, StoreError::TooLarge { what: "key", size: 5000, .. }));
}

#[tokio::test]
async fn several_changes_happen_together() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let steps = |expect| vec![("/a".to_owned(), Expect::Any, put("a")), ("/b".to_owned(), expect, put("b"))];
    let entries = store.commit_many(steps(Expect::Absent)).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.modified.0).collect::<Vec<_>>(), [2, 3]);
    let refused = store.commit_many(steps(Expect::Absent)).await.unwrap_err();
    assert!(matches!(refused, StoreError::PreconditionAt { step: 1, current: Some(_) }));
    assert_eq!(
        (store.revision(), listed(&store, "/", None)),
        (Revision(3), vec!["a@2".into(), "b@3".into()])
    );
}

#[tokio::test]
async fn the_past_can_be_read_until_it_is_compacted() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for round in 0..4 {
        for key in ["/p/a", "/p/b", "/q/c"] {
            write(&store, key, &round.to_string()).await;
        }
    }
    delete(&store, "/p/a").await;
    write(&store, "/p/d", "new").await;
    let check = |store: &Store| {
        assert_eq!(listed(store, "/p/", Some(4)), ["0@2", "0@3"]);
        assert_eq!(listed(store, "/p/", Some(8)), ["2@8", "1@6"]);
        assert_eq!(listed(store, "/p/", Some(14)), ["3@12"]);
        assert_eq!(listed(store, "/p/", None), ["3@12", "new@15"]);
        assert_eq!(store.get_at("/p/a", Revision(13)).unwrap().unwrap().version, 4);
        assert!(store.get_at("/p/a", Revision(14)).unwrap().is_none());
        assert!(matches!(store.range("", None, 0, Some(Revision(16))), Err(StoreError::Future { .. })));
    };
    check(&store);
    drop(store);
    let store = open(folder.path());
    check(&store);
    store.compact(Revision(8)).await.unwrap();
    check_compacted(&store);
    drop(store);
    let store = open(folder.path());
    check_compacted(&store);
    store.compact(store.revision()).await.unwrap();
    drop(store);
    assert_eq!(open(folder.path()).revision(), Revision(15));
}

fn check_compacted(store: &Store) {
    assert_eq!(listed(store, "/p/", Some(8)), ["2@8", "1@6"]);
    assert_eq!(listed(store, "/p/", Some(14)), ["3@12"]);
    let gone = store.range("/p/", None, 0, Some(Revision(7))).unwrap_err();
    assert!(matches!(gone, StoreError::Compacted { compacted: Revision(8), current: Revision(15) }));
    assert!(matches!(store.watch("", Some(Revision(7))), Err(StoreError::Compacted { .. })));
    assert!(store.watch("", Some(Revision(8))).is_ok());
}

#[tokio::test]
async fn pages_of_one_revision_fit_together() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for number in 0..7 {
        write(&store, &format!("/p/{number}"), "x").await;
    }
    let first = store.range("/p/", None, 3, None).unwrap();
    assert_eq!((first.entries.len(), first.more, first.remaining), (3, true, 4));
    write(&store, "/p/5", "y").await;
    delete(&store, "/p/6").await;
    write(&store, "/p/44", "z").await;
    let after = first.entries.last().unwrap().key.clone();
    let second = store.range("/p/", Some(&after), 3, Some(first.revision)).unwrap();
    assert_eq!(second.entries.iter().map(|entry| entry.modified.0).collect::<Vec<_>>(), [5, 6, 7]);
    assert!(second.more && second.remaining > 0);
    let third = store.range("/p/", Some("/p/5"), 3, Some(first.revision)).unwrap();
    assert_eq!(third.entries.iter().map(|entry| entry.modified.0).collect::<Vec<_>>(), [8]);
    assert_eq!((third.more, third.remaining, store.count("/p/")), (false, 0, 7));
}

#[tokio::test]
async fn a_watch_starts_anywhere_in_history() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for round in 0..600 {
        write(&store, "/a/x", &round.to_string()).await;
        write(&store, "/b/y", "other").await;
    }
    check_history(&store).await;
    drop(store);
    check_history(&open(folder.path())).await;
}

async fn check_history(store: &Store) {
    for after in [1, 2, 700, 1198, 1201] {
        let mut watch = store.watch("/a/", Some(Revision(after))).unwrap();
        for revision in (after + 1..=1201).filter(|revision| revision % 2 == 0) {
            let event = next(&mut watch).await;
            let value = format!("{}@{revision}", revision / 2 - 1);
            let previous = (revision > 2).then(|| revision - 2);
            assert_eq!(text(&event), (EventKind::Put, &*value, previous));
        }
        let nothing = tokio::time::timeout(Duration::from_millis(1), watch.next()).await;
        assert!(nothing.is_err());
        assert_eq!(watch.progress(), Revision(1201));
    }
}

#[tokio::test]
async fn a_slow_watcher_misses_nothing_and_blocks_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut watch = store.watch("/", None).unwrap();
    for burst in [1, 3, 50, 2, 700] {
        let from = store.revision();
        for _ in 0..burst {
            write(&store, "/k", "v").await;
        }
        assert!(watch.progress() <= from, "nothing of the burst was delivered");
        for revision in from.0 + 1..=store.revision().0 {
            assert_eq!(next(&mut watch).await.revision(), Revision(revision));
        }
        assert_eq!(watch.progress(), store.revision());
    }
    let gone = delete(&store, "/k").await;
    let event = next(&mut watch).await;
    assert_eq!(text(&event), (EventKind::Delete, &*format!("gone@{gone}"), Some(gone - 1)));
}

#[tokio::test]
async fn a_watcher_behind_the_compaction_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut watch = store.watch("/", None).unwrap();
    for _ in 0..20 {
        write(&store, "/k", "v").await;
    }
    store.compact(store.revision()).await.unwrap();
    // What was queued comes still, then the end.
    let end = loop {
        if let Err(end) = watch.next().await {
            break end;
        }
    };
    assert!(matches!(end, WatchEnd::Lagged), "{end}");
    let mut watch = store.watch("/", None).unwrap();
    drop(store);
    assert!(matches!(watch.next().await, Err(WatchEnd::Closed)));
}

#[tokio::test]
async fn keys_with_a_lifetime_delete_themselves() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let short =
        |text: &str| Change::Put(Value::plain(text.to_owned()).with_ttl(Some(Duration::from_millis(400))));
    let mut watch = store.watch("/", None).unwrap();
    store.commit("/e/1", Expect::Any, short("one")).await.unwrap();
    store.commit("/e/2", Expect::Any, short("two")).await.unwrap();
    // Written again without a lifetime, it stays.
    write(&store, "/e/2", "kept").await;
    for _ in 0..3 {
        next(&mut watch).await;
    }
    let event = next(&mut watch).await;
    assert_eq!((&*event.entry.key, text(&event)), ("/e/1", (EventKind::Delete, "one", Some(2))));
    store.commit("/e/3", Expect::Any, short("three")).await.unwrap();
    drop(store);
    let store = open(folder.path());
    let mut watch = store.watch("/", Some(Revision(6))).unwrap();
    assert_eq!(text(&*next(&mut watch).await), (EventKind::Delete, "three", Some(6)));
    assert_eq!(listed(&store, "/", None), ["kept@4"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writers_share_syncs_and_watchers_see_one_order() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut watch = store.watch("/", None).unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..16 {
        let store = store.clone();
        writers.spawn(async move {
            for _ in 0..20 {
                increment(&store, "/shared").await;
                let own = write(&store, &format!("/own/{writer}"), "x").await;
                assert!(store.revision().0 >= own, "a writer sees its own write");
            }
        });
    }
    for revision in 2..2 + 16 * 40 {
        assert_eq!(next(&mut watch).await.revision(), Revision(revision));
    }
    writers.join_all().await;
    assert_eq!(&*store.get("/shared").unwrap().value, b"320");
}

async fn increment(store: &Store, key: &str) {
    loop {
        let current = store.get(key);
        let number: u32 =
            current.as_ref().map_or(0, |entry| std::str::from_utf8(&entry.value).unwrap().parse().unwrap());
        let expect = current.map_or(Expect::Absent, |entry| Expect::Revision(entry.modified));
        let change = Change::Put(Value::plain((number + 1).to_string()));
        match store.commit(key, expect, change).await {
            Ok(_) => return,
            Err(StoreError::Precondition { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn compaction_by_the_clock_keeps_an_interval() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { compaction_interval: Some(Duration::from_millis(20)), ..small() };
    let store = Store::open(folder.path(), options).unwrap();
    for _ in 0..10 {
        write(&store, "/k", "v").await;
    }
    while store.compacted() < Revision(11) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(listed(&store, "/", None), ["v@11"]);
}

#[tokio::test]
async fn a_directory_is_refused_when_it_is_not_ours() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let second = Store::open(folder.path(), small()).err().unwrap();
    assert!(matches!(second, StoreError::InUse { .. }), "{second}");
    drop(store);
    std::fs::write(folder.path().join("format"), "4\n").unwrap();
    let newer = Store::open(folder.path(), small()).err().unwrap();
    assert!(newer.to_string().contains("has format \"4\", and this version reads up to 3"), "{newer}");
    std::fs::write(folder.path().join("file"), "").unwrap();
    assert!(matches!(Store::open(&folder.path().join("file"), small()), Err(StoreError::Directory { .. })));
}
