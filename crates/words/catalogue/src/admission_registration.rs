//! The group `admissionregistration.k8s.io`: webhooks and policies that judge requests.

use serde_json::{Map, Value, json};

use plimsoll_meta::field::FieldError;

use crate::access::{Access, Fill};
use crate::column::{self, Column};
use crate::kind::{Generation, Kind, Storage, Subresource};
use crate::report::Report;
use crate::strategy::Strategy;
use crate::webhook;
use crate::{admission_policy_rules, admission_rules};

/// The rows in the order of discovery.
pub(crate) const KINDS: &[Kind] = &[
    MUTATING_POLICY,
    MUTATING_POLICY_BINDING,
    MUTATING_WEBHOOKS,
    VALIDATING_POLICY,
    VALIDATING_POLICY_BINDING,
    VALIDATING_WEBHOOKS,
];

const BASE: Kind = Kind {
    group: "admissionregistration.k8s.io",
    namespaced: false,
    categories: &["api-extensions"],
    unconditional_update: false,
    ..Kind::BASE
};

const fn stored(prefix: &'static str) -> Storage {
    Storage::Stored { prefix, group: "admissionregistration.k8s.io", version: "v1" }
}

const MUTATING_POLICY: Kind = Kind {
    kind: "MutatingAdmissionPolicy",
    plural: "mutatingadmissionpolicies",
    singular: "mutatingadmissionpolicy",
    definition: "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicy",
    storage: stored("/registry/mutatingadmissionpolicies"),
    columns: &[
        column::NAME,
        Column::integer("Mutations", "number of mutations", |object, _| {
            object.list("spec.mutations").len().into()
        }),
        PARAM_KIND,
        column::AGE,
    ],
    generation: Generation::Spec,
    strategy: &Policy { mutating: true },
    ..BASE
};

const MUTATING_POLICY_BINDING: Kind = Kind {
    kind: "MutatingAdmissionPolicyBinding",
    plural: "mutatingadmissionpolicybindings",
    singular: "mutatingadmissionpolicybinding",
    definition: "io.k8s.api.admissionregistration.v1.MutatingAdmissionPolicyBinding",
    storage: stored("/registry/mutatingadmissionpolicybindings"),
    columns: BINDING_COLUMNS,
    generation: Generation::Spec,
    strategy: &Binding { mutating: true },
    ..BASE
};

const MUTATING_WEBHOOKS: Kind = Kind {
    kind: "MutatingWebhookConfiguration",
    plural: "mutatingwebhookconfigurations",
    singular: "mutatingwebhookconfiguration",
    definition: "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration",
    storage: stored("/registry/mutatingwebhookconfigurations"),
    columns: WEBHOOK_COLUMNS,
    generation: Generation::Content,
    strategy: &Webhooks { mutating: true },
    ..BASE
};

const VALIDATING_POLICY: Kind = Kind {
    kind: "ValidatingAdmissionPolicy",
    plural: "validatingadmissionpolicies",
    singular: "validatingadmissionpolicy",
    subresources: &[Subresource::status("ValidatingAdmissionPolicy")],
    definition: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy",
    storage: stored("/registry/validatingadmissionpolicies"),
    columns: &[
        column::NAME,
        Column::integer("Validations", "number of validations", |object, _| {
            object.list("spec.validations").len().into()
        }),
        PARAM_KIND,
        column::AGE,
    ],
    generation: Generation::Spec,
    strategy: &Policy { mutating: false },
    ..BASE
};

const VALIDATING_POLICY_BINDING: Kind = Kind {
    kind: "ValidatingAdmissionPolicyBinding",
    plural: "validatingadmissionpolicybindings",
    singular: "validatingadmissionpolicybinding",
    definition: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding",
    storage: stored("/registry/validatingadmissionpolicybindings"),
    columns: BINDING_COLUMNS,
    generation: Generation::Spec,
    strategy: &Binding { mutating: false },
    ..BASE
};

const VALIDATING_WEBHOOKS: Kind = Kind {
    kind: "ValidatingWebhookConfiguration",
    plural: "validatingwebhookconfigurations",
    singular: "validatingwebhookconfiguration",
    definition: "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration",
    storage: stored("/registry/validatingwebhookconfigurations"),
    columns: WEBHOOK_COLUMNS,
    generation: Generation::Content,
    strategy: &Webhooks { mutating: false },
    ..BASE
};

const WEBHOOK_COLUMNS: &[Column] = &[
    column::NAME,
    Column::integer("Webhooks", "number of webhooks", |object, _| object.list("webhooks").len().into()),
    column::AGE,
];

const BINDING_COLUMNS: &[Column] = &[
    column::NAME,
    Column::text("PolicyName", "policy that is put into force", |object, _| {
        object.text("spec.policyName").into()
    }),
    Column::text("ParamRef", "parameters of the policy", |object, _| param_ref(object).into()),
    column::AGE,
];

const PARAM_KIND: Column =
    Column::text("ParamKind", "kind of the parameters", |object, _| match object.at("spec.paramKind") {
        Some(kind) => format!("{}/{}", kind.text("apiVersion"), kind.text("kind")).into(),
        None => "<unset>".into(),
    });

struct Webhooks {
    mutating: bool,
}

impl Strategy for Webhooks {
    fn default(&self, object: &mut Value) {
        for hook in object.elements("webhooks") {
            hook.fill("failurePolicy", "Fail");
            hook.fill("matchPolicy", "Equivalent");
            hook.fill("namespaceSelector", Value::Object(Map::new()));
            hook.fill("objectSelector", Value::Object(Map::new()));
            hook.fill("timeoutSeconds", 10);
            if self.mutating {
                hook.fill("reinvocationPolicy", "Never");
            }
            for rule in hook.elements("rules") {
                rule.fill("scope", "*");
            }
            if let Some(client) = hook.inside("clientConfig") {
                webhook::default_service(client);
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        admission_rules::check_webhooks(object, None, self.mutating, &mut report);
        report.into_errors()
    }

    fn validate_update(&self, new: &Value, old: &Value, _subresource: Option<&str>) -> Vec<FieldError> {
        let mut report = Report::new();
        admission_rules::check_webhooks(new, Some(old), self.mutating, &mut report);
        report.into_errors()
    }
}

struct Policy {
    mutating: bool,
}

impl Policy {
    fn check(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let mut report = Report::new();
        match self.mutating {
            true => admission_policy_rules::check_mutating(object, old, &mut report),
            false => admission_policy_rules::check_validating(object, old, &mut report),
        }
        report.into_errors()
    }
}

impl Strategy for Policy {
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.object("spec") else { return };
        spec.fill("failurePolicy", "Fail");
        if let Some(constraints) = spec.inside("matchConstraints") {
            match_resources(constraints);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        self.check(object, None)
    }

    fn validate_update(&self, new: &Value, old: &Value, subresource: Option<&str>) -> Vec<FieldError> {
        match subresource {
            None => self.check(new, Some(old)),
            Some(_) => admission_policy_rules::check_status(new),
        }
    }
}

struct Binding {
    mutating: bool,
}

impl Strategy for Binding {
    fn default(&self, object: &mut Value) {
        let Some(spec) = object.object("spec") else { return };
        if let Some(resources) = spec.inside("matchResources") {
            match_resources(resources);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut report = Report::new();
        admission_policy_rules::check_binding(object, self.mutating, &mut report);
        report.into_errors()
    }
}

fn match_resources(resources: &mut Value) {
    resources.fill("matchPolicy", "Equivalent");
    resources.fill("namespaceSelector", json!({}));
    resources.fill("objectSelector", json!({}));
    for list in ["resourceRules", "excludeResourceRules"] {
        for rule in resources.elements(list) {
            rule.fill("scope", "*");
        }
    }
}

fn param_ref(binding: &Value) -> String {
    let Some(reference) = binding.at("spec.paramRef") else { return "<unset>".to_owned() };
    match (reference.text("namespace"), reference.text("name")) {
        ("", "") => match reference.at("selector") {
            Some(selector) => column::selector(Some(selector)),
            None => "<unset>".to_owned(),
        },
        (_, "") => column::selector(reference.at("selector")),
        ("", name) => format!("*/{name}"),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}
