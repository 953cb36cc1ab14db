//! What the audit log is told of webhooks (apiserver: pkg/admission/plugin/webhook, v1.37).

use plimsoll_admission::webhook::Hook;
use plimsoll_audit::Level;
use serde::Serialize;
use serde_json::Value;

use super::chain::Round;
use crate::audit;

/// Notes about one call of a mutating webhook.
#[derive(Debug)]
pub(super) struct Notes<'a> {
    hook: &'a Hook,
    /// Which call it was: `round_0_index_2`.
    place: String,
}

#[derive(Serialize)]
struct Mutated<'a> {
    configuration: &'a str,
    webhook: &'a str,
    mutated: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Patched<'a> {
    configuration: &'a str,
    webhook: &'a str,
    patch: &'a Value,
    patch_type: &'static str,
}

impl<'a> Notes<'a> {
    /// About the call of a webhook by its place among all.
    pub(super) fn new(hook: &'a Hook, round: Round, at: usize) -> Self {
        let round = match round {
            Round::First => 0,
            Round::Second => 1,
        };
        Self { hook, place: format!("round_{round}_index_{at}") }
    }

    /// Whether it changed the object.
    pub(super) fn mutated(&self, mutated: bool) {
        let told = Mutated { configuration: &self.hook.configuration, webhook: &self.hook.name, mutated };
        self.note("mutation.webhook.admission.k8s.io", &encoded(&told), Level::Metadata);
    }

    /// How it changed it.
    pub(super) fn patched(&self, patch: &Value) {
        let told = Patched {
            configuration: &self.hook.configuration,
            webhook: &self.hook.name,
            patch,
            patch_type: "JSONPatch",
        };
        self.note("patch.webhook.admission.k8s.io", &encoded(&told), Level::Request);
    }

    /// It could not be asked, which does not matter to it.
    pub(super) fn failed_open(&self) {
        self.note("failed-open.mutation.webhook.admission.k8s.io", &self.hook.name, Level::Metadata);
    }

    fn note(&self, prefix: &str, value: &str, level: Level) {
        audit::note(format!("{prefix}/{}", self.place), value, level);
    }
}

/// A validating webhook, by its place among those that were asked, could not be asked.
pub(super) fn validating_failed_open(hook: &Hook, at: usize) {
    let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{at}");
    audit::note(key, &hook.name, Level::Metadata);
}

fn encoded(told: &impl Serialize) -> String {
    serde_json::to_string(told).expect("plain text and JSON values")
}
