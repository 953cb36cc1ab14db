//! Transactions of etcd's clients, and leases, in the order of a group.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::group::version;
use crate::query::Found;
use crate::txn::{Denial, Done, Operation, Put, Txn, TxnDone};
use crate::{Draft, Entry, Event, EventKind, Lease, Memo, Pick, Query, Revision, Span, Unreadable};

/// A transaction on its way: where its events begin, and their revision.
#[derive(Clone, Copy)]
struct Place {
    mark: usize,
    before: Revision,
}

impl Draft<'_> {
    /// All operations of a transaction at one revision, or none.
    ///
    /// # Errors
    /// When one of them is not possible.
    pub fn transact(&mut self, txn: &Txn) -> Result<TxnDone, Denial> {
        let place = Place { mark: self.events.len(), before: self.revision() };
        let mut path = Vec::new();
        self.compare(txn, &mut path);
        let done = self.perform(txn, &mut path.into_iter(), place);
        if done.is_err() {
            self.undo(place.mark);
        }
        done
    }

    /// Makes a lease.
    ///
    /// # Errors
    /// When there is one of this number.
    pub fn grant(&mut self, id: i64, ttl: i64) -> Result<Lease, Denial> {
        if self.lease(id).is_some() {
            return Err(Denial::LeaseExists);
        }
        let lease = Lease::new(id, ttl, self.now);
        self.leases.insert(id, Some(lease.clone()));
        Ok(lease)
    }

    /// Ends a lease and deletes what hangs on it, at one revision. The revision behind it.
    ///
    /// # Errors
    /// When there is no such lease.
    pub fn revoke(&mut self, id: i64) -> Result<Revision, Denial> {
        let lease = self.lease(id).ok_or(Denial::LeaseNotFound)?;
        let fresh = self.events.iter().map(|event| &event.entry).filter(|entry| entry.lease == id);
        let mut keys: Vec<_> = lease.keys.iter().chain(fresh.map(|entry| &entry.key)).cloned().collect();
        keys.sort_unstable();
        keys.dedup();
        let place = Place { mark: self.events.len(), before: self.revision() };
        for key in keys {
            if let Some(entry) = self.current(&key).filter(|entry| entry.lease == id) {
                self.bury(entry, place);
            }
        }
        self.leases.insert(id, None);
        Ok(self.revision())
    }

    /// Ends a lease whose time is over; nothing when it was renewed meanwhile, or is gone.
    pub fn lapse(&mut self, id: i64) {
        let now = self.now;
        if self.lease(id).is_some_and(|lease| lease.deadline <= now) {
            // It is there.
            let _ = self.revoke(id);
        }
    }

    fn lease(&self, id: i64) -> Option<&Lease> {
        match self.leases.get(&id) {
            Some(changed) => changed.as_ref(),
            None => self.state.leases().get(id),
        }
    }

    /// Which way each transaction goes, outer ones first.
    fn compare(&self, txn: &Txn, path: &mut Vec<bool>) {
        let holds = txn.compare.iter().all(|compare| compare.holds(&self.entries(&compare.span)));
        path.push(holds);
        for operation in if holds { &txn.success } else { &txn.failure } {
            if let Operation::Txn(inner) = operation {
                self.compare(inner, path);
            }
        }
    }

    fn perform(
        &mut self,
        txn: &Txn,
        path: &mut impl Iterator<Item = bool>,
        place: Place,
    ) -> Result<TxnDone, Denial> {
        let succeeded = path.next().unwrap_or_default();
        let mut done = Vec::new();
        for operation in if succeeded { &txn.success } else { &txn.failure } {
            let what = match operation {
                Operation::Range(query) => Done::Range(query.clone(), self.read(query, place)?),
                Operation::Put(put) => Done::Put(self.put(put, place)?),
                Operation::Delete(span) => Done::Delete(self.delete(span, place)?),
                Operation::Txn(inner) => Done::Txn(self.perform(inner, path, place)?),
            };
            done.push((self.revision(), what));
        }
        Ok(TxnDone { succeeded, revision: self.revision(), done })
    }

    fn put(&mut self, put: &Put, place: Place) -> Result<Option<Arc<Entry>>, Denial> {
        let previous = self.current(&put.key);
        let known = || previous.as_ref().ok_or(Denial::KeyNotFound);
        let value = match &put.value {
            Some(value) => value.clone(),
            None => known()?.value.clone(),
        };
        let lease = match put.lease {
            Some(lease) => lease,
            None => known()?.lease,
        };
        if lease != 0 && self.lease(lease).is_none() {
            return Err(Denial::LeaseNotFound);
        }
        self.once(&put.key, previous.as_deref(), place)?;
        let modified = place.before.next();
        let entry = Entry {
            key: previous.as_ref().map_or_else(|| Arc::clone(&put.key), |entry| Arc::clone(&entry.key)),
            value,
            create: previous.as_ref().map_or(modified, |entry| entry.create),
            modified,
            version: version(EventKind::Put, previous.as_deref()),
            expires: None,
            lease,
            memo: OnceLock::new(),
        };
        self.add(EventKind::Put, entry, previous.clone(), place);
        Ok(previous)
    }

    fn delete(&mut self, span: &Span, place: Place) -> Result<Vec<Arc<Entry>>, Denial> {
        let gone = self.entries(span);
        for entry in &gone {
            self.once(&entry.key, Some(entry), place)?;
        }
        for entry in &gone {
            self.bury(Arc::clone(entry), place);
        }
        Ok(gone)
    }

    /// The final state that watchers see is the last value as it is.
    fn bury(&mut self, previous: Arc<Entry>, place: Place) {
        let entry = Entry {
            key: Arc::clone(&previous.key),
            value: previous.value.clone(),
            create: previous.create,
            modified: place.before.next(),
            version: 0,
            expires: None,
            lease: 0,
            memo: OnceLock::new(),
        };
        self.add(EventKind::Delete, entry, Some(previous), place);
    }

    fn add(&mut self, kind: EventKind, entry: Entry, previous: Option<Arc<Entry>>, place: Place) {
        let before = self.events[place.mark..].last_mut();
        // Nobody else has it yet.
        if let Some(before) = before.and_then(Arc::get_mut) {
            before.last = false;
        }
        let sub = u32::try_from(self.events.len() - place.mark).unwrap_or(u32::MAX);
        self.push(Event { kind, entry: Arc::new(entry), previous, sub, last: true, memo: Memo::default() });
    }

    /// Refuses to change a key twice at one revision: it is new, or went at this very revision.
    fn once(&self, key: &str, current: Option<&Entry>, place: Place) -> Result<(), Denial> {
        let changed = match current {
            Some(entry) => entry.modified > place.before,
            None => self.events[place.mark..].iter().any(|event| &*event.entry.key == key),
        };
        if changed { Err(Denial::DuplicateKey) } else { Ok(()) }
    }

    fn read(&self, query: &Query, place: Place) -> Result<Found, Denial> {
        match query.at {
            None => {}
            Some(at) if at > place.before => return Err(Unreadable::Future { current: place.before }.into()),
            Some(at) if at <= self.state.revision() => {
                return Ok(self.state.find(&query.span, query.reach(), Some(at))?);
            }
            Some(_) => {}
        }
        let mut entries = self.entries_at(&query.span, query.at);
        let count = entries.len();
        entries.truncate(query.reach());
        Ok(Found { picks: entries.into_iter().map(Pick::Entry).collect(), count })
    }

    /// The keys of a span behind what the group did so far.
    fn entries(&self, span: &Span) -> Vec<Arc<Entry>> {
        match span.single() {
            Some(key) => self.current(key).into_iter().collect(),
            None => self.entries_at(span, None),
        }
    }

    fn entries_at(&self, span: &Span, at: Option<Revision>) -> Vec<Arc<Entry>> {
        let current = self.state.find(span, usize::MAX, None).map(|found| found.picks).unwrap_or_default();
        let current = current.into_iter().filter_map(|pick| match pick {
            Pick::Entry(entry) => Some(entry),
            Pick::Row(_) => None,
        });
        let in_time = |event: &&Arc<Event>| at.is_none_or(|at| event.revision() <= at);
        let mut changes =
            self.events.iter().take_while(in_time).filter(|event| span.contains(&event.entry.key)).peekable();
        if changes.peek().is_none() {
            return current.collect();
        }
        let mut all: BTreeMap<Arc<str>, Arc<Entry>> =
            current.map(|entry| (Arc::clone(&entry.key), entry)).collect();
        for event in changes {
            match event.kind {
                EventKind::Put => all.insert(Arc::clone(&event.entry.key), Arc::clone(&event.entry)),
                EventKind::Delete => all.remove(&event.entry.key),
            };
        }
        all.into_values().collect()
    }
}
