//! How many replicas a metric asks for
//! (kube-controller-manager: pkg/controller/podautoscaler/replica_calculator.go, v1.37).

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::Settings;
use super::reading::{Groups, Sample, Samples, group, requests};
use crate::pod;

/// What a metric asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    /// Per cent of what is asked for.
    pub(super) utilization: Option<i32>,
    /// Thousandths.
    pub(super) usage: i64,
}

/// By how much a ratio may differ from 1 without anything being done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tolerance {
    pub(super) down: f64,
    pub(super) up: f64,
}

impl Tolerance {
    fn covers(self, ratio: f64) -> bool {
        (1.0 - self.down) <= ratio && ratio <= (1.0 + self.up)
    }
}

/// What is known when a metric is looked at.
pub(super) struct Case<'a> {
    /// Replicas that the target asks for at present.
    pub(super) current: i32,
    /// Replicas that there are.
    pub(super) present: i32,
    pub(super) pods: &'a [Arc<Pod>],
    pub(super) settings: &'a Settings,
    pub(super) tolerance: Tolerance,
    pub(super) now: Timestamp,
}

/// What is aimed at for each pod.
enum Aim {
    /// Per cent of what they ask for.
    Utilization(i32, BTreeMap<String, i64>),
    /// Thousandths.
    Average(i64),
}

impl Aim {
    /// What is used over what is aimed at, and the numbers behind it.
    fn ratio(&self, samples: &Samples) -> Result<(f64, Option<i32>, i64), String> {
        match self {
            Self::Average(aim) => {
                let total: i64 = samples.values().map(|sample| sample.value).sum();
                let usage = total / i64::try_from(samples.len()).unwrap_or(i64::MAX);
                Ok((usage as f64 / *aim as f64, None, usage))
            }
            Self::Utilization(aim, requests) => {
                let known =
                    || samples.iter().filter_map(|(name, one)| Some((one.value, requests.get(name)?)));
                let (used, asked) =
                    known().fold((0, 0), |(used, asked), (value, request)| (used + value, asked + request));
                if asked == 0 {
                    return Err("no metrics returned matched known pods".to_owned());
                }
                let utilization = i32::try_from(used * 100 / asked).unwrap_or(i32::MAX);
                let count = i64::try_from(known().count()).unwrap_or(i64::MAX);
                Ok((f64::from(utilization) / f64::from(*aim), Some(utilization), used / count))
            }
        }
    }

    /// What a pod is taken to use of which nothing is known, when there would be fewer replicas.
    fn full(&self, name: &str) -> i64 {
        match self {
            Self::Average(aim) => *aim,
            Self::Utilization(aim, requests) => {
                requests.get(name).copied().unwrap_or_default() * i64::from((*aim).max(100)) / 100
            }
        }
    }
}

impl Case<'_> {
    /// A part of what the pods ask for of a resource.
    pub(super) fn by_utilization(
        &self,
        samples: Result<Samples, String>,
        aim: i32,
        resource: &str,
        container: Option<&str>,
    ) -> Result<Proposal, String> {
        let samples =
            samples.map_err(|error| format!("unable to get metrics for resource {resource}: {error}"))?;
        self.by_pods(samples, resource, || {
            Ok(Aim::Utilization(aim, requests(self.pods, container, resource)?))
        })
    }

    /// So much of a resource for each pod.
    pub(super) fn by_amount(
        &self,
        samples: Result<Samples, String>,
        aim: i64,
        resource: &str,
    ) -> Result<Proposal, String> {
        let samples =
            samples.map_err(|error| format!("unable to get metrics for resource {resource}: {error}"))?;
        self.by_pods(samples, resource, || Ok(Aim::Average(aim)))
    }

    /// So much of a metric for each pod.
    pub(super) fn by_metric(
        &self,
        samples: Result<Samples, String>,
        aim: i64,
        metric: &str,
    ) -> Result<Proposal, String> {
        let samples = samples.map_err(|error| format!("unable to get metric {metric}: {error}"))?;
        self.by_pods(samples, "", || Ok(Aim::Average(aim)))
    }

    fn by_pods(
        &self,
        mut samples: Samples,
        resource: &str,
        aim: impl FnOnce() -> Result<Aim, String>,
    ) -> Result<Proposal, String> {
        if self.pods.is_empty() {
            return Err("no pods returned by selector while calculating replica count".to_owned());
        }
        let groups = group(self.pods, &mut samples, resource, self.settings, self.now);
        if samples.is_empty() {
            return Err("did not receive metrics for targeted pods (pods might be unready)".to_owned());
        }
        let aim = aim()?;
        let (ratio, utilization, usage) = aim.ratio(&samples)?;
        let propose = |replicas| Proposal { replicas, utilization, usage };
        let up_with_unready = !groups.unready.is_empty() && ratio > 1.0;
        if !up_with_unready && groups.missing.is_empty() {
            let replicas =
                if self.tolerance.covers(ratio) { self.current } else { ceil(ratio * groups.ready as f64) };
            return Ok(propose(replicas));
        }
        self.assume(&mut samples, &groups, ratio, &aim);
        let (anew, ..) = aim.ratio(&samples)?;
        let replicas = ceil(anew * samples.len() as f64);
        let turns = (ratio < 1.0 && anew > 1.0) || (ratio > 1.0 && anew < 1.0);
        let turns =
            turns || (anew < 1.0 && replicas > self.current) || (anew > 1.0 && replicas < self.current);
        Ok(propose(if turns || self.tolerance.covers(anew) { self.current } else { replicas }))
    }

    /// Takes pods of which nothing is known to use what makes the smaller change.
    fn assume(&self, samples: &mut Samples, groups: &Groups, ratio: f64, aim: &Aim) {
        let assumed = |value| Sample { value, at: self.now, window: SignedDuration::ZERO };
        if ratio < 1.0 {
            let missing = groups.missing.iter();
            samples.extend(missing.map(|name| (name.clone(), assumed(aim.full(name)))));
        } else if ratio > 1.0 {
            let idle = groups.missing.iter().chain(&groups.unready);
            samples.extend(idle.map(|name| (name.clone(), assumed(0))));
        }
    }

    /// A value that grows with the work, whatever the number of pods.
    pub(super) fn by_value(&self, usage: i64, aim: i64) -> Result<Proposal, String> {
        let ratio = usage as f64 / aim as f64;
        let propose = |replicas| Ok(Proposal { replicas, utilization: None, usage });
        if self.current == 0 {
            return propose(ceil(ratio));
        }
        if self.tolerance.covers(ratio) {
            return propose(self.current);
        }
        if self.pods.is_empty() {
            let reason = "no pods returned by selector while calculating replica count";
            return Err(format!("unable to calculate ready pods: {reason}"));
        }
        let ready = self.pods.iter().filter(|one| pod::phase(one) == "Running" && pod::ready(one)).count();
        propose(ceil(ratio * ready as f64))
    }

    /// A value that is divided among the pods.
    pub(super) fn by_share(&self, usage: i64, aim: i64) -> Proposal {
        let ratio = usage as f64 / (aim as f64 * f64::from(self.present));
        let replicas =
            if self.tolerance.covers(ratio) { self.present } else { ceil(usage as f64 / aim as f64) };
        let share = if self.present == 0 { 0.0 } else { (usage as f64 / f64::from(self.present)).ceil() };
        Proposal { replicas, utilization: None, usage: share as i64 }
    }
}

fn ceil(value: f64) -> i32 {
    value.ceil() as i32
}
