//! The thread that tells what happened, while the writer is at the next group already.
//!
//! What enters: groups that are durable and visible, in order. What leaves: the writers' answers, and the events to
//! the watchers and to the upkeep.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use plimsoll_mvcc::Event;

use crate::shared::Shared;
use crate::upkeep::Upkeep;
use crate::writer::{Outcome, Reply};

/// Groups that may wait to be told: the writer waits for watchers no longer than it would if it told them itself.
const WAITING: usize = 4;
/// Waking a thread costs more than to tell so many.
const FEW: usize = 4;

/// What one group came to.
pub(crate) struct Told {
    pub(crate) answers: Vec<(Reply, Outcome)>,
    pub(crate) events: Vec<Arc<Event>>,
}

/// The writer's end. The thread ends with it.
pub(crate) struct Teller<'a> {
    shared: &'a Shared,
    upkeep: &'a Upkeep,
    groups: SyncSender<Told>,
    waiting: &'a AtomicUsize,
}

impl<'a> Teller<'a> {
    /// Runs `write` beside the thread, and waits until everything is told.
    pub(crate) fn beside(shared: &Shared, upkeep: &Upkeep, write: impl FnOnce(&Teller<'_>)) {
        let waiting = &AtomicUsize::new(0);
        thread::scope(|scope| {
            let (groups, queue) = mpsc::sync_channel(WAITING);
            let teller = Teller { shared, upkeep, groups, waiting };
            let started = thread::Builder::new()
                .name("store-teller".into())
                .spawn_scoped(scope, move || run(shared, upkeep, waiting, &queue));
            if let Err(error) = started {
                // The queue went with the thread: the writer tells everything itself.
                tracing::warn!(%error, "writers are answered by the thread that writes");
            }
            write(&teller);
        });
    }

    /// Tells of a group, behind those before it.
    pub(crate) fn tell(&self, told: Told) {
        if told.answers.len() <= FEW && self.waiting.load(Ordering::Acquire) == 0 {
            return told.tell(self.shared, self.upkeep);
        }
        self.waiting.fetch_add(1, Ordering::Release);
        if let Err(mpsc::SendError(told)) = self.groups.send(told) {
            told.tell(self.shared, self.upkeep);
        }
    }
}

fn run(shared: &Shared, upkeep: &Upkeep, waiting: &AtomicUsize, queue: &Receiver<Told>) {
    while let Ok(told) = queue.recv() {
        told.tell(shared, upkeep);
        waiting.fetch_sub(1, Ordering::Release);
    }
}

impl Told {
    fn tell(self, shared: &Shared, upkeep: &Upkeep) {
        for (reply, answer) in self.answers {
            // A writer that went away does not mind.
            let _ = reply.send(answer);
        }
        shared.hub.publish(&self.events);
        upkeep.remember(&self.events);
    }
}
