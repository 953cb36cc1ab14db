//! Who was recognized, and what they were allowed. All handles are found at the start but those of outcomes that
//! webhooks have.

use std::time::Duration;

use plimsoll_access::Decision;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use plimsoll_metrics::Histogram;

/// Doubling from a millisecond on.
const SECONDS: &[f64] = &[
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
];
/// Prometheus' own default.
const USUAL: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Names of users that have a series of their own.
const NAMES: [&str; 5] =
    ["admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default"];

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct User {
    username: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Decided {
    decision: &'static str,
    name: String,
    r#type: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Asked {
    name: String,
    result: &'static str,
}

type Distribution<L> = Family<L, Histogram, fn() -> Histogram>;

/// An outcome's counter and times.
#[derive(Debug)]
struct Counted {
    count: Counter,
    seconds: Histogram,
}

impl Counted {
    fn add(&self, took: Duration) {
        self.count.inc();
        self.seconds.observe(took.as_secs_f64());
    }
}

/// How often which authorizer allowed, and how often it denied.
#[derive(Debug)]
pub(crate) struct Decisions {
    allowed: Counter,
    denied: Counter,
}

impl Decisions {
    /// Counts what is decided; having no opinion decides nothing.
    pub(crate) fn add(&self, decision: &Decision) {
        match decision {
            Decision::Allow(_) => &self.allowed,
            Decision::Deny(_) => &self.denied,
            Decision::NoOpinion(_) => return,
        }
        .inc();
    }
}

/// What authentication and authorization move.
#[derive(Debug)]
pub(crate) struct Access {
    recognized: Counted,
    unknown: Counted,
    users: [Counter; NAMES.len()],
    mails: Counter,
    others: Counter,
    allowed: Counted,
    denied: Counted,
    undecided: Counted,
    decisions: Family<Decided, Counter>,
    evaluations: Family<Asked, Counter>,
    durations: Distribution<Asked>,
    fail_open: Family<Asked, Counter>,
}

impl Access {
    /// Adds the families to what the server tells.
    pub(super) fn register(all: &mut Registry) -> Self {
        let attempts: Family<Outcome, Counter> = Family::default();
        let times: Distribution<Outcome> = Family::new_with_constructor(|| Histogram::new(SECONDS));
        let users: Family<User, Counter> = Family::default();
        let checks: Family<Outcome, Counter> = Family::default();
        let check_times: Distribution<Outcome> = Family::new_with_constructor(|| Histogram::new(SECONDS));
        let user = |username| users.get_or_create_owned(&User { username });
        let counted = |counts: &Family<Outcome, Counter>, seconds: &Distribution<Outcome>, result| {
            let outcome = Outcome { result };
            Counted {
                count: counts.get_or_create_owned(&outcome),
                seconds: seconds.get_or_create_owned(&outcome),
            }
        };
        let this = Self {
            recognized: counted(&attempts, &times, "success"),
            unknown: counted(&attempts, &times, "failure"),
            users: NAMES.map(user),
            mails: user("email_id"),
            others: user("other"),
            allowed: counted(&checks, &check_times, "allowed"),
            denied: counted(&checks, &check_times, "denied"),
            undecided: counted(&checks, &check_times, "no-opinion"),
            decisions: Family::default(),
            evaluations: Family::default(),
            durations: Family::new_with_constructor(|| Histogram::new(USUAL)),
            fail_open: Family::default(),
        };
        all.register("authentication_attempts", "[ALPHA] Counter of authenticated attempts.", attempts);
        all.register(
            "authentication_duration_seconds",
            "[ALPHA] Authentication duration in seconds broken out by result.",
            times,
        );
        all.register(
            "authenticated_user_requests",
            "[ALPHA] Counter of authenticated requests broken out by username.",
            users,
        );
        all.register(
            "authorization_attempts",
            "[ALPHA] Counter of authorization attempts broken down by result. It can be either 'allowed', 'denied', 'no-opinion' or 'error'.",
            checks,
        );
        all.register(
            "authorization_duration_seconds",
            "[ALPHA] Authorization duration in seconds broken out by result.",
            check_times,
        );
        all.register(
            "apiserver_authorization_decisions",
            "[ALPHA] Total number of terminal decisions made by an authorizer split by authorizer type, name, and decision.",
            this.decisions.clone(),
        );
        all.register(
            "apiserver_authorization_webhook_evaluations",
            "[BETA] Round-trips to authorization webhooks.",
            this.evaluations.clone(),
        );
        all.register(
            "apiserver_authorization_webhook_duration_seconds",
            "[BETA] Request latency in seconds.",
            this.durations.clone(),
        );
        all.register(
            "apiserver_authorization_webhook_evaluations_fail_open",
            "[BETA] NoOpinion results due to webhook timeout or error.",
            this.fail_open.clone(),
        );
        this
    }

    /// A client was recognized as this user, or was not.
    pub(crate) fn authenticated(&self, user: Option<&str>, took: Duration) {
        let Some(user) = user else { return self.unknown.add(took) };
        self.recognized.add(took);
        let counter = match NAMES.iter().position(|name| *name == user) {
            Some(place) => &self.users[place],
            None if user.contains('@') => &self.mails,
            None => &self.others,
        };
        counter.inc();
    }

    /// What all authorizers said together.
    pub(crate) fn authorized(&self, decision: &Decision, took: Duration) {
        match decision {
            Decision::Allow(_) => &self.allowed,
            Decision::Deny(_) => &self.denied,
            Decision::NoOpinion(_) => &self.undecided,
        }
        .add(took);
    }

    /// The counters of one authorizer, by its type and name.
    pub(crate) fn decisions(&self, r#type: &'static str, name: &str) -> Decisions {
        let of = |decision| {
            self.decisions.get_or_create_owned(&Decided { decision, name: name.to_owned(), r#type })
        };
        Decisions { allowed: of("allowed"), denied: of("denied") }
    }

    /// A webhook was asked and answered, or did not.
    pub(crate) fn asked(&self, name: &str, answered: bool, took: Duration) {
        let result = if answered { "success" } else { "error" };
        let asked = Asked { name: name.to_owned(), result };
        self.evaluations.get_or_create(&asked).inc();
        self.durations.get_or_create(&asked).observe(took.as_secs_f64());
    }

    /// A webhook did not answer, and others decide.
    pub(crate) fn failed_open(&self, name: &str) {
        self.fail_open.get_or_create(&Asked { name: name.to_owned(), result: "error" }).inc();
    }
}
