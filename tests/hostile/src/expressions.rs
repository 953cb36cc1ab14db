//! The small languages: CEL, selectors, JSONPath, quantities, durations, names of images.

use plimsoll_cel::{Bindings, Budget, Declared, Environment};
use plimsoll_meta::json_path::JsonPath;
use plimsoll_meta::quantity::Quantity;
use plimsoll_meta::selector::{Fields, Labels};
use plimsoll_oci::build::Dockerfile;
use serde_json::{Value, json};

use crate::{Decoder, text, texts};

pub(crate) const DECODERS: &[Decoder] = &[
    Decoder { name: "cel", examples: expressions, read: read_cel },
    Decoder { name: "label_selector", examples: label_selectors, read: read_labels },
    Decoder { name: "field_selector", examples: field_selectors, read: read_fields },
    Decoder { name: "json_path", examples: paths, read: read_path },
    Decoder { name: "quantity", examples: quantities, read: read_quantity },
    Decoder { name: "duration", examples: durations, read: read_duration },
    Decoder { name: "image_name", examples: images, read: read_image },
    Decoder { name: "dockerfile", examples: dockerfiles, read: read_dockerfile },
];

fn expressions() -> Vec<Vec<u8>> {
    texts(&[
        "object.list.all(x, x > 0 && x in [1, 2, 3]) ? {'a': 1u}.size() : int('5') % 2",
        "object.b.?c.orValue('x').matches('^a+(b|c)*$') || has(object.a) && !isURL('http://[::1]/?a=b#c')",
        "duration('1h30m').getSeconds() + timestamp('2024-01-01T00:00:00Z').getFullYear() - 9223372036854775807",
        "quantity('1Gi').add(quantity('5m')).isGreaterThan(quantity('0')) == semver('1.2.3-a').isLessThan(semver('2.0.0'))",
        "'%d %s %x'.format([1, b'\\xff', 2.5]) + 'a,b'.split(',').map(y, y.upperAscii()).join('-').substring(1, 2)",
        "cidr('10.0.0.0/8').containsIP(ip('10.1.2.3')) && format.dns1123Label().validate('a').hasValue()",
        "[1, 2].sum() + [[3]].map(z, z[0]).max() + object.list.indexOf(2) + string(true).lastIndexOf('u')",
        "object.list.sortBy(e, -e).exists_one(i, i == 3) && 'é💥'.reverse().charAt(1).replace('a', 'b', -1) != ''",
    ])
}

fn read_cel(bytes: &[u8]) {
    let environment = Environment::new().variable("object", Declared::any()).with_bindings();
    let Ok(program) = environment.compile(&text(bytes)) else { return };
    program.estimate();
    let json = json!({"a": 1, "b": {"c": "x"}, "list": [1, 2, 3], "f": 1.5, "nothing": null});
    if let Ok(value) = environment.value("object", &json) {
        let bindings = Bindings::new().bind("object", value);
        drop(program.evaluate(&bindings, &mut Budget::with_limits(100_000, 100_000)));
    }
}

fn label_selectors() -> Vec<Vec<u8>> {
    texts(&["a=b,c!=d,e in (f, g),!h,example.com/i notin (j),k,l>5,m<7,n==o"])
}

fn read_labels(bytes: &[u8]) {
    if let Ok(labels) = Labels::parse(&text(bytes)) {
        labels.matches(|_| Some("a"));
    }
}

fn field_selectors() -> Vec<Vec<u8>> {
    texts(&["metadata.name=a,status.phase!=Running,spec.x==\\,\\=\\\\"])
}

fn read_fields(bytes: &[u8]) {
    if let Ok(fields) = Fields::parse(&text(bytes)) {
        let _ = (fields.matches(|_| Some("a")), fields.exact("metadata.name"));
    }
}

fn paths() -> Vec<Vec<u8>> {
    texts(&[
        ".spec.containers[0].name",
        ".status.conditions[?(@.type==\"Ready\")].status",
        "..name",
        ".a[*].b[-1:0:2]['x','y']",
        ".a[?(@.b>=1.5)].c\\.d",
        "['a.b'][0,1].*",
    ])
}

fn read_path(bytes: &[u8]) {
    let Ok(path) = JsonPath::parse(&text(bytes)) else { return };
    let value = json!({
        "a": [{"b": 1, "c": "x"}, {"b": [1, 2, 3], "x": null}], "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        "spec": {"containers": [{"name": "c"}]}, "b": {"c": {"d": {"name": "n"}}},
    });
    for value in [&value, &json!([1, 2, 3]), &Value::Null] {
        drop(path.find(value));
    }
}

fn quantities() -> Vec<Vec<u8>> {
    texts(&["1.5Gi", "-100m", "1e3", "12E", "+.5", "0.000000001n", "9223372036854775807Ei"])
}

fn read_quantity(bytes: &[u8]) {
    let Ok(quantity) = text(bytes).parse::<Quantity>() else { return };
    drop((quantity.value(), quantity.milli(), quantity.as_f64(), quantity.sign(), quantity.to_string()));
}

fn durations() -> Vec<Vec<u8>> {
    texts(&["1h30m", "-1.5s", "100ms", "0", "5µs", "2562047h47m16.854775807s"])
}

fn read_duration(bytes: &[u8]) {
    let text = text(bytes);
    drop((plimsoll_meta::duration::parse(&text), plimsoll_access::seconds(&text)));
}

fn images() -> Vec<Vec<u8>> {
    texts(&[
        "registry.example.com:5000/a/b:tag",
        "busybox",
        "a@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "[::1]:80/x_y/z--w.v",
    ])
}

fn read_image(bytes: &[u8]) {
    let text = text(bytes);
    if let Ok(name) = plimsoll_oci::ImageName::parse(&text) {
        drop(name.to_string());
    }
    drop(text.parse::<plimsoll_oci::Digest>());
}

fn dockerfiles() -> Vec<Vec<u8>> {
    texts(&[
        "# syntax=x\nARG V=1\nFROM a:$V AS b\nRUN --mount=type=cache,target=/x echo \\\n  hi && <<EOF\ncat\nEOF\nCOPY --from=b --chown=1:2 [\"a b\", \"/c/\"]\nENV A=b C=\"d e\"\nHEALTHCHECK --interval=5s CMD x\nONBUILD USER u\n",
    ])
}

fn read_dockerfile(bytes: &[u8]) {
    drop(Dockerfile::parse(&text(bytes)));
}
