//! What a value is in etcd, and what it is here.
//!
//! etcd gives a revision when it has a value already, so values lie there with an empty one
//! (`"resourceVersion":""`), and get it when they are read.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use plimsoll_etcd::mvccpb::KeyValue;
use plimsoll_mvcc::{Body, Entry, Revision, Value};

use crate::{StoreError, Transform};

/// Finds the digits of the revision in a value, or the place where they belong.
pub type Place = fn(&[u8]) -> Option<Range<usize>>;

/// Both ways.
pub(super) struct Form {
    pub(super) transform: Option<Arc<dyn Transform>>,
    pub(super) place: Place,
}

impl Form {
    /// What is sent.
    pub(super) fn seal(&self, key: &str, value: &Value) -> Bytes {
        let plain: Bytes = match &value.body {
            Body::Plain(bytes) => bytes.clone(),
            Body::Spliced { head, tail } => [&head[..], &tail[..]].concat().into(),
        };
        let sealed = self.transform.as_ref().and_then(|transform| transform.seal(key, &plain));
        sealed.map_or(plain, Bytes::from)
    }

    /// What was received; the second is whether it would be sent in another form today.
    pub(super) fn open(&self, pair: &KeyValue) -> Result<(Entry, bool), StoreError> {
        let foreign = || StoreError::Foreign { key: String::from_utf8_lossy(&pair.key).into_owned() };
        let key: Arc<str> = std::str::from_utf8(&pair.key).map_err(|_| foreign())?.into();
        let (mut plain, mut stale) = (pair.value.clone(), false);
        if let Some(transform) = &self.transform {
            let opened = transform.open(&key, &plain);
            let opened = opened.map_err(|cause| StoreError::Sealed { key: Arc::clone(&key), cause })?;
            stale = opened.stale;
            plain = opened.value.map_or(plain, Bytes::from);
        }
        let modified = Revision(pair.mod_revision);
        let entry = Entry {
            key,
            value: stamped(self.place, &plain, modified).ok_or_else(foreign)?,
            create: Revision(pair.create_revision),
            modified,
            version: u64::try_from(pair.version).unwrap_or_default(),
            // etcd lets it go by itself.
            expires: None,
            lease: 0,
            memo: OnceLock::new(),
        };
        Ok((entry, stale))
    }

    /// The last state of what went at a revision.
    pub(super) fn last(&self, before: &Entry, at: Revision) -> Entry {
        Entry {
            key: Arc::clone(&before.key),
            value: stamped(self.place, &before.value, at).unwrap_or_else(|| before.value.clone()),
            create: before.create,
            modified: at,
            version: 0,
            expires: None,
            lease: 0,
            memo: OnceLock::new(),
        }
    }
}

/// A value with its revision.
pub(crate) fn stamped(place: Place, bytes: &[u8], revision: Revision) -> Option<Bytes> {
    let place = place(bytes)?;
    let digits = revision.0.to_string();
    Some([&bytes[..place.start], digits.as_bytes(), &bytes[place.end..]].concat().into())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    /// Values here are `revision=…;`.
    fn place(bytes: &[u8]) -> Option<Range<usize>> {
        let end = bytes.iter().position(|byte| *byte == b';')?;
        bytes.starts_with(b"revision=").then_some(9..end)
    }

    #[test]
    fn values_get_their_revision_when_they_are_read() {
        let form = Form { transform: None, place };
        let sent = form.seal("/k", &Value::spliced("revision=", ";text"));
        assert_eq!(sent, "revision=;text");
        let pair = |value: &[u8]| KeyValue {
            key: "/k".into(),
            value: Bytes::copy_from_slice(value),
            create_revision: 3,
            mod_revision: 17,
            version: 2,
            lease: 0,
        };
        for value in [&sent[..], b"revision=5;text"] {
            let (entry, stale) = form.open(&pair(value)).unwrap();
            assert_eq!(
                (&*entry.value, entry.modified, stale),
                (&b"revision=17;text"[..], Revision(17), false)
            );
            assert_eq!(form.last(&entry, Revision(234)).value, "revision=234;text");
        }
        assert!(matches!(form.open(&pair(b"k8s\0protobuf")), Err(StoreError::Foreign { .. })));
    }
}
