//! Bad manifests are refused in the words that users can search for.

use crate::Shared;

/// The regular expression of names, as upstream quotes it.
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

pub(crate) fn bad_manifests_get_upstreams_words(shared: &Shared) {
    let space = shared.cluster().namespace("refusals");
    space.apply("{apiVersion: v1, kind: ConfigMap, metadata: {name: there}}");
    let subdomain = format!(
        "The ConfigMap \"Bad_Name\" is invalid: metadata.name: Invalid value: \"Bad_Name\": {SUBDOMAIN}"
    );
    // manifest, what kubectl says
    let table = [
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containers: []}}",
            "The Pod \"x\" is invalid: spec.containers: Required value",
        ),
        ("{apiVersion: v1, kind: ConfigMap, metadata: {name: Bad_Name}}", subdomain.as_str()),
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containerz: [], containers: [{name: a, image: b}]}}",
            "Error from server (BadRequest): error when creating \"STDIN\": Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: unknown field \"spec.containerz\"",
        ),
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containers: [{name: a, image: b, resources: {limits: {memory: 1Gigabyte}}}]}}",
            "Pod in version \"v1\" cannot be handled as a Pod: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containers: [{name: a, image: b}, {name: a, image: c}]}}",
            "The Pod \"x\" is invalid: spec.containers[1].name: Duplicate value: \"a\"",
        ),
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containers: [{name: a, image: b, volumeMounts: [{name: data, mountPath: /d}]}]}}",
            "The Pod \"x\" is invalid: spec.containers[0].volumeMounts[0].name: Not found: \"data\"",
        ),
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {restartPolicy: Sometimes, containers: [{name: a, image: b}]}}",
            "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ),
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: x}, spec: {containers: [{name: a, image: b, resources: {requests: {cpu: '2'}, limits: {cpu: '1'}}}]}}",
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            "{apiVersion: v1, kind: Service, metadata: {name: x}, spec: {ports: [{port: 70000}]}}",
            "spec.ports[0].port: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: a, image: b}]}}}}",
            "`selector` does not match template `labels`",
        ),
        (
            "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {template: {spec: {containers: [{name: a, image: b}]}}}}",
            "spec.selector: Required value",
        ),
        (
            "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {replicas: -1, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: b}]}}}}",
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {replicas: three}}",
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        ("{apiVersion: v1, kind: Foo, metadata: {name: x}}", "no matches for kind \"Foo\" in version \"v1\""),
        (
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: x, labels: {a: 'not ok'}}}",
            "metadata.labels: Invalid value: \"not ok\": a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.'",
        ),
    ];
    for (manifest, expected) in table {
        let text = space.manifests(&["create"], manifest).refused();
        assert!(text.contains(expected), "{manifest}\nsays\n{text}not\n{expected}");
        assert!(!text.contains("panic"), "{text}");
    }

    // arguments, what kubectl says
    let table: [(&[&str], &str); 6] = [
        (&["get", "pod", "nope"], "Error from server (NotFound): pods \"nope\" not found"),
        (
            &["create", "configmap", "there"],
            "error: failed to create configmap: configmaps \"there\" already exists",
        ),
        (
            &["create", "configmap", "x", "-n", "absent"],
            "error: failed to create configmap: namespaces \"absent\" not found",
        ),
        (&["get", "nonsense"], "error: the server doesn't have a resource type \"nonsense\""),
        (&["get", "pods", "--field-selector", "spec.color=red"], "field label not supported: spec.color"),
        (&["delete", "pod", "nope"], "Error from server (NotFound): pods \"nope\" not found"),
    ];
    for (arguments, expected) in table {
        let text = space.kubectl(arguments).refused();
        assert!(text.contains(expected), "{arguments:?} says\n{text}not\n{expected}");
    }

    // What cannot change stays.
    let service = "{apiVersion: v1, kind: Service, metadata: {name: s}, spec: {ports: [{port: 80}]}}";
    space.apply(service);
    let text = space
        .kubectl(&[
            "patch",
            "service",
            "s",
            "-p",
            r#"{"spec":{"clusterIP":"10.255.255.1","clusterIPs":["10.255.255.1"]}}"#,
        ])
        .refused();
    assert!(text.contains("may not change once set"), "{text}");
    let deployment = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {replicas: 0, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: a, image: b}]}}}}";
    space.apply(deployment);
    let text = space.kubectl(&["patch", "deployment", "d", "--type=merge", "-p", r#"{"spec":{"selector":{"matchLabels":{"a":"b","c":"d"}},"template":{"metadata":{"labels":{"c":"d"}}}}}"#]).refused();
    assert!(text.contains("spec.selector: Invalid value:") && text.contains("field is immutable"), "{text}");
}
