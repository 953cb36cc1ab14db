// A watcher by the npm client: an informer that outlives the server, patches, logs, a command, a forwarded port.
//
// Arguments: the folder of node_modules, and a namespace with a pod `box` that serves `page` on port 8080.
// Prints `ready` when the server may go, and ends with `done`.
import assert from 'node:assert';
import net from 'node:net';
import { PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';

const [modules, namespace] = process.argv.slice(2);
const k8s = await import(pathToFileURL(`${modules}/@kubernetes/client-node/dist/index.js`));
const config = new k8s.KubeConfig();
config.loadFromDefault();
const core = config.makeApiClient(k8s.CoreV1Api);
const custom = config.makeApiClient(k8s.CustomObjectsApi);

async function until(what, condition) {
  for (const end = Date.now() + 60_000; !condition(); await sleep(50)) {
    assert(Date.now() < end, `${what} does not come`);
  }
}

function text(stream) {
  const pieces = [];
  stream.on('data', (piece) => pieces.push(piece));
  return () => Buffer.concat(pieces).toString();
}

const path = `/api/v1/namespaces/${namespace}/configmaps`;
const seen = [];
let lost = 0;
const labelSelector = 'by=node';
const list = () => core.listNamespacedConfigMap({ namespace, labelSelector });
const informer = k8s.makeInformer(config, path, list, labelSelector);
for (const verb of ['add', 'update', 'delete']) {
  informer.on(verb, (map) => seen.push(`${verb} ${map.metadata.name}`));
}
informer.on('error', () => {
  lost += 1;
  setTimeout(() => informer.start(), 200);
});
const map = (name) => ({ metadata: { name, labels: { by: 'node' } }, data: { k: 'v' } });
await core.createNamespacedConfigMap({ namespace, body: map('one') });
await informer.start();
await core.createNamespacedConfigMap({ namespace, body: map('two') });
const patched = await core.patchNamespacedConfigMap(
  { namespace, name: 'two', body: [{ op: 'replace', path: '/data/k', value: 'w' }] },
  k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.JsonPatch),
);
assert.equal(patched.data.k, 'w');
const applied = await core.patchNamespacedConfigMap(
  { namespace, name: 'two', fieldManager: 'node', force: true,
    body: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'two' }, data: { k: 'x' } } },
  k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.ServerSideApply),
);
assert(applied.metadata.managedFields.some((entry) => entry.manager === 'node' && entry.operation === 'Apply'));
await core.deleteNamespacedConfigMap({ namespace, name: 'one' });
await until('the first events', () => seen.at(-1) === 'delete one');
console.log('ready');

await until('the end of the server', () => lost > 0);
await until('the last map', () => seen.at(-1) === 'add last');
assert.deepEqual(seen.filter((event) => event !== 'add one'), ['add two', 'update two', 'update two', 'delete one', 'add last']);
assert.equal(informer.get('two', namespace).data.k, 'x');
await informer.stop();

const boats = await custom.listNamespacedCustomObject({ group: 'example.com', version: 'v1', namespace, plural: 'boats' });
assert.equal(boats.kind, 'BoatList');

const [stdout, stderr, stdin] = [new PassThrough(), new PassThrough(), new PassThrough()];
const [out, err] = [text(stdout), text(stderr)];
const status = await new Promise((resolve, reject) => {
  const command = ['sh', '-c', 'echo err >&2; read line; echo got $line; exit 4'];
  new k8s.Exec(config).exec(namespace, 'box', 'main', command, stdout, stderr, stdin, false, resolve).catch(reject);
  stdin.write('hello\n');
});
assert.equal(status.status, 'Failure');
assert.deepEqual(status.details.causes, [{ reason: 'ExitCode', message: '4' }]);
assert.deepEqual([out(), err()], ['got hello\n', 'err\n']);

const log = new PassThrough();
const logged = text(log);
await new k8s.Log(config).log(namespace, 'box', 'main', log, { follow: true, tailLines: 1 });
await until('the log', () => logged() === 'serving\n');

const forward = new k8s.PortForward(config);
const server = net.createServer((socket) => {
  forward.portForward(namespace, 'box', [8080], socket, null, socket).catch((error) => socket.destroy(error));
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const answer = await fetch(`http://127.0.0.1:${server.address().port}/`, { headers: { connection: 'close' } });
assert.equal(await answer.text(), 'page\n');

await assert.rejects(core.readNamespacedPod({ namespace, name: 'nobody' }), (error) => error.code === 404);
console.log('done');
process.exit(0);
