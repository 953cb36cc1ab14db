//! Values that have another form on disk.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use plimsoll_store::{
    Change, Expect, Limits, Opened, Options, Revision, Store, StoreError, Transform, Value, WatchItem,
};

/// Turns every byte of secrets by a number; form 0 leaves values as they are.
#[derive(Debug)]
struct Turned {
    by: u8,
    reads: Vec<u8>,
}

impl Transform for Turned {
    fn seal(&self, key: &str, value: &[u8]) -> Option<Vec<u8>> {
        let turned = || std::iter::once(self.by).chain(value.iter().map(|byte| byte ^ self.by)).collect();
        (key.starts_with("/secrets/") && self.by != 0).then(turned)
    }

    fn open(&self, key: &str, stored: &[u8]) -> Result<Opened, String> {
        if !key.starts_with("/secrets/") {
            return Ok(Opened { value: None, stale: false });
        }
        match stored.split_first() {
            Some((b'{', _)) => Ok(Opened { value: None, stale: self.by != 0 }),
            Some((by, rest)) if self.reads.contains(by) => {
                Ok(Opened { value: Some(rest.iter().map(|byte| byte ^ by).collect()), stale: *by != self.by })
            }
            _ => Err("no matching prefix found".to_owned()),
        }
    }
}

fn open(path: &Path, by: u8, reads: &[u8]) -> Result<Store, StoreError> {
    Store::open(
        path,
        Options {
            compaction_interval: None,
            window: Limits { events: 1, bytes: 1 << 20 },
            watch_queue: 2,
            transform: Some(Arc::new(Turned { by, reads: reads.to_vec() })),
            ..Options::default()
        },
    )
}

/// Does any file below the folder hold these bytes?
fn on_disk(folder: &Path, text: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|file| {
        let path = file.unwrap().path();
        match path.is_dir() {
            true => on_disk(&path, text),
            false => std::fs::read(&path).unwrap().windows(text.len()).any(|part| part == text.as_bytes()),
        }
    })
}

async fn put(store: &Store, key: &str, text: &str) {
    let value = Value::plain(format!("{{\"{text}\"}}"));
    store.commit(key, Expect::Any, Change::Put(value)).await.unwrap();
}

#[tokio::test]
async fn what_lies_on_disk_is_not_what_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), 0x55, &[0x55]).unwrap();
    for round in 0..4 {
        put(&store, "/secrets/a", &format!("hunter2-{round}")).await;
        put(&store, "/maps/a", &format!("public-{round}")).await;
    }
    let gone = Change::Delete(Value::plain("{\"hunter2-last\"}"));
    store.commit("/secrets/a", Expect::Any, gone).await.unwrap();
    assert_eq!(&*store.get_at("/secrets/a", Revision(2)).unwrap().unwrap().value, b"{\"hunter2-0\"}");
    let mut watch = store.watch("/secrets/", Some(Revision(1))).unwrap();
    let WatchItem::Event(first) = watch.next().await.unwrap();
    assert_eq!(&*first.entry.value, b"{\"hunter2-0\"}");
    drop((watch, store));
    assert!(on_disk(folder.path(), "public-3"), "the search finds what is there");
    assert!(!on_disk(folder.path(), "hunter2"));
    let store = open(folder.path(), 0x55, &[0x55]).unwrap();
    assert_eq!(&*store.get_at("/secrets/a", Revision(8)).unwrap().unwrap().value, b"{\"hunter2-3\"}");
}

#[tokio::test]
async fn outdated_forms_are_known_and_go_when_they_are_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), 0, &[]).unwrap();
    put(&store, "/secrets/a", "old").await;
    assert!(!store.stale("/secrets/a").await.unwrap());
    drop(store);
    let store = open(folder.path(), 1, &[1]).unwrap();
    assert_eq!(&*store.get("/secrets/a").unwrap().value, b"{\"old\"}");
    assert!(store.stale("/secrets/a").await.unwrap());
    assert!(!store.stale("/secrets/none").await.unwrap());
    put(&store, "/secrets/a", "old").await;
    assert!(!store.stale("/secrets/a").await.unwrap());
    drop(store);
    let store = open(folder.path(), 2, &[2, 1]).unwrap();
    assert!(store.stale("/secrets/a").await.unwrap());
    drop(store);
    let error = open(folder.path(), 2, &[2]).err().unwrap();
    assert!(matches!(error, StoreError::Sealed { .. }), "{error}");
    assert_eq!(error.to_string(), "unable to transform key \"/secrets/a\": no matching prefix found");
}
