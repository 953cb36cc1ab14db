//! What is told of questions about pods' resources.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    List,
    GetAllocatable,
    Get,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Served {
    server_api_version: &'static str,
}

const V1: Served = Served { server_api_version: "v1" };

type Count = Family<Served, Counter>;

/// All questions.
#[derive(Default)]
pub(super) struct Questions {
    all: Count,
    /// Questions and those without an answer, by what was asked.
    by: [(Count, Count); 3],
}

impl Questions {
    /// Adds the series to those of the agent.
    pub(super) fn register(&self, all: &mut Registry) {
        let help = "[ALPHA] Cumulative number of requests to the PodResource endpoint. Broken down by server api version.";
        all.register("pod_resources_endpoint_requests", help, self.all.clone());
        let names = [("list", "List"), ("get_allocatable", "GetAllocatableResources"), ("get", "Get")];
        for ((short, method), (asked, failed)) in names.into_iter().zip(&self.by) {
            let help = format!(
                "[ALPHA] Number of requests to the PodResource {method} endpoint. Broken down by server api version."
            );
            all.register(format!("pod_resources_endpoint_requests_{short}"), help, asked.clone());
            let help = format!(
                "[ALPHA] Number of requests to the PodResource {method} endpoint which returned error. Broken down by server api version."
            );
            all.register(format!("pod_resources_endpoint_errors_{short}"), help, failed.clone());
        }
    }

    pub(super) fn asked(&self, question: Question) {
        self.all.get_or_create(&V1).inc();
        self.of(question).0.get_or_create(&V1).inc();
    }

    pub(super) fn failed(&self, question: Question) {
        self.of(question).1.get_or_create(&V1).inc();
    }

    fn of(&self, question: Question) -> &(Count, Count) {
        let [list, allocatable, get] = &self.by;
        match question {
            Question::List => list,
            Question::GetAllocatable => allocatable,
            Question::Get => get,
        }
    }
}
