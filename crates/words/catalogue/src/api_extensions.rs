//! The groups `apiextensions.k8s.io` and `apiregistration.k8s.io`: kinds that users add.

use serde_json::{Value, json};

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name;

use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::custom_resource_rules;
use crate::kind::{Generation, Kind, Storage, Subresource};
use crate::report::Report;
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
    name_rule: crate::names::path_segment,
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
        object.put("status", json!({"acceptedNames": {"plural": "", "kind": ""}}));
        stored_versions(object);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value, subresource: Option<&str>) {
        if subresource.is_some() {
            return;
        }
        if let Some(status) = old.get("status") {
            new.put("status", status.clone());
        }
        let storage = new.list("spec.versions").iter().find(|version| version.flag("storage"));
        let Some(name) = storage.map(|version| version.text("name").to_owned()) else { return };
        if let (false, Some(status)) =
            (new.texts("status.storedVersions").contains(&name.as_str()), new.object("status"))
        {
            let mut stored = status.list("storedVersions").to_vec();
            stored.push(name.into());
            status.put("storedVersions", stored);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        custom_resource_rules::check_name(object, &mut report);
        custom_resource_rules::check(object, &mut report);
        custom_resource_rules::check_approval(object, &mut report);
        custom_resource_rules::check_stored_versions(object, &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        if subresource.is_none() {
            custom_resource_rules::check(new, &mut report);
            custom_resource_rules::check_update(new, old, &mut report);
        } else {
            custom_resource_rules::check_status(new, &mut report);
        }
        report.into_errors()
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

    fn prepare_create(&self, object: &mut Value) {
        if object.at("spec.service").is_none() {
            // Known at once: this server answers itself.
            let since = object.text("metadata.creationTimestamp").to_owned();
            let condition = json!({
                "type": "Available", "status": "True", "lastTransitionTime": since, "reason": "Local",
                "message": "Local APIServices are always available",
            });
            object.put("status", json!({"conditions": [condition]}));
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        check_api_service(object, &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, _old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        match subresource {
            None => check_api_service(new, &mut report),
            Some(_) => check_api_service_status(new, &mut report),
        }
        report.into_errors()
    }
}

fn check_api_service_status(object: &Value, report: &mut Report) {
    let path = Path::root("status").child("conditions");
    for (at, condition) in object.list("status.conditions").iter().enumerate() {
        let (status, states) = (condition.text("status"), ["True", "False", "Unknown"]);
        if !states.contains(&status) {
            report.not_supported(&path.index(at).child("status"), status, &states);
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

fn check_api_service(object: &Value, report: &mut Report) {
    let null = Value::Null;
    let (spec, path) = (object.at("spec").unwrap_or(&null), Path::root("spec"));
    let (group, version) = (spec.text("group"), spec.text("version"));
    let expected = format!("{version}.{group}");
    if object.has("metadata.name") && object.text("metadata.name") != expected {
        let at = Path::root("metadata").child("name");
        let message = format!("must be `spec.version+\".\"+spec.group`: {expected:?}");
        report.invalid(&at, object.text("metadata.name"), message);
    }
    if !group.is_empty() {
        report.rule(&path.child("group"), group, name::is_dns1123_subdomain(group));
    } else if version != "v1" {
        report.required(&path.child("group"), "only v1 may have an empty group and it better be legacy kube");
    }
    report.rule(&path.child("version"), version, name::is_dns1035_label(version));
    for (field, highest) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let number = spec.count(field);
        if !(1..=highest).contains(&number) {
            report.invalid(&path.child(field), number, format!("must be positive and less than {highest}"));
        }
    }
    check_serving(spec, &path, report);
}

/// Who serves the API: this server, or one behind a Service that is trusted in one way.
fn check_serving(spec: &Value, path: &Path, report: &mut Report) {
    let (bundle, is_blind) = (spec.text("caBundle"), spec.flag("insecureSkipTLSVerify"));
    let Some(service) = spec.at("service") else {
        if !bundle.is_empty() {
            let shown = format!("{} bytes", bundle.len());
            report.invalid(&path.child("caBundle"), shown, "local APIServices may not have a caBundle");
        }
        if is_blind {
            let message = "local APIServices may not have insecureSkipTLSVerify";
            report.invalid(&path.child("insecureSkipTLSVerify"), true, message);
        }
        return;
    };
    let at = path.child("service");
    report.need(service, "namespace", &at);
    report.need(service, "name", &at);
    let port = service.int("port").unwrap_or(443);
    if !(1..=65_535).contains(&port) {
        report.invalid(&at.child("port"), port, "port is not valid: must be between 1 and 65535, inclusive");
    }
    if is_blind && !bundle.is_empty() {
        report.invalid(&path.child("insecureSkipTLSVerify"), true, "may not be true if caBundle is present");
    }
}
