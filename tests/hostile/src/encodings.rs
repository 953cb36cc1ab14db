//! Documents in JSON, YAML, CBOR and protobuf.

use plimsoll_catalogue::kinds;
use plimsoll_document::{Document, cbor};
use serde_json::json;

use crate::objects::filled;
use crate::{Decoder, text, texts};

pub(crate) const DECODERS: &[Decoder] = &[
    Decoder { name: "json_document", examples: json_texts, read: read_json },
    Decoder { name: "yaml_document", examples: yaml_texts, read: read_yaml },
    Decoder { name: "cbor", examples: cbor_documents, read: read_cbor },
    Decoder { name: "protobuf", examples: protobuf_objects, read: read_protobuf },
    Decoder { name: "protobuf_message", examples: protobuf_messages, read: read_message },
];

fn json_texts() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"a":1,"b":[{"c":{"d":1,"d":2}},{"e":true,"e":null}],"a":"x","f":-1.5e3,"g":"\u00e9\n"}"#,
        r#"[[[[{"a":{"a":{"a":0}}}]]]]"#,
    ])
}

fn yaml_texts() -> Vec<Vec<u8>> {
    texts(&[
        "a: 1\nb:\n- c: {d: 1, d: 2}\n- {e: true, e: null}\na: x\nf: -1.5\n",
        "a: &x [1, 2]\nb: *x\nc: |\n  text\n  more\nd: >-\n  folded\n? e\n: !!str 5\n<<: {f: 0x1f}\n",
        "--- # comment\n\"k\\u00e9\": 'it''s'\nlist:\n  - - a\n    - b\n  - ~\n...\n---\nb: 2\n",
    ])
}

fn cbor_documents() -> Vec<Vec<u8>> {
    let object = json!({"kind": "ConfigMap", "data": {"k": "v"}, "n": [1, -2, 1.5, true, null, u64::MAX]});
    vec![
        cbor::encode(&object),
        b"\xa1\x61a\xd6\x42\x01\xff".to_vec(),
        b"\x9f\x7f\x61a\xff\xbf\xff\xff".to_vec(),
    ]
}

fn protobuf_objects() -> Vec<Vec<u8>> {
    kinds().iter().filter_map(|kind| plimsoll_protobuf::encode(&filled(kind)).ok()).collect()
}

/// The number of a kind in two bytes, and its message.
fn protobuf_messages() -> Vec<Vec<u8>> {
    let messages = kinds().iter().enumerate().filter_map(|(at, kind)| {
        let bytes = plimsoll_protobuf::encode(&filled(kind)).ok()?;
        // Magic bytes, then the type, then the message behind its tag and length.
        let head = 4 + 2 + usize::from(*bytes.get(5)?);
        let length = bytes.get(head + 1..)?.iter().position(|byte| byte & 0x80 == 0)? + 1;
        let number = u16::try_from(at).ok()?.to_be_bytes();
        Some([&number[..], &bytes[head + 1 + length..]].concat())
    });
    messages.collect()
}

fn read_json(bytes: &[u8]) {
    told(Document::json(bytes).ok(), &text(bytes));
}

fn read_yaml(bytes: &[u8]) {
    let text = text(bytes);
    told(Document::yaml(&text).ok(), &text);
}

fn told(document: Option<Document>, text: &str) {
    let Some(Document { duplicates, .. }) = document else { return };
    drop((duplicates.lines(text), duplicates.told().count()));
    drop(duplicates.with_unknown(vec!["unknown field \"a\"".to_owned()]));
}

fn read_cbor(bytes: &[u8]) {
    if let Ok(value) = cbor::decode(bytes) {
        drop((cbor::encode(&value), cbor::encode_event(&value)));
    }
}

fn read_protobuf(bytes: &[u8]) {
    if let Ok(object) = plimsoll_protobuf::decode(bytes) {
        drop(plimsoll_protobuf::encode(&object));
    }
    drop(plimsoll_protobuf::watch_event(&mut &*bytes));
}

fn read_message(bytes: &[u8]) {
    let Some((number, message)) = bytes.split_first_chunk::<2>() else { return };
    let kinds = kinds();
    let kind = &kinds[usize::from(u16::from_be_bytes(*number)) % kinds.len()];
    let field = |tag: u8, bytes: &[u8]| [&[tag][..], &varint(bytes.len()), bytes].concat();
    let names = [field(0x0a, kind.api_version().as_bytes()), field(0x12, kind.kind.as_bytes())].concat();
    read_protobuf(&[&b"k8s\0"[..], &field(0x0a, &names), &field(0x12, message)].concat());
}

fn varint(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
