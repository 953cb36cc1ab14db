"""The dynamic client: a watch that outlives the server by the version it remembers, apply, and a command in a pod.

Arguments: a namespace with a pod `box`. Prints `ready` when the server may go, and ends with `done`.
"""

import sys
import time

import urllib3
from kubernetes import client, config, dynamic
from kubernetes.stream import stream

namespace = sys.argv[1]
config.load_kube_config()
api = dynamic.DynamicClient(client.ApiClient())
maps = api.resources.get(api_version="v1", kind="ConfigMap")
boats = api.resources.get(api_version="example.com/v1", kind="Boat")
assert boats.namespaced and boats.subresources["status"], boats

version = maps.get(namespace=namespace).metadata.resourceVersion
for name in ["first", "second"]:
    applied = maps.server_side_apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "v"}},
                                     namespace=namespace, field_manager="dynamic")
    assert applied.metadata.managedFields[0].operation == "Apply", applied
maps.patch({"data": {"k": None, "j": "w"}}, name="second", namespace=namespace, content_type="application/merge-patch+json")
maps.delete("first", namespace=namespace)

seen = []
lost = False
until = time.monotonic() + 80
while "ADDED last" not in seen:
    assert time.monotonic() < until, seen
    try:
        # One try at a time: what happens between is the point here.
        for event in maps.watch(namespace=namespace, resource_version=version, timeout=60):
            version = event["object"].metadata.resourceVersion
            if event["object"].metadata.name != "kube-root-ca.crt":
                seen.append(f"{event['type']} {event['object'].metadata.name}")
            if seen[-1:] == ["DELETED first"]:
                print("ready", flush=True)
            if seen[-1:] == ["ADDED last"]:
                break
    except (urllib3.exceptions.HTTPError, ConnectionError):
        lost = True
        time.sleep(0.2)
assert lost, "the server never went"
assert seen == ["ADDED first", "ADDED second", "MODIFIED second", "DELETED first", "ADDED last"], seen

command = ["sh", "-c", "echo out; echo err >&2; read line; echo got $line; exit 3"]
core = client.CoreV1Api()
session = stream(core.connect_get_namespaced_pod_exec, "box", namespace, command=command, stdin=True, stdout=True,
                 stderr=True, tty=False, _preload_content=False)
session.write_stdin("hello\n")
session.run_forever(timeout=30)
assert session.read_stdout() == "out\ngot hello\n", "standard output"
assert session.read_stderr() == "err\n", "standard error"
assert session.returncode == 3, session.returncode

selected = maps.get(namespace=namespace, label_selector="none=there")
assert selected.items == [], selected
try:
    maps.get(name="nobody", namespace=namespace)
    raise AssertionError("there is no such map")
except dynamic.exceptions.NotFoundError as error:
    assert error.status == 404, error
print("done", flush=True)
