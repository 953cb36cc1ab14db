//! What puts a policy into force.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use plimsoll_meta::selector::Labels;
use serde_json::Value;

use super::definition::{list, text};
use crate::matching::Criteria;

/// A binding of a policy.
#[derive(Debug)]
pub struct Binding {
    /// Its name.
    pub name: String,
    /// The policy's name.
    pub policy: String,
    /// Which of the policy's requests it is for; none for all.
    pub criteria: Option<Criteria>,
    /// The parameters.
    pub params: Option<ParamRef>,
    /// What follows when a validation fails.
    pub actions: Vec<Action>,
}

/// What follows when a validation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The request is refused.
    Deny,
    /// The client is warned.
    Warn,
    /// The audit log is told.
    Audit,
}

impl Action {
    /// As bindings write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deny => "Deny",
            Self::Warn => "Warn",
            Self::Audit => "Audit",
        }
    }
}

/// `paramRef`.
#[derive(Clone, Debug)]
pub struct ParamRef {
    /// Namespace of the parameters; empty for that of the request.
    pub namespace: String,
    /// Which objects.
    pub params: Params,
    /// The request fails when there are none.
    pub required: bool,
}

/// Which objects are parameters.
#[derive(Clone, Debug)]
pub enum Params {
    /// The one of this name.
    Named(String),
    /// All with these labels.
    Selected(Labels),
}

impl Binding {
    /// Reads a binding of either kind.
    pub fn read(object: &Value) -> Self {
        let spec = &object["spec"];
        let action = |one: &Value| match one.as_str() {
            Some("Deny") => Some(Action::Deny),
            Some("Warn") => Some(Action::Warn),
            Some("Audit") => Some(Action::Audit),
            _ => None,
        };
        Self {
            name: text(&object["metadata"]["name"]).to_owned(),
            policy: text(&spec["policyName"]).to_owned(),
            criteria: spec["matchResources"]
                .is_object()
                .then(|| Criteria::of_policy(&spec["matchResources"])),
            params: spec["paramRef"].is_object().then(|| ParamRef::read(&spec["paramRef"])),
            actions: list(&spec["validationActions"]).filter_map(action).collect(),
        }
    }
}

impl ParamRef {
    fn read(reference: &Value) -> Self {
        let params = match text(&reference["name"]) {
            "" => {
                let selector: LabelSelector =
                    serde_json::from_value(reference["selector"].clone()).unwrap_or_default();
                Params::Selected(Labels::from(&selector))
            }
            name => Params::Named(name.to_owned()),
        };
        Self {
            namespace: text(&reference["namespace"]).to_owned(),
            params,
            required: reference["parameterNotFoundAction"] == "Deny",
        }
    }
}
