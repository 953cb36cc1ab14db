//! What the audit log records, and what it loses.

use plimsoll_audit::Level;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Of {
    level: &'static str,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct By {
    plugin: &'static str,
}

/// What the audit moves.
#[derive(Clone, Debug)]
pub(crate) struct Audits {
    events: Counter,
    levels: [Counter; 4],
    errors: Family<By, Counter>,
    rejected: Counter,
}

impl Audits {
    /// Adds the families to what the server tells.
    pub(super) fn register(all: &mut Registry) -> Self {
        let levels: Family<Of, Counter> = Family::default();
        let this = Self {
            events: Counter::default(),
            levels: ["None", "Metadata", "Request", "RequestResponse"]
                .map(|level| levels.get_or_create_owned(&Of { level })),
            errors: Family::default(),
            rejected: Counter::default(),
        };
        let all = all.sub_registry_with_prefix("apiserver_audit");
        all.register(
            "event",
            "[ALPHA] Counter of audit events generated and sent to the audit backend.",
            this.events.clone(),
        );
        all.register("level", "[ALPHA] Counter of policy levels for audit events (1 per request).", levels);
        all.register(
            "error",
            "[ALPHA] Counter of audit events that failed to be audited properly. Plugin identifies the plugin affected by the error.",
            this.errors.clone(),
        );
        all.register(
            "requests_rejected",
            "[ALPHA] Counter of apiserver requests rejected due to an error in audit logging backend.",
            this.rejected.clone(),
        );
        this
    }

    /// An event is sent to where events go.
    pub(crate) fn event(&self) {
        self.events.inc();
    }

    /// The policy wants this much of a request.
    pub(crate) fn level(&self, level: Level) {
        self.levels[level as usize].inc();
    }

    /// The counter of events that one of the places lost.
    pub(crate) fn errors(&self, plugin: &'static str) -> Counter {
        self.errors.get_or_create_owned(&By { plugin })
    }

    /// A request is not served because it cannot be recorded.
    pub(crate) fn rejected(&self) {
        self.rejected.inc();
    }
}
