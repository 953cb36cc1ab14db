//! What users define: custom kinds, policies, webhooks; and what webhooks answer.

use jiff::Timestamp;
use plimsoll_admission::policy::{self, Policy};
use plimsoll_admission::webhook::{Mutation, ReviewVersion, Verdict, hooks};
use plimsoll_merge::{Typed, strategic_merge};
use plimsoll_meta::field::Path;
use plimsoll_structural::publish::{self, Document, Names};
use plimsoll_structural::{PrinterColumn, Rules, Schema, check, conversion, lists, validate};
use serde_json::{Value, json};

use crate::{Decoder, parts, texts};

pub(crate) const DECODERS: &[Decoder] = &[
    Decoder { name: "definition", examples: definitions, read: read_definition },
    Decoder { name: "custom_object", examples: custom_objects, read: read_custom },
    Decoder { name: "policy", examples: policies, read: read_policy },
    Decoder { name: "webhook_answer", examples: answers, read: read_answer },
];

const SCHEMA: &str = r#"{"type":"object","required":["spec"],"x-kubernetes-validations":[{"rule":"self.spec.n >= oldSelf.spec.n","message":"m","optionalOldSelf":false},{"rule":"self.spec.list.all(x, x.a != '')","messageExpression":"'x' + string(self.spec.n)","reason":"FieldValueForbidden","fieldPath":".spec.list"}],"properties":{"spec":{"type":"object","properties":{"n":{"type":"integer","minimum":1,"maximum":10,"exclusiveMaximum":true,"multipleOf":2,"default":4},"s":{"type":"string","pattern":"^(a|b)*$","maxLength":5,"format":"date-time","enum":["a","b"],"nullable":true},"p":{"x-kubernetes-int-or-string":true,"anyOf":[{"type":"integer"},{"type":"string"}]},"list":{"type":"array","maxItems":5,"x-kubernetes-list-type":"map","x-kubernetes-list-map-keys":["a"],"items":{"type":"object","required":["a"],"properties":{"a":{"type":"string","default":"d"}}}},"set":{"type":"array","x-kubernetes-list-type":"set","uniqueItems":false,"items":{"type":"string"}},"map":{"type":"object","additionalProperties":{"type":"number"},"maxProperties":3},"any":{"type":"object","x-kubernetes-preserve-unknown-fields":true},"embedded":{"type":"object","x-kubernetes-embedded-resource":true,"properties":{"kind":{"type":"string"}}}},"oneOf":[{"required":["n"]},{"not":{"required":["s"]}}]},"status":{"type":"object","x-kubernetes-map-type":"atomic"}}}"#;

const OBJECT: &str = r#"{"apiVersion":"x/v1","kind":"A","metadata":{"name":"a","creationTimestamp":"2024-01-01T00:00:00Z"},"spec":{"n":4,"s":"a","p":"5%","list":[{"a":"b"},{"a":"c","unknown":1}],"set":["a","b"],"map":{"a":1.5},"any":{"b":[null]},"embedded":{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"}}},"other":[1]}"#;

fn definitions() -> Vec<Vec<u8>> {
    let definition = format!(
        r#"{{"apiVersion":"apiextensions.k8s.io/v1","kind":"CustomResourceDefinition","metadata":{{"name":"as.x"}},"spec":{{"group":"x","scope":"Namespaced","names":{{"plural":"as","singular":"a","kind":"A","listKind":"AList","shortNames":["q"],"categories":["all"]}},"conversion":{{"strategy":"Webhook","webhook":{{"conversionReviewVersions":["v1"],"clientConfig":{{"url":"https://x/y","caBundle":"AA=="}}}}}},"versions":[{{"name":"v1","served":true,"storage":true,"deprecated":true,"selectableFields":[{{"jsonPath":".spec.s"}}],"additionalPrinterColumns":[{{"name":"N","type":"integer","jsonPath":".spec.n"}},{{"name":"D","type":"date","jsonPath":".metadata.creationTimestamp"}}],"subresources":{{"status":{{}},"scale":{{"specReplicasPath":".spec.n","statusReplicasPath":".status.n","labelSelectorPath":".status.s"}}}},"schema":{{"openAPIV3Schema":{SCHEMA}}}}}]}},"status":{{"storedVersions":["v1"]}}}}"#
    );
    vec![definition.into_bytes()]
}

fn read_definition(bytes: &[u8]) {
    let [definition]: [Value; 1] = parts(bytes);
    drop((check::definition(&definition), check::definition_update(&definition, &definition)));
    drop(check::non_structural(&definition));
    let object: Value = serde_json::from_str(OBJECT).unwrap_or_default();
    for version in definition["spec"]["versions"].as_array().into_iter().flatten() {
        for column in PrinterColumn::of(version) {
            column.cell(&object, Timestamp::UNIX_EPOCH);
        }
        read_schema(&version["schema"]["openAPIV3Schema"], &object);
    }
}

fn custom_objects() -> Vec<Vec<u8>> {
    vec![format!("{SCHEMA}\n{OBJECT}").into_bytes()]
}

fn read_custom(bytes: &[u8]) {
    let [schema, object] = parts(bytes);
    read_schema(&schema, &object);
}

/// What definitions and their objects go through.
fn read_schema(props: &Value, object: &Value) {
    let schema = Schema::read(props);
    let mut object = object.clone();
    drop(plimsoll_structural::prune(&mut object, &schema));
    plimsoll_structural::prune_nulls(&mut object, Some(&schema));
    plimsoll_structural::default(&mut object, &schema);
    drop(plimsoll_structural::embedded::coerce(&mut object, &schema));
    let root = Path::default();
    drop((validate::validate(&root, &object, &schema), lists::check(&root, &object, &schema)));
    drop(validate::validate_update(&root, &object, &json!({"spec": {}}), &schema));
    if let Some(rules) = Rules::of(props) {
        drop((rules.check(&object), rules.check_update(&object, &object)));
    }
    let (schemas, id) = plimsoll_structural::nodes(Some(&schema));
    drop(strategic_merge(object, &json!({"spec": {"list": [{"a": "b"}]}}), Typed::of(&schemas, id)));
    let names = Names { group: "x", version: "v1", kind: "A", list_kind: "AList", plural: "as" };
    for document in [Document::V2, Document::V3] {
        publish::object(Some(props), names, document);
    }
}

fn policies() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingAdmissionPolicy","metadata":{"name":"p"},"spec":{"failurePolicy":"Fail","paramKind":{"apiVersion":"v1","kind":"ConfigMap"},"matchConstraints":{"resourceRules":[{"apiGroups":["apps"],"apiVersions":["*"],"operations":["CREATE"],"resources":["*/scale"]}],"namespaceSelector":{"matchExpressions":[{"key":"a","operator":"In","values":["b"]}]}},"matchConditions":[{"name":"c","expression":"request.userInfo.username != ''"}],"variables":[{"name":"v","expression":"object.spec.replicas"}],"validations":[{"expression":"variables.v <= int(params.data.max)","messageExpression":"'no ' + string(variables.v)","reason":"Invalid"}],"auditAnnotations":[{"key":"k","valueExpression":"string(1)"}]}}"#,
        r#"{"apiVersion":"admissionregistration.k8s.io/v1","kind":"MutatingAdmissionPolicy","metadata":{"name":"p"},"spec":{"reinvocationPolicy":"IfNeeded","matchConstraints":{"resourceRules":[]},"mutations":[{"patchType":"ApplyConfiguration","applyConfiguration":{"expression":"Object{spec: Object.spec{replicas: 3}}"}},{"patchType":"JSONPatch","jsonPatch":{"expression":"[JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('b/c'), value: 'd'}]"}}]}}"#,
        r#"{"apiVersion":"admissionregistration.k8s.io/v1","kind":"ValidatingWebhookConfiguration","metadata":{"name":"h"},"webhooks":[{"name":"a.b.c","clientConfig":{"service":{"name":"s","namespace":"n","port":443,"path":"/x"},"caBundle":"AA=="},"rules":[{"apiGroups":["*"],"apiVersions":["v1"],"operations":["*"],"resources":["pods"],"scope":"*"}],"timeoutSeconds":5,"sideEffects":"None","admissionReviewVersions":["v1","v1beta1"],"matchConditions":[{"name":"m","expression":"authorizer.group('').resource('pods').check('get').allowed()"}]}]}"#,
    ])
}

fn read_policy(bytes: &[u8]) {
    let [policy] = parts(bytes);
    drop((policy::check::check(&policy, None), Policy::read(&policy), policy::Binding::read(&policy)));
    drop(hooks([&policy]));
}

fn answers() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"u","allowed":true,"patchType":"JSONPatch","patch":"W3sib3AiOiJhZGQiLCJwYXRoIjoiL2EiLCJ2YWx1ZSI6MX1d","warnings":["w"],"auditAnnotations":{"a":"b"}}}"#,
        r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","response":{"uid":"u","allowed":false,"status":{"code":418,"message":"no","reason":"Invalid","details":{"causes":[{"field":"a"}]}}}}"#,
        r#"{"kind":"ConversionReview","apiVersion":"apiextensions.k8s.io/v1","response":{"uid":"u","result":{"status":"Success"},"convertedObjects":[{"apiVersion":"x/v2","kind":"A","metadata":{"name":"a"}}]}}"#,
    ])
}

fn read_answer(bytes: &[u8]) {
    let [answer]: [Value; 1] = parts(bytes);
    let original = json!({"apiVersion": "x/v1", "kind": "A", "metadata": {"name": "a"}});
    for converted in conversion::answer("v1", "u", 1, &answer).unwrap_or_default() {
        drop(conversion::accept(&original, converted, "x/v2"));
    }
    let configuration =
        json!({"metadata": {"name": "c"}, "webhooks": [{"name": "w", "clientConfig": {"url": "https://x"}}]});
    for hook in hooks([&configuration]) {
        for version in [ReviewVersion::V1, ReviewVersion::V1Beta1] {
            for mutation in [Mutation::Allowed, Mutation::Forbidden] {
                drop(Verdict::read(&hook, version, "u", mutation, bytes));
            }
        }
    }
}
