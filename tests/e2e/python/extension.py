"""An extension API server: the kind Anchor of `harbour.example.com`, kept in memory.

Arguments: the address to listen on, and a folder with `tls.crt`, `tls.key`, `proxy-ca.crt` (of clients) and
`token` (of an account that may ask who may do what). Prints the port. Every request must come with a certificate
of the front proxy; whom the proxy names is then held against SubjectAccessReviews, as extension servers do.
"""

import json
import ssl
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from kubernetes import client, config

address, folder = sys.argv[1:]
GROUP, VERSION = "harbour.example.com", "v1"
ROOT = f"/apis/{GROUP}/{VERSION}"
settings = client.Configuration()
config.load_kube_config(client_configuration=settings)
settings.cert_file = settings.key_file = None
settings.api_key["authorization"] = "Bearer " + open(f"{folder}/token").read().strip()
reviews = client.AuthorizationV1Api(client.ApiClient(settings))

changed = threading.Condition()
history = []
anchors = {}


def record(kind, anchor):
    with changed:
        anchor["metadata"]["resourceVersion"] = str(len(history) + 1)
        history.append((kind, json.loads(json.dumps(anchor))))
        changed.notify_all()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, body, code=200):
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def status(self, code, reason, message):
        self.answer({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
                     "reason": reason, "message": message}, code)

    def allowed(self, verb, namespace, name):
        headers = self.headers
        user = headers.get("X-Remote-User", "system:anonymous")
        attributes = client.V1ResourceAttributes(group=GROUP, version=VERSION, resource="anchors", verb=verb,
                                                 namespace=namespace, name=name)
        spec = client.V1SubjectAccessReviewSpec(user=user, groups=headers.get_all("X-Remote-Group"),
                                                resource_attributes=attributes)
        review = reviews.create_subject_access_review(client.V1SubjectAccessReview(spec=spec))
        if not review.status.allowed:
            self.status(403, "Forbidden", f"anchors.{GROUP} {name!r} is forbidden: User {user!r} cannot {verb}")
        return review.status.allowed

    def serve(self):
        if not self.connection.getpeercert():
            return self.status(401, "Unauthorized", "Unauthorized")
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        path, _, query = self.path.partition("?")
        if path == ROOT:
            verbs = ["create", "delete", "get", "list", "watch"]
            return self.answer({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/{VERSION}", "resources": [
                {"name": "anchors", "singularName": "anchor", "kind": "Anchor", "namespaced": True, "verbs": verbs, "shortNames": ["anc"]}]})
        words = path.removeprefix(ROOT).strip("/").split("/")
        if words[0] != "namespaces" or len(words) not in (3, 4) or words[2] != "anchors":
            return self.status(404, "NotFound", "the server could not find the requested resource")
        namespace, name = words[1], words[3] if len(words) == 4 else ""
        watched = "watch=true" in query or "watch=1" in query
        verb = {"POST": "create", "DELETE": "delete"}.get(self.command) or ("watch" if watched else "get" if name else "list")
        if not self.allowed(verb, namespace, name):
            return None
        if verb == "create":
            anchor = json.loads(body)
            name = anchor["metadata"]["name"]
            anchor["metadata"].update(namespace=namespace, uid=str(uuid.uuid4()), creationTimestamp="2026-01-01T00:00:00Z")
            anchors[namespace, name] = anchor
            record("ADDED", anchor)
            return self.answer(anchor, 201)
        if verb == "watch":
            return self.watch(namespace)
        if verb == "list":
            items = [anchor for (owner, _), anchor in anchors.items() if owner == namespace]
            return self.answer({"kind": "AnchorList", "apiVersion": f"{GROUP}/{VERSION}",
                                "metadata": {"resourceVersion": str(len(history))}, "items": items})
        anchor = anchors.get((namespace, name))
        if anchor is None:
            return self.status(404, "NotFound", f'anchors.{GROUP} "{name}" not found')
        if verb == "delete":
            del anchors[namespace, name]
            record("DELETED", anchor)
        return self.answer(anchor)

    def watch(self, namespace):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        told = 0
        while True:
            with changed:
                changed.wait_for(lambda: len(history) > told)
                news, told = history[told:], len(history)
            for kind, anchor in news:
                if anchor["metadata"]["namespace"] == namespace:
                    line = json.dumps({"type": kind, "object": anchor}).encode() + b"\n"
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
                    self.wfile.flush()

    do_GET = do_POST = do_DELETE = do_PUT = do_PATCH = serve


context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(f"{folder}/tls.crt", f"{folder}/tls.key")
context.load_verify_locations(f"{folder}/proxy-ca.crt")
context.verify_mode = ssl.CERT_OPTIONAL
server = ThreadingHTTPServer((address, 0), Handler)
server.daemon_threads = True
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_port, flush=True)
server.serve_forever()
