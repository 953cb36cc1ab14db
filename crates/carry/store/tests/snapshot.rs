//! Copies of a store, and what is refused.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use plimsoll_store::{
    Change, Entry, Expect, Operation, Options, Owner, Put, Revision, Span, Store, StoreError, Txn, Value,
    check, restore, snapshot_status,
};
use sha2::Digest;

fn open(path: &Path) -> Store {
    Store::open(path, Options { compaction_interval: None, ..Options::default() }).unwrap()
}

async fn put(store: &Store, key: &str, text: &str) -> i64 {
    let value = Value::plain(text.to_owned());
    store.commit(key, Expect::Any, Change::Put(value)).await.unwrap().modified.0
}

fn owner(cluster: &str) -> Owner<'_> {
    Owner { cluster, place: |bytes| bytes.starts_with(b"revision=;").then_some(9..9) }
}

/// Everything in a folder, with its bytes.
fn everything(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(everything(&path)),
            false => found.push((path.clone(), fs::read(path).unwrap())),
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_of_one_revision_and_goes_on_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy");
    let store = open(&folder.path().join("live"));
    for number in 0..200 {
        put(&store, &format!("/k/{}", number % 50), &number.to_string()).await;
    }
    store.compact(Revision(100)).await.unwrap();
    let writer = store.clone();
    let writing = tokio::spawn(async move {
        for number in 0..300 {
            // Both or neither are in the copy.
            let step =
                |key: &str| (key.to_owned(), Expect::Any, Change::Put(Value::plain(number.to_string())));
            writer.commit_many(vec![step("/one"), step("/other")]).await.unwrap();
        }
    });
    let summary = store.save(&file, "cluster-a").await.unwrap();
    writing.await.unwrap();
    assert_eq!(snapshot_status(&file).unwrap(), summary);
    assert!(summary.revision >= Revision(201));
    let place = folder.path().join("restored");
    restore(&file, &place, Some(owner("cluster-a")), 1000).unwrap();
    let store = open(&place);
    assert_eq!(
        (store.revision(), store.compacted()),
        (Revision(summary.revision.0 + 1000), store.revision())
    );
    assert!(matches!(store.watch("", Some(summary.revision)), Err(StoreError::Compacted { .. })));
    let value = |key: &str| store.get(key).map(|entry| entry.value.clone());
    assert_eq!((value("/k/49").unwrap(), value("/one")), ("199".into(), value("/other")));
    assert_eq!(put(&store, "/more", "x").await, summary.revision.0 + 1001);
    drop(store);
    let checked = check(&place).unwrap();
    assert_eq!((checked.revision.0, checked.keys), (summary.revision.0 + 1001, open(&place).count("")));
}

#[tokio::test]
async fn a_copy_knows_the_revision_of_a_deletion_that_is_compacted() {
    let folder = tempfile::tempdir().unwrap();
    let (file, place) = (folder.path().join("copy"), folder.path().join("restored"));
    let store = open(&folder.path().join("live"));
    put(&store, "/a", "x").await;
    put(&store, "/b", "x").await;
    let gone = store.commit("/b", Expect::Any, Change::Delete(Value::plain("x"))).await.unwrap().modified;
    store.compact(gone).await.unwrap();
    // Rows go a little later.
    let summary = loop {
        let summary = store.save(&file, "c").await.unwrap();
        if summary.rows == 2 {
            break summary;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((summary.revision, snapshot_status(&file).unwrap().revision), (gone, gone));
    restore(&file, &place, None, 7).unwrap();
    assert_eq!(open(&place).revision(), Revision(gone.0 + 7));
}

/// Keys and what is noted about them.
fn listing(store: &Store) -> Vec<(String, i64, i64, u64, i64, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let row = |entry: &Arc<Entry>| {
        let key = entry.key.to_string();
        (key, entry.create.0, entry.modified.0, entry.version, entry.lease, text(&entry.value))
    };
    store.range("", None, 0, None).unwrap().entries.iter().map(row).collect()
}

#[tokio::test]
async fn a_copy_in_the_form_of_etcd_is_the_same_state() {
    let folder = tempfile::tempdir().unwrap();
    let (file, place) = (folder.path().join("copy.db"), folder.path().join("restored"));
    let store = open(&folder.path().join("live"));
    store.grant(77, 600).await.unwrap();
    for number in 0..400 {
        // Some pages run over, some keys are long, and the tree has more than one level.
        let text = "v".repeat(if number % 50 == 0 { 20_000 } else { number });
        put(&store, &format!("/registry/{}{}", number % 300, "k".repeat(number % 7 * 40)), &text).await;
    }
    let two = |key: &str, lease| {
        Operation::Put(Put { key: key.into(), value: Some("x".into()), lease: Some(lease) })
    };
    let success = vec![
        two("/registry/leased", 77),
        two("/registry/\u{e9}", 0),
        Operation::Delete(Span::key("/registry/1")),
    ];
    store.transact(Txn { success, ..Txn::default() }).await.unwrap();
    store.compact(Revision(300)).await.unwrap();
    let bytes = store.save_for_etcd(&file, "cluster-a").await.unwrap();
    let summary = snapshot_status(&file).unwrap();
    assert_eq!((summary.bytes, summary.revision, &*summary.cluster), (bytes, store.revision(), "cluster-a"));
    restore(&file, &place, Some(owner("cluster-a")), 50).unwrap();
    let again = open(&place);
    assert_eq!(listing(&again), listing(&store));
    assert_eq!((again.revision(), again.compacted()), (Revision(store.revision().0 + 50), again.revision()));
    let (lease, _) = again.lease(77).unwrap();
    assert_eq!((lease.ttl, lease.keys.len()), (600, 1));

    let good = fs::read(&file).unwrap();
    let pages = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good[..good.len() - 32].to_vec();
        change(&mut bytes);
        let hash = sha2::Sha256::digest(&bytes);
        [&bytes[..], &hash[..]].concat()
    };
    for (name, bytes, expected) in [
        ("half", good[..good.len() / 2].to_vec(), "ends without a hash"),
        ("a member's file", good[..good.len() - 32].to_vec(), "ends without a hash"),
        ("a value", [&good[..9000], b"x", &good[9001..]].concat(), "was altered"),
        // With a right hash: what cannot be read must not be believed.
        ("no trees", pages(&|bytes| bytes.truncate(8192)), "was altered"),
        ("no root", pages(&|bytes| bytes[16..80].fill(0)), ""),
        (
            "a circle",
            pages(&|bytes| (12_288..bytes.len()).step_by(4096).for_each(|at| bytes[at + 8] = 1)),
            "was altered",
        ),
        (
            "lengths",
            pages(&|bytes| {
                (12_288..bytes.len()).step_by(4096).for_each(|at| bytes[at + 24..at + 28].fill(0xff))
            }),
            "was altered",
        ),
    ] {
        let (path, place) = (folder.path().join("bad.db"), folder.path().join("other"));
        fs::write(&path, bytes).unwrap();
        match restore(&path, &place, None, 0) {
            Err(error) => assert!(error.to_string().contains(expected) && !place.exists(), "{name}: {error}"),
            // There are two roots.
            Ok(_) => assert_eq!(expected, "", "{name}"),
        }
    }
    let other =
        restore(&file, &folder.path().join("x"), Some(owner("cluster-b")), 0).unwrap_err().to_string();
    assert!(other.contains("is of cluster cluster-a, and this directory is of cluster-b"), "{other}");
}

#[tokio::test]
async fn versions_have_the_sum_that_etcd_has_of_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let sum = async |upto| store.hash_versions(upto).await.unwrap().0;
    assert_eq!(sum(None).await, 1_084_519_789);
    for operation in [
        Operation::Put(Put { key: "a".into(), value: Some("1".into()), lease: Some(0) }),
        Operation::Put(Put { key: "b".into(), value: Some("2".into()), lease: Some(0) }),
        Operation::Delete(Span::key("a")),
    ] {
        store.operate(operation).await.unwrap();
    }
    assert_eq!(sum(None).await, 1_562_576_432);
    let before = sum(Some(Revision(3))).await;
    store.compact(Revision(4)).await.unwrap();
    assert_eq!(sum(None).await, 728_145_079);
    assert!(before != 728_145_079 && store.hash_versions(Some(Revision(3))).await.is_err());
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_and_nothing_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (file, place) = (folder.path().join("copy"), folder.path().join("place"));
    let store = open(&folder.path().join("live"));
    for number in 0..20 {
        put(&store, &format!("/k/{number}"), "a value that is long enough to be hit").await;
    }
    store.save(&file, "cluster-a").await.unwrap();
    drop(store);
    let good = fs::read(&file).unwrap();
    let changed = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let cut = |length: usize| good[..length].to_vec();
    for (name, bytes, expected) in [
        ("nothing", vec![], "is cut off"),
        ("another file", b"something else altogether".to_vec(), "is no snapshot"),
        ("a newer one", b"plimsoll snapshot 3\n{}".to_vec(), "is of a newer version"),
        ("half", cut(good.len() / 2), "is cut off"),
        ("without its end", cut(good.len() - 1), "is cut off"),
        ("without its hash", cut(good.len() - 32), "is cut off"),
        ("with more", [&good[..], b"x"].concat(), "was altered"),
        ("a value", changed(good.len() - 100), "was altered"),
        ("its hash", changed(good.len() - 1), "was altered"),
        ("its header", changed(30), ""),
    ] {
        let path = folder.path().join("bad");
        fs::write(&path, bytes).unwrap();
        let error = restore(&path, &place, None, 0).unwrap_err();
        assert!(error.to_string().contains(expected), "{name}: {error}");
        assert!(!place.exists(), "{name}");
    }
    let other = restore(&file, &place, Some(owner("cluster-b")), 0).unwrap_err().to_string();
    assert!(other.contains("is of cluster cluster-a, and this directory is of cluster-b"), "{other}");
    fs::create_dir(&place).unwrap();
    fs::write(place.join("file"), "").unwrap();
    assert!(matches!(restore(&file, &place, None, 0), Err(StoreError::NotEmpty { .. })));
    assert_eq!(everything(&place), [(place.join("file"), vec![])]);
}

#[tokio::test]
async fn a_check_finds_what_is_damaged_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for number in 0..100 {
        put(&store, &format!("/k/{}", number % 30), &format!("{number} {}", "x".repeat(900))).await;
    }
    assert!(matches!(check(folder.path()), Err(StoreError::InUse { .. })));
    store.reclaim().await.unwrap();
    for number in 0..10 {
        put(&store, "/later", &format!("{number} {}", "y".repeat(900))).await;
    }
    drop(store);
    let before = everything(folder.path());
    let checked = check(folder.path()).unwrap();
    assert_eq!((checked.keys, checked.rows, checked.revision), (31, 110, Revision(111)));
    assert_eq!(everything(folder.path()), before);
    let written = before.iter().rfind(|(path, bytes)| {
        path.starts_with(folder.path().join("log")) && bytes.iter().any(|byte| *byte != 0)
    });
    let (path, bytes) = written.unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    for at in [used / 3, used / 2] {
        let mut altered = bytes.clone();
        altered[at..at + 4].iter_mut().for_each(|byte| *byte ^= 0x55);
        fs::write(path, &altered).unwrap();
        let error = check(folder.path()).err();
        assert!(error.is_some(), "damage at {at}");
        assert_eq!(&fs::read(path).unwrap(), &altered, "it stays as it is");
        fs::write(path, bytes).unwrap();
    }
    let format = folder.path().join("format");
    fs::write(&format, "4\n").unwrap();
    let before = everything(folder.path());
    let opened = Store::open(folder.path(), Options::default()).err().unwrap();
    for newer in [check(folder.path()).unwrap_err(), opened].map(|error| error.to_string()) {
        assert!(newer.contains("reads up to 3: use the version that wrote it"), "{newer}");
    }
    assert_eq!(everything(folder.path()), before);
    assert!(matches!(check(&folder.path().join("nowhere")), Err(StoreError::Absent { .. })));
}

#[tokio::test]
async fn a_store_that_lost_a_file_is_refused_and_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for number in 0..10 {
        put(&store, &format!("/k/{number}"), "x").await;
    }
    store.reclaim().await.unwrap();
    put(&store, "/journal", "y").await;
    drop(store);
    let whole = everything(folder.path());
    // Zeros are the next file, made ahead.
    let empty = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    let needed: Vec<_> =
        whole.iter().filter(|(path, bytes)| !path.ends_with("lock") && !empty(bytes)).collect();
    assert_eq!(needed.len(), 2, "{needed:?}");
    for (path, bytes) in needed {
        fs::remove_file(path).unwrap();
        let before = everything(folder.path());
        let opened = Store::open(folder.path(), Options::default()).map(drop);
        for error in [check(folder.path()).map(drop), opened] {
            let error = error.err().map_or_else(|| "nothing is said".to_owned(), |error| error.to_string());
            assert!(error.contains("restore a snapshot"), "{} is gone: {error}", path.display());
            assert!(error.contains(&folder.path().display().to_string()), "{error}");
        }
        assert_eq!(everything(folder.path()), before, "{} is gone", path.display());
        fs::write(path, bytes).unwrap();
    }
    let store = open(folder.path());
    assert_eq!(store.count("/"), 11);
}

#[tokio::test]
async fn a_store_that_was_never_ready_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    // A process ends while it makes the store: all files before one of these are there.
    for last in [None, Some("log/00000001.log"), Some("log")] {
        fs::remove_file(folder.path().join("format")).unwrap();
        if let Some(last) = last.map(|last| folder.path().join(last)) {
            fs::remove_file(&last).or_else(|_| fs::remove_dir_all(&last)).unwrap();
        }
        let store = open(folder.path());
        assert_eq!(store.revision(), Revision::FIRST, "{last:?}");
        drop(store);
        assert!(check(folder.path()).is_ok(), "{last:?}");
    }
}

#[tokio::test]
async fn a_copy_that_cannot_be_written_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("live"));
    let before = everything(folder.path());
    for place in [folder.path().to_owned(), folder.path().join("live"), folder.path().join("none/copy")] {
        let error = store.save(&place, "c").await.unwrap_err().to_string();
        assert!(
            error.contains(&place.display().to_string()) && error.contains("cannot be written"),
            "{error}"
        );
    }
    assert_eq!(everything(folder.path()), before);
    let gone = snapshot_status(&folder.path().join("none")).unwrap_err().to_string();
    assert!(gone.starts_with("snapshot ") && gone.contains("cannot be read: No such file"), "{gone}");
}
