//! What a scheduler is told by a file (`KubeSchedulerConfiguration` of `kubescheduler.config.k8s.io/v1`).
//!
//! What enters is a document. What leaves is a [`Configuration`] with every field that v1.37 knows, the [`Profile`]s
//! that it describes, or all that is wrong with it, each with the path of its field in upstream's words.

mod arguments;
mod fields;
mod profiles;
mod selectors;
#[cfg(test)]
mod tests;
mod validation;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub use fields::{
    ClientConnection, Configuration, ExtenderFields, ExtenderTls, LeaderElection, ManagedResource,
    PluginConfig, PluginEntry, PluginSet, PluginsFields, ProfileFields, Span,
};

use crate::profile::Profile;

/// The version of the documents.
pub const VERSION: &str = "kubescheduler.config.k8s.io/v1";
/// Their kind.
pub const KIND: &str = "KubeSchedulerConfiguration";

/// Why a configuration is refused: everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", aggregate(.0))]
pub struct Refused(pub Vec<String>);

/// As upstream joins errors.
fn aggregate(problems: &[String]) -> String {
    match problems {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    }
}

impl Configuration {
    /// Reads a whole document: its shape, defaults, then every check there is.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn of(document: &Value) -> Result<Self, Refused> {
        let (version, kind) = (&document["apiVersion"], &document["kind"]);
        if version != VERSION || kind != KIND {
            let problem = format!(
                "no kind {kind} is registered for version {version} in scheme \"pkg/scheduler/apis/config/scheme/scheme.go:30\""
            );
            return Err(Refused(vec![problem]));
        }
        let mut unknown = Vec::new();
        let mut it: Self = decode(document, "", &mut unknown).map_err(|problem| Refused(vec![problem]))?;
        if !unknown.is_empty() {
            return Err(Refused(vec![format!("strict decoding error: {}", unknown.join(", "))]));
        }
        it.complete();
        let problems = validation::problems(&it)?;
        if problems.is_empty() { Ok(it) } else { Err(Refused(problems)) }
    }

    /// How pods of each `schedulerName` are decided about.
    ///
    /// # Errors
    /// A plugin that there is not, or has no say where it is asked for, named.
    pub fn profiles(&self) -> Result<Vec<Profile>, Refused> {
        self.profiles.iter().map(|fields| profiles::profile(fields, self)).collect()
    }

    fn complete(&mut self) {
        if self.profiles.is_empty() {
            self.profiles.push(ProfileFields::default());
        }
        // Several profiles have to be told apart by their users.
        if let [only] = &mut *self.profiles {
            only.scheduler_name.get_or_insert_with(|| crate::profile::DEFAULT_SCHEDULER.to_owned());
        }
        let (election, usual) = (&mut self.leader_election, LeaderElection::default());
        election.lease_duration.or(&usual.lease_duration);
        election.renew_deadline.or(&usual.renew_deadline);
        election.retry_period.or(&usual.retry_period);
        for (text, usual) in [
            (&mut election.resource_lock, usual.resource_lock),
            (&mut election.resource_name, usual.resource_name),
            (&mut election.resource_namespace, usual.resource_namespace),
        ] {
            if text.is_empty() {
                *text = usual;
            }
        }
        let client = &mut self.client_connection;
        if client.qps == 0.0 {
            client.qps = 50.0;
        }
        if client.burst == 0 {
            client.burst = 100;
        }
    }
}

/// Reads a value and tells the fields that it has beyond those of the type.
fn decode<T: DeserializeOwned + Serialize>(
    value: &Value,
    path: &str,
    unknown: &mut Vec<String>,
) -> Result<T, String> {
    let given = without_nulls(value);
    let read: T = serde_path_to_error::deserialize(&given).map_err(|error| {
        let place = error.path().to_string();
        let place = if place == "." { String::new() } else { place };
        format!(
            "{}: {}",
            [path, &place].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("."),
            error.inner()
        )
    })?;
    let known = serde_json::to_value(&read).map_err(|error| error.to_string())?;
    beyond(&given, &known, path, unknown);
    Ok(read)
}

/// In Go, null is no value.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), without_nulls(value)))
            .collect(),
        Value::Array(list) => list.iter().map(without_nulls).collect(),
        other => other.clone(),
    }
}

/// The fields of `given` that `known`, which was read from it, has not.
fn beyond(given: &Value, known: &Value, path: &str, unknown: &mut Vec<String>) {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            for (name, value) in given {
                let place = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match known.get(name) {
                    Some(there) => beyond(value, there, &place, unknown),
                    None => unknown.push(format!("unknown field {place:?}")),
                }
            }
        }
        (Value::Array(given), Value::Array(known)) => {
            for (at, (value, there)) in given.iter().zip(known).enumerate() {
                beyond(value, there, &format!("{path}[{at}]"), unknown);
            }
        }
        _ => {}
    }
}
