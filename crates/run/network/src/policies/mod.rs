//! Keeps the kernel's rules as the NetworkPolicies want them.
//!
//! What enters: policies, namespaces and the pods of all nodes, told by informers, and the addresses of
//! this node's pods, told when they are connected. What leaves: elements and chains of the table that
//! Services use, too. The first change replaces what an earlier process left, at one instant.

mod attachments;
pub(crate) mod rules;

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt as _;
use plimsoll_client::{Backoff, Delta, Filter, Informer, Informers};
use plimsoll_kernel::nft::{Disturbance, Family, Watch};
use plimsoll_netplan::policies::plan::Plan;
use plimsoll_netplan::policies::{Key, Picture, PodFacts, desired, resolver};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Names};
use crate::table::{LOOK, Table, Writer};
use crate::{BridgeNetwork, CniNetwork, Error};

pub(crate) use attachments::Attachments;

/// The policies of this node's pods.
pub struct Policies {
    config: Config,
    names: Names,
    attachments: Attachments,
    /// Brings back what the network itself has in the tables.
    restore: Restore,
}

type Restore = Box<dyn Fn() -> io::Result<()> + Send + Sync>;

impl Policies {
    /// From now on the network connects a pod only when the policies' rules stand for it, which they do
    /// while [`Self::run`] runs.
    pub fn new(network: &BridgeNetwork) -> Result<Self, Error> {
        Self::over(network.config(), network.attachments(), network.restore())
    }

    /// The same for pods that plugins connect.
    pub fn with_plugins(network: &CniNetwork) -> Result<Self, Error> {
        Self::over(network.config(), network.attachments(), network.restore())
    }

    fn over(config: &Config, attachments: &Attachments, restore: Restore) -> Result<Self, Error> {
        let names = Names::new(&config.instance)?;
        attachments.enforce();
        Ok(Self { config: config.clone(), names, attachments: attachments.clone(), restore })
    }

    /// Keeps the rules as the cluster's NetworkPolicies want them, until `shutdown`. They stay when it
    /// ends, and the next run takes them over.
    pub async fn run(self, informers: Informers, shutdown: CancellationToken) -> Result<(), Error> {
        let mut enforcer = Enforcer::open(self, &informers)?;
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            result = enforcer.follow() => result,
        }
    }
}

/// One family's rules.
struct Plane {
    table: Table,
    plan: Plan,
    /// What an earlier process left; nothing once it is replaced.
    left: Option<Vec<String>>,
}

impl Plane {
    fn open(config: &Config, names: &Names, family: Family) -> io::Result<Self> {
        let mut table = Table::open(config, names, family)?;
        let chains = table.chains()?;
        Ok(Self { table, plan: Plan::after(rules::newest(&chains)), left: Some(chains) })
    }

    /// Whether somebody removed the rules.
    fn is_missing(&mut self) -> bool {
        self.table.look(Writer::Policies).is_err()
    }

    /// Brings the kernel to what the picture wants.
    fn apply(&mut self, picture: &Picture) -> io::Result<()> {
        let family = self.table.family();
        let difference = self.plan.wish(&desired(picture, family == Family::Ipv4));
        let mut batch = self.table.batch();
        match &self.left {
            Some(chains) => {
                rules::clear(&mut batch, chains);
                Table::sign(&mut batch, Writer::Policies);
            }
            None if difference.is_empty() => return Ok(()),
            None => Table::confirm(&mut batch, Writer::Policies),
        }
        rules::write(&mut batch, family, &difference);
        self.table.commit(batch)?;
        self.plan.apply();
        self.left = None;
        Ok(())
    }
}

/// What changed since it was looked at.
#[derive(Default)]
struct Dirty {
    pods: HashSet<Key>,
    namespaces: HashSet<String>,
    policies: HashSet<Key>,
    /// The kernel is not as was wanted last.
    kernel: bool,
}

/// Changes of everything that rules depend on.
struct Changes {
    all: UnboundedReceiver<Delta<Pod>>,
    here: UnboundedReceiver<Delta<Pod>>,
    namespaces: UnboundedReceiver<Delta<Namespace>>,
    policies: UnboundedReceiver<Delta<NetworkPolicy>>,
    attached: watch::Receiver<u64>,
}

struct Enforcer {
    policies: Policies,
    planes: Vec<Plane>,
    watch: Watch,
    picture: Picture,
    /// The pods of all nodes.
    all: Informer<Pod>,
    /// Those of this node: the agent has the same, so that whoever it starts is known here.
    here: Informer<Pod>,
    namespaces: Informer<Namespace>,
    rules: Informer<NetworkPolicy>,
}

impl Enforcer {
    fn open(policies: Policies, informers: &Informers) -> Result<Self, Error> {
        let (config, names) = (&policies.config, &policies.names);
        let planes: io::Result<Vec<_>> =
            config.families().map(|family| Plane::open(config, names, family)).collect();
        let planes = planes.map_err(Error::Rules)?;
        let watch = Watch::open(&names.table()).map_err(Error::Rules)?;
        let mut picture = Picture::default();
        let (key, facts) = resolver(config.resolver.iter().copied());
        picture.set_pod(&key, Some(facts));
        let fields = Some(format!("spec.nodeName={}", config.node_name));
        Ok(Self {
            planes,
            watch,
            picture,
            all: informers.informer(),
            here: informers.filtered(Filter { namespace: None, labels: None, fields }),
            namespaces: informers.informer(),
            rules: informers.informer(),
            policies,
        })
    }

    async fn follow(&mut self) -> Result<(), Error> {
        let mut changes = Changes {
            all: self.all.subscribe(),
            here: self.here.subscribe(),
            namespaces: self.namespaces.subscribe(),
            policies: self.rules.subscribe(),
            attached: self.policies.attachments.subscribe(),
        };
        self.rules.synced().await;
        self.namespaces.synced().await;
        self.here.synced().await;
        self.all.synced().await;
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(10));
        let mut dirty = Dirty { kernel: true, ..Dirty::default() };
        loop {
            let (change, attached) = self.policies.attachments.take();
            dirty.pods.extend(attached);
            changes.gather(&mut dirty);
            if self.look(&mut dirty)
                && let Err(error) = self.apply()
            {
                tracing::warn!(%error, "rules of policies were refused, trying again");
                dirty.kernel = true;
                tokio::time::sleep(backoff.delay()).await;
                continue;
            }
            backoff.reset();
            self.policies.attachments.stand(change);
            tokio::select! {
                more = changes.wait(&mut dirty) => if !more {
                    // The informers only end with the process.
                    return Ok(());
                },
                disturbed = self.watch.disturbed() => {
                    let changed = disturbed == Disturbance::Changed;
                    dirty.kernel |= self.find_again(|plane| changed || plane.is_missing());
                }
                () = tokio::time::sleep(LOOK) => dirty.kernel |= self.find_again(Plane::is_missing),
            }
        }
    }

    /// Brings the picture up to date; whether anything is to be done about it.
    fn look(&mut self, dirty: &mut Dirty) -> bool {
        let mut changed = std::mem::take(&mut dirty.kernel);
        for key in dirty.pods.drain() {
            changed |= self.look_at_pod(&key);
        }
        for name in dirty.namespaces.drain() {
            changed |= self.picture.set_namespace(&name, self.namespaces.get("", &name).as_deref());
        }
        for key in dirty.policies.drain() {
            changed |= self.picture.set_policy(&key, self.rules.get(&key.0, &key.1));
        }
        changed
    }

    fn look_at_pod(&mut self, key: &Key) -> bool {
        let node = &self.policies.config.node_name;
        let attached = self.policies.attachments.addresses(key);
        let read = |pod: Arc<Pod>| PodFacts::read(&pod, node);
        let facts = match self.here.get(&key.0, &key.1) {
            // An address in a status may be another pod's by now.
            Some(pod) => read(pod).map(|facts| PodFacts { addresses: attached.unwrap_or_default(), ..facts }),
            // What is deleted by force and still runs is as isolated as it was.
            None if attached.is_some() => return false,
            None => self.all.get(&key.0, &key.1).and_then(read).filter(|facts| !facts.here),
        };
        self.picture.set_pod(key, facts)
    }

    /// Starts again with the tables whose rules somebody changed or removed; whether there are such.
    fn find_again(&mut self, is_wrong: impl Fn(&mut Plane) -> bool) -> bool {
        let missing: Vec<_> = self.planes.iter_mut().map(is_wrong).collect();
        for (at, _) in missing.iter().enumerate().filter(|(_, missing)| **missing) {
            if let Err(error) = self.open_again(at) {
                tracing::warn!(%error, "the table of packet rules cannot be made again");
            }
        }
        missing.contains(&true)
    }

    /// Makes the table again if it is gone, and what the network has in it.
    fn open_again(&mut self, at: usize) -> io::Result<()> {
        let family = self.planes[at].table.family();
        self.planes[at] = Plane::open(&self.policies.config, &self.policies.names, family)?;
        (self.policies.restore)()
    }

    fn apply(&mut self) -> io::Result<()> {
        for at in 0..self.planes.len() {
            if let Err(error) = self.planes[at].apply(&self.picture) {
                self.open_again(at)?;
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Changes {
    /// Notes the changes that are waiting.
    fn gather(&mut self, dirty: &mut Dirty) {
        while let Ok(delta) = self.all.try_recv() {
            mark(&delta, &mut dirty.pods, key_of);
        }
        while let Ok(delta) = self.here.try_recv() {
            mark(&delta, &mut dirty.pods, key_of);
        }
        while let Ok(delta) = self.namespaces.try_recv() {
            mark(&delta, &mut dirty.namespaces, kube::ResourceExt::name_any);
        }
        while let Ok(delta) = self.policies.try_recv() {
            mark(&delta, &mut dirty.policies, key_of);
        }
    }

    /// Waits for a change; whether there can be more.
    async fn wait(&mut self, dirty: &mut Dirty) -> bool {
        let noted = tokio::select! {
            delta = self.all.recv() => delta.map(|delta| mark(&delta, &mut dirty.pods, key_of)),
            delta = self.here.recv() => delta.map(|delta| mark(&delta, &mut dirty.pods, key_of)),
            delta = self.namespaces.recv() => {
                delta.map(|delta| mark(&delta, &mut dirty.namespaces, kube::ResourceExt::name_any))
            }
            delta = self.policies.recv() => delta.map(|delta| mark(&delta, &mut dirty.policies, key_of)),
            changed = self.attached.changed() => changed.ok(),
        };
        noted.is_some()
    }
}

fn key_of<K: kube::Resource>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Adds what a change is about.
fn mark<K, T: Eq + std::hash::Hash>(delta: &Delta<K>, dirty: &mut HashSet<T>, key: impl Fn(&K) -> T) {
    match delta {
        Delta::Applied { new, .. } => dirty.insert(key(new)),
        Delta::Deleted(last) => dirty.insert(key(last)),
        Delta::Synced => false,
    };
}
