//! The built-in types, read once from the schemas that `k8s-openapi` carries.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use crate::facts::FACTS;
use crate::{Field, ListKind, MapKind, Node, NodeId, Patch, Schemas, Struct};

/// Definitions whose values are kept as they come.
const OPAQUE: &[&str] = &[
    "io.k8s.apimachinery.pkg.runtime.RawExtension",
    "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
    "io.k8s.apimachinery.pkg.apis.meta.v1.Patch",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray",
];

/// All built-in types of the API, with their merge rules.
pub fn builtin() -> &'static Schemas {
    static BUILTIN: OnceLock<Schemas> = OnceLock::new();
    BUILTIN.get_or_init(|| Builder::new(&definitions()).build())
}

macro_rules! roots {
    ($generator:ident: $($($part:ident)::+,)*) => {
        $($generator.subschema_for::<k8s_openapi::$($part)::+>();)*
    };
}

/// The OpenAPI v3 schema of each built-in definition, with its description, by definition name.
///
/// Costs some milliseconds and megabytes: call it to build documents, not per request.
pub fn definitions() -> Map<String, Value> {
    let mut generator: SchemaGenerator = SchemaSettings::openapi3().into_generator();
    roots! { generator:
    api::admissionregistration::v1::MutatingAdmissionPolicy,
    api::admissionregistration::v1::MutatingAdmissionPolicyBinding,
    api::admissionregistration::v1::MutatingWebhookConfiguration,
    api::admissionregistration::v1::ValidatingAdmissionPolicy,
    api::admissionregistration::v1::ValidatingAdmissionPolicyBinding,
    api::admissionregistration::v1::ValidatingWebhookConfiguration,
    api::admissionregistration::v1alpha1::MutatingAdmissionPolicy,
    api::admissionregistration::v1alpha1::MutatingAdmissionPolicyBinding,
    api::admissionregistration::v1beta1::MutatingAdmissionPolicy,
    api::admissionregistration::v1beta1::MutatingAdmissionPolicyBinding,
    api::apiserverinternal::v1alpha1::StorageVersion,
    api::apps::v1::ControllerRevision,
    api::apps::v1::DaemonSet,
    api::apps::v1::Deployment,
    api::apps::v1::ReplicaSet,
    api::apps::v1::StatefulSet,
    api::authentication::v1::SelfSubjectReview,
    api::authentication::v1::TokenRequest,
    api::authentication::v1::TokenReview,
    api::authorization::v1::LocalSubjectAccessReview,
    api::authorization::v1::SelfSubjectAccessReview,
    api::authorization::v1::SelfSubjectRulesReview,
    api::authorization::v1::SubjectAccessReview,
    api::autoscaling::v1::HorizontalPodAutoscaler,
    api::autoscaling::v1::Scale,
    api::autoscaling::v2::HorizontalPodAutoscaler,
    api::batch::v1::CronJob,
    api::batch::v1::Job,
    api::certificates::v1::CertificateSigningRequest,
    api::certificates::v1::ClusterTrustBundle,
    api::certificates::v1::PodCertificateRequest,
    api::certificates::v1beta1::ClusterTrustBundle,
    api::certificates::v1beta1::PodCertificateRequest,
    api::coordination::v1::Lease,
    api::coordination::v1alpha2::LeaseCandidate,
    api::coordination::v1beta1::LeaseCandidate,
    api::core::v1::Binding,
    api::core::v1::ComponentStatus,
    api::core::v1::ConfigMap,
    api::core::v1::Endpoints,
    api::core::v1::Event,
    api::core::v1::LimitRange,
    api::core::v1::Namespace,
    api::core::v1::Node,
    api::core::v1::PersistentVolume,
    api::core::v1::PersistentVolumeClaim,
    api::core::v1::Pod,
    api::core::v1::PodTemplate,
    api::core::v1::ReplicationController,
    api::core::v1::ResourceQuota,
    api::core::v1::Secret,
    api::core::v1::Service,
    api::core::v1::ServiceAccount,
    api::discovery::v1::EndpointSlice,
    api::events::v1::Event,
    api::flowcontrol::v1::FlowSchema,
    api::flowcontrol::v1::PriorityLevelConfiguration,
    api::lifecycle::v1alpha1::Eviction,
    api::lifecycle::v1alpha1::EvictionRequest,
    api::networking::v1::IPAddress,
    api::networking::v1::Ingress,
    api::networking::v1::IngressClass,
    api::networking::v1::NetworkPolicy,
    api::networking::v1::ServiceCIDR,
    api::node::v1::RuntimeClass,
    api::policy::v1::Eviction,
    api::policy::v1::PodDisruptionBudget,
    api::rbac::v1::ClusterRole,
    api::rbac::v1::ClusterRoleBinding,
    api::rbac::v1::Role,
    api::rbac::v1::RoleBinding,
    api::resource::v1::DeviceClass,
    api::resource::v1::DeviceTaintRule,
    api::resource::v1::ResourceClaim,
    api::resource::v1::ResourceClaimTemplate,
    api::resource::v1::ResourceSlice,
    api::resource::v1alpha3::DeviceTaintRule,
    api::resource::v1alpha3::ResourcePoolStatusRequest,
    api::resource::v1beta1::DeviceClass,
    api::resource::v1beta1::ResourceClaim,
    api::resource::v1beta1::ResourceClaimTemplate,
    api::resource::v1beta1::ResourceSlice,
    api::resource::v1beta2::DeviceClass,
    api::resource::v1beta2::DeviceTaintRule,
    api::resource::v1beta2::ResourceClaim,
    api::resource::v1beta2::ResourceClaimTemplate,
    api::resource::v1beta2::ResourceSlice,
    api::scheduling::v1::PriorityClass,
    api::scheduling::v1alpha3::CompositePodGroup,
    api::scheduling::v1alpha3::PodGroup,
    api::scheduling::v1alpha3::Workload,
    api::scheduling::v1beta1::PodGroup,
    api::scheduling::v1beta1::Workload,
    api::storage::v1::CSIDriver,
    api::storage::v1::CSINode,
    api::storage::v1::CSIStorageCapacity,
    api::storage::v1::StorageClass,
    api::storage::v1::VolumeAttachment,
    api::storage::v1::VolumeAttributesClass,
    api::storagemigration::v1::StorageVersionMigration,
    api::storagemigration::v1beta1::StorageVersionMigration,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::APIGroup,
    apimachinery::pkg::apis::meta::v1::APIGroupList,
    apimachinery::pkg::apis::meta::v1::APIResourceList,
    apimachinery::pkg::apis::meta::v1::APIVersions,
    apimachinery::pkg::apis::meta::v1::DeleteOptions,
    apimachinery::pkg::apis::meta::v1::Status,
    apimachinery::pkg::version::Info,
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
    }
    let mut definitions = generator.take_definitions(false);
    definitions.sort_keys();
    definitions
}

struct Builder<'a> {
    definitions: &'a Map<String, Value>,
    facts: BTreeMap<(&'static str, &'static str), &'static str>,
    schemas: Schemas,
}

impl<'a> Builder<'a> {
    fn new(definitions: &'a Map<String, Value>) -> Self {
        let facts = FACTS.iter().map(|&(definition, field, rule)| ((definition, field), rule)).collect();
        Self { definitions, facts, schemas: Schemas::default() }
    }

    fn build(mut self) -> Schemas {
        // Every definition gets its place first, because definitions refer to each other.
        for name in self.definitions.keys() {
            let id = self.schemas.push(Node::Any);
            self.schemas.name(name, id);
        }
        let definitions = self.definitions;
        for (name, definition) in definitions {
            let node = self.definition(name, definition);
            let id = self.schemas.lookup(name).expect("named above");
            self.schemas.set(id, node);
        }
        self.schemas
    }

    fn definition(&mut self, name: &str, schema: &Value) -> Node {
        if OPAQUE.contains(&name) {
            return Node::Any;
        }
        match name.rsplit('.').next() {
            Some("Quantity") => return Node::Quantity,
            Some("IntOrString") => return Node::IntOrString,
            Some("MicroTime") => return Node::MicroTime,
            Some("Time") => return Node::Time,
            _ => {}
        }
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else {
            return if schema["type"] == "object" && schema.get("additionalProperties").is_none() {
                Node::Struct(Struct { name: name.to_owned(), ..Struct::default() })
            } else {
                self.inline(schema, "")
            };
        };
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut fields: Vec<Field> =
            properties.iter().map(|(field, shape)| self.field(name, field, shape, &required)).collect();
        fields.sort_by(|a, b| a.name.cmp(&b.name));
        let kind = map_kind(self.rule(name, ""));
        Node::Struct(Struct { name: name.to_owned(), fields, kind, rest: None })
    }

    fn field(&mut self, definition: &str, name: &str, shape: &Value, required: &[&str]) -> Field {
        let rule = self.rule(definition, name);
        let node = self.place(shape, rule);
        Field {
            name: name.to_owned(),
            node,
            required: required.contains(&name),
            patch: patch(rule),
            default: None,
        }
    }

    fn rule(&self, definition: &str, field: &str) -> &'static str {
        let short = definition.strip_prefix("io.k8s.").unwrap_or(definition);
        self.facts.get(&(short, field)).copied().unwrap_or("")
    }

    /// The place of a shape: that of the definition it refers to, or a new one.
    fn place(&mut self, shape: &Value, rule: &str) -> NodeId {
        if let Some(id) = reference(shape).and_then(|name| self.schemas.lookup(name)) {
            // A field may make an otherwise granular struct atomic.
            return match (map_kind(rule), self.definitions.get(reference(shape).unwrap_or_default())) {
                (MapKind::Atomic, Some(target)) => {
                    let node = self.definition(reference(shape).unwrap_or_default(), target);
                    let node = match node {
                        Node::Struct(inner) => Node::Struct(Struct { kind: MapKind::Atomic, ..inner }),
                        other => other,
                    };
                    self.schemas.push(node)
                }
                _ => id,
            };
        }
        let node = self.inline(shape, rule);
        self.schemas.push(node)
    }

    fn inline(&mut self, shape: &Value, rule: &str) -> Node {
        match (shape["type"].as_str(), shape["format"].as_str()) {
            (Some("boolean"), _) => Node::Boolean,
            (Some("integer"), Some("int64")) => Node::Integer { bits: 64 },
            (Some("integer"), _) => Node::Integer { bits: 32 },
            (Some("number"), _) => Node::Number,
            (Some("string"), Some("byte")) => Node::Bytes,
            (Some("string"), _) => Node::String,
            (Some("array"), _) => Node::List { item: self.place(&shape["items"], ""), kind: list_kind(rule) },
            (Some("object"), _) if shape.get("additionalProperties").is_some() => {
                Node::Map { value: self.place(&shape["additionalProperties"], ""), kind: map_kind(rule) }
            }
            _ => Node::Any,
        }
    }
}

/// The definition that `{"$ref": "#/components/schemas/NAME"}` names.
fn reference(shape: &Value) -> Option<&str> {
    let target = shape.get("$ref").or_else(|| shape.get("allOf")?.get(0)?.get("$ref"))?;
    target.as_str()?.rsplit('/').next()
}

fn words(rule: &str) -> impl Iterator<Item = &str> {
    rule.split(' ')
}

fn list_kind(rule: &str) -> ListKind {
    for word in words(rule) {
        if word == "set" {
            return ListKind::Set;
        }
        if let Some(keys) = word.strip_prefix("map:") {
            return ListKind::Map(keys.split(',').map(str::to_owned).collect());
        }
    }
    ListKind::Atomic
}

fn map_kind(rule: &str) -> MapKind {
    if words(rule).any(|word| word == "atomic") { MapKind::Atomic } else { MapKind::Granular }
}

fn patch(rule: &str) -> Patch {
    let mut patch = Patch::default();
    for word in words(rule) {
        match word.split_once(':').unwrap_or((word, "")) {
            ("merge", "") => patch.merge = true,
            ("merge", key) => (patch.merge, patch.merge_key) = (true, Some(key.to_owned())),
            ("retain", _) => patch.retain_keys = true,
            _ => {}
        }
    }
    patch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struct_of(name: &str) -> &'static Struct {
        let schemas = builtin();
        match schemas.node(schemas.lookup(name).expect(name)) {
            Node::Struct(inner) => inner,
            other => panic!("{name} is {other:?}"),
        }
    }

    #[test]
    fn lists_carry_their_merge_rules() {
        let spec = struct_of("io.k8s.api.core.v1.PodSpec");
        let containers = spec.field("containers").expect("containers");
        assert_eq!(containers.patch.merge_key.as_deref(), Some("name"));
        let Node::List { kind, .. } = builtin().node(containers.node) else { panic!("not a list") };
        assert_eq!(*kind, ListKind::Map(vec!["name".to_owned()]));
        let volumes = spec.field("volumes").expect("volumes");
        assert!(volumes.patch.merge && volumes.patch.retain_keys);
    }

    #[test]
    fn atomic_structs_are_known() {
        assert_eq!(struct_of("io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector").kind, MapKind::Atomic);
        let spec = struct_of("io.k8s.api.core.v1.PodSpec");
        let selector = builtin().node(spec.field("nodeSelector").expect("nodeSelector").node);
        assert!(matches!(selector, Node::Map { kind: MapKind::Atomic, .. }));
    }

    #[test]
    fn every_fact_names_a_field_that_exists() {
        let absent: Vec<String> = FACTS
            .iter()
            .filter(|&&(definition, field, _)| {
                let node = builtin().lookup(&format!("io.k8s.{definition}")).map(|id| builtin().node(id));
                !matches!(node, Some(Node::Struct(inner)) if field.is_empty() || inner.field(field).is_some())
            })
            .map(|(definition, field, _)| format!("(\"{definition}\", \"{field}\""))
            .collect();
        assert!(absent.is_empty(), "{}", absent.join("\n"));
    }

    #[test]
    fn scalars_have_their_kinds() {
        let meta = struct_of("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
        let kind = |field: &str| builtin().node(meta.field(field).expect("field").node).clone();
        assert_eq!(kind("creationTimestamp"), Node::Time);
        assert_eq!(kind("generation"), Node::Integer { bits: 64 });
    }
}
