//! The envelope of a whole object: magic bytes, type, message.

use serde_json::{Map, Value};

use crate::error::ProtobufError;
use crate::table::{Count, Field, Message, MessageId, Shape, Zero, table};
use crate::wire::{Reader, Writer};

/// What every encoded object begins with.
pub(crate) const MAGIC: [u8; 4] = *b"k8s\0";

const META: &str = "apimachinery.pkg.apis.meta.v1";

/// Whether objects of that type have an encoding.
pub fn encodes(api_version: &str, kind: &str) -> bool {
    find(api_version, kind).is_some()
}

/// Reads an object or a list, with `apiVersion` and `kind` set.
///
/// # Errors
/// When the magic bytes are missing, the kind is not built in, or the message is malformed.
pub fn decode(bytes: &[u8]) -> Result<Value, ProtobufError> {
    decode_at(bytes, 0)
}

/// Writes an object or a list.
///
/// Fields that the schema does not have are not written.
///
/// # Errors
/// When the kind is not built in or a value has a type that its field cannot hold.
pub fn encode(object: &Value) -> Result<Vec<u8>, ProtobufError> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let found = find(api_version, kind).ok_or_else(|| unknown(api_version, kind))?;
    let mut writer = Writer::with_capacity(1024);
    let raw = begin(&mut writer);
    crate::encode::message(found.message(), object.as_object(), &mut writer)?;
    Ok(end(writer, raw, api_version, kind))
}

/// Writes a list from its metadata and items, of which one at a time is needed.
///
/// # Errors
/// When the kind is not a list of a built-in kind, a value does not fit its field, or an item is an error.
pub fn encode_list<E: From<ProtobufError>>(
    api_version: &str,
    kind: &str,
    metadata: &Value,
    items: impl DoubleEndedIterator<Item = Result<Value, E>>,
) -> Result<Vec<u8>, E> {
    let item = find_item(api_version, kind).ok_or_else(|| unknown(api_version, kind))?;
    let mut writer = Writer::with_capacity(64 * 1024);
    let raw = begin(&mut writer);
    for value in items.rev() {
        crate::encode::single(2, item, Some(&value?), &mut writer)?;
    }
    let shape = list_metadata().ok_or_else(|| unknown(api_version, kind))?;
    crate::encode::single(1, shape, Some(metadata), &mut writer)?;
    Ok(end(writer, raw, api_version, kind))
}

/// Content encoding and type are always written, and always empty. What is written next is the message.
fn begin(writer: &mut Writer) -> usize {
    writer.bytes(4, b"");
    writer.bytes(3, b"");
    writer.open()
}

fn end(mut writer: Writer, raw: usize, api_version: &str, kind: &str) -> Vec<u8> {
    writer.close(2, raw);
    let type_meta = writer.open();
    writer.bytes(2, kind.as_bytes());
    writer.bytes(1, api_version.as_bytes());
    writer.close(1, type_meta);
    writer.raw(&MAGIC);
    writer.finish()
}

/// Reads an envelope that is `depth` levels inside another one.
pub(crate) fn decode_at(bytes: &[u8], depth: usize) -> Result<Value, ProtobufError> {
    crate::decode::room(depth + 1)?;
    let envelope = Envelope::read(bytes)?;
    let (api_version, kind) = (envelope.api_version, envelope.kind);
    if !envelope.encoding.is_empty() {
        return Err(ProtobufError::value(format!("unsupported content encoding {:?}", envelope.encoding)));
    }
    let found = find(api_version, kind).ok_or_else(|| unknown(api_version, kind))?;
    let mut object = Map::new();
    crate::decode::message(found.message(), envelope.raw, &mut object, depth + 1)?;
    object.insert("apiVersion".to_owned(), api_version.into());
    object.insert("kind".to_owned(), kind.into());
    Ok(Value::Object(object))
}

/// `runtime.Unknown`: {1: {1: apiVersion, 2: kind}, 2: raw, 3: encoding, 4: content type}.
#[derive(Debug, Default)]
struct Envelope<'a> {
    api_version: &'a str,
    kind: &'a str,
    raw: &'a [u8],
    encoding: &'a str,
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, ProtobufError> {
        let body = bytes.strip_prefix(&MAGIC).ok_or(ProtobufError::NoMagic)?;
        let mut envelope = Self::default();
        let mut reader = Reader::new(body);
        while let Some((number, wire)) = reader.field()? {
            match number {
                1 => envelope.read_type(wire.bytes()?)?,
                2 => envelope.raw = wire.bytes()?,
                3 => envelope.encoding = wire.text()?,
                _ => {}
            }
        }
        Ok(envelope)
    }

    fn read_type(&mut self, bytes: &'a [u8]) -> Result<(), ProtobufError> {
        let mut reader = Reader::new(bytes);
        while let Some((number, wire)) = reader.field()? {
            match number {
                1 => self.api_version = wire.text()?,
                2 => self.kind = wire.text()?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// The message of a type.
enum Found {
    Known(MessageId),
    /// A list of items: `{1: metadata, 2: items}`.
    List(Message),
}

impl Found {
    fn message(&self) -> &Message {
        match self {
            Self::Known(id) => table().message(*id),
            Self::List(message) => message,
        }
    }
}

fn find(api_version: &str, kind: &str) -> Option<Found> {
    if let Some(id) = definition(api_version, kind) {
        return Some(Found::Known(id));
    }
    let (item, metadata) = (find_item(api_version, kind)?, list_metadata()?);
    let field = |number, name, count, shape, zero| Field { number, name, count, shape, zero };
    Some(Found::List(Message {
        fields: vec![
            field(1, "metadata", Count::One, metadata, Zero::Hidden),
            field(2, "items", Count::List, item, Zero::Absent),
        ],
    }))
}

/// What the items of a list kind are.
fn find_item(api_version: &str, kind: &str) -> Option<Shape> {
    match kind.strip_suffix("List")? {
        "" => Some(Shape::Json),
        item => definition(api_version, item).map(Shape::Message),
    }
}

fn list_metadata() -> Option<Shape> {
    table().lookup(&format!("{META}.ListMeta")).map(Shape::Message)
}

/// Kinds stand in the package of their group; `DeleteOptions`, `Status` and the like in any.
fn definition(api_version: &str, kind: &str) -> Option<MessageId> {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let of_group = format!("{}.{version}.{kind}", package(group));
    table().lookup(&of_group).or_else(|| table().lookup(&format!("{META}.{kind}")))
}

fn package(group: &str) -> String {
    match group {
        "" => "api.core".to_owned(),
        "meta.k8s.io" => "apimachinery.pkg.apis.meta".to_owned(),
        "apiextensions.k8s.io" => "apiextensions-apiserver.pkg.apis.apiextensions".to_owned(),
        "apiregistration.k8s.io" => "kube-aggregator.pkg.apis.apiregistration".to_owned(),
        "internal.apiserver.k8s.io" => "api.apiserverinternal".to_owned(),
        group if !group.contains('.') || group.ends_with(".k8s.io") => {
            format!("api.{}", group.split('.').next().unwrap_or_default())
        }
        // The groups of custom resources.
        _ => String::new(),
    }
}

fn unknown(api_version: &str, kind: &str) -> ProtobufError {
    ProtobufError::UnknownKind { api_version: api_version.to_owned(), kind: kind.to_owned() }
}
