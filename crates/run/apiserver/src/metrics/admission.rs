//! How long admission takes, and what webhooks and policies say.
//!
//! The handles of steps have a place each. Those of webhooks and policies are looked up by name: a call of a
//! webhook takes a thousand times as long.

use std::sync::OnceLock;
use std::time::Duration;

use plimsoll_admission::matching::Operation;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use plimsoll_metrics::Histogram;

const SECONDS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5];
const WEBHOOKS: &[f64] = &[0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 25.0];
/// Codes above are told as this one.
const HIGHEST: u16 = 600;

/// Whether admission may change the object, or only refuses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Admit,
    Validate,
}

/// Why a webhook's request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The webhook says no.
    None,
    /// It did not answer as it should.
    Call,
    /// The server could not ask it.
    Server,
}

/// How a webhook was asked and what came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) name: &'a str,
    pub(crate) step: Step,
    pub(crate) operation: Operation,
    pub(crate) took: Duration,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StepLabels {
    operation: &'static str,
    rejected: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Named {
    name: String,
    operation: &'static str,
    rejected: &'static str,
    r#type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Open {
    name: String,
    r#type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Rejection {
    error_type: &'static str,
    name: String,
    operation: &'static str,
    rejection_code: u16,
    r#type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Call {
    code: u16,
    name: String,
    operation: &'static str,
    rejected: &'static str,
    r#type: &'static str,
}

type Distribution<L> = Family<L, Histogram, fn() -> Histogram>;

/// What admission moves.
#[derive(Debug)]
pub(crate) struct Admissions {
    steps: Distribution<StepLabels>,
    /// By step, operation and outcome.
    known: [OnceLock<Histogram>; 16],
    controllers: Distribution<Named>,
    webhooks: Distribution<Named>,
    fail_open: Family<Open, Counter>,
    rejections: Family<Rejection, Counter>,
    calls: Family<Call, Counter>,
}

impl Admissions {
    /// Adds the families to what the server tells.
    pub(super) fn register(all: &mut Registry) -> Self {
        let usual: fn() -> Histogram = || Histogram::new(SECONDS);
        let this = Self {
            steps: Family::new_with_constructor(usual),
            known: Default::default(),
            controllers: Family::new_with_constructor(usual),
            webhooks: Family::new_with_constructor(|| Histogram::new(WEBHOOKS)),
            fail_open: Family::default(),
            rejections: Family::default(),
            calls: Family::default(),
        };
        let all = all.sub_registry_with_prefix("apiserver_admission");
        all.register(
            "step_admission_duration_seconds",
            "[STABLE] Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step type (validate or admit).",
            this.steps.clone(),
        );
        all.register(
            "controller_admission_duration_seconds",
            "[STABLE] Admission controller latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).",
            this.controllers.clone(),
        );
        all.register(
            "webhook_admission_duration_seconds",
            "[STABLE] Admission webhook latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).",
            this.webhooks.clone(),
        );
        all.register(
            "webhook_fail_open_count",
            "[ALPHA] Admission webhook fail open count, identified by name and broken out for each admission type (validating or mutating).",
            this.fail_open.clone(),
        );
        all.register(
            "webhook_rejection_count",
            "[ALPHA] Admission webhook rejection count, identified by name and broken out for each admission type (validating or admit) and operation. Additional labels specify an error type (calling_webhook_error or apiserver_internal_error if an error occurred; no_error otherwise) and optionally a non-zero rejection code if the webhook rejects the request with an HTTP status code (honored by the apiserver when the code is greater or equal to 400). Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
            this.rejections.clone(),
        );
        all.register(
            "webhook_request",
            "[ALPHA] Admission webhook request total, identified by name and broken out for each admission type (validating or mutating) and operation. Additional labels specify whether the request was rejected or not and an HTTP status code. Codes greater than 600 are truncated to 600, to keep the metrics cardinality bounded.",
            this.calls.clone(),
        );
        this
    }

    /// A step of admission has ended.
    pub(crate) fn step(&self, step: Step, operation: Operation, passed: bool, took: Duration) {
        let place = (operation as usize) * 4 + usize::from(step == Step::Admit) * 2 + usize::from(passed);
        let new = || {
            let labels =
                StepLabels { operation: word(operation), rejected: rejected(passed), r#type: step.plugin() };
            self.steps.get_or_create_owned(&labels)
        };
        match self.known.get(place) {
            Some(known) => known.get_or_init(new).observe(took.as_secs_f64()),
            None => new().observe(took.as_secs_f64()),
        }
    }

    /// A plugin of this name has ended.
    pub(crate) fn controller(
        &self,
        name: &str,
        step: Step,
        operation: Operation,
        passed: bool,
        took: Duration,
    ) {
        let labels = Named {
            name: name.to_owned(),
            operation: word(operation),
            rejected: rejected(passed),
            r#type: step.plugin(),
        };
        self.controllers.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A webhook was asked and does not mind.
    pub(crate) fn accepted(&self, asked: &Asked<'_>) {
        self.asked(asked, 200, true);
    }

    /// A webhook did not answer as it should, which is overlooked.
    pub(crate) fn failed_open(&self, asked: &Asked<'_>) {
        self.asked(asked, 400, true);
        let open = Open { name: asked.name.to_owned(), r#type: asked.step.webhook() };
        self.fail_open.get_or_create(&open).inc();
    }

    /// The request is refused with this code, because of the webhook or because of a fault.
    pub(crate) fn refused(&self, asked: &Asked<'_>, fault: Fault, code: u16) {
        let code = if fault == Fault::None { code.min(HIGHEST) } else { 400 };
        self.asked(asked, code, false);
        let rejection = Rejection {
            error_type: match fault {
                Fault::None => "no_error",
                Fault::Call => "calling_webhook_error",
                Fault::Server => "apiserver_internal_error",
            },
            name: asked.name.to_owned(),
            operation: word(asked.operation),
            rejection_code: code,
            r#type: asked.step.webhook(),
        };
        self.rejections.get_or_create(&rejection).inc();
    }

    fn asked(&self, asked: &Asked<'_>, code: u16, passed: bool) {
        let (name, operation) = (asked.name.to_owned(), word(asked.operation));
        let (rejected, r#type) = (rejected(passed), asked.step.webhook());
        let call = Call { code, name: name.clone(), operation, rejected, r#type };
        self.calls.get_or_create(&call).inc();
        let named = Named { name, operation, rejected, r#type };
        self.webhooks.get_or_create(&named).observe(asked.took.as_secs_f64());
    }
}

impl Step {
    fn plugin(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validate => "validate",
        }
    }

    fn webhook(self) -> &'static str {
        match self {
            Self::Admit => "admit",
            Self::Validate => "validating",
        }
    }
}

fn word(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

fn rejected(passed: bool) -> &'static str {
    if passed { "false" } else { "true" }
}
