//! What pods use: `/stats/summary` and `/metrics/resource`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use http::{Response, StatusCode, header};
use jiff::Timestamp;
use plimsoll_cri::v1;
use plimsoll_kernel::cgroup::{Cgroup, Stats};
use serde_json::{Value, json};

use super::{Body, Server, json as answer, plain, whole};
use crate::machine::available_memory;

/// Containers' figures by pod: UID, namespace, name.
type ByPod = BTreeMap<(String, String, String), Vec<v1::ContainerStats>>;

impl Server {
    pub(super) async fn summary(&self) -> Response<Body> {
        let pods = match self.by_pod().await {
            Ok(pods) => pods,
            Err(refusal) => return *refusal,
        };
        let now = Timestamp::now().to_string();
        let all = self.agent.cgroups.machine().stats().unwrap_or_default();
        let pods: Vec<_> =
            pods.iter().map(|(key, containers)| self.pod_summary(key, containers, &now)).collect();
        answer(&json!({
            "node": {
                "nodeName": self.agent.config.node_name,
                "cpu": cpu(&all, &now),
                "memory": node_memory(&all, self.agent.machine.memory, &now),
            },
            "pods": pods,
        }))
    }

    fn pod_summary(
        &self,
        (uid, namespace, name): &(String, String, String),
        containers: &[v1::ContainerStats],
        now: &str,
    ) -> Value {
        let stats = self.pod_group(namespace, name).and_then(|group| group.stats().ok()).unwrap_or_default();
        let containers: Vec<_> = containers.iter().map(|it| container_summary(it, now)).collect();
        json!({
            "podRef": {"name": name, "namespace": namespace, "uid": uid},
            "containers": containers,
            "cpu": cpu(&stats, now),
            "memory": memory(&stats, now),
            "process_stats": {"process_count": stats.pids.current},
        })
    }

    fn pod_group(&self, namespace: &str, name: &str) -> Option<Cgroup> {
        let pod = self.pods.get(namespace, name)?;
        Some(self.agent.cgroups.group(pod.spec.as_ref()?, pod.metadata.uid.as_deref()?))
    }

    pub(super) async fn resource_metrics(&self) -> Response<Body> {
        let pods = match self.by_pod().await {
            Ok(pods) => pods,
            Err(refusal) => return *refusal,
        };
        let mut text = Metrics::default();
        let all = self.agent.cgroups.machine().stats().unwrap_or_default();
        let used = self.agent.machine.memory - available_memory();
        text.set("node_cpu_usage_seconds_total", "counter", "", seconds(all.cpu.usage_nanos));
        text.set("node_memory_working_set_bytes", "gauge", "", used.to_string());
        for ((_, namespace, name), containers) in &pods {
            let labels = format!("{{namespace=\"{namespace}\",pod=\"{name}\"}}");
            let stats = self.pod_group(namespace, name).and_then(|group| group.stats().ok());
            if let Some(stats) = stats {
                text.set("pod_cpu_usage_seconds_total", "counter", &labels, seconds(stats.cpu.usage_nanos));
                let bytes = stats.memory.working_set.to_string();
                text.set("pod_memory_working_set_bytes", "gauge", &labels, bytes);
            }
            for it in containers {
                let container = container_name(it);
                let labels =
                    format!("{{container=\"{container}\",namespace=\"{namespace}\",pod=\"{name}\"}}");
                let nanos = it.cpu.as_ref().and_then(|cpu| cpu.usage_core_nano_seconds);
                let bytes = it.memory.as_ref().and_then(|memory| memory.working_set_bytes);
                if let Some(nanos) = nanos {
                    text.set("container_cpu_usage_seconds_total", "counter", &labels, seconds(nanos.value));
                }
                if let Some(bytes) = bytes {
                    text.set("container_memory_working_set_bytes", "gauge", &labels, bytes.value.to_string());
                }
            }
        }
        let mut response = Response::new(whole(text.render()));
        let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
        response
    }

    async fn by_pod(&self) -> Result<ByPod, Box<Response<Body>>> {
        let stats = self.agent.engine.container_stats().await.map_err(|status| {
            Box::new(plain(StatusCode::INTERNAL_SERVER_ERROR, crate::engine::text(&status)))
        })?;
        let mut pods = ByPod::new();
        for it in stats {
            let Some(labels) = it.attributes.as_ref().map(|it| it.labels.clone()) else { continue };
            let label = |name: &str| labels.get(name).cloned().unwrap_or_default();
            let key = (
                label(plimsoll_cri::POD_UID),
                label(plimsoll_cri::POD_NAMESPACE),
                label(plimsoll_cri::POD_NAME),
            );
            pods.entry(key).or_default().push(it);
        }
        Ok(pods)
    }
}

fn container_name(stats: &v1::ContainerStats) -> String {
    let metadata = stats.attributes.as_ref().and_then(|it| it.metadata.clone());
    metadata.map(|metadata| metadata.name).unwrap_or_default()
}

fn container_summary(stats: &v1::ContainerStats, now: &str) -> Value {
    let number = |value: Option<v1::UInt64Value>| value.map(|value| value.value);
    let cpu = stats.cpu.unwrap_or_default();
    let memory = stats.memory.unwrap_or_default();
    let mut summary = json!({
        "name": container_name(stats),
        "cpu": {
            "time": now,
            "usageNanoCores": number(cpu.usage_nano_cores),
            "usageCoreNanoSeconds": number(cpu.usage_core_nano_seconds),
        },
        "memory": {
            "time": now,
            "usageBytes": number(memory.usage_bytes),
            "workingSetBytes": number(memory.working_set_bytes),
            "rssBytes": number(memory.rss_bytes),
            "pageFaults": number(memory.page_faults),
            "majorPageFaults": number(memory.major_page_faults),
        },
    });
    if let Some(layer) = &stats.writable_layer {
        summary["rootfs"] = json!({
            "time": now,
            "usedBytes": number(layer.used_bytes),
            "inodesUsed": number(layer.inodes_used),
        });
    }
    summary
}

fn cpu(stats: &Stats, now: &str) -> Value {
    json!({"time": now, "usageCoreNanoSeconds": stats.cpu.usage_nanos})
}

fn memory(stats: &Stats, now: &str) -> Value {
    json!({
        "time": now,
        "usageBytes": stats.memory.usage,
        "workingSetBytes": stats.memory.working_set,
        "rssBytes": stats.memory.rss,
        "pageFaults": stats.memory.page_faults,
        "majorPageFaults": stats.memory.major_page_faults,
    })
}

fn node_memory(stats: &Stats, capacity: i64, now: &str) -> Value {
    let mut memory = memory(stats, now);
    let available = available_memory();
    memory["availableBytes"] = json!(available);
    memory["workingSetBytes"] = json!(capacity - available);
    memory
}

fn seconds(nanos: u64) -> String {
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// Lines of the text format, kept together by name as it demands.
#[derive(Default)]
struct Metrics {
    families: BTreeMap<&'static str, (&'static str, String)>,
}

impl Metrics {
    fn set(&mut self, name: &'static str, kind: &'static str, labels: &str, value: String) {
        let (_, lines) = self.families.entry(name).or_insert((kind, String::new()));
        writeln!(lines, "{name}{labels} {value}").expect("strings take all");
    }

    fn render(&self) -> String {
        let families = self.families.iter();
        families.map(|(name, (kind, lines))| format!("# TYPE {name} {kind}\n{lines}")).collect()
    }
}
