//! What policies said, and how long their expressions took.
//!
//! A policy that has nothing against a request is not told, as upstream's is not; a mutation is each time.

use std::time::Duration;

use plimsoll_admission::policy::OUT_OF_BUDGET;
use plimsoll_metrics::Histogram;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

const SECONDS: &[f64] = &[5e-7, 0.001, 0.01, 0.1, 1.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Validated {
    enforcement_action: &'static str,
    error_type: &'static str,
    policy: String,
    policy_binding: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Mutated {
    error_type: &'static str,
    policy: String,
    policy_binding: String,
}

type Distribution<L> = Family<L, Histogram, fn() -> Histogram>;

/// What became of a validation that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Enforcement {
    /// Its failure is overlooked.
    Allow,
    Deny,
    Audit,
    Warn,
}

/// What policies move.
#[derive(Debug)]
pub(crate) struct PolicyMetrics {
    validations: Family<Validated, Counter>,
    validation_times: Distribution<Validated>,
    mutations: Family<Mutated, Counter>,
    mutation_times: Distribution<Mutated>,
}

impl PolicyMetrics {
    /// Adds the families to what the server tells.
    pub(super) fn register(all: &mut Registry) -> Self {
        let this = Self {
            validations: Family::default(),
            validation_times: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            mutations: Family::default(),
            mutation_times: Family::new_with_constructor(|| Histogram::new(SECONDS)),
        };
        all.register(
            "apiserver_validating_admission_policy_check",
            "[BETA] Validation admission policy check total, labeled by policy and further identified by binding and enforcement action taken.",
            this.validations.clone(),
        );
        all.register(
            "apiserver_validating_admission_policy_check_duration_seconds",
            "[BETA] Validation admission latency for individual validation expressions in seconds, labeled by policy and further including binding and enforcement action taken.",
            this.validation_times.clone(),
        );
        all.register(
            "apiserver_mutating_admission_policy_check",
            "[ALPHA] Mutation admission policy check total, labeled by policy and further identified by binding.",
            this.mutations.clone(),
        );
        all.register(
            "apiserver_mutating_admission_policy_check_duration_seconds",
            "[ALPHA] Mutation admission latency for individual mutation expressions in seconds, labeled by policy and binding.",
            this.mutation_times.clone(),
        );
        this
    }

    /// A validation does not hold, with this message.
    pub(crate) fn validated(
        &self,
        (policy, binding): (&str, &str),
        action: Enforcement,
        message: &str,
        took: Duration,
    ) {
        let labels = Validated {
            enforcement_action: match action {
                Enforcement::Allow => "allow",
                Enforcement::Deny => "deny",
                Enforcement::Audit => "audit",
                Enforcement::Warn => "warn",
            },
            error_type: error_type(message),
            policy: policy.to_owned(),
            policy_binding: binding.to_owned(),
        };
        self.validations.get_or_create(&labels).inc();
        self.validation_times.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A mutation was evaluated, perhaps with an error.
    pub(crate) fn mutated(&self, (policy, binding): (&str, &str), error: Option<&str>, took: Duration) {
        let labels = Mutated {
            error_type: error.map_or("no_error", error_type),
            policy: policy.to_owned(),
            policy_binding: binding.to_owned(),
        };
        self.mutations.get_or_create(&labels).inc();
        self.mutation_times.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

/// Upstream tells errors by how their messages begin; what simply does not hold is an invalid one, too.
fn error_type(message: &str) -> &'static str {
    let budget = OUT_OF_BUDGET.split_once(',').map_or(OUT_OF_BUDGET, |(words, _)| words);
    match message {
        _ if message.starts_with("compilation") => "compile_error",
        _ if message.starts_with(budget) => "out_of_budget",
        _ => "invalid_error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_by_their_messages() {
        for (message, expected) in [
            ("failed expression: false", "invalid_error"),
            ("compilation error: no such field", "compile_error"),
            (OUT_OF_BUDGET, "out_of_budget"),
        ] {
            assert_eq!(error_type(message), expected, "{message}");
        }
    }
}
