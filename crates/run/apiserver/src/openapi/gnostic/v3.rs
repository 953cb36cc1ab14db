//! Messages of gnostic's `openapi.v3`.

use super::{Kind, Message};

pub(super) static DOCUMENT: Message = Message {
    fields: &[
        ("openapi", 1, Kind::Text),
        ("info", 2, Kind::One(&INFO)),
        ("paths", 4, Kind::Named(1, &PATH)),
        ("components", 5, Kind::One(&COMPONENTS)),
    ],
    extensions: Some(9),
};

pub(super) static REFERENCE: Message = Message { fields: &[("$ref", 1, Kind::Text)], extensions: None };

static INFO: Message =
    Message { fields: &[("title", 1, Kind::Text), ("version", 6, Kind::Text)], extensions: Some(7) };

static COMPONENTS: Message = Message {
    fields: &[
        ("schemas", 1, Kind::NamedReferable(1, &SCHEMA)),
        ("securitySchemes", 7, Kind::NamedReferable(1, &SECURITY)),
    ],
    extensions: Some(10),
};

static SECURITY: Message = Message {
    fields: &[
        ("type", 1, Kind::Text),
        ("description", 2, Kind::Text),
        ("name", 3, Kind::Text),
        ("in", 4, Kind::Text),
    ],
    extensions: Some(9),
};

static PATH: Message = Message {
    fields: &[
        ("get", 4, Kind::One(&OPERATION)),
        ("put", 5, Kind::One(&OPERATION)),
        ("post", 6, Kind::One(&OPERATION)),
        ("delete", 7, Kind::One(&OPERATION)),
        ("options", 8, Kind::One(&OPERATION)),
        ("head", 9, Kind::One(&OPERATION)),
        ("patch", 10, Kind::One(&OPERATION)),
        ("parameters", 13, Kind::Referables(&PARAMETER)),
    ],
    extensions: Some(14),
};

static OPERATION: Message = Message {
    fields: &[
        ("tags", 1, Kind::Texts),
        ("description", 3, Kind::Text),
        ("operationId", 5, Kind::Text),
        ("parameters", 6, Kind::Referables(&PARAMETER)),
        ("requestBody", 7, Kind::Referable(&REQUEST_BODY)),
        ("responses", 8, Kind::NamedReferable(2, &RESPONSE)),
    ],
    extensions: Some(13),
};

static PARAMETER: Message = Message {
    fields: &[
        ("name", 1, Kind::Text),
        ("in", 2, Kind::Text),
        ("description", 3, Kind::Text),
        ("required", 4, Kind::Flag),
        ("schema", 10, Kind::Referable(&SCHEMA)),
    ],
    extensions: Some(14),
};

static REQUEST_BODY: Message = Message {
    fields: &[
        ("description", 1, Kind::Text),
        ("content", 2, Kind::Named(1, &MEDIA)),
        ("required", 3, Kind::Flag),
    ],
    extensions: Some(4),
};

static RESPONSE: Message = Message {
    fields: &[("description", 1, Kind::Text), ("content", 3, Kind::Named(1, &MEDIA))],
    extensions: Some(5),
};

static MEDIA: Message = Message { fields: &[("schema", 1, Kind::Referable(&SCHEMA))], extensions: Some(5) };

static SCHEMA: Message = Message {
    fields: &[
        ("nullable", 1, Kind::Flag),
        ("title", 9, Kind::Text),
        ("multipleOf", 10, Kind::Double),
        ("maximum", 11, Kind::Double),
        ("exclusiveMaximum", 12, Kind::Flag),
        ("minimum", 13, Kind::Double),
        ("exclusiveMinimum", 14, Kind::Flag),
        ("maxLength", 15, Kind::Number),
        ("minLength", 16, Kind::Number),
        ("pattern", 17, Kind::Text),
        ("maxItems", 18, Kind::Number),
        ("minItems", 19, Kind::Number),
        ("uniqueItems", 20, Kind::Flag),
        ("maxProperties", 21, Kind::Number),
        ("minProperties", 22, Kind::Number),
        ("required", 23, Kind::Texts),
        ("enum", 24, Kind::Anys),
        ("type", 25, Kind::Text),
        ("allOf", 26, Kind::Referables(&SCHEMA)),
        ("oneOf", 27, Kind::Referables(&SCHEMA)),
        ("anyOf", 28, Kind::Referables(&SCHEMA)),
        ("not", 29, Kind::One(&SCHEMA)),
        ("items", 30, Kind::Item(&SCHEMA)),
        ("properties", 31, Kind::NamedReferable(1, &SCHEMA)),
        ("additionalProperties", 32, Kind::Allowed(&SCHEMA)),
        ("default", 33, Kind::Scalar),
        ("description", 34, Kind::Text),
        ("format", 35, Kind::Text),
    ],
    extensions: Some(36),
};
