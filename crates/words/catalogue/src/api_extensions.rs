//! The groups `apiextensions.k8s.io` and `apiregistration.k8s.io`: kinds that users add.

use serde_json::{Value, json};

use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Storage, Subresource};
use crate::strategy::Strategy;
use crate::webhook;

/// The rows of both groups.
pub(crate) const KINDS: &[Kind] = &[CUSTOM_RESOURCE_DEFINITION];
/// The rows of the aggregation layer.
pub(crate) const AGGREGATION: &[Kind] = &[API_SERVICE];

const CUSTOM_RESOURCE_DEFINITION: Kind = Kind {
    group: "apiextensions.k8s.io",
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    singular: "customresourcedefinition",
    short_names: &["crd", "crds"],
    categories: &["api-extensions"],
    namespaced: false,
    subresources: &[Subresource::status("CustomResourceDefinition")],
    definition: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
    storage: Storage::Stored {
        prefix: "/registry/apiextensions.k8s.io/customresourcedefinitions",
        group: "apiextensions.k8s.io",
        version: "v1",
    },
    generation: Generation::Spec,
    unconditional_update: false,
    strategy: &CustomResourceDefinition,
    ..Kind::BASE
};

const API_SERVICE: Kind = Kind {
    group: "apiregistration.k8s.io",
    kind: "APIService",
    plural: "apiservices",
    singular: "apiservice",
    categories: &["api-extensions"],
    namespaced: false,
    subresources: &[Subresource::status("APIService")],
    definition: "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService",
    storage: Storage::Stored {
        prefix: "/registry/apiregistration.k8s.io/apiservices",
        group: "apiregistration.k8s.io",
        version: "v1",
    },
    columns: &[
        column::NAME,
        Column::text("Service", "where the API is served", |object, _| match object.at("spec.service") {
            Some(service) => format!("{}/{}", service.text("namespace"), service.text("name")).into(),
            None => "Local".into(),
        }),
        Column::text("Available", "whether the API answers", |object, _| available(object).into()),
        column::AGE,
    ],
    unconditional_update: false,
    strategy: &ApiService,
    ..Kind::BASE
};

struct CustomResourceDefinition;

impl Strategy for CustomResourceDefinition {
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.object("spec") else { return };
        if let Some(names) = spec.object("names") {
            let kind = names.text("kind").to_owned();
            if !kind.is_empty() {
                names.fill_zero("singular", kind.to_lowercase());
                names.fill_zero("listKind", format!("{kind}List"));
            }
        }
        spec.fill("conversion", json!({"strategy": "None"}));
        if let Some(client) = spec.inside("conversion.webhook.clientConfig") {
            webhook::default_service(client);
        }
        if let Some(status) = object.inside("status") {
            status.fill("conditions", json!([]));
        }
        stored_versions(object);
    }

    fn prepare_create(&self, object: &mut Value) {
        object.put("status", json!({}));
        stored_versions(object);
    }
}

/// A definition without a history has stored its storage version at most.
fn stored_versions(object: &mut Value) {
    let storage = object.list("spec.versions").iter().find(|version| version.flag("storage"));
    let Some(name) = storage.map(|version| version.text("name").to_owned()) else { return };
    if let (true, Some(status)) = (object.list("status.storedVersions").is_empty(), object.object("status")) {
        status.put("storedVersions", json!([name]));
    }
}

struct ApiService;

impl Strategy for ApiService {
    fn default(&self, object: &mut Value) {
        if let Some(spec) = object.inside("spec") {
            webhook::default_service(spec);
        }
    }
}

fn available(object: &Value) -> String {
    let conditions = object.list("status.conditions");
    match conditions.iter().find(|condition| condition.text("type") == "Available") {
        None => "Unknown".to_owned(),
        Some(condition) if condition.text("status") == "True" => "True".to_owned(),
        Some(condition) => format!("{} ({})", condition.text("status"), condition.text("reason")),
    }
}
