//! Which pods of this node are connected by which addresses, and whether the policies' rules stand for
//! them: who connects a pod waits for that before anything runs in it.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use plimsoll_netplan::policies::Key;
use tokio::sync::watch;

/// Who waits longer gets no pod: the cluster's policies cannot be read.
const PATIENCE: Duration = Duration::from_secs(10);

/// The connected pods. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Attachments {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// How often something changed.
    told: watch::Sender<u64>,
    /// For how many of these changes the rules stand; nothing where nobody sets rules.
    standing: watch::Sender<Option<u64>>,
}

impl Default for Inner {
    fn default() -> Self {
        let (told, standing) = (watch::Sender::new(0), watch::Sender::new(None));
        Self { state: Mutex::default(), told, standing }
    }
}

#[derive(Debug, Default)]
struct State {
    /// By sandbox.
    pods: HashMap<String, (Key, Vec<IpAddr>)>,
    /// Pods whose addresses changed since somebody asked.
    changed: BTreeSet<Key>,
}

impl Attachments {
    /// A sandbox of this pod has these addresses; answers with the number of the change.
    pub(crate) fn add(&self, sandbox: &str, pod: Key, addresses: &[IpAddr]) -> u64 {
        let mut state = self.state();
        state.changed.insert(pod.clone());
        state.pods.insert(sandbox.to_owned(), (pod, addresses.to_vec()));
        self.tell()
    }

    /// A sandbox has no addresses any more.
    pub(crate) fn remove(&self, sandbox: &str) {
        let mut state = self.state();
        if let Some((pod, _)) = state.pods.remove(sandbox) {
            state.changed.insert(pod);
            self.tell();
        }
    }

    /// Waits until the rules stand for a change; whether they do. Where nobody sets rules, none are missed.
    pub(crate) async fn stands(&self, change: u64) -> bool {
        let mut standing = self.inner.standing.subscribe();
        let stands = standing.wait_for(|standing| standing.is_none_or(|standing| standing >= change));
        tokio::time::timeout(PATIENCE, stands).await.is_ok()
    }

    /// From now on somebody sets rules.
    pub(super) fn enforce(&self) {
        self.inner.standing.send_if_modified(|standing| standing.replace(0).is_none());
    }

    /// Tells of changes.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.inner.told.subscribe()
    }

    /// The number of the last change, and the pods whose addresses changed since the last call.
    pub(super) fn take(&self) -> (u64, BTreeSet<Key>) {
        let mut state = self.state();
        (*self.inner.told.borrow(), std::mem::take(&mut state.changed))
    }

    /// The rules stand for this change and all before.
    pub(super) fn stand(&self, change: u64) {
        self.inner.standing.send_replace(Some(change));
    }

    /// A pod's addresses; nothing when it is not connected.
    pub(super) fn addresses(&self, pod: &Key) -> Option<BTreeSet<IpAddr>> {
        let state = self.state();
        let mut sandboxes = state.pods.values().filter(|(key, _)| key == pod).peekable();
        sandboxes.peek()?;
        Some(sandboxes.flat_map(|(_, addresses)| addresses).copied().collect())
    }

    fn tell(&self) -> u64 {
        self.inner.told.send_modify(|told| *told += 1);
        *self.inner.told.borrow()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().expect("no code under the lock panics")
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_connects_a_pod_waits_for_its_rules() {
        let attachments = Attachments::default();
        let (pod, address) = (("ns".to_owned(), "a".to_owned()), "10.42.0.2".parse().unwrap());
        let first = attachments.add("1", pod.clone(), &[address]);
        assert!(attachments.stands(first).await, "nobody sets rules");
        attachments.enforce();
        assert!(!attachments.stands(first).await, "in vain");
        let (change, changed) = attachments.take();
        assert_eq!((change, changed.len()), (first, 1));
        assert_eq!(attachments.addresses(&pod).unwrap().len(), 1);
        attachments.stand(change);
        assert!(attachments.stands(first).await);
        let second = attachments.add("2", pod.clone(), &[]);
        attachments.remove("1");
        attachments.remove("unknown");
        assert_eq!(attachments.take().1.len(), 1);
        assert!(attachments.addresses(&pod).unwrap().is_empty());
        attachments.remove("2");
        assert_eq!(attachments.addresses(&pod), None);
        let waits = attachments.clone();
        let waiting = tokio::spawn(async move { waits.stands(second).await });
        tokio::task::yield_now().await;
        attachments.stand(attachments.take().0);
        assert!(waiting.await.unwrap());
    }
}
