"""An operator by kopf: a ConfigMap for each Boat, a count by a timer, and unloading before a Boat goes.

`kopf run` starts it. It prints what it does, since the test reads that.
"""

import kopf
from kubernetes import client, config

config.load_kube_config()
core = client.CoreV1Api()


def say(what, name):
    print(f"{what} {name}", flush=True)


def manifest(name, spec):
    body = {"metadata": {"name": f"{name}-list"}, "data": {"crew": str(spec["crew"])}}
    kopf.adopt(body)
    return body


@kopf.on.startup()
def configure(settings, **_):
    settings.networking.error_backoffs = [0.2, 0.5, 0.5, 1, 1, 1, 2, 2, 2, 5, 5]
    settings.watching.reconnect_backoff = 0.2
    settings.posting.enabled = True


@kopf.on.create("boats")
def launch(name, namespace, spec, patch, **_):
    core.create_namespaced_config_map(namespace, manifest(name, spec))
    patch.status["phase"] = "Afloat"
    say("launched", name)


@kopf.on.update("boats", field="spec.crew")
def hire(name, namespace, old, new, **_):
    core.patch_namespaced_config_map(f"{name}-list", namespace, {"data": {"crew": str(new)}})
    say(f"hired {old}-{new}", name)


@kopf.on.resume("boats")
def resume(name, **_):
    say("resumed", name)


@kopf.timer("boats", interval=0.5)
def tick(status, patch, **_):
    patch.status["ticks"] = status.get("ticks", 0) + 1


@kopf.on.delete("boats")
def unload(name, body, **_):
    kopf.event(body, type="Normal", reason="Unloaded", message="All is ashore.")
    say("unloaded", name)
