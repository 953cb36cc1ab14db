//! Feature gates, as upstream's `--feature-gates` names them.

use std::str::FromStr;

/// Whether a feature is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// It is not.
    #[default]
    Off,
    /// It is.
    On,
}

/// The features that can be chosen; each default is upstream's in v1.37.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// `CBORServingAndStorage`: objects are read and answered in CBOR, too.
    pub cbor: Gate,
}

impl Features {
    /// What is told of each feature: its name, its stage in v1.37 and whether it is there. Those that cannot be
    /// chosen here are there.
    pub(crate) fn stages(self) -> [(&'static str, &'static str, Gate); 6] {
        [
            ("APIResponseCompression", "BETA", Gate::On),
            ("CBORServingAndStorage", "ALPHA", self.cbor),
            ("MutatingAdmissionPolicy", "", Gate::On),
            ("RemoteRequestHeaderUID", "BETA", Gate::On),
            ("StorageVersionHash", "BETA", Gate::On),
            ("WatchList", "BETA", Gate::On),
        ]
    }
}

/// Why gates cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeatureError {
    /// There is no such feature here.
    #[error("unrecognized feature gate: {0}")]
    Unknown(String),
    /// Something else than NAME=BOOL.
    #[error("invalid value of feature gate {0:?}: true or false is wanted")]
    Value(String),
}

impl FromStr for Features {
    type Err = FeatureError;

    /// Reads `NAME=BOOL,…`.
    fn from_str(text: &str) -> Result<Self, FeatureError> {
        let mut features = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| FeatureError::Value(part.to_owned()))?;
            let gate = match value.trim() {
                "true" => Gate::On,
                "false" => Gate::Off,
                _ => return Err(FeatureError::Value(part.to_owned())),
            };
            match name.trim() {
                "CBORServingAndStorage" => features.cbor = gate,
                other => return Err(FeatureError::Unknown(other.to_owned())),
            }
        }
        Ok(features)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_read() {
        for (text, expected) in [
            ("", Ok(Features::default())),
            ("CBORServingAndStorage=true", Ok(Features { cbor: Gate::On })),
            ("CBORServingAndStorage=true, CBORServingAndStorage=false", Ok(Features { cbor: Gate::Off })),
            ("Nothing=true", Err(FeatureError::Unknown("Nothing".to_owned()))),
            ("CBORServingAndStorage", Err(FeatureError::Value("CBORServingAndStorage".to_owned()))),
        ] {
            assert_eq!(text.parse::<Features>(), expected, "{text}");
        }
    }
}
