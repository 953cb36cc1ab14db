//! Who holds which address of a Service: an IPAddress for each, committed together with its Service.
//!
//! What enters is a write of a Service; what leaves are the changes of IPAddresses that belong to it. An address
//! that an IPAddress names is nobody else's, whichever server is asked, so neither restarts nor several servers
//! give one twice, and none is lost between two commits. Which addresses there are ServiceCIDRs say.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use plimsoll_catalogue::Kind;
use plimsoll_meta::status::Status;
use plimsoll_store::{Change, Expect, Store};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::address::held_addresses;
use crate::config::Config;
use crate::follow::{Follower, follow};
use crate::object::{self, deleting, meta};
use crate::quota::{Step, Written};
use crate::server::Api;
use crate::user::User;
use crate::write::{Refused, Write};
use crate::{encode, registry};

/// The label that names who made an IPAddress, and what upstream's servers and this one write there.
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";
const FAMILY: &str = "ipaddress.kubernetes.io/ip-family";
/// The ServiceCIDR that is always there.
const DEFAULT: &str = "kubernetes";

fn kind(plural: &str) -> &'static Kind {
    plimsoll_catalogue::find("networking.k8s.io", "v1", plural)
        .expect("addresses and ranges are in the catalogue")
}

fn key(address: IpAddr) -> String {
    kind("ipaddresses").key("", &address.to_string()).unwrap_or_default()
}

/// Whether an IPAddress names the address.
pub(crate) fn is_claimed(store: &Store, address: IpAddr) -> bool {
    store.get(&key(address)).is_some()
}

/// The ranges that addresses may be given from now.
pub(crate) fn ranges(store: &Store) -> Vec<IpNet> {
    let page = registry::prefix(kind("servicecidrs"), "")
        .ok()
        .and_then(|prefix| store.range(&prefix, None, usize::MAX, None).ok());
    let entries = page.into_iter().flat_map(|page| page.entries);
    let ready = entries.filter_map(|entry| registry::stored(&entry).ok()).filter(is_ready);
    ready.flat_map(|range| prefixes(&range)).collect()
}

/// A range is ready unless its controller says otherwise; one that goes is not.
fn is_ready(range: &Value) -> bool {
    let conditions = range["status"]["conditions"].as_array().into_iter().flatten();
    let mut ready = conditions.filter(|condition| condition["type"] == "Ready");
    !deleting(range) && ready.next().is_none_or(|condition| condition["status"] == "True")
}

fn prefixes(range: &Value) -> Vec<IpNet> {
    let all = range["spec"]["cidrs"].as_array().into_iter().flatten().filter_map(Value::as_str);
    all.filter_map(|text| text.parse().ok()).collect()
}

/// The IPAddresses that change with a Service: first those that come, then those that go.
#[derive(Default)]
pub(crate) struct Claims {
    pub(crate) steps: Vec<Step>,
    pub(crate) made: usize,
}

impl Claims {
    /// What a write needs.
    pub(crate) fn of(write: &Write<'_>, written: &Written<'_>) -> Result<Self, Status> {
        let mut claims = Self::default();
        if !(write.kind.group.is_empty() && write.kind.kind == "Service") {
            return Ok(claims);
        }
        let held = |object: Option<&Value>| -> BTreeSet<IpAddr> {
            object.map(held_addresses).unwrap_or_default().into_iter().collect()
        };
        let (before, after) = (held(written.old), held(written.new));
        for address in after.difference(&before) {
            let service = written.new.unwrap_or(&Value::Null);
            claims.steps.push(claim(write.api, service, *address, write.now)?);
        }
        claims.made = claims.steps.len();
        for address in before.difference(&after) {
            let entry = write.api.store.get(&key(*address));
            let Some((entry, object)) =
                entry.and_then(|entry| Some((entry.clone(), registry::stored(&entry).ok()?)))
            else {
                continue;
            };
            if parent(&object) == (meta_of(written.old, "namespace"), meta_of(written.old, "name")) {
                let expect = Expect::Revision(entry.modified);
                claims.steps.push((entry.key.to_string(), expect, Change::Delete(encode::halves(&object))));
            }
        }
        Ok(claims)
    }
}

fn meta_of<'a>(object: Option<&'a Value>, field: &str) -> &'a str {
    object.map_or("", |object| meta(object, field))
}

/// Namespace and name of the Service that an IPAddress belongs to.
fn parent(object: &Value) -> (&str, &str) {
    let parent = &object["spec"]["parentRef"];
    let text = |field: &str| parent[field].as_str().unwrap_or_default();
    match (text("group"), text("resource")) {
        ("", "services") => (text("namespace"), text("name")),
        _ => ("", ""),
    }
}

/// Makes an IPAddress where there is none.
fn claim(api: &Api, service: &Value, address: IpAddr, now: jiff::Timestamp) -> Result<Step, Status> {
    let (user, name) = (User::server(), address.to_string());
    let mut object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {"name": name, "labels": {
            FAMILY: if address.is_ipv4() { "IPv4" } else { "IPv6" },
            MANAGED_BY: ALLOCATOR,
        }},
        "spec": {"parentRef": {
            "resource": "services", "namespace": meta(service, "namespace"), "name": meta(service, "name"),
        }},
    });
    let write = Write { now, ..Write::of_server(api, &user, kind("ipaddresses"), "", &name)? };
    write.own(None, &mut object);
    write.settle_identity(&mut object);
    Ok((key(address), Expect::Absent, Change::Put(encode::halves(&object))))
}

/// The ServiceCIDR of the configured ranges.
pub(crate) fn default_range(config: &Config) -> Value {
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready",
        "lastTransitionTime": object::time(jiff::Timestamp::now()),
    });
    let cidrs: Vec<_> = config.service_cidrs.iter().map(|range| range.trunc().to_string()).collect();
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": DEFAULT},
        "spec": {"cidrs": cidrs}, "status": {"conditions": [ready]},
    })
}

/// Claims what stored Services hold and nobody claims: they are older than IPAddresses are.
pub(crate) async fn adopt(api: &Api) -> Result<(), Status> {
    let services = plimsoll_catalogue::find("", "v1", "services").expect("services are in the catalogue");
    let page = api.store.range(&registry::prefix(services, "")?, None, usize::MAX, None);
    for entry in page.map(|page| page.entries).unwrap_or_default() {
        let service = registry::stored(&entry)?;
        for address in held_addresses(&service) {
            if !is_claimed(&api.store, address) {
                let (key, expect, change) = claim(api, &service, address, jiff::Timestamp::now())?;
                match api.store.commit(&key, expect, change).await.map_err(Refused::from) {
                    Err(Refused::Other(status)) => return Err(status),
                    Ok(_) | Err(Refused::Taken | Refused::Claimed) => {}
                }
            }
        }
    }
    Ok(())
}

/// Tells when the default range goes.
#[derive(Default)]
struct Kept {
    gone: Notify,
}

impl Follower for Kept {
    fn reset(&self, _kind: &'static Kind, objects: Vec<Value>) {
        if !objects.iter().any(|range| meta(range, "name") == DEFAULT) {
            self.gone.notify_one();
        }
    }

    fn put(&self, _kind: &'static Kind, _object: &Value) {}

    fn remove(&self, _kind: &'static Kind, object: &Value) {
        if meta(object, "name") == DEFAULT {
            self.gone.notify_one();
        }
    }
}

/// Makes the default range again whenever it goes, until shutdown.
pub(crate) async fn run(api: Arc<Api>, range: Value, shutdown: CancellationToken) {
    let kept = Arc::new(Kept::default());
    follow(&api.store, kind("servicecidrs"), Arc::clone(&kept) as Arc<dyn Follower>);
    let user = User::server();
    loop {
        tokio::select! {
            () = kept.gone.notified() => {}
            () = shutdown.cancelled() => return,
        }
        let made = match Write::of_server(&api, &user, kind("servicecidrs"), "", DEFAULT) {
            Ok(mut write) => write.create(range.clone()).await.map(drop),
            Err(status) => Err(status),
        };
        match made {
            Err(status) if status.reason != "AlreadyExists" => {
                tracing::warn!(error = status.message, "no default ServiceCIDR");
            }
            _ => {}
        }
    }
}
