//! Changing control groups of what runs, and keeping what pods were given.

use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use plimsoll_cri::v1;
use plimsoll_podlife::Input;
use plimsoll_podlife::cgroup::Values;
use plimsoll_podlife::resize::{Allocation, Step, Target, steps};

use crate::agent::Agent;
use crate::config::Config;
use crate::effect::Scene;
use crate::engine::text;

impl Scene {
    /// Takes the groups of a pod from `before` to `after`.
    pub(crate) async fn resize(
        self,
        before: Arc<Pod>,
        after: Arc<Pod>,
        runs: Vec<(String, String)>,
    ) -> Vec<Input> {
        let result = change(&self.agent, &before, &after, &runs).await;
        vec![Input::Resized { after, runs, result }]
    }
}

async fn change(agent: &Agent, before: &Pod, after: &Pod, runs: &[(String, String)]) -> Result<(), String> {
    let (Some(old), Some(new)) = (&before.spec, &after.spec) else { return Ok(()) };
    let uid = after.metadata.uid.as_deref().unwrap_or_default();
    let group = agent.cgroups.group(new, uid);
    let steps = steps(old, new, runs, &agent.rules(uid));
    check_usage(agent, &group, &steps).await?;
    for step in steps {
        match &step.target {
            Target::Pod => {
                group.apply(&crate::cgroups::limits(&step.values)).map_err(|error| error.to_string())?
            }
            Target::Run { id, .. } => {
                let resources = resources(&step.values);
                agent.engine.update_container(id, resources).await.map_err(|status| text(&status))?;
            }
        }
    }
    Ok(())
}

/// Refuses limits of memory below what is in use: the kernel would kill for them.
async fn check_usage(
    agent: &Agent,
    group: &plimsoll_kernel::cgroup::Cgroup,
    steps: &[Step],
) -> Result<(), String> {
    let mut problems = Vec::new();
    // The pod first, as upstream tells it.
    let mut lowered: Vec<_> = steps.iter().filter(|step| step.lowers_memory).collect();
    lowered.sort_by_key(|step| step.target != Target::Pod);
    for step in lowered {
        let limit = step.values.memory.unwrap_or(-1);
        let (whose, used) = match &step.target {
            Target::Pod => ("pod".to_owned(), group.stats().ok().map(|stats| stats.memory.usage)),
            Target::Run { name, id } => (format!("container {name:?}"), agent.engine.memory_usage(id).await),
        };
        let used = used.and_then(|used| i64::try_from(used).ok()).unwrap_or(0);
        if limit >= 0 && limit < used {
            let problem =
                format!("attempting to set {whose} memory limit ({limit}) below current usage ({used})");
            problems.push(problem);
        }
    }
    let told = match problems.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    Err(format!("cannot decrease memory limits: {told}"))
}

fn resources(values: &Values) -> v1::LinuxContainerResources {
    v1::LinuxContainerResources {
        cpu_period: values.period.unwrap_or(0),
        cpu_quota: values.quota.unwrap_or(0),
        cpu_shares: values.shares.unwrap_or(0),
        memory_limit_in_bytes: values.memory.unwrap_or(0),
        unified: values.unified.clone().into_iter().collect(),
        ..v1::LinuxContainerResources::default()
    }
}

fn file(config: &Config, uid: &str) -> PathBuf {
    config.pod_dir(uid).join("allocation.json")
}

/// What an agent before this one gave to a pod; without its record, what the status tells.
pub(crate) fn known(config: &Config, pod: &Pod) -> Allocation {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let text = std::fs::read(file(config, uid)).ok();
    let kept = text.and_then(|text| serde_json::from_slice(&text).ok());
    kept.unwrap_or_else(|| Allocation::of_status(pod))
}

/// Keeps what a pod was given. Only resizes need it: until then the pod was given what it asks for.
pub(crate) fn keep(config: &Config, uid: &str, allocation: &Allocation) -> std::io::Result<()> {
    let path = file(config, uid);
    let fresh = path.with_extension("new");
    std::fs::create_dir_all(config.pod_dir(uid))?;
    std::fs::write(&fresh, serde_json::to_vec(allocation)?)?;
    std::fs::File::open(&fresh)?.sync_all()?;
    std::fs::rename(&fresh, &path)
}
