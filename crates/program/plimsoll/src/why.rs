//! `plimsoll why`: tells of any cluster why a pod waits, node by node, and what would help.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::resource::v1::{DeviceClass, DeviceTaintRule, ResourceClaim, ResourceSlice};
use k8s_openapi::api::storage::v1::{CSIDriver, CSINode, CSIStorageCapacity, StorageClass, VolumeAttachment};
use kube::Api;
use kube::api::ListParams;
use plimsoll_schedule::{Budget, Devices, Explanation, Scheduler, Storage};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::cli::DataDir;
use crate::form::Form;
use crate::up;

/// Nodes that the table shows with all that they have against the pod.
const SHOWN: usize = 20;

/// `plimsoll why`
#[derive(Args, Clone, Debug)]
pub(crate) struct Why {
    /// The pod
    #[arg(value_name = "POD")]
    pod: String,
    /// Its namespace
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    namespace: String,
    #[command(flatten)]
    instance: DataDir,
    /// How the cluster is reached [default: the administrator's of the instance]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// What its scheduler goes by (KubeSchedulerConfiguration) [default: upstream's profile]
    #[arg(long, value_name = "FILE")]
    scheduler_config: Option<PathBuf>,
    /// The form
    #[arg(long, short, value_enum, default_value_t)]
    output: Form,
}

pub(crate) fn run(options: &Why) -> anyhow::Result<()> {
    let kubeconfig =
        options.kubeconfig.clone().unwrap_or_else(|| options.instance.data_dir.join("admin.kubeconfig"));
    let mut scheduler =
        Scheduler::new(crate::scheduler::config(options.scheduler_config.as_deref())?.profiles);
    let runtime = up::runtime()?;
    let (pod, budgets) = runtime.block_on(async {
        let client = plimsoll_client::connect_kubeconfig(&kubeconfig).await?;
        let api = Api::<Pod>::namespaced(client.clone(), &options.namespace);
        let pod = api.get(&options.pod).await.with_context(|| format!("pod {}", options.pod))?;
        if let Some(settled) = settled(&pod, &scheduler) {
            println!("{settled}");
            return anyhow::Ok((None, Vec::new()));
        }
        let budgets = fill(&mut scheduler, &client).await?;
        Ok((Some(pod), budgets))
    })?;
    let Some(pod) = pod else { return Ok(()) };
    let info = scheduler.read(&pod);
    let explanation = scheduler.explain(&info, &budgets);
    let text = match options.output {
        Form::Table => table(&explanation, &info.name),
        Form::Json => format!("{:#}\n", object(&explanation)),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("write"),
    }
}

/// What there is to say without looking at nodes.
fn settled(pod: &Pod, scheduler: &Scheduler) -> Option<String> {
    let (spec, name) = (pod.spec.as_ref()?, pod.metadata.name.as_deref().unwrap_or_default());
    if let Some(node) = spec.node_name.as_deref().filter(|node| !node.is_empty()) {
        return Some(format!("pod {name} is on node {node}"));
    }
    if pod.metadata.deletion_timestamp.is_some() {
        return Some(format!("pod {name} is being deleted"));
    }
    let gates: Vec<&str> = spec.scheduling_gates.iter().flatten().map(|gate| gate.name.as_str()).collect();
    if !gates.is_empty() {
        return Some(format!("pod {name} waits until its scheduling gates are lifted: {}", gates.join(", ")));
    }
    let named = spec.scheduler_name.as_deref().unwrap_or_default();
    scheduler.profile_of(pod).is_none().then(|| {
        format!(
            "pod {name} waits for the scheduler {named}, whose rules are not known here (--scheduler-config)"
        )
    })
}

/// Tells the scheduler of everything that there is; what leaves are the budgets.
async fn fill(scheduler: &mut Scheduler, client: &kube::Client) -> anyhow::Result<Vec<Budget>> {
    for namespace in list::<Namespace>(client).await? {
        let name = namespace.metadata.name.clone().unwrap_or_default();
        scheduler.snapshot.set_namespace(&name, namespace.metadata.labels.as_ref());
    }
    for node in list::<Node>(client).await? {
        scheduler.snapshot.set_node(&node);
    }
    for pod in list::<Pod>(client).await? {
        place(scheduler, &pod);
    }
    let storage = &mut scheduler.snapshot.storage;
    fill_storage(storage, client).await?;
    fill_devices(&mut scheduler.snapshot.devices, client).await?;
    let selectors = &mut scheduler.snapshot.selectors;
    list::<Service>(client).await?.iter().for_each(|one| selectors.set_service(one));
    list::<ReplicationController>(client)
        .await?
        .iter()
        .for_each(|one| selectors.set_replication_controller(one));
    list::<ReplicaSet>(client).await?.iter().for_each(|one| selectors.set_replica_set(one));
    list::<StatefulSet>(client).await?.iter().for_each(|one| selectors.set_stateful_set(one));
    Ok(list::<PodDisruptionBudget>(client).await?.iter().filter_map(Budget::of).collect())
}

/// Not every cluster knows of devices.
async fn fill_devices(devices: &mut Devices, client: &kube::Client) -> anyhow::Result<()> {
    async fn each<K>(
        devices: &mut Devices,
        client: &kube::Client,
        set: fn(&mut Devices, Arc<K>),
    ) -> anyhow::Result<()>
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let all = match Api::<K>::all(client.clone()).list(&ListParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(()),
            all => all.with_context(|| format!("list {}", K::plural(&())))?,
        };
        all.items.into_iter().for_each(|one| set(devices, Arc::new(one)));
        Ok(())
    }
    each::<ResourceSlice>(devices, client, Devices::set_slice).await?;
    each::<DeviceClass>(devices, client, Devices::set_class).await?;
    each::<ResourceClaim>(devices, client, Devices::set_claim).await?;
    each::<DeviceTaintRule>(devices, client, Devices::set_rule).await
}

async fn fill_storage(storage: &mut Storage, client: &kube::Client) -> anyhow::Result<()> {
    async fn each<K>(
        storage: &mut Storage,
        client: &kube::Client,
        set: fn(&mut Storage, Arc<K>),
    ) -> anyhow::Result<()>
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        list::<K>(client).await?.into_iter().for_each(|one| set(storage, Arc::new(one)));
        Ok(())
    }
    each::<PersistentVolumeClaim>(storage, client, Storage::set_claim).await?;
    each::<PersistentVolume>(storage, client, Storage::set_volume).await?;
    each::<StorageClass>(storage, client, Storage::set_class).await?;
    each::<CSIDriver>(storage, client, Storage::set_driver).await?;
    each::<CSIStorageCapacity>(storage, client, Storage::set_room).await?;
    each::<CSINode>(storage, client, Storage::set_csi_node).await?;
    each::<VolumeAttachment>(storage, client, Storage::set_attachment).await
}

fn place(scheduler: &mut Scheduler, pod: &Pod) {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        return;
    }
    let info = Arc::new(scheduler.read(pod));
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).filter(|node| !node.is_empty());
    match (node, info.nominated.clone()) {
        (Some(node), _) => drop(scheduler.snapshot.place(info, &node)),
        (None, Some(node)) => drop(scheduler.snapshot.nominate(info, &node)),
        (None, None) => {}
    }
}

async fn list<K>(client: &kube::Client) -> anyhow::Result<Vec<K>>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
{
    let api = Api::<K>::all(client.clone());
    let (mut all, mut next) = (Vec::new(), ListParams::default().limit(500));
    loop {
        let page = api.list(&next).await.with_context(|| format!("list {}", K::plural(&())))?;
        all.extend(page.items);
        match page.metadata.continue_ {
            Some(token) if !token.is_empty() => next = next.continue_token(&token),
            _ => return Ok(all),
        }
    }
}

fn table(it: &Explanation, pod: &str) -> String {
    let mut text = match &it.decision {
        Ok(node) => {
            format!("pod {pod} fits node {node} now: it waits for its turn, or for what is being bound\n")
        }
        Err(message) => format!("{message}\n"),
    };
    if let Some(why) = &it.everywhere {
        let _ = writeln!(text, "\nWhatever the nodes are like: {why}");
    }
    if let Some(room) = &it.room {
        let victims: Vec<String> =
            room.victims.iter().map(|pod| format!("{}/{}", pod.namespace, pod.name)).collect();
        let _ = writeln!(text, "\nThe end of {} would make room on node {}.", victims.join(", "), room.node);
    }
    if it.nodes.is_empty() {
        return text;
    }
    let mut lines = vec![["NODE", "PLUGIN", "REASON", "WHAT WOULD HELP"].map(str::to_owned)];
    for verdict in it.nodes.iter().take(SHOWN) {
        for (at, cause) in verdict.causes.iter().enumerate() {
            let node = if at == 0 { verdict.node.clone() } else { String::new() };
            lines.push([node, cause.plugin.to_string(), cause.reason.clone(), cause.help.clone()]);
        }
    }
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..4).map(width).collect();
    text.push('\n');
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("   ").trim_end());
    }
    if it.nodes.len() > SHOWN {
        let _ = writeln!(
            text,
            "and {} nodes with as much or more against it (-o json shows all)",
            it.nodes.len() - SHOWN
        );
    }
    text
}

fn object(it: &Explanation) -> Value {
    let nodes = it.nodes.iter().map(|verdict| {
        let causes = verdict.causes.iter().map(
            |cause| json!({"plugin": cause.plugin.to_string(), "reason": cause.reason, "help": cause.help}),
        );
        json!({"node": verdict.node, "causes": causes.collect::<Vec<_>>()})
    });
    let room = it.room.as_ref().map(|room| {
        let victims = room.victims.iter().map(|pod| json!({"namespace": pod.namespace, "name": pod.name}));
        json!({"node": room.node, "victims": victims.collect::<Vec<_>>()})
    });
    json!({
        "node": it.decision.as_ref().ok(),
        "message": it.decision.as_ref().err(),
        "everywhere": it.everywhere,
        "room": room,
        "nodes": nodes.collect::<Vec<_>>(),
    })
}
