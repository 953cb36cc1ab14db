//! The thread that orders commits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{SystemTime, UNIX_EPOCH};

use plimsoll_mvcc::{Change, Changes, Denial, Draft, Entry, Lease, Refusal, Revision, Step, Txn, TxnDone};
use tokio::sync::{mpsc, oneshot};

use crate::shared::Shared;
use crate::teller::{Teller, Told};
use crate::upkeep::{Need, Upkeep};
use crate::{Alarm, StoreError};

/// How many transactions share a sync at most.
const GROUP: usize = 1024;
/// How many bytes of values share a sync at most (one transaction may be larger).
const GROUP_BYTES: usize = 8 << 20;

/// Something to write, on its way to the writer.
pub(crate) struct Request {
    pub(crate) work: Work,
    pub(crate) reply: Reply,
}

/// What became of a request, or why nothing did.
pub(crate) type Outcome = Result<Answer, Failure>;

/// Where that goes.
pub(crate) type Reply = oneshot::Sender<Outcome>;

/// What is to be written.
pub(crate) enum Work {
    /// Changes, each at a revision of its own.
    Steps(Vec<Step>),
    /// What a client of etcd asks for.
    Txn(Txn),
    /// A lease: its number, and its time to live in seconds.
    Grant(i64, i64),
    /// The end of a lease.
    Revoke(i64),
    /// The same, when its time is over.
    Lapse(i64),
}

/// What became of it.
pub(crate) enum Answer {
    Entries(Vec<Arc<Entry>>),
    Txn(TxnDone),
    Granted(Lease),
    Revoked(Revision),
    Lapsed,
}

/// Why it did not happen.
pub(crate) enum Failure {
    Refused(Refusal),
    Denied(Denial),
    NoSpace,
    Broken(Arc<str>),
    Closed,
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => Self::refused(refusal, 1),
            Failure::Denied(denial) => denial.into(),
            Failure::NoSpace => Self::NoSpace,
            Failure::Broken(reason) => Self::Broken(reason),
            Failure::Closed => Self::Closed,
        }
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Serves requests until every sender is gone.
pub(crate) fn run(shared: &Shared, upkeep: &Upkeep, mut requests: mpsc::Receiver<Request>) {
    Teller::beside(shared, upkeep, |teller| {
        let mut broken = None;
        while let Some(first) = requests.blocking_recv() {
            let group = gather(first, &mut requests);
            if broken.is_none() {
                broken = commit(shared, upkeep, teller, group).err();
            } else if let Some(reason) = &broken {
                refuse(group, reason);
            }
        }
    });
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
    match &request.work {
        Work::Steps(steps) => steps.iter().map(|step| step.change.value().size()).sum(),
        Work::Txn(txn) => txn.size(),
        Work::Grant(..) | Work::Revoke(_) | Work::Lapse(_) => 0,
    }
}

fn adds(request: &Request) -> bool {
    match &request.work {
        Work::Steps(steps) => steps.iter().any(|step| matches!(step.change, Change::Put(_))),
        Work::Txn(txn) => txn.adds(),
        Work::Grant(..) => true,
        Work::Revoke(_) | Work::Lapse(_) => false,
    }
}

/// The requests that there is room for; the others are refused, and upkeep is told. Deletions always fit: they are
/// how room comes about.
fn admit(shared: &Shared, upkeep: &Upkeep, group: Vec<Request>) -> Vec<Request> {
    let space = &shared.space;
    let (mut kept, leases) = {
        let state = shared.read();
        (state.bytes().kept(), state.leases().bytes())
    };
    let (admitted, refused): (Vec<_>, Vec<_>) = group.into_iter().partition(|request| {
        let more = size(request) as u64;
        // Only who ends leases makes room for leases.
        if matches!(request.work, Work::Grant(..)) && !space.fits_lease(leases) {
            return false;
        }
        let fits = !adds(request) || (space.alarm() == Alarm::None && space.fits(kept, more));
        if fits {
            kept += more;
            return true;
        }
        upkeep.need(Need::Room);
        if space.set(Alarm::NoSpace) {
            tracing::error!(quota = space.quota, "store has no room left and accepts deletions only");
        }
        false
    });
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

/// Orders the group, syncs it, shows it, has it told. An error means that the disk cannot be trusted.
fn commit(
    shared: &Shared,
    upkeep: &Upkeep,
    teller: &Teller<'_>,
    group: Vec<Request>,
) -> Result<(), Arc<str>> {
    let group = admit(shared, upkeep, group);
    // Only this thread changes keys, so what it read stays true until it writes.
    let (outcomes, changes) = {
        let state = shared.read();
        let mut draft = Draft::new(&state, now());
        let outcomes: Vec<_> = group.iter().map(|request| order(&mut draft, &request.work)).collect();
        (outcomes, draft.finish())
    };
    let anything = !changes.events.is_empty() || !changes.leases.is_empty();
    if anything && let Err(error) = shared.disk().append(&changes) {
        let reason: Arc<str> = error.to_string().into();
        tracing::error!(error = %reason, "store cannot write its log and accepts nothing more");
        shared.broken.store(true, Ordering::Relaxed);
        refuse(group, &reason);
        return Err(reason);
    }
    let Changes { events, leases } = changes;
    {
        let mut state = shared.write();
        if !leases.is_empty() {
            state.lease(leases);
            upkeep.lapse(state.leases().next());
        }
        state.apply(&events);
    }
    let answers = group.into_iter().map(|request| request.reply).zip(outcomes).collect();
    teller.tell(Told { answers, events });
    look(shared, upkeep);
    Ok(())
}

fn order(draft: &mut Draft<'_>, work: &Work) -> Outcome {
    match work {
        Work::Steps(steps) => draft.attempt(steps).map(Answer::Entries).map_err(Failure::Refused),
        Work::Txn(txn) => draft.transact(txn).map(Answer::Txn).map_err(Failure::Denied),
        Work::Grant(id, ttl) => draft.grant(*id, *ttl).map(Answer::Granted).map_err(Failure::Denied),
        Work::Revoke(id) => draft.revoke(*id).map(Answer::Revoked).map_err(Failure::Denied),
        Work::Lapse(id) => {
            draft.lapse(*id);
            Ok(Answer::Lapsed)
        }
    }
}

fn refuse(group: Vec<Request>, reason: &Arc<str>) {
    for request in group {
        let _ = request.reply.send(Err(Failure::Broken(Arc::clone(reason))));
    }
}
