//! Pods about which extenders have a say: what they are asked, and what comes of their answers.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use plimsoll_schedule::{Diagnosis, PodInfo, Preemption};

use super::Cycle;
use crate::extenders::{Consulted, Question};

impl Cycle {
    /// Who else has a say about a pod, if anybody.
    pub(super) fn question(&self, pod: &PodInfo) -> Option<Question> {
        if self.config.extenders.is_empty() {
            return None;
        }
        let object = self.objects.1.get(&pod.namespace, &pod.name)?;
        let interested = self.config.extenders.iter().filter(|extender| extender.is_interested(&object));
        let extenders: Vec<_> = interested.cloned().collect();
        let (nodes, pods) = self.objects.clone();
        (!extenders.is_empty()).then_some(Question { extenders, pod: object, nodes, pods })
    }

    /// Others have their say before the pod gets its node.
    pub(super) fn consult(&mut self, pod: Arc<PodInfo>, question: Question, now: Duration) {
        match self.scheduler.candidates(&pod) {
            Ok(nodes) => {
                self.binding += 1;
                self.effects.consult(pod, question, nodes);
            }
            Err(diagnosis) => self.nowhere(&pod, diagnosis, now),
        }
    }

    /// They have had it.
    pub(super) fn consulted(&mut self, pod: Arc<PodInfo>, left: Result<Consulted, String>, now: Duration) {
        self.binding -= 1;
        if !self.queue.knows(&pod.uid) {
            return;
        }
        let Consulted { mut nodes, refused } = match left {
            Ok(left) => left,
            Err(why) => return self.failed(&pod, why, now),
        };
        if nodes.is_empty() {
            let mut diagnosis = self.scheduler.diagnosis(&pod);
            for refusal in refused.values() {
                diagnosis.refuse_outside(&refusal.reason, refusal.is_resolvable);
            }
            self.queue.park(&pod.uid, diagnosis.plugins, now);
            return self.report(&pod, diagnosis.to_string());
        }
        nodes.sort_by_key(|(_, score)| Reverse(*score));
        // Others may have been quicker meanwhile.
        match nodes.into_iter().find(|(node, _)| self.scheduler.takes(&pod, node)) {
            Some((node, _)) => self.assume(pod, node, now),
            None => self.queue.retry(&pod.uid, now),
        }
    }

    /// Others have said who may end.
    pub(super) fn reviewed(
        &mut self,
        pod: &Arc<PodInfo>,
        mut diagnosis: Diagnosis,
        left: Result<Option<Preemption>, String>,
    ) {
        if !self.queue.knows(&pod.uid) {
            return;
        }
        match left {
            Ok(Some(found)) => diagnosis.attempt = self.make_room(pod, found),
            Ok(None) => {}
            Err(why) => tracing::info!(pod = %pod.name, namespace = %pod.namespace, why, "no room made"),
        }
        self.report(pod, diagnosis.to_string());
    }
}
