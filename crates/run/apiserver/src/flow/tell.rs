//! What the levels tell Prometheus when it asks: how many seats they have, want and lend, and for how long they
//! used how many.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use plimsoll_flow::LevelKind;

use super::Flow;
use crate::metrics::Told;

type Number = Gauge<f64, std::sync::atomic::AtomicU64>;
type Distribution = Family<Phase, Told, fn() -> Told>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Of {
    priority_level: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Phase {
    phase: &'static str,
    priority_level: String,
}

/// One figure of each level.
const FIGURES: [(&str, &str); 9] = [
    ("nominal_limit_seats", "[BETA] Nominal number of execution seats configured for each priority level"),
    (
        "lower_limit_seats",
        "[ALPHA] Configured lower bound on number of execution seats available to each priority level",
    ),
    (
        "upper_limit_seats",
        "[ALPHA] Configured upper bound on number of execution seats available to each priority level",
    ),
    (
        "current_limit_seats",
        "[ALPHA] current derived number of execution seats available to each priority level",
    ),
    ("demand_seats_high_watermark", "[ALPHA] High watermark, over last adjustment period, of demand_seats"),
    ("demand_seats_average", "[ALPHA] Time-weighted average, over last adjustment period, of demand_seats"),
    (
        "demand_seats_stdev",
        "[ALPHA] Time-weighted standard deviation, over last adjustment period, of demand_seats",
    ),
    ("demand_seats_smoothed", "[ALPHA] Smoothed seat demands"),
    ("target_seats", "[ALPHA] Seat allocation targets"),
];

/// Adds the figures as they are now. Levels that are exempt need no seats and have limits only.
pub(crate) fn register(flow: &Flow, registry: &mut Registry) {
    let figures: [Family<Of, Number>; FIGURES.len()] = Default::default();
    let nothing: fn() -> Told = Told::default;
    let (seats, requests) =
        (Distribution::new_with_constructor(nothing), Distribution::new_with_constructor(nothing));
    let demands: Family<Of, Told, fn() -> Told> = Family::new_with_constructor(nothing);
    for (level, has, running) in &flow.plan().levels {
        let of = Of { priority_level: level.name.clone() };
        let mut queues = running.lock();
        let demand = queues.demand();
        let limited = level.kind != LevelKind::Exempt;
        let least = f64::from(has.least).max(f64::from(has.nominal).min(demand.high));
        let values = [
            f64::from(has.nominal),
            f64::from(has.least),
            f64::from(has.most),
            f64::from(queues.limit()),
            demand.high,
            demand.average,
            demand.deviation,
            demand.smoothed,
            least.max(demand.smoothed),
        ];
        let known = if limited { values.len() } else { 4 };
        for (figure, value) in figures.iter().zip(values).take(known) {
            figure.get_or_create(&of).set(value);
        }
        if !limited {
            continue;
        }
        let usage = queues.usage(flow.now());
        drop(queues);
        let phase = |phase| Phase { phase, priority_level: level.name.clone() };
        seats.get_or_create(&phase("executing")).tell(usage.seats.told());
        requests.get_or_create(&phase("executing")).tell(usage.executing.told());
        requests.get_or_create(&phase("waiting")).tell(usage.waiting.told());
        demands.get_or_create(&of).tell(usage.demand.told());
    }
    let all = registry.sub_registry_with_prefix("apiserver_flowcontrol");
    for ((name, help), figure) in FIGURES.into_iter().zip(figures) {
        all.register(name, help, figure);
    }
    all.register(
        "priority_level_seat_utilization",
        "[BETA] Observations, at the end of every nanosecond, of utilization of seats for any stage of execution (but only initial stage for WATCHes)",
        seats,
    );
    all.register(
        "priority_level_request_utilization",
        "[BETA] Observations, at the end of every nanosecond, of number of requests (as a fraction of the relevant limit) waiting or in any stage of execution (but only initial stage for WATCHes)",
        requests,
    );
    all.register(
        "demand_seats",
        "[BETA] Observations, at the end of every nanosecond, of (the number of seats each priority level could use) / (nominal number of seats for that level)",
        demands,
    );
}
