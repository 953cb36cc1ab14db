//! Keeps the kernel's rules as the Services want them.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use plimsoll_client::{Backoff, Delta, Filter, Informer, Informers};
use plimsoll_kernel::nft::{Disturbance, Family, Flow, Watch, forget_flows};
use plimsoll_netplan::endpoints::{
    BY_SERVICE, NodeFacts, Target, ready_on_node, service_index, service_index_value, service_of,
};
use plimsoll_netplan::services::leftovers::Leftovers;
use plimsoll_netplan::services::plan::{Plan, ServiceKey};
use plimsoll_netplan::services::rules::{Balancer, Difference, StaleFlow};
use plimsoll_netplan::services::{Surroundings, desired, health_check_port};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Names};
use crate::health::HealthChecks;
use crate::table::{LOOK, Table, Writer};
use crate::{Error, encode, program};

/// When a port for health checks that was taken is tried again.
const ANOTHER_TRY: Duration = Duration::from_secs(1);

/// The annotation of an EndpointSlice that says when that happened which it follows.
const TRIGGERED: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// The label of a node that says in which zone it is.
const ZONE: &str = "topology.kubernetes.io/zone";

/// When nothing changed for so long, what is left of before goes: no packet is on its way to it any more.
const QUIET: Duration = Duration::from_secs(1);

/// Changes with more elements than this are made on a blocking thread.
const SMALL: usize = 500;

/// Keeps the rules of this node as the cluster's Services and EndpointSlices want them, until
/// `shutdown`. The rules stay when it ends, and the next run takes them over.
pub async fn run(config: Config, informers: Informers, shutdown: CancellationToken) -> Result<(), Error> {
    config.check()?;
    let names = Names::new(&config.instance)?;
    let services = informers.informer::<Service>();
    let slices = informers.informer::<EndpointSlice>();
    slices.add_index(BY_SERVICE, service_index);
    let fields = Some(format!("metadata.name={}", config.node_name));
    let own = informers.filtered(Filter { fields, ..Filter::default() });
    let watch = Watch::open(&names.table()).map_err(Error::Rules)?;
    let planes = {
        let config = config.clone();
        let open = move || Plane::open_all(&config, &names);
        tokio::task::spawn_blocking(open).await.expect("opening does not panic").map_err(Error::Rules)?
    };
    let mut proxy = Proxy {
        node: config.node_name,
        planes,
        watch,
        checks: HealthChecks::default(),
        services,
        slices,
        own,
    };
    tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        result = proxy.follow() => result,
    }
}

fn key_of_service(service: &Service) -> Option<ServiceKey> {
    Some((service.metadata.namespace.clone()?, service.metadata.name.clone()?))
}

fn key_of_slice(slice: &EndpointSlice) -> Option<ServiceKey> {
    Some((slice.metadata.namespace.clone()?, service_of(slice)?.to_owned()))
}

/// One family's rules.
struct Plane {
    config: Config,
    names: Names,
    table: Arc<Mutex<Table>>,
    plan: Plan,
    leftovers: Leftovers,
    surroundings: Surroundings,
    /// Whether the chains that choose may be an earlier version's.
    inherited: bool,
}

impl Plane {
    fn open_all(config: &Config, names: &Names) -> io::Result<Vec<Self>> {
        config.families().map(|family| Self::open(config, names, family)).collect()
    }

    fn open(config: &Config, names: &Names, family: Family) -> io::Result<Self> {
        let mut table = open_table(config, names, family)?;
        let plan = Plan::found(table.elements()?);
        let leftovers = Leftovers::found(table.balancers()?, plan.applied().balancers());
        let surroundings = Surroundings {
            node: NodeFacts { name: config.node_name.clone(), zone: None },
            ipv4: family == Family::Ipv4,
            own_addresses: config.resolver.iter().copied().collect(),
            node_addresses: config.node_addresses.clone(),
        };
        Ok(Self {
            config: config.clone(),
            names: names.clone(),
            table: Arc::new(Mutex::new(table)),
            plan,
            leftovers,
            surroundings,
            inherited: true,
        })
    }

    fn family(&self) -> Family {
        if self.surroundings.ipv4 { Family::Ipv4 } else { Family::Ipv6 }
    }

    /// Brings the kernel to the plan.
    async fn apply(&mut self) -> io::Result<()> {
        let start = Instant::now();
        let applied = self.try_apply().await;
        self.config.metrics.synced(self.family(), start.elapsed(), applied.is_ok());
        applied
    }

    async fn try_apply(&mut self) -> io::Result<()> {
        let difference = self.plan.difference();
        if difference.is_empty() && !self.inherited {
            return Ok(());
        }
        let mut change = self.leftovers.put_off(&difference);
        if self.inherited {
            change.new_balancers.extend(self.plan.applied().balancers());
        }
        self.commit(change).await?;
        self.plan.apply(&difference);
        self.inherited = false;
        Ok(())
    }

    /// Removes what is left of before.
    async fn sweep(&mut self) -> io::Result<()> {
        if self.leftovers.is_empty() {
            return Ok(());
        }
        let change = self.leftovers.take();
        self.commit(change).await
    }

    async fn commit(&self, change: Difference) -> io::Result<()> {
        let elements = change.added.len() + change.removed.len();
        let table = self.table.clone();
        let work = move || commit(&table, &change);
        if elements > SMALL {
            tokio::task::spawn_blocking(work).await.expect("committing does not panic")
        } else {
            work()
        }
    }

    fn put_right(&mut self) {
        if let Err(error) = self.find_again() {
            tracing::warn!(%error, "the table of packet rules cannot be made again");
        }
    }

    /// Reads the kernel's state again, after a change was refused: somebody else changed the table, or
    /// removed it.
    fn find_again(&mut self) -> io::Result<()> {
        let mut table = self.table.lock().expect("no code under the lock panics");
        *table = open_table(&self.config, &self.names, table.family())?;
        self.plan.find_again(table.elements()?);
        self.leftovers = Leftovers::found(table.balancers()?, self.plan.applied().balancers());
        self.inherited = true;
        Ok(())
    }
}

fn open_table(config: &Config, names: &Names, family: Family) -> io::Result<Table> {
    let mut table = Table::open(config, names, family)?;
    let mut batch = table.batch();
    Table::sign(&mut batch, Writer::Services);
    table.commit(batch)?;
    Ok(table)
}

fn commit(table: &Mutex<Table>, difference: &Difference) -> io::Result<()> {
    let mut table = table.lock().expect("no code under the lock panics");
    create_balancers(&mut table, &difference.new_balancers)?;
    let mut batch = table.batch();
    Table::confirm(&mut batch, Writer::Services);
    encode::write(&mut batch, table.family(), difference);
    for balancer in &difference.old_balancers {
        program::delete_balancer(&mut batch, balancer);
    }
    let family = table.family();
    table.commit(batch)?;
    if difference.stale_flows.is_empty() {
        return Ok(());
    }
    let flows = difference.stale_flows.iter().map(|stale| flow(family, stale));
    // The rules are right; at worst old UDP peers wait for the kernel to forget by itself.
    if let Err(error) = forget_flows(flows) {
        tracing::warn!(%error, "connections of removed endpoints are still remembered");
    }
    Ok(())
}

/// Makes chains before anything leads there: a packet that began before a change finds a chain that came with it empty.
fn create_balancers(table: &mut Table, balancers: &[Balancer]) -> io::Result<()> {
    if balancers.is_empty() {
        return Ok(());
    }
    let mut batch = table.batch();
    Table::confirm(&mut batch, Writer::Services);
    for balancer in balancers {
        table.add_balancer(&mut batch, balancer);
    }
    table.commit(batch)
}

fn flow(family: Family, stale: &StaleFlow) -> Flow {
    match stale {
        StaleFlow::Target(Target { address, port }) => {
            Flow::AnsweredBy { protocol: 17, address: *address, port: *port }
        }
        StaleFlow::Frontend(frontend) => {
            let any = match family {
                Family::Ipv4 => std::net::Ipv4Addr::UNSPECIFIED.into(),
                Family::Ipv6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
            };
            Flow::SentTo {
                protocol: frontend.protocol.number(),
                address: frontend.address.unwrap_or(any),
                port: frontend.port,
            }
        }
    }
}

struct Proxy {
    node: String,
    planes: Vec<Plane>,
    watch: Watch,
    checks: HealthChecks,
    services: Informer<Service>,
    slices: Informer<EndpointSlice>,
    /// This node.
    own: Informer<Node>,
}

impl Proxy {
    async fn follow(&mut self) -> Result<(), Error> {
        let mut services = self.services.subscribe();
        let mut slices = self.slices.subscribe();
        let mut own = self.own.subscribe();
        let progress = self.slices.progress();
        self.services.synced().await;
        self.slices.synced().await;
        let mut backoff = Backoff::new(Duration::from_millis(20), Duration::from_secs(10));
        let mut changes = Changes { since: Timestamp::now(), ..Changes::default() };
        loop {
            let change = self.slices.changes();
            changes.gather(&mut services, &mut slices);
            if self.is_elsewhere() {
                changes
                    .dirty
                    .extend(self.services.list().iter().filter_map(|service| key_of_service(service)));
            }
            for key in changes.dirty.drain() {
                self.plan(&key);
            }
            self.count(&mut changes);
            let applied = self.apply().await;
            self.checks.set_healthy(applied.is_ok());
            match applied {
                Ok(()) => {
                    progress.reached(change);
                    backoff.reset();
                    self.programmed(changes.happened.drain(..));
                }
                Err(error) => {
                    tracing::warn!(%error, "packet rules were refused, trying again");
                    tokio::time::sleep(backoff.delay()).await;
                    continue;
                }
            }
            let all_open = self.open_checks();
            let is_left = self.planes.iter().any(|plane| !plane.leftovers.is_empty());
            let open = tokio::select! {
                () = tokio::time::sleep(QUIET), if is_left => {
                    self.sweep().await;
                    Some(())
                }
                () = tokio::time::sleep(ANOTHER_TRY), if !all_open => Some(()),
                delta = services.recv() => delta.map(|delta| changes.service(&delta)),
                delta = slices.recv() => delta.map(|delta| changes.slice(&delta)),
                delta = own.recv() => delta.map(drop),
                disturbed = self.watch.disturbed() => {
                    self.repair(disturbed);
                    Some(())
                }
                () = tokio::time::sleep(LOOK) => {
                    self.look();
                    Some(())
                }
            };
            if open.is_none() {
                // The informers only end with the process.
                return Ok(());
            }
        }
    }

    /// Takes over this node's zone; whether it is another one than before.
    fn is_elsewhere(&mut self) -> bool {
        let own = self.own.get("", &self.node);
        let zone = own.as_ref().and_then(|node| node.metadata.labels.as_ref()?.get(ZONE));
        let moved = self.planes.iter().any(|plane| plane.surroundings.node.zone.as_ref() != zone);
        if moved {
            self.planes.iter_mut().for_each(|plane| plane.surroundings.node.zone = zone.cloned());
        }
        moved
    }

    fn count(&self, changes: &mut Changes) {
        let (services, slices) = (std::mem::take(&mut changes.services), std::mem::take(&mut changes.slices));
        for plane in &self.planes {
            plane.config.metrics.changed(plane.family(), services, slices);
        }
    }

    fn programmed(&self, happened: impl Iterator<Item = Timestamp>) {
        for happened in happened {
            for plane in &self.planes {
                plane.config.metrics.programmed(plane.family(), happened.as_duration().as_secs_f64());
            }
        }
    }

    fn plan(&mut self, key: &ServiceKey) {
        let (namespace, name) = key;
        let service = self.services.get(namespace, name);
        let slices = self.slices.indexed(BY_SERVICE, &service_index_value(namespace, name));
        for plane in &mut self.planes {
            let wanted = service
                .as_ref()
                .map(|service| desired(service, slices.iter().map(Arc::as_ref), &plane.surroundings));
            plane.plan.wish(key, wanted.unwrap_or_default());
        }
        let port = service.as_deref().and_then(health_check_port);
        let count = || ready_on_node(slices.iter().map(Arc::as_ref), &self.node);
        self.checks.wish(key, port.map(|port| (port, count())));
    }

    /// Opens the ports for health checks; answers whether all are open.
    fn open_checks(&mut self) -> bool {
        let count = |(namespace, name): &ServiceKey| {
            let slices = self.slices.indexed(BY_SERVICE, &service_index_value(namespace, name));
            ready_on_node(slices.iter().map(Arc::as_ref), &self.node)
        };
        self.checks.settle(count)
    }

    /// Undoes what somebody else did to the rules.
    fn repair(&mut self, disturbed: Disturbance) {
        match disturbed {
            Disturbance::Changed => {
                tracing::warn!("somebody changed the packet rules of Services, they are put right");
                self.planes.iter_mut().for_each(Plane::put_right);
            }
            Disturbance::Missed => self.look(),
        }
    }

    /// Reads the kernel's state again where somebody removed the rules.
    fn look(&mut self) {
        for plane in &mut self.planes {
            let looked = plane.table.lock().expect("no code under the lock panics").look(Writer::Services);
            if looked.is_err() {
                plane.put_right();
            }
        }
    }

    async fn sweep(&mut self) {
        for plane in &mut self.planes {
            if let Err(error) = plane.sweep().await {
                tracing::warn!(%error, "old packet rules could not be removed, they are looked at again");
                plane.put_right();
            }
        }
    }

    async fn apply(&mut self) -> io::Result<()> {
        for plane in &mut self.planes {
            if let Err(error) = plane.apply().await {
                plane.find_again()?;
                return Err(error);
            }
        }
        Ok(())
    }
}

/// What happened since the rules were brought up to date.
#[derive(Default)]
struct Changes {
    dirty: HashSet<ServiceKey>,
    services: u64,
    slices: u64,
    /// What happened earlier is not measured.
    since: Timestamp,
    /// When that happened which EndpointSlices follow.
    happened: Vec<Timestamp>,
}

impl Changes {
    /// Takes the changes that are waiting.
    fn gather(
        &mut self,
        services: &mut UnboundedReceiver<Delta<Service>>,
        slices: &mut UnboundedReceiver<Delta<EndpointSlice>>,
    ) {
        while let Ok(delta) = services.try_recv() {
            self.service(&delta);
        }
        while let Ok(delta) = slices.try_recv() {
            self.slice(&delta);
        }
    }

    fn service(&mut self, delta: &Delta<Service>) {
        self.services += u64::from(!matches!(delta, Delta::Synced));
        self.mark(delta, key_of_service);
    }

    fn slice(&mut self, delta: &Delta<EndpointSlice>) {
        self.slices += u64::from(!matches!(delta, Delta::Synced));
        self.mark(delta, key_of_slice);
        if let Delta::Applied { old, new } = delta {
            let before = old.as_deref().and_then(triggered);
            let now = triggered(new).filter(|now| Some(*now) != before && *now >= self.since);
            self.happened.extend(now);
        }
    }

    /// Notes the Services that a change is about, before and after it.
    fn mark<K>(&mut self, delta: &Delta<K>, key: impl Fn(&K) -> Option<ServiceKey>) {
        match delta {
            Delta::Applied { old, new } => {
                self.dirty.extend(old.iter().chain([new]).filter_map(|object| key(object)));
            }
            Delta::Deleted(last) => self.dirty.extend(key(last)),
            Delta::Synced => {}
        }
    }
}

/// When that happened which an EndpointSlice follows.
fn triggered(slice: &EndpointSlice) -> Option<Timestamp> {
    slice.metadata.annotations.as_ref()?.get(TRIGGERED)?.parse().ok()
}
