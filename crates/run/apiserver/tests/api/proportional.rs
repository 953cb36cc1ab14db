//! The definition of ProportionalAutoscalers: kept by every start, and what it lets through.

use std::sync::Arc;

use plimsoll_document::Document;
use serde_json::{Value, json};

use crate::support::Cluster;

const DEFINITION: &str = include_str!("../../../../decide/reconcile/src/proportional/definition.yaml");
const DEFINED: &str =
    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/proportionalautoscalers.autoscaling.plimsoll.io";
const PATH: &str = "/apis/autoscaling.plimsoll.io/v1/namespaces/default/proportionalautoscalers";

#[test]
fn proportional_autoscalers_are_checked_and_their_definition_is_kept() {
    let runtime = || tokio::runtime::Runtime::new().expect("a runtime");
    let folder = Arc::new(tempfile::tempdir().expect("a scratch folder"));
    let mut list = Document::yaml(DEFINITION).expect("YAML").value;
    let objects: Vec<Value> = serde_json::from_value(list["items"].take()).expect("a list");
    let start = || Cluster::start_in(Arc::clone(&folder), |config| config.own_objects = objects.clone());
    let run = runtime();
    let version = run.block_on(async {
        let cluster = start().await;
        let defined = established(&cluster).await;
        objects_are_checked(&cluster).await;
        cluster.stop();
        defined["metadata"]["resourceVersion"].clone()
    });
    drop(run);
    runtime().block_on(async {
        let cluster = start().await;
        let kept = established(&cluster).await;
        assert_eq!(kept["metadata"]["resourceVersion"], version, "nothing to bring up to date");
    });
}

async fn established(cluster: &Cluster) -> Value {
    for _ in 0..2400 {
        let defined = cluster.get(DEFINED).await.json();
        let conditions = defined["status"]["conditions"].as_array().cloned().unwrap_or_default();
        if conditions.iter().any(|one| one["type"] == "Established" && one["status"] == "True") {
            let wrong = conditions.iter().find(|one| one["type"] == "NonStructuralSchema");
            assert_eq!(wrong, None);
            return defined;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    panic!("it is never established");
}

async fn objects_are_checked(cluster: &Cluster) {
    let create = async |rule: Value| {
        let mut spec = json!({"scaleTargetRef": {"kind": "Deployment", "name": "dns"}});
        for (key, value) in rule.as_object().expect("an object") {
            spec[key] = value.clone();
        }
        let object = json!({"apiVersion": "autoscaling.plimsoll.io/v1", "kind": "ProportionalAutoscaler",
            "metadata": {"generateName": "a-"}, "spec": spec});
        cluster.post(PATH, object).await
    };
    let neither = "one of coresPerReplica and nodesPerReplica must be greater than 0";
    let refused = [
        (json!({}), "spec", "exactly one of linear and ladder must be set"),
        (
            json!({"linear": {"nodesPerReplica": 1}, "ladder": {"nodesToReplicas": [[1, 1]]}}),
            "spec",
            "exactly one of linear and ladder must be set",
        ),
        (json!({"linear": {}}), "spec.linear", neither),
        (json!({"linear": {"coresPerReplica": 0}}), "spec.linear", neither),
        (
            json!({"linear": {"coresPerReplica": -1}}),
            "spec.linear.coresPerReplica",
            "should be greater than or equal to 0",
        ),
        (
            json!({"linear": {"nodesPerReplica": 1, "min": -1}}),
            "spec.linear.min",
            "should be greater than or equal to 0",
        ),
        (
            json!({"linear": {"nodesPerReplica": 1, "min": 5, "max": 4}}),
            "spec.linear.max",
            "must be greater than or equal to `min`",
        ),
        (json!({"ladder": {}}), "spec.ladder", "one of coresToReplicas and nodesToReplicas must have a step"),
        (
            json!({"ladder": {"coresToReplicas": [[1]]}}),
            "spec.ladder.coresToReplicas[0]",
            "should have at least 2 items",
        ),
        (
            json!({"ladder": {"coresToReplicas": [[1, 1], [2, -1]]}}),
            "spec.ladder.coresToReplicas[1][1]",
            "should be greater than or equal to 0",
        ),
        (
            json!({"linear": {"nodesPerReplica": 1}, "scaleTargetRef": {"kind": "Deployment"}}),
            "spec.scaleTargetRef.name",
            "Required value",
        ),
        (
            json!({"linear": {"nodesPerReplica": 1}, "nodeSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}}),
            "spec.nodeSelector.matchExpressions[0].operator",
            "Unsupported value",
        ),
    ];
    for (rule, field, message) in refused {
        let answer = create(rule.clone()).await;
        let found = answer.json();
        let causes = found["details"]["causes"].as_array().cloned().unwrap_or_default();
        let says = |cause: &Value| {
            cause["field"] == field && cause["message"].as_str().is_some_and(|text| text.contains(message))
        };
        assert!(answer.code == 422 && causes.iter().any(says), "{rule}: {found}");
    }
    let accepted = [
        json!({"linear": {"coresPerReplica": 256, "nodesPerReplica": 16, "preventSinglePointFailure": true}}),
        json!({"linear": {"nodesPerReplica": 0.5, "min": 0, "max": 0, "includeUnschedulableNodes": true}}),
        json!({"ladder": {"coresToReplicas": [[1, 1], [64, 3]], "nodesToReplicas": []}}),
        json!({"linear": {"nodesPerReplica": 1}, "nodeSelector": {"matchLabels": {"pool": "a"}}}),
    ];
    for rule in accepted {
        let answer = create(rule.clone()).await;
        assert_eq!(answer.code, 201, "{rule}: {:?}", answer.json());
        assert_eq!(answer.json()["spec"]["scaleTargetRef"]["apiVersion"], "apps/v1");
    }
}
