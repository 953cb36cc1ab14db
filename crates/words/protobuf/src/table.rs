//! Messages and their fields: the numbers of `fields.txt` joined with the shapes of the schema.

use std::collections::HashMap;
use std::sync::OnceLock;

use plimsoll_schema::{Node, NodeId, Schemas, Struct, builtin};

use crate::time::Precision;

/// All messages.
#[derive(Debug, Default)]
pub(crate) struct Table {
    messages: Vec<Message>,
    /// By definition, without `io.k8s.`.
    names: HashMap<String, MessageId>,
}

/// Position of a message in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MessageId(usize);

/// Fields in order of their numbers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Message {
    pub(crate) fields: Vec<Field>,
}

impl Message {
    pub(crate) fn field(&self, number: u32) -> Option<&Field> {
        self.fields.binary_search_by_key(&number, |field| field.number).ok().map(|at| &self.fields[at])
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) number: u32,
    /// JSON name; that of the message for fields that lie flat.
    pub(crate) name: &'static str,
    pub(crate) count: Count,
    pub(crate) shape: Shape,
    pub(crate) zero: Zero,
}

/// How many values a field has, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    One,
    /// A message whose fields lie flat in the JSON object.
    Flat,
    List,
    Map,
}

/// What becomes of a zero value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Zero {
    /// Absence is not zero: only what is there is written.
    Absent,
    /// Written when absent, and shown in JSON.
    Shown,
    /// Written when absent, and left out of JSON.
    Hidden,
}

/// The shape of one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Bool,
    Int32,
    Int64,
    Double,
    Text,
    Bytes,
    Time(Precision),
    IntOrString,
    /// `{1: text}`.
    Quantity,
    /// `{1: JSON text}`: RawExtension, FieldsV1, JSON.
    Json,
    /// `{1: repeated text}`, a list in JSON: the lists that Go names, as values of maps.
    Texts,
    /// `{1: one, 2: several}`: JSONSchemaPropsOrArray.
    OneOrList(MessageId),
    /// `{1: bool, 2: message}`: JSONSchemaPropsOrBool.
    BoolOr(MessageId),
    /// `{1: message, 2: repeated text}`: JSONSchemaPropsOrStringArray.
    TextsOr(MessageId),
    Message(MessageId),
}

/// The table, joined at first use.
pub(crate) fn table() -> &'static Table {
    static TABLE: OnceLock<Table> = OnceLock::new();
    TABLE.get_or_init(|| Builder::new(builtin(), rows(include_str!("fields.txt"))).build())
}

impl Table {
    pub(crate) fn lookup(&self, definition: &str) -> Option<MessageId> {
        self.names.get(definition).copied()
    }

    pub(crate) fn message(&self, id: MessageId) -> &Message {
        &self.messages[id.0]
    }
}

/// A line of the file.
#[derive(Debug)]
struct Row {
    package: &'static str,
    definition: String,
    words: Vec<Word>,
}

#[derive(Clone, Copy, Debug)]
struct Word {
    name: &'static str,
    number: u32,
    flat: bool,
    zero: Zero,
    /// Empty when the schema tells.
    shape: &'static str,
}

fn rows(text: &'static str) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut package = "";
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            package = name;
            continue;
        }
        let mut parts = line.split(' ');
        let definition = format!("{package}.{}", parts.next().expect("a line is not empty"));
        let mut words: Vec<Word> = parts.map(word).collect();
        words.sort_by_key(|word| word.number);
        rows.push(Row { package, definition, words });
    }
    rows
}

fn word(text: &'static str) -> Word {
    let (name, rest) = text.split_once('=').expect("a word is name=number");
    let (rest, shape) = rest.split_once(':').unwrap_or((rest, ""));
    let number = rest.trim_end_matches(['!', '?']);
    let zero = match &rest[number.len()..] {
        "!" => Zero::Shown,
        "?" => Zero::Hidden,
        _ => Zero::Absent,
    };
    let flat = name.starts_with('+');
    let number = number.parse().expect("a field number is a number");
    Word { name: name.trim_start_matches('+'), number, flat, zero, shape }
}

struct Builder<'a> {
    schemas: &'a Schemas,
    rows: HashMap<String, Row>,
    /// Definitions that the schema keeps opaque.
    special: HashMap<NodeId, Shape>,
    table: Table,
}

impl<'a> Builder<'a> {
    fn new(schemas: &'a Schemas, rows: Vec<Row>) -> Self {
        let mut table = Table::default();
        for (at, row) in rows.iter().enumerate() {
            table.names.insert(row.definition.clone(), MessageId(at));
            table.messages.push(Message::default());
        }
        let rows = rows.into_iter().map(|row| (row.definition.clone(), row)).collect();
        let special = special(schemas, &table);
        Self { schemas, rows, special, table }
    }

    fn build(mut self) -> Table {
        let rows = std::mem::take(&mut self.rows);
        for row in rows.values() {
            let id = self.table.names[&row.definition];
            let outer = structure(self.schemas, &row.definition);
            self.table.messages[id.0] = self.message(&rows, row, outer);
        }
        self.table
    }

    /// A row as a message; `outer` is the JSON object that its fields stand in.
    fn message(&mut self, rows: &HashMap<String, Row>, row: &Row, outer: Option<&Struct>) -> Message {
        let mut fields = Vec::with_capacity(row.words.len());
        for word in &row.words {
            let found = if word.flat {
                self.flat(rows, row, word, outer).map(|shape| (Count::Flat, shape))
            } else if word.shape.is_empty() {
                outer.and_then(|outer| outer.field(word.name)).and_then(|field| self.shape(field.node))
            } else {
                self.named(word.shape)
            };
            if let Some((count, shape)) = found {
                fields.push(Field { number: word.number, name: word.name, count, shape, zero: word.zero });
            }
        }
        Message { fields }
    }

    fn flat(
        &mut self,
        rows: &HashMap<String, Row>,
        row: &Row,
        word: &Word,
        outer: Option<&Struct>,
    ) -> Option<Shape> {
        let near = format!("{}.{}", row.package, word.name);
        let inner = rows.get(&near).or_else(|| rows.get(word.name))?;
        let message = self.message(rows, inner, outer);
        self.table.messages.push(message);
        Some(Shape::Message(MessageId(self.table.messages.len() - 1)))
    }

    fn named(&self, name: &str) -> Option<(Count, Shape)> {
        Some(match name {
            "bool" => (Count::One, Shape::Bool),
            "int32" => (Count::One, Shape::Int32),
            "int64" => (Count::One, Shape::Int64),
            "string" => (Count::One, Shape::Text),
            "[]string" => (Count::List, Shape::Text),
            "bytes" => (Count::One, Shape::Bytes),
            "json" => (Count::One, Shape::Json),
            definition => (Count::One, Shape::Message(self.table.lookup(definition)?)),
        })
    }

    fn shape(&self, id: NodeId) -> Option<(Count, Shape)> {
        match self.schemas.node(id) {
            Node::List { item, .. } => Some((Count::List, self.single(*item)?)),
            Node::Map { value, .. } => Some((Count::Map, self.single(*value)?)),
            _ => Some((Count::One, self.single(id)?)),
        }
    }

    fn single(&self, id: NodeId) -> Option<Shape> {
        if let Some(shape) = self.special.get(&id) {
            return Some(*shape);
        }
        Some(match self.schemas.node(id) {
            Node::Any | Node::Deduced => Shape::Json,
            Node::Boolean => Shape::Bool,
            Node::Integer { bits: 64 } => Shape::Int64,
            Node::Integer { .. } => Shape::Int32,
            Node::Number => Shape::Double,
            Node::String => Shape::Text,
            Node::Bytes => Shape::Bytes,
            Node::Time => Shape::Time(Precision::Seconds),
            Node::MicroTime => Shape::Time(Precision::Microseconds),
            Node::IntOrString => Shape::IntOrString,
            Node::Quantity => Shape::Quantity,
            Node::List { .. } => Shape::Texts,
            Node::Map { .. } => return None,
            Node::Struct(inner) => Shape::Message(self.table.lookup(short(&inner.name))?),
        })
    }
}

const EXTENSIONS: &str = "apiextensions-apiserver.pkg.apis.apiextensions.v1.";

fn special(schemas: &Schemas, table: &Table) -> HashMap<NodeId, Shape> {
    let mut special = HashMap::new();
    for name in schemas.names() {
        let Some(id) = schemas.lookup(name).filter(|&id| *schemas.node(id) == Node::Any) else { continue };
        // Messages without fields.
        if let Some(empty) = table.lookup(short(name)) {
            special.insert(id, Shape::Message(empty));
        }
        let props = table.lookup(&format!("{EXTENSIONS}JSONSchemaProps"));
        let of = props.and_then(|props| {
            Some(match short(name).strip_prefix(EXTENSIONS)? {
                "JSONSchemaPropsOrArray" => Shape::OneOrList(props),
                "JSONSchemaPropsOrBool" => Shape::BoolOr(props),
                "JSONSchemaPropsOrStringArray" => Shape::TextsOr(props),
                _ => return None,
            })
        });
        special.extend(of.map(|shape| (id, shape)));
    }
    special
}

fn structure<'a>(schemas: &'a Schemas, definition: &str) -> Option<&'a Struct> {
    match schemas.node(schemas.lookup(&format!("io.k8s.{definition}"))?) {
        Node::Struct(inner) => Some(inner),
        _ => None,
    }
}

fn short(definition: &str) -> &str {
    definition.strip_prefix("io.k8s.").unwrap_or(definition)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// JSON names that a message reaches, through the messages that lie flat in it.
    fn reached(message: &Message, into: &mut BTreeSet<&'static str>) {
        for field in &message.fields {
            match (field.count, field.shape) {
                (Count::Flat, Shape::Message(inner)) => reached(table().message(inner), into),
                _ => assert!(into.insert(field.name), "{} twice", field.name),
            }
        }
    }

    #[test]
    fn every_field_of_the_schema_has_a_number() {
        let mut missing = Vec::new();
        // The server's version is told in JSON only.
        let told = builtin().names().filter(|name| !name.ends_with("version.Info"));
        for name in told {
            let Some(shape) = structure(builtin(), short(name)) else { continue };
            let mut names = BTreeSet::new();
            match table().lookup(short(name)) {
                Some(id) => reached(table().message(id), &mut names),
                None => missing.push(name.to_owned()),
            }
            let typed = ["apiVersion", "kind"];
            for field in &shape.fields {
                let of_type = typed.contains(&field.name.as_str()) && shape.field("kind").is_some();
                if !names.contains(field.name.as_str()) && !of_type {
                    missing.push(format!("{name} {}", field.name));
                }
            }
        }
        missing.sort();
        assert!(missing.is_empty(), "{}", missing.join("\n"));
    }

    #[test]
    fn every_word_of_the_table_has_a_shape() {
        let mut lost = Vec::new();
        let rows = rows(include_str!("fields.txt"));
        // Messages that only lie flat in others have their shapes there.
        let flat: BTreeSet<&str> =
            rows.iter().flat_map(|row| &row.words).filter(|word| word.flat).map(|word| word.name).collect();
        for row in rows {
            let name = row.definition.rsplit('.').next().unwrap_or_default();
            let id = table().lookup(&row.definition).expect("of the same file");
            if table().message(id).fields.len() != row.words.len() && !flat.contains(name) {
                lost.push(row.definition);
            }
        }
        assert!(lost.is_empty(), "{}", lost.join("\n"));
    }

    #[test]
    fn numbers_are_unique_and_ascending() {
        for message in &table().messages {
            assert!(message.fields.is_sorted_by(|a, b| a.number < b.number), "{:?}", message.fields);
        }
    }
}
