//! Counting probe results until they mean something.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Probe;

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProbeKind {
    /// Has the container come up? Holds the others back until then.
    Startup,
    /// Must the container be restarted?
    Liveness,
    /// May the pod get traffic?
    Readiness,
}

impl ProbeKind {
    /// The word in events.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Startup => "Startup",
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
        }
    }
}

/// The result of one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Success,
    /// As it should be, but users should know this.
    Warning(String),
    /// Not as it should be, and why.
    Failure(String),
    /// The try itself failed: it counts for nothing.
    Error(String),
}

impl Outcome {
    /// Whether it counts for or against the container; none when it counts for nothing.
    #[must_use]
    pub fn verdict(&self) -> Option<bool> {
        match self {
            Self::Success | Self::Warning(_) => Some(true),
            Self::Failure(_) => Some(false),
            Self::Error(_) => None,
        }
    }

    /// The event that tells of it: its reason and its message (kubelet: pkg/kubelet/prober/prober.go).
    #[must_use]
    pub fn told(&self, kind: ProbeKind) -> Option<(&'static str, String)> {
        let word = kind.word();
        match self {
            Self::Success => None,
            Self::Warning(message) => Some(("ProbeWarning", format!("{word} probe warning: {message}"))),
            Self::Failure(message) => Some(("Unhealthy", format!("{word} probe failed: {message}"))),
            Self::Error(message) => {
                Some(("Unhealthy", format!("{word} probe errored and resulted in unknown state: {message}")))
            }
        }
    }
}

/// A probe that has to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The container's name.
    pub container: String,
    /// The run of the container.
    pub id: String,
    /// What for.
    pub kind: ProbeKind,
    /// How.
    pub probe: Probe,
    /// When the container was started: the initial delay counts from here.
    pub started: Timestamp,
}

/// Consecutive equal results of one probe of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    last: Option<bool>,
    run: i32,
    verdict: Option<bool>,
}

impl Counter {
    /// A counter that starts out with a verdict, for a container that another agent watched before.
    #[must_use]
    pub fn decided(verdict: bool) -> Self {
        Self { verdict: Some(verdict), ..Self::default() }
    }

    /// Takes in one result. True when the verdict changed by it.
    pub fn count(&mut self, probe: &Probe, success: bool) -> bool {
        self.run = if self.last == Some(success) { self.run.saturating_add(1) } else { 1 };
        self.last = Some(success);
        let threshold =
            if success { probe.success_threshold.unwrap_or(1) } else { probe.failure_threshold.unwrap_or(3) };
        let reached = self.run >= threshold.max(1) && self.verdict != Some(success);
        if reached {
            self.verdict = Some(success);
        }
        reached
    }

    /// Whether one more success changes nothing.
    #[must_use]
    pub fn is_steady(&self) -> bool {
        self.last == Some(true) && self.verdict == Some(true)
    }

    /// What the results mean so far; none before enough of them are in.
    #[must_use]
    pub fn verdict(&self) -> Option<bool> {
        self.verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_count_consecutive_results() {
        let probe = Probe { success_threshold: Some(2), failure_threshold: Some(3), ..Probe::default() };
        let mut counter = Counter::default();
        let results = "..x.xx.xxxx..x";
        let verdicts: String = results
            .chars()
            .map(|result| {
                counter.count(&probe, result == '.');
                match counter.verdict() {
                    None => '?',
                    Some(true) => 'y',
                    Some(false) => 'n',
                }
            })
            .collect();
        assert_eq!(verdicts, "?yyyyyyyynnnyy");
    }

    #[test]
    fn what_is_told() {
        let text = || "x".to_owned();
        let cases = [
            (Outcome::Success, Some(true), None),
            (Outcome::Warning(text()), Some(true), Some(("ProbeWarning", "Liveness probe warning: x"))),
            (Outcome::Failure(text()), Some(false), Some(("Unhealthy", "Liveness probe failed: x"))),
            (
                Outcome::Error(text()),
                None,
                Some(("Unhealthy", "Liveness probe errored and resulted in unknown state: x")),
            ),
        ];
        for (outcome, verdict, told) in cases {
            assert_eq!(outcome.verdict(), verdict, "{outcome:?}");
            let told = told.map(|(reason, message): (_, &str)| (reason, message.to_owned()));
            assert_eq!(outcome.told(ProbeKind::Liveness), told, "{outcome:?}");
        }
    }

    #[test]
    fn a_change_is_told_once() {
        let probe = Probe::default();
        let mut counter = Counter::decided(true);
        let told: Vec<bool> = [true, false, false, false, false].map(|it| counter.count(&probe, it)).into();
        assert_eq!(told, [false, false, false, true, false]);
    }
}
