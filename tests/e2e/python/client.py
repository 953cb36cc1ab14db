"""Lists, creates, watches and deletes by the official client; the namespace is the argument."""

import sys

from kubernetes import client, config, watch

namespace = sys.argv[1]
config.load_kube_config()
core = client.CoreV1Api()
apps = client.AppsV1Api()

assert client.VersionApi().get_code().git_version.startswith("v1.37"), "version"
assert any(node.status.node_info.kubelet_version for node in core.list_node().items), "nodes"

labels = {"app": "snake"}
container = client.V1Container(name="web", image="plimsoll.io/demo", ports=[client.V1ContainerPort(container_port=8080)])
template = client.V1PodTemplateSpec(
    metadata=client.V1ObjectMeta(labels=labels),
    spec=client.V1PodSpec(containers=[container], termination_grace_period_seconds=1),
)
spec = client.V1DeploymentSpec(replicas=2, selector=client.V1LabelSelector(match_labels=labels), template=template)
deployment = client.V1Deployment(metadata=client.V1ObjectMeta(name="snake"), spec=spec)
created = apps.create_namespaced_deployment(namespace, deployment)
assert created.metadata.uid and created.spec.strategy.type == "RollingUpdate", created

running = set()
stream = watch.Watch()
for event in stream.stream(core.list_namespaced_pod, namespace, label_selector="app=snake", timeout_seconds=60):
    if event["object"].status.phase == "Running":
        running.add(event["object"].metadata.name)
    if len(running) == 2:
        stream.stop()
assert len(running) == 2, running

patched = apps.patch_namespaced_deployment("snake", namespace, {"metadata": {"annotations": {"seen": "yes"}}})
assert patched.metadata.annotations["seen"] == "yes", patched.metadata
apps.replace_namespaced_deployment_scale(
    "snake", namespace, client.V1Scale(metadata=client.V1ObjectMeta(name="snake"), spec=client.V1ScaleSpec(replicas=1))
)

try:
    core.read_namespaced_pod("nobody", namespace)
    raise AssertionError("there is no such pod")
except client.ApiException as error:
    assert error.status == 404, error

page = core.list_config_map_for_all_namespaces(limit=1)
assert len(page.items) == 1 and page.metadata._continue, page.metadata
rest = core.list_config_map_for_all_namespaces(limit=100, _continue=page.metadata._continue)
assert rest.items and rest.items[0].metadata.uid != page.items[0].metadata.uid

version = core.list_namespaced_config_map(namespace).metadata.resource_version
core.create_namespaced_config_map(namespace, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="a"), data={"k": "v"}))
core.delete_namespaced_config_map("a", namespace)
kinds = []
stream = watch.Watch()
for event in stream.stream(core.list_namespaced_config_map, namespace, resource_version=version, timeout_seconds=30):
    if event["object"].metadata.name == "a":
        kinds.append(event["type"])
    if kinds == ["ADDED", "DELETED"]:
        stream.stop()
assert kinds == ["ADDED", "DELETED"], kinds

apps.delete_namespaced_deployment("snake", namespace, propagation_policy="Foreground")
print("done")
