//! Follows the cluster's Corefile.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use plimsoll_client::{Filter, Informer, Informers};
use plimsoll_netplan::dns::corefile::{DEFAULT, Fault, Rules};

use crate::{Live, Shared};

const NAMESPACE: &str = "kube-system";
/// Holds the `Corefile`, and files that it may import.
const NAME: &str = "coredns";
/// Holds more files that it may import.
const CUSTOM: &str = "coredns-custom";
const FILE: &str = "Corefile";

/// Applies each change of the configuration; ends only with the informers.
pub(crate) async fn follow(informers: Informers, shared: &Shared) {
    let informer = |name: &str| {
        informers.filtered::<ConfigMap>(Filter {
            namespace: Some(NAMESPACE.to_owned()),
            labels: None,
            fields: Some(format!("metadata.name={name}")),
        })
    };
    let (main, custom) = (informer(NAME), informer(CUSTOM));
    let (mut main_changes, mut custom_changes) = (main.subscribe(), custom.subscribe());
    main.synced().await;
    custom.synced().await;
    let mut applied = (None, BTreeMap::new());
    loop {
        let wanted = files(&main, &custom);
        if wanted != applied {
            apply(shared, wanted.0.as_deref().unwrap_or(DEFAULT), &wanted.1);
            applied = wanted;
        }
        let open = tokio::select! {
            change = main_changes.recv() => change.is_some(),
            change = custom_changes.recv() => change.is_some(),
        };
        if !open {
            return;
        }
    }
}

/// What is used until the cluster's is known, and while there is none.
pub(crate) fn default_rules() -> Rules {
    Rules::parse(DEFAULT, &BTreeMap::new()).expect("the default is tested")
}

type Files = (Option<String>, BTreeMap<String, String>);

fn files(main: &Informer<ConfigMap>, custom: &Informer<ConfigMap>) -> Files {
    let data = |map: Option<Arc<ConfigMap>>| map.and_then(|map| map.data.clone()).unwrap_or_default();
    let mut files = data(custom.get(NAMESPACE, CUSTOM));
    files.extend(data(main.get(NAMESPACE, NAME)));
    (files.remove(FILE), files)
}

/// A configuration that cannot be used leaves the one before.
fn apply(shared: &Shared, text: &str, files: &BTreeMap<String, String>) {
    match Rules::parse(text, files) {
        Ok(rules) => {
            for left_out in rules.left_out() {
                tracing::warn!("ConfigMap {NAMESPACE}/{NAME}: {left_out}");
            }
            adopt(shared, rules);
        }
        Err(fault) => refuse(shared, &fault),
    }
}

fn adopt(shared: &Shared, rules: Rules) {
    let mut records = shared.records.write().expect("no code under the lock panics");
    records.configure(rules.lifetime(), rules.pods());
    drop(records);
    let hosts =
        rules.blocks().filter_map(|block| block.hosts.as_ref()).map(|hosts| hosts.len()).sum::<usize>();
    shared.metrics.hosts.set(i64::try_from(hosts).unwrap_or(i64::MAX));
    shared.live.store(Arc::new(Live { rules, upstream: shared.new_upstream() }));
}

fn refuse(shared: &Shared, fault: &Fault) {
    shared.metrics.reloads_failed.inc();
    tracing::warn!("ConfigMap {NAMESPACE}/{NAME}: {fault}; the configuration before it stays");
}
