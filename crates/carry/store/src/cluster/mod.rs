//! A cluster of etcd as the store.
//!
//! What readers and watchers get is in memory here as it is with the embedded log: all current versions, and the
//! changes of the recent past. `feed` keeps that like etcd. Writes are etcd's transactions (`transaction`); they
//! return when memory has them, so that whoever writes reads what it wrote. Who needs what others wrote asks for the
//! newest revision first and waits until memory has it ([`Etcd::catch_up`]). `compaction` and `upkeep` are what an
//! operator of etcd would do by hand.

mod compaction;
mod connection;
mod feed;
mod form;
mod leases;
mod past;
mod transaction;
mod upkeep;

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use plimsoll_etcd::etcdserverpb::kv_client::KvClient;
use plimsoll_etcd::etcdserverpb::maintenance_client::MaintenanceClient;
use plimsoll_etcd::etcdserverpb::{RangeRequest, SnapshotRequest};
use plimsoll_mvcc::advice::{Measured, advise};
use plimsoll_mvcc::members::{Member, Unfit, fit};
use plimsoll_mvcc::{Change, Entry, Limits, Revision, Step};
use tokio::sync::{Notify, watch};
use tokio::task::AbortHandle;
use tonic::Status;

use crate::hub::Hub;
use crate::shared::Shared;
use crate::space::Space;
use crate::{Alarm, Draft, Options, StoreError, Summary, Timings, snapshot};
use connection::{Members, Repeat, Wire};
use feed::Feed;
use form::Form;
pub use form::Place;
pub(crate) use form::stamped;
use leases::Leases;
use upkeep::Upkeep;

/// What all our keys begin with, as upstream's.
pub(crate) const PREFIX: &str = "/registry/";
/// The past that can be read: etcd's own is not asked for.
const LIMITS: Limits = Limits { events: 65_536, bytes: 64 << 20 };
/// How long memory may be behind what etcd has answered.
const BEHIND: Duration = Duration::from_secs(10);
/// When another member is asked for it.
const LATE: Duration = Duration::from_secs(2);

/// Where the cluster is, and how its values are read.
#[derive(Clone, Debug)]
pub struct Cluster {
    /// `SCHEME://HOST:PORT` of its members.
    pub endpoints: Vec<String>,
    /// Whose certificates members show (PEM).
    pub authority: Option<PathBuf>,
    /// Our certificate and key for them (PEM).
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Where a value has its revision.
    pub place: Place,
}

impl Cluster {
    /// Without TLS.
    #[must_use]
    pub fn plain(endpoints: Vec<String>, place: Place) -> Self {
        Self { endpoints, authority: None, identity: None, place }
    }
}

/// What the members of a cluster say of themselves, and what is to be done about what they measured.
///
/// # Errors
/// When no member answers.
pub async fn examine(cluster: &Cluster) -> Result<(Vec<Member>, Vec<String>), StoreError> {
    let members = Members::new(cluster)?;
    let mut found = first_look(&members).await?;
    agree(cluster, &mut found).await;
    let mut measured = Vec::new();
    let mut advice = Vec::new();
    for member in &found {
        match connection::get(cluster, &member.endpoint, "/metrics").await {
            Ok(text) => measured.push(Measured::read(&member.endpoint, &text)),
            Err(error) => advice.push(error.to_string()),
        }
    }
    let unfit = fit(&found).err().map(|unfit| unfit.to_string());
    let alarms: BTreeSet<_> =
        found.iter().flat_map(|member| &member.errors).map(|error| error.trim()).collect();
    let said = |alarm: &&str| !unfit.as_ref().is_some_and(|unfit| unfit.contains(alarm));
    advice.extend(alarms.into_iter().filter(said).map(|alarm| format!("etcd says: {alarm}")));
    advice.extend(unfit);
    advice.extend(advise(&measured));
    Ok((found, advice))
}

/// The engine; dropped, it stops.
pub(crate) struct Etcd {
    members: Arc<Members>,
    form: Arc<Form>,
    leases: Leases,
    upkeep: Upkeep,
    reached: watch::Receiver<Revision>,
    nudge: Arc<Notify>,
    newest: Newest,
    pub(crate) timings: Timings,
    tasks: Vec<AbortHandle>,
}

/// Those who ask at the same time share a question.
#[derive(Default)]
struct Newest {
    asked: AtomicU64,
    last: tokio::sync::Mutex<(u64, Revision)>,
}

impl Etcd {
    /// Looks whether the cluster can be the store, and fills memory from it.
    pub(crate) async fn open(
        cluster: &Cluster,
        options: &Options,
    ) -> Result<(Arc<Shared>, Self), StoreError> {
        let members = Arc::new(Members::new(cluster)?);
        let found = fitting(cluster, &members).await?;
        let form = Arc::new(Form { transform: options.transform.clone(), place: cluster.place });
        let state = feed::list(&members, &form).await?;
        let revision = state.revision();
        let hub = Arc::new(Hub::new(revision, options.watch_queue));
        let shared = Arc::new(Shared::new(state, None, hub, Space::new(options.quota)));
        let (sender, reached) = watch::channel(revision);
        let upkeep = Upkeep {
            shared: Arc::clone(&shared),
            members: Arc::clone(&members),
            known: Arc::new(Mutex::new(found)),
            mine: Arc::new(AtomicBool::new(false)),
            full: Arc::new(Notify::new()),
        };
        let nudge = Arc::new(Notify::new());
        let feed = Feed {
            shared: Arc::clone(&shared),
            members: Arc::clone(&members),
            form: Arc::clone(&form),
            reached: sender,
            nudge: Arc::clone(&nudge),
        };
        let mut tasks =
            vec![tokio::spawn(feed.run()).abort_handle(), tokio::spawn(upkeep.clone().run()).abort_handle()];
        if let Some(interval) = options.compaction_interval {
            let run = compaction::run(Arc::clone(&members), interval, Arc::clone(&upkeep.mine));
            tasks.push(tokio::spawn(run).abort_handle());
        }
        let engine = Self {
            members,
            form,
            leases: Leases::default(),
            upkeep,
            reached,
            nudge,
            newest: Newest::default(),
            timings: Timings::default(),
            tasks,
        };
        Ok((shared, engine))
    }

    /// Commits all steps or none, at one revision, and waits until memory has it.
    pub(crate) async fn commit(
        &self,
        shared: &Shared,
        steps: Vec<Step>,
    ) -> Result<Vec<Arc<Entry>>, StoreError> {
        let since = Instant::now();
        let before: Vec<_> = steps.iter().map(|step| shared.read().get(&step.key)).collect();
        let answer = match self.transact(&steps).await {
            // Somebody revoked the lease.
            Err(status) if status.message().contains("requested lease not found") => {
                self.leases.forget();
                self.transact(&steps).await
            }
            other => other,
        };
        let answer = answer.map_err(|status| {
            let error = failure(status);
            if matches!(error, StoreError::NoSpace) {
                shared.space.set(Alarm::NoSpace);
                self.upkeep.full.notify_one();
            }
            error
        })?;
        let revision = Revision(answer.header.map(|header| header.revision).unwrap_or_default());
        self.timings.commit.observe(since.elapsed().as_secs_f64());
        // Who was refused reads what was in the way.
        self.wait(revision).await?;
        if !answer.succeeded {
            let (step, current) = transaction::refusal(&steps, answer.responses);
            let current =
                current.map(|pair| self.form.open(&pair)).transpose()?.map(|(entry, _)| Arc::new(entry));
            return Err(match steps.len() {
                1 => StoreError::Precondition { current },
                _ => StoreError::PreconditionAt { step, current },
            });
        }
        Ok(steps.iter().zip(before).map(|(step, before)| committed(shared, step, before, revision)).collect())
    }

    async fn transact(&self, steps: &[Step]) -> Result<plimsoll_etcd::etcdserverpb::TxnResponse, Status> {
        let leases = self.leases.of(&self.members, steps).await?;
        let request = transaction::request(steps, &self.form, &leases);
        let txn = |wire: Wire| {
            let request = request.clone();
            async move { KvClient::new(wire).max_decoding_message_size(connection::LARGEST).txn(request).await }
        };
        self.members.ask(Repeat::IfUndone, txn).await
    }

    /// Waits until memory has everything that was written, by whomever, before this was called.
    pub(crate) async fn catch_up(&self) -> Result<(), StoreError> {
        let ticket = self.newest.asked.fetch_add(1, Ordering::AcqRel);
        let revision = {
            let mut last = self.newest.last.lock().await;
            // An answer to a question that was put after this call began will do.
            if last.0 <= ticket {
                let asked = self.newest.asked.load(Ordering::Acquire);
                let revision = newest(&self.members).await.map_err(failure)?;
                *last = (asked, revision);
            }
            last.1
        };
        self.wait(revision).await
    }

    async fn wait(&self, revision: Revision) -> Result<(), StoreError> {
        let mut reached = self.reached.clone();
        let arrives = async {
            if tokio::time::timeout(LATE, reached.wait_for(|at| *at >= revision)).await.is_err() {
                self.nudge.notify_waiters();
                let _ = reached.wait_for(|at| *at >= revision).await;
            }
        };
        let late = || StoreError::Unavailable("its changes do not arrive".into());
        tokio::time::timeout(BEHIND, arrives).await.map_err(|_| late())
    }

    /// Whether a key would be written in another form today.
    pub(crate) async fn stale(&self, key: &str) -> Result<bool, StoreError> {
        if self.form.transform.is_none() {
            return Ok(false);
        }
        let request = RangeRequest { key: Bytes::copy_from_slice(key.as_bytes()), ..RangeRequest::default() };
        let range = |wire: Wire| {
            let request = request.clone();
            async move { KvClient::new(wire).max_decoding_message_size(connection::LARGEST).range(request).await }
        };
        let found = self.members.ask(Repeat::Always, range).await.map_err(failure)?;
        let stale = found.kvs.first().map(|pair| self.form.open(pair)).transpose()?;
        Ok(stale.is_some_and(|(_, stale)| stale))
    }

    /// Lets the history of etcd before a revision go.
    pub(crate) async fn compact(&self, to: Revision) -> Result<(), StoreError> {
        compaction::compact(&self.members, to.0).await.map_err(failure)
    }

    /// Writes the members' files again, one at a time.
    pub(crate) async fn reclaim(&self) -> Result<(), StoreError> {
        self.upkeep.reclaim().await
    }

    /// What the members said of themselves last.
    pub(crate) fn members(&self) -> Vec<Member> {
        self.upkeep.known.lock().expect("nothing panics while it holds what is known").clone()
    }

    /// Writes a snapshot of a member that does not lead to a file, as `etcdctl snapshot save` does.
    pub(crate) async fn save(&self, path: &Path) -> Result<Summary, StoreError> {
        let failed = |source| snapshot::unwritten(path, &source);
        let members = self.members();
        let follower = members.iter().find(|member| member.id != member.leader).or(members.first());
        let wire = follower
            .and_then(|member| self.members.each().find(|(endpoint, _)| *endpoint == member.endpoint));
        let wire = wire.map_or_else(|| self.members.current().1, |(_, wire)| wire);
        let mut client = MaintenanceClient::new(wire).max_decoding_message_size(connection::LARGEST);
        let mut pieces = client.snapshot(SnapshotRequest {}).await.map_err(failure)?.into_inner();
        let mut draft = Draft::begin(path).map_err(failed)?;
        while let Some(piece) = pieces.message().await.map_err(failure)? {
            draft.write_all(&piece.blob).map_err(failed)?;
        }
        let path = path.to_owned();
        let look = move || {
            let summary = snapshot::status(draft.path())?;
            draft.finish().map_err(|cause| snapshot::unwritten(&path, &cause))?;
            Ok(summary)
        };
        tokio::task::spawn_blocking(look).await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// The version that a step made.
fn committed(shared: &Shared, step: &Step, before: Option<Arc<Entry>>, revision: Revision) -> Arc<Entry> {
    if matches!(step.change, Change::Put(_))
        && let Ok(Some(entry)) = shared.get_at(&step.key, revision)
        && entry.modified == revision
    {
        return entry;
    }
    // It went, or so much happened since that memory has forgotten it.
    Arc::new(Entry {
        key: Arc::clone(&step.key),
        value: step.change.value().at(revision),
        create: before.map_or(revision, |entry| entry.create),
        modified: revision,
        version: 0,
        expires: None,
        lease: 0,
        memo: OnceLock::new(),
    })
}

/// Members that can be the store.
async fn fitting(cluster: &Cluster, members: &Members) -> Result<Vec<Member>, StoreError> {
    /// etcd looks every 4 seconds whether the last member has the new version.
    const UPGRADE: Duration = Duration::from_secs(10);
    let since = Instant::now();
    loop {
        let mut found = first_look(members).await?;
        agree(cluster, &mut found).await;
        match fit(&found) {
            Ok(()) => return Ok(found),
            Err(Unfit::Upgrading { .. }) if since.elapsed() < UPGRADE => {}
            Err(unfit) => return Err(StoreError::Cluster(unfit.to_string())),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Asks the members what their cluster works as.
async fn agree(cluster: &Cluster, members: &mut [Member]) {
    let told = members.iter().map(|member| connection::agreed(cluster, &member.endpoint));
    let told = futures::future::join_all(told).await;
    members.iter_mut().zip(told).for_each(|(member, told)| member.agreed = told);
}

/// What the members say of themselves before anything is made of it.
async fn first_look(members: &Members) -> Result<Vec<Member>, StoreError> {
    const ATTEMPTS: usize = 10;
    for _ in 0..ATTEMPTS {
        let found = upkeep::ask(members).await;
        if found.iter().any(|member| member.leader != 0) {
            return Ok(found);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let endpoints: Vec<_> = members.each().map(|(endpoint, _)| endpoint.to_owned()).collect();
    let cause = match newest(members).await {
        Ok(_) => "no member tells who leads".to_owned(),
        Err(status) => reason(&status),
    };
    Err(StoreError::Cluster(format!(
        "etcd at {} does not serve: {cause}. Start its members, or look at --datastore-endpoint, --datastore-cafile, \
         --datastore-certfile and --datastore-keyfile",
        endpoints.join(", ")
    )))
}

/// The newest revision that most members have.
async fn newest(members: &Members) -> Result<Revision, Status> {
    let request = || RangeRequest {
        key: Bytes::from_static(PREFIX.as_bytes()),
        count_only: true,
        ..RangeRequest::default()
    };
    let call = |wire: Wire| async move { KvClient::new(wire).range(request()).await };
    let header = members.ask(Repeat::Always, call).await?.header;
    Ok(Revision(header.map(|header| header.revision).unwrap_or_default()))
}

/// What a call's failure means to who holds the store.
fn failure(status: Status) -> StoreError {
    let message = status.message();
    if message.contains("database space exceeded") {
        return StoreError::NoSpace;
    }
    if ["user name is empty", "invalid auth token", "permission denied"]
        .iter()
        .any(|part| message.contains(part))
    {
        return StoreError::Cluster(format!(
            "etcd lets only its users in ({message}): show a certificate whose common name is a user that may read and write \
             everything (--datastore-certfile; etcd's --client-cert-auth), or switch its authentication off"
        ));
    }
    match connection::is_absent(&status) {
        true => StoreError::Unavailable(reason(&status).into()),
        false => StoreError::Cluster(message.to_owned()),
    }
}

/// The innermost cause: "transport error" helps nobody.
fn reason(status: &Status) -> String {
    let mut cause: &dyn std::error::Error = status;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    if std::error::Error::source(status).is_some() { cause.to_string() } else { status.message().to_owned() }
}
