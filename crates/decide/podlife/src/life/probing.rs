//! Which probes have to run, and what their results mean.

use super::{Life, Stage};
use crate::effect::{Effect, Event};
use crate::observed::State;
use crate::probe::{Outcome, ProbeKind, Target};
use crate::spec::{Role, Spec};

impl Life {
    pub(super) fn probed(&mut self, id: &str, kind: ProbeKind, outcome: Outcome, out: &mut Vec<Effect>) {
        let Some(target) = self.probes().into_iter().find(|it| it.id == id && it.kind == kind) else {
            return;
        };
        if let Some((reason, message)) = outcome.told(kind) {
            let path = self.field_path(&target.container);
            out.push(Effect::Event(Event::warning(reason, message, path)));
        }
        let Some(success) = outcome.verdict() else { return };
        self.counters.entry((id.to_owned(), kind)).or_default().count(&target.probe, success);
    }

    pub(super) fn probes_of(&self, spec: &Spec) -> Vec<Target> {
        let Some(run) = self.newest(spec.name()) else { return Vec::new() };
        let State::Running(started) = run.state else { return Vec::new() };
        if matches!(spec.role, Role::Init | Role::Ephemeral) || self.in_post_start(run) {
            return Vec::new();
        }
        let container = &spec.container;
        let target = |kind, probe: &Option<_>| {
            probe.clone().map(|probe| Target {
                container: container.name.clone(),
                id: run.id.clone(),
                kind,
                probe,
                started,
            })
        };
        if !self.is_started(spec, run) {
            // A container that failed is asked no more: it is being stopped.
            let failed = self.verdict_of(&run.id, ProbeKind::Startup) == Some(false);
            let asked = self.stage == Stage::Living && !failed;
            return target(ProbeKind::Startup, &container.startup_probe)
                .filter(|_| asked)
                .into_iter()
                .collect();
        }
        let healthy = self.verdict_of(&run.id, ProbeKind::Liveness) != Some(false);
        let liveness = target(ProbeKind::Liveness, &container.liveness_probe)
            .filter(|_| healthy && self.stage == Stage::Living);
        liveness.into_iter().chain(target(ProbeKind::Readiness, &container.readiness_probe)).collect()
    }
}
