//! How fast the number of replicas may change
//! (kube-controller-manager: pkg/controller/podautoscaler/horizontal.go, v1.37).

use k8s_openapi::api::autoscaling::v2::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior};
use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// What is remembered of an autoscaler between two looks at it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// What was recommended, before it was stabilized.
    recommended: Vec<(Timestamp, i32)>,
    /// By how much the number grew, or shrank.
    grown: Vec<(Timestamp, i32)>,
    shrunk: Vec<(Timestamp, i32)>,
    /// The change that is being made, and why; it counts once it succeeded.
    pending: Option<(Timestamp, i32, String)>,
}

impl Memory {
    /// The last change was made.
    pub fn succeeded(&mut self) {
        let Some((at, change, _)) = self.pending.take() else { return };
        let changes = if change > 0 { &mut self.grown } else { &mut self.shrunk };
        changes.push((at, change.abs()));
    }

    /// The last change was not made; tells why it should have been.
    pub fn failed(&mut self) -> String {
        self.pending.take().map(|(_, _, reason)| reason).unwrap_or_default()
    }

    pub(super) fn begin(&mut self, change: i32, reason: &str, now: Timestamp) {
        self.pending = Some((now, change, reason.to_owned()));
    }

    pub(super) fn first(&mut self, current: i32, now: Timestamp) {
        if self.recommended.is_empty() {
            self.recommended.push((now, current));
        }
    }

    fn recommend(&mut self, replicas: i32, keep: Timestamp, now: Timestamp) {
        self.recommended.retain(|(at, _)| *at >= keep);
        self.recommended.push((now, replicas));
    }

    /// Replicas at the begin of a period.
    fn at_start(&self, current: i32, seconds: i32, now: Timestamp) -> i32 {
        let cutoff = before(now, seconds);
        let sum = |changes: &[(Timestamp, i32)]| -> i32 {
            changes.iter().filter(|(at, _)| *at > cutoff).map(|(_, change)| change).sum()
        };
        current - sum(&self.grown) + sum(&self.shrunk)
    }

    /// Forgets changes that no policy looks at any more.
    fn forget(&mut self, rules: &Rules, now: Timestamp) {
        let cutoff = |rules: &HPAScalingRules| {
            let periods = rules.policies.iter().flatten().map(|policy| policy.period_seconds);
            before(now, periods.max().unwrap_or_default())
        };
        let cutoff = cutoff(&rules.up).min(cutoff(&rules.down));
        self.grown.retain(|(at, _)| *at >= cutoff);
        self.shrunk.retain(|(at, _)| *at >= cutoff);
    }
}

/// A number of replicas with the reasons that stand in conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limited {
    pub(super) replicas: i32,
    pub(super) reason: &'static str,
    pub(super) message: &'static str,
}

/// What bounds a change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) min: i32,
    pub(super) max: i32,
    pub(super) current: i32,
}

const UP_STABILIZED: (&str, &str) = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
);
const DOWN_STABILIZED: (&str, &str) = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent recommendation",
);
const READY: (&str, &str) = ("ReadyForNewScale", "recommended size matches current size");
const UP_LIMIT: (&str, &str) =
    ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate");
const DOWN_LIMIT: (&str, &str) =
    ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate");
const TOO_MANY: (&str, &str) =
    ("TooManyReplicas", "the desired replica count is more than the maximum replica count");
const TOO_FEW: (&str, &str) =
    ("TooFewReplicas", "the desired replica count is less than the minimum replica count");
const WITHIN: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");

/// The rules of both directions, completed by the defaults.
#[derive(Clone, Debug)]
struct Rules {
    up: HPAScalingRules,
    down: HPAScalingRules,
}

impl Rules {
    fn of(behavior: &HorizontalPodAutoscalerBehavior, window: SignedDuration) -> Self {
        let policy =
            |kind: &str, value| HPAScalingPolicy { type_: kind.to_owned(), value, period_seconds: 15 };
        let complete = |rules: &Option<HPAScalingRules>, window: i32, policies: Vec<HPAScalingPolicy>| {
            let mut rules = rules.clone().unwrap_or_default();
            rules.stabilization_window_seconds.get_or_insert(window);
            rules.select_policy.get_or_insert_with(|| "Max".to_owned());
            if rules.policies.as_ref().is_none_or(Vec::is_empty) {
                rules.policies = Some(policies);
            }
            rules
        };
        let window = i32::try_from(window.as_secs()).unwrap_or(i32::MAX);
        Self {
            up: complete(&behavior.scale_up, 0, vec![policy("Pods", 4), policy("Percent", 100)]),
            down: complete(&behavior.scale_down, window, vec![policy("Percent", 100)]),
        }
    }
}

/// The number of replicas after stabilization and limits; what was stabilized is for `AbleToScale`, what was
/// limited for `ScalingLimited`, and whether it was.
pub(super) fn normalize(
    behavior: Option<&HorizontalPodAutoscalerBehavior>,
    window: SignedDuration,
    memory: &mut Memory,
    bounds: Bounds,
    wanted: i32,
    now: Timestamp,
) -> (Limited, Limited) {
    let limited = |replicas, (reason, message)| Limited { replicas, reason, message };
    let Some(behavior) = behavior else {
        let stable = stabilize_down(memory, window, wanted, now);
        let able = if stable == wanted { READY } else { DOWN_STABILIZED };
        let (replicas, why) = within_factor(bounds, stable);
        return (limited(stable, able), limited(replicas, why));
    };
    let rules = Rules::of(behavior, window);
    memory.forget(&rules, now);
    let stable = stabilize(memory, &rules, bounds.current, wanted, now);
    let able = match wanted {
        _ if stable == wanted => READY,
        _ if wanted >= bounds.current => UP_STABILIZED,
        _ => DOWN_STABILIZED,
    };
    let (replicas, why) = within_rate(memory, &rules, bounds, stable, now);
    (limited(stable, able), limited(replicas, why))
}

/// The highest recommendation of the window.
fn stabilize_down(memory: &mut Memory, window: SignedDuration, wanted: i32, now: Timestamp) -> i32 {
    let cutoff = now.checked_sub(window).unwrap_or(Timestamp::MIN);
    let recent = memory.recommended.iter().filter(|(at, _)| *at >= cutoff).map(|(_, replicas)| *replicas);
    let highest = recent.fold(wanted, i32::max);
    memory.recommend(wanted, cutoff, now);
    highest
}

/// Between the lowest recommendation of the window for growth and the highest of that for shrinking.
fn stabilize(memory: &mut Memory, rules: &Rules, current: i32, wanted: i32, now: Timestamp) -> i32 {
    let cutoff =
        |rules: &HPAScalingRules| before(now, rules.stabilization_window_seconds.unwrap_or_default());
    let (up, down) = (cutoff(&rules.up), cutoff(&rules.down));
    let recent = |cutoff: Timestamp| {
        memory.recommended.iter().filter(move |(at, _)| *at > cutoff).map(|(_, replicas)| *replicas)
    };
    let (least, most) = (recent(up).fold(wanted, i32::min), recent(down).fold(wanted, i32::max));
    memory.recommend(wanted, up.min(down), now);
    current.max(least).min(most)
}

/// At most twice as many, or four.
fn within_factor(bounds: Bounds, wanted: i32) -> (i32, (&'static str, &'static str)) {
    let limit = bounds.current.saturating_mul(2).max(4);
    let (most, why) = if bounds.max > limit { (limit, UP_LIMIT) } else { (bounds.max, TOO_MANY) };
    match wanted {
        _ if wanted < bounds.min => (bounds.min, TOO_FEW),
        _ if wanted > most => (most, why),
        _ => (wanted, WITHIN),
    }
}

fn within_rate(
    memory: &Memory,
    rules: &Rules,
    bounds: Bounds,
    wanted: i32,
    now: Timestamp,
) -> (i32, (&'static str, &'static str)) {
    let current = bounds.current;
    if wanted > current {
        let limit = growth(memory, &rules.up, current, now).max(current);
        let (most, why) = if bounds.max > limit { (limit, UP_LIMIT) } else { (bounds.max, TOO_MANY) };
        if wanted > most {
            return (most, why);
        }
    } else if wanted < current {
        let limit = shrinkage(memory, &rules.down, current, now).min(current);
        let (least, why) = if bounds.min < limit { (limit, DOWN_LIMIT) } else { (bounds.min, TOO_FEW) };
        if wanted < least {
            return (least, why);
        }
    }
    (wanted, WITHIN)
}

/// The most replicas that the policies allow.
fn growth(memory: &Memory, rules: &HPAScalingRules, current: i32, now: Timestamp) -> i32 {
    let allowed = rules.policies.iter().flatten().map(|policy| {
        let start = memory.at_start(current, policy.period_seconds, now);
        match policy.type_.as_str() {
            "Pods" => start.saturating_add(policy.value),
            _ => (f64::from(start) * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i32,
        }
    });
    match rules.select_policy.as_deref() {
        Some("Disabled") => current,
        Some("Min") => allowed.min().unwrap_or(i32::MAX),
        _ => allowed.max().unwrap_or(i32::MIN),
    }
}

/// The fewest replicas that the policies allow.
fn shrinkage(memory: &Memory, rules: &HPAScalingRules, current: i32, now: Timestamp) -> i32 {
    let allowed = rules.policies.iter().flatten().map(|policy| {
        let start = memory.at_start(current, policy.period_seconds, now);
        match policy.type_.as_str() {
            "Pods" => start.saturating_sub(policy.value),
            _ => (f64::from(start) * (1.0 - f64::from(policy.value) / 100.0)) as i32,
        }
    });
    match rules.select_policy.as_deref() {
        Some("Disabled") => current,
        Some("Min") => allowed.max().unwrap_or(i32::MIN),
        _ => allowed.min().unwrap_or(i32::MAX),
    }
}

fn before(now: Timestamp, seconds: i32) -> Timestamp {
    now.checked_sub(SignedDuration::from_secs(seconds.into())).unwrap_or(Timestamp::MIN)
}
