//! The thread that orders commits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use plimsoll_mvcc::{Change, Entry, Group, Refusal, Step, sequence};
use tokio::sync::{mpsc, oneshot};

use crate::Alarm;
use crate::shared::Shared;
use crate::upkeep::{Need, Upkeep};

/// How many transactions share a sync at most.
const GROUP: usize = 1024;
/// How many bytes of values share a sync at most (one transaction may be larger).
const GROUP_BYTES: usize = 8 << 20;

/// A transaction on its way to the writer.
pub(crate) struct Request {
    pub(crate) steps: Vec<Step>,
    pub(crate) reply: oneshot::Sender<Result<Vec<Arc<Entry>>, Failure>>,
}

/// Why a transaction did not happen.
pub(crate) enum Failure {
    Refused(Refusal),
    NoSpace,
    Broken(Arc<str>),
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Serves requests until every sender is gone.
pub(crate) fn run(shared: &Shared, upkeep: &Upkeep, mut requests: mpsc::Receiver<Request>) {
    let mut broken = None;
    while let Some(first) = requests.blocking_recv() {
        let group = gather(first, &mut requests);
        if broken.is_none() {
            broken = commit(shared, upkeep, group).err();
        } else if let Some(reason) = &broken {
            refuse(group, reason);
        }
    }
}

/// Everything that waits already, within limits. Nobody waits for company: while one group syncs,
/// the next one gathers by itself.
fn gather(first: Request, requests: &mut mpsc::Receiver<Request>) -> Vec<Request> {
    let mut bytes = size(&first);
    let mut group = vec![first];
    while group.len() < GROUP && bytes < GROUP_BYTES {
        let Ok(next) = requests.try_recv() else { break };
        bytes += size(&next);
        group.push(next);
    }
    group
}

fn size(request: &Request) -> usize {
    request.steps.iter().map(|step| step.change.value().size()).sum()
}

/// The requests that there is room for; the others are refused, and upkeep is told. Deletions always fit: they are
/// how room comes about.
fn admit(shared: &Shared, upkeep: &Upkeep, group: Vec<Request>) -> Vec<Request> {
    let adds = |request: &Request| request.steps.iter().any(|step| matches!(step.change, Change::Put(_)));
    let space = &shared.space;
    let mut kept = shared.read().bytes().kept();
    let (admitted, refused): (Vec<_>, Vec<_>) = group.into_iter().partition(|request| {
        let more = size(request) as u64;
        let fits = !adds(request) || (space.alarm() == Alarm::None && space.fits(kept, more));
        if fits {
            kept += more;
        } else if space.set(Alarm::NoSpace) {
            tracing::error!(quota = space.quota, "store has no room left and accepts deletions only");
        }
        fits
    });
    if !refused.is_empty() {
        upkeep.need(Need::Room);
    }
    for request in refused {
        let _ = request.reply.send(Err(Failure::NoSpace));
    }
    admitted
}

/// Tells upkeep what is to go.
fn look(shared: &Shared, upkeep: &Upkeep) {
    let bytes = shared.read().bytes();
    if shared.space.surplus(bytes) > 0 {
        upkeep.need(Need::Fewer);
    }
    if shared.space.alarm() == Alarm::NoSpace {
        upkeep.need(Need::Room);
    } else if shared.space.tight(bytes) {
        upkeep.need(Need::Shorter);
    }
}

/// Orders the group, syncs it, shows it, answers. An error means that the disk cannot be trusted.
fn commit(shared: &Shared, upkeep: &Upkeep, group: Vec<Request>) -> Result<(), Arc<str>> {
    let group = admit(shared, upkeep, group);
    let steps = group.iter().map(|request| &*request.steps);
    // Only this thread changes keys, so what it read stays true until it writes.
    let Group { outcomes, events } = sequence(&shared.read(), steps, now());
    if !events.is_empty()
        && let Err(error) = shared.disk.append(&events)
    {
        let reason: Arc<str> = error.to_string().into();
        tracing::error!(error = %reason, "store cannot write its log and accepts nothing more");
        shared.broken.store(true, Ordering::Relaxed);
        refuse(group, &reason);
        return Err(reason);
    }
    shared.write().apply(&events);
    for (request, outcome) in group.into_iter().zip(outcomes) {
        // A writer that went away does not mind.
        let _ = request.reply.send(outcome.map_err(Failure::Refused));
    }
    shared.hub.publish(&events);
    upkeep.remember(&events);
    look(shared, upkeep);
    Ok(())
}

fn refuse(group: Vec<Request>, reason: &Arc<str>) {
    for request in group {
        let _ = request.reply.send(Err(Failure::Broken(Arc::clone(reason))));
    }
}
