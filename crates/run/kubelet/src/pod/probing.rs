//! The probes of a pod: which run, and under which names they are counted.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use plimsoll_podlife::probe::ProbeKind;

use super::Task;
use crate::effect::place;
use crate::metrics::ProbeOf;
use crate::prober;

impl Task {
    pub(super) fn settle_probes(&mut self) {
        let wanted = self.life.probes();
        self.probes.retain(|key, handle| {
            let kept = wanted.iter().any(|target| (&target.id, target.kind) == (&key.0, key.1));
            if !kept {
                handle.abort();
            }
            kept
        });
        let ips = self.pod_ips();
        for target in wanted {
            let key = (target.id.clone(), target.kind);
            if self.probes.contains_key(&key) {
                continue;
            }
            let Some(spec) = self.life.specs().iter().find(|spec| spec.name() == target.container) else {
                continue;
            };
            let place = place(&self.agent, spec, &target.id, &ips);
            let late = prober::lateness(&target, self.agent.started, Timestamp::now());
            let series = self.agent.metrics.probe(probe_of(self.life.pod(), &target.container, target.kind));
            let probing = prober::run(target, place, late, series, self.results.0.clone());
            let handle = self.probing.spawn(probing);
            self.probes.insert(key, handle);
        }
        while self.probing.try_join_next().is_some() {}
    }

    /// Takes the series of the pod's probes out of what is told.
    pub(super) fn forget_probes(&self) {
        let kinds = [ProbeKind::Liveness, ProbeKind::Readiness, ProbeKind::Startup];
        for spec in self.life.specs() {
            for kind in kinds {
                self.agent.metrics.forget_probe(probe_of(self.life.pod(), spec.name(), kind));
            }
        }
    }
}

/// Whose probe it is in the series of probes.
fn probe_of<'a>(pod: &'a Pod, container: &'a str, kind: ProbeKind) -> ProbeOf<'a> {
    let text = |text: &'a Option<String>| text.as_deref().unwrap_or_default();
    let meta = &pod.metadata;
    let (namespace, pod, uid) = (text(&meta.namespace), text(&meta.name), text(&meta.uid));
    ProbeOf { container, namespace, pod, uid, kind }
}
