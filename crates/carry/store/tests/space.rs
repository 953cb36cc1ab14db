//! Room: the quota, what goes before it is reached, and what comes back from the disk.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::time::Duration;

use plimsoll_store::{Alarm, Change, Expect, Limits, Operation, Options, Put, Store, StoreError, Value};

const QUOTA: u64 = 1 << 20;

fn open(path: &Path) -> Store {
    let options = Options {
        compaction_interval: None,
        window: Limits { events: 16, bytes: 1 << 20 },
        volume: 64 << 10,
        quota: QUOTA,
        ..Options::default()
    };
    Store::open(path, options).unwrap()
}

/// Does not compress.
fn noise(length: usize, seed: &mut u64) -> Vec<u8> {
    let mut byte = || {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 56) as u8
    };
    (0..length).map(|_| byte()).collect()
}

async fn put(store: &Store, key: &str, length: usize, seed: &mut u64) -> Result<(), StoreError> {
    let value = Value::plain(noise(length, seed));
    store.commit(key, Expect::Any, Change::Put(value)).await.map(drop)
}

async fn delete(store: &Store, key: &str) {
    store.commit(key, Expect::Any, Change::Delete(Value::plain(""))).await.unwrap();
}

#[tokio::test]
async fn a_full_store_takes_deletions_and_recovers_by_itself() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (mut seed, mut written) = (1, 0);
    let refused = loop {
        match put(&store, &format!("/big/{written}"), 10_000, &mut seed).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused.to_string(), "etcdserver: mvcc: database space exceeded");
    let stats = store.stats().unwrap();
    assert!(stats.bytes.live > QUOTA * 9 / 10 && stats.bytes.kept() <= QUOTA, "{stats:?}");
    assert_eq!((stats.alarm, stats.recoveries, stats.keys), (Alarm::NoSpace, 0, written));
    assert!(matches!(put(&store, "/small", 1, &mut seed).await, Err(StoreError::NoSpace)));
    assert_eq!(store.range("/big/", None, 0, None).unwrap().entries.len(), written, "reading goes on");
    let mut alarm = store.alarm();
    delete(&store, "/big/0").await;
    delete(&store, "/big/1").await;
    delete(&store, "/big/2").await;
    tokio::time::timeout(Duration::from_secs(10), alarm.wait_for(|alarm| *alarm == Alarm::None))
        .await
        .unwrap()
        .unwrap();
    put(&store, "/small", 1, &mut seed).await.unwrap();
    assert_eq!(store.stats().unwrap().recoveries, 1);
}

#[tokio::test]
async fn history_goes_before_a_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut seed = 2;
    for turn in 0..2_000 {
        while let Err(error) = put(&store, &format!("/k/{}", turn % 20), 10_000, &mut seed).await {
            // Faster than history goes: that is told, and over in a moment.
            assert!(matches!(error, StoreError::NoSpace), "{error}");
            tokio::task::yield_now().await;
        }
    }
    let stats = store.stats().unwrap();
    assert!(stats.bytes.kept() <= QUOTA && stats.keys == 20, "{stats:?}");
}

#[tokio::test]
async fn events_have_a_share_and_the_oldest_go() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut seed = 3;
    put(&store, "/kept", 1000, &mut seed).await.unwrap();
    for number in 0..1_000 {
        let value = Value::plain(noise(2_000, &mut seed)).with_ttl(Some(Duration::from_secs(3600)));
        while let Err(error) =
            store.commit(&format!("/e/{number}"), Expect::Any, Change::Put(value.clone())).await
        {
            assert!(matches!(error, StoreError::NoSpace), "{error}");
            tokio::task::yield_now().await;
        }
    }
    while store.stats().unwrap().bytes.mortal > QUOTA / 8 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let left = store.count("/e/");
    assert!((20..=64).contains(&left), "{left}");
    for number in 1_000 - left..1_000 {
        assert!(store.get(&format!("/e/{number}")).is_some(), "{number} is one of the youngest {left}");
    }
    assert!(store.get("/kept").is_some());
}

#[tokio::test]
async fn leases_and_what_hangs_on_them_have_a_share_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let mut seed = 5;
    put(&store, "/kept", 1000, &mut seed).await.unwrap();
    let (mut granted, refused) = loop_until_refused(&store).await;
    assert_eq!(refused.to_string(), "etcdserver: mvcc: database space exceeded");
    assert!((300..400).contains(&granted), "{granted} leases");
    assert_eq!(store.stats().unwrap().alarm, Alarm::None, "other writes go on");
    store.revoke(granted).await.unwrap();
    granted -= 1;
    store.grant(1_000_000, 3600).await.unwrap();

    for number in 0..1_000 {
        let put = || Put {
            key: format!("/l/{number}").into(),
            value: Some(noise(2_000, &mut seed.clone()).into()),
            lease: Some(1 + number % granted),
        };
        while let Err(error) = store.operate(Operation::Put(put())).await {
            assert!(matches!(error, StoreError::NoSpace), "{error}");
            tokio::task::yield_now().await;
        }
    }
    while store.stats().unwrap().bytes.mortal > QUOTA / 8 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let left = store.count("/l/");
    assert!((20..=64).contains(&left), "{left}");
    assert!(store.get("/l/999").is_some() && store.get("/kept").is_some());
}

/// How many leases there were room for.
async fn loop_until_refused(store: &Store) -> (i64, StoreError) {
    let mut granted = 0;
    loop {
        match store.grant(granted + 1, 3600).await {
            Ok(_) => granted += 1,
            Err(error) => return (granted, error),
        }
    }
}

/// Two megabytes are written over and over, with compaction now and then.
#[tokio::test]
async fn churn_does_not_grow_the_disk() {
    // In memory where there is some: it is about bytes, not about the disk.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let options = Options { compaction_interval: None, volume: 64 << 10, ..Options::default() };
    let store = Store::open(folder.path(), options).unwrap();
    let log = || size(&folder.path().join("log"));
    let (mut seed, mut most) = (4, 0);
    for round in 0..25 {
        for key in 0..200 {
            let key = format!("/k/{key}");
            if round % 10 == 9 {
                delete(&store, &key).await;
            }
            put(&store, &key, 10_000, &mut seed).await.unwrap();
        }
        store.compact(store.revision()).await.unwrap();
        most = log().max(most);
    }
    let live = store.stats().unwrap().bytes.live;
    println!("{live} bytes live, a log of at most {most}, {} now", log());
    assert!(most < live * 2, "{most} bytes of log for {live} that live");
    store.reclaim().await.unwrap();
    assert!(log() < live * 13 / 10, "{} bytes of log for {live} that live", log());
    assert_eq!(store.count("/k/"), 200);
}

fn size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().filter_map(|entry| Some((entry.metadata().ok()?, entry.path())));
    sizes.map(|(found, path)| if found.is_dir() { size(&path) } else { found.len() }).sum()
}
