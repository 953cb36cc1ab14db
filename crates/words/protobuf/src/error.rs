//! Why bytes or objects cannot be converted.

/// Why a conversion failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// The bytes do not begin with the magic prefix.
    #[error(
        "provided data does not appear to be a protobuf message, expected prefix [{} {} {} {}]",
        crate::envelope::MAGIC[0],
        crate::envelope::MAGIC[1],
        crate::envelope::MAGIC[2],
        crate::envelope::MAGIC[3]
    )]
    NoMagic,
    /// No built-in kind has that name.
    #[error("no kind {kind:?} is registered for version {api_version:?}")]
    UnknownKind {
        /// Group and version, as far as they were given.
        api_version: String,
        /// The kind, as far as it was given.
        kind: String,
    },
    /// A value is malformed, or does not fit its field.
    #[error("{}{cause}", .path.as_ref().map(|path| format!("{path}: ")).unwrap_or_default())]
    Value {
        /// JSON path of the value.
        path: Option<String>,
        /// What is wrong with it.
        cause: String,
    },
}

impl ProtobufError {
    pub(crate) fn value(cause: impl Into<String>) -> Self {
        Self::Value { path: None, cause: cause.into() }
    }

    /// The same error, seen from the message that holds the field.
    pub(crate) fn within(self, field: &str) -> Self {
        match self {
            Self::Value { path, cause } => {
                let path = match path {
                    Some(inner) if inner.starts_with('[') => format!("{field}{inner}"),
                    Some(inner) => format!("{field}.{inner}"),
                    None => field.to_owned(),
                };
                Self::Value { path: Some(path), cause }
            }
            other => other,
        }
    }
}
