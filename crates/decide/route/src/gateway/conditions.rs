//! Conditions of a status: their times change with their status only.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

/// A condition of listeners that is told as long as it holds, and else not at all.
pub(crate) const OVERLAPPING: &str = "OverlappingTLSConfig";

/// A condition that should be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    pub(crate) kind: &'static str,
    pub(crate) holds: Holds,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Whether a condition is the case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holds {
    Yes,
    No,
    Unknown,
}

impl Condition {
    pub(crate) fn yes(kind: &'static str, reason: &'static str) -> Self {
        Self { kind, holds: Holds::Yes, reason, message: String::new() }
    }

    pub(crate) fn no(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, holds: Holds::No, reason, message: message.into() }
    }

    pub(crate) fn unknown(kind: &'static str, reason: &'static str, message: impl Into<String>) -> Self {
        Self { kind, holds: Holds::Unknown, reason, message: message.into() }
    }

    pub(crate) fn holds(&self) -> bool {
        self.holds == Holds::Yes
    }
}

/// Conditions as the status has them. What is `known` keeps its time while its status is the same; conditions of
/// others stay.
pub(crate) fn told(known: &Value, wanted: &[Condition], generation: i64, now: Timestamp) -> Value {
    let known = known.as_array().map(Vec::as_slice).unwrap_or_default();
    let ours = |condition: &Value| {
        condition["type"] == OVERLAPPING || wanted.iter().any(|one| condition["type"] == one.kind)
    };
    let mut out: Vec<Value> = Vec::new();
    for Condition { kind, holds, reason, message } in wanted {
        let status = match holds {
            Holds::Yes => "True",
            Holds::No => "False",
            Holds::Unknown => "Unknown",
        };
        let same = known.iter().find(|known| known["type"] == *kind && known["status"] == status);
        // What definitions put there in the place of a controller is no observation.
        let time =
            same.map(|known| &known["lastTransitionTime"]).filter(|time| *time != "1970-01-01T00:00:00Z");
        let now = || json!(format!("{:.0}", now));
        out.push(json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "observedGeneration": generation, "lastTransitionTime": time.cloned().unwrap_or_else(now),
        }));
    }
    out.extend(known.iter().filter(|known| !ours(known)).cloned());
    json!(out)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn times_change_with_the_status() {
        let first: Timestamp = "2026-01-01T00:00:00.5Z".parse().unwrap();
        let later: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap();
        let yes = [Condition::yes("Accepted", "Accepted")];
        let no = [Condition::no("Accepted", "Invalid", "because")];
        let begun = told(&Value::Null, &yes, 1, first);
        assert_eq!(begun[0]["lastTransitionTime"], "2026-01-01T00:00:00Z");
        let same = told(&begun, &yes, 2, later);
        assert_eq!(
            (&same[0]["lastTransitionTime"], &same[0]["observedGeneration"]),
            (&json!("2026-01-01T00:00:00Z"), &json!(2))
        );
        let changed = told(&same, &no, 2, later);
        assert_eq!(
            (&changed[0]["lastTransitionTime"], &changed[0]["status"]),
            (&json!("2026-01-01T00:01:00Z"), &json!("False"))
        );
        let others = told(&json!([{"type": OVERLAPPING}, {"type": "Theirs"}]), &yes, 1, first);
        assert_eq!(others[1]["type"], "Theirs");
    }
}
