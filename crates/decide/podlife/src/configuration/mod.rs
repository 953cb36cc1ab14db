//! What a node agent is told by files and flags (`KubeletConfiguration` of `kubelet.config.k8s.io/v1beta1`).
//!
//! What enters are documents: the program's own defaults, the file, the files of the drop-in directory, the
//! flags ([`flags`]). Later ones win, as in a JSON merge patch. What leaves is one [`Configuration`] with
//! every field that v1.37 knows, or all that is wrong with it, each with the path of its field. A field that
//! the agent does not act upon ([`Use::Fixed`]) is refused when it is not left at its default.

mod fields;
pub mod flags;
mod gates;
mod labels;
mod parts;
mod reservations;
mod setting;
mod span;
#[cfg(test)]
mod tests;
mod validation;

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use crate::eviction::threshold;
pub use fields::Configuration;
pub use labels::node_labels;
pub use parts::{
    AccessWebhook, Anonymous, Authentication, Authorization, CrashLoopBackOff, FlushFrequency, FormatOptions,
    Logging, MemoryReservation, MemorySwap, ShutdownGracePeriod, StreamOptions, Taint, TokenWebhook, Tracing,
    UserNamespaces, VerbosityOfFile, X509,
};
pub use reservations::{Amounts, Reservations};
use setting::Setting;
pub use setting::Use;
pub use span::Span;

/// The version of the documents.
pub const VERSION: &str = "kubelet.config.k8s.io/v1beta1";

/// Why a configuration is refused: everything that is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join(", "))]
pub struct Refused(pub Vec<String>);

/// Checks the shape of one document of a user.
///
/// # Errors
/// It is no KubeletConfiguration, has fields that there are not, or values of a wrong type.
pub fn check(document: &Value) -> Result<(), Refused> {
    let (version, kind) = (&document["apiVersion"], &document["kind"]);
    if version != VERSION || kind != "KubeletConfiguration" {
        let problem = format!("expected KubeletConfiguration of {VERSION}, got {kind} of {version}");
        return Err(Refused(vec![problem]));
    }
    let mut problems = Vec::new();
    Configuration::read(document, "", &mut problems);
    done(problems).map_err(|Refused(all)| Refused(vec![format!("strict decoding error: {}", all.join(", "))]))
}

/// Lays documents over each other, the last on top.
#[must_use]
pub fn combine<'v>(documents: impl IntoIterator<Item = &'v Value>) -> Value {
    let mut all = json!({"apiVersion": VERSION, "kind": "KubeletConfiguration"});
    for document in documents {
        lay(&mut all, document);
    }
    all
}

/// Replaces the values that are given; `null` takes a value away.
fn lay(below: &mut Value, above: &Value) {
    let Some(given) = above.as_object() else {
        *below = above.clone();
        return;
    };
    if !below.is_object() {
        *below = Value::Object(Map::new());
    }
    for (name, value) in given {
        match below.as_object_mut() {
            Some(fields) if value.is_null() => drop(fields.remove(name)),
            Some(fields) => lay(fields.entry(name.clone()).or_insert(Value::Null), value),
            None => {}
        }
    }
}

impl Configuration {
    /// Reads a whole document: defaults, then every check there is.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn of(document: &Value) -> Result<Self, Refused> {
        let mut problems = Vec::new();
        let mut it = Self::read(document, "", &mut problems);
        done(problems)?;
        it.complete(document);
        let mut problems = validation::problems(&it);
        it.refuse("", &mut problems);
        done(problems)?;
        Ok(it)
    }

    /// The whole document, with every default.
    #[must_use]
    pub fn document(&self) -> Value {
        combine([&self.show()])
    }

    /// Sets the defaults that depend on other fields.
    fn complete(&mut self, document: &Value) {
        let is_given = |name: &str| document.get(name).is_some_and(|value| !value.is_null());
        let is_set = |name: &str| is_given(name) && document[name] != "0s" && document[name] != "0";
        if is_set("nodeStatusUpdateFrequency") && !is_set("nodeStatusReportFrequency") {
            self.node_status_report_frequency = self.node_status_update_frequency;
        }
        if !is_given("serializeImagePulls") {
            self.serialize_image_pulls = self.max_parallel_image_pulls.is_none_or(|count| count < 2);
        }
        if self.pod_pids_limit < 0 {
            self.pod_pids_limit = -1;
        }
        let longest = &mut self.crash_loop_back_off.max_container_restart_period;
        if self.feature_gates.get("KubeletCrashLoopBackOffMax") != Some(&false) && longest.is_none() {
            *longest = Some(Span::seconds(300));
        }
        let usual = threshold::defaults();
        match &mut self.eviction_hard {
            None => self.eviction_hard = Some(usual),
            Some(given) if self.merge_default_eviction_settings => {
                for (signal, least) in usual {
                    given.entry(signal).or_insert(least);
                }
            }
            Some(_) => {}
        }
    }
}

/// Processors as a list of numbers and ranges, `0-3,6`.
///
/// # Errors
/// What is wrong with it, in upstream's words (k8s.io/utils/cpuset).
pub fn cpu_set(text: &str) -> Result<BTreeSet<u32>, String> {
    let number = |text: &str| {
        text.parse::<u32>().map_err(|_| format!("strconv.Atoi: parsing {text:?}: invalid syntax"))
    };
    let mut all = BTreeSet::new();
    for range in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(format!("invalid range {range:?} ({first} > {last})"));
        }
        // More processors than any machine has are a slip of the pen.
        if last > 65_535 {
            return Err(format!("invalid range {range:?} ({last} is too many)"));
        }
        all.extend(first..=last);
    }
    Ok(all)
}

fn done(problems: Vec<String>) -> Result<(), Refused> {
    if problems.is_empty() { Ok(()) } else { Err(Refused(problems)) }
}
