//! When the node is under pressure, and of which resource.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::threshold::Threshold;
use super::{Condition, Figure, Figures, Signal};

/// What is to be done after a look at the node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outlook {
    /// What the node says of itself: pressure that is or that was a short time ago.
    pub conditions: Vec<Condition>,
    /// The thresholds that must be acted upon, the most urgent first.
    pub crossed: Vec<Threshold>,
}

/// Follows the thresholds of a node through time.
#[derive(Clone, Debug)]
pub struct Pressure {
    thresholds: Vec<Threshold>,
    /// How long a condition stays after it was seen the last time.
    transition: Duration,
    /// Since when a threshold is crossed, by its place.
    since: BTreeMap<usize, Timestamp>,
    /// Those that were acted upon and are not resolved: they stay until the minimum is reclaimed.
    acting: Vec<usize>,
    /// When conditions were seen the last time.
    seen: BTreeMap<Condition, Timestamp>,
    last: Figures,
}

impl Pressure {
    /// Begins with a node that was never under pressure.
    #[must_use]
    pub fn new(thresholds: Vec<Threshold>, transition: Duration) -> Self {
        let (since, acting, seen) = (BTreeMap::new(), Vec::new(), BTreeMap::new());
        Self { thresholds, transition, since, acting, seen, last: Figures::new() }
    }

    /// Takes in what was measured now.
    pub fn observe(&mut self, figures: Figures, now: Timestamp) -> Outlook {
        let all = self.thresholds.iter().enumerate();
        let crossed: Vec<usize> = all
            .filter(|(at, it)| {
                is_crossed(it, &figures, Goal::Least)
                    || (self.acting.contains(at) && is_crossed(it, &figures, Goal::Reclaimed))
            })
            .map(|(at, _)| at)
            .collect();
        self.since = crossed.iter().map(|at| (*at, self.since.get(at).copied().unwrap_or(now))).collect();
        for at in &crossed {
            self.seen.insert(self.thresholds[*at].signal.condition(), now);
        }
        self.seen.retain(|_, seen| *seen == now || within(*seen, now, self.transition));
        let due = |at: &usize| !within(self.since[at], now, self.thresholds[*at].grace);
        self.acting = crossed.into_iter().filter(due).collect();
        let fresh = |signal| {
            let at = |figures: &Figures| figures.get(&signal).map(|figure: &Figure| figure.at);
            at(&self.last).is_none_or(|last| at(&figures).is_some_and(|at| at > last))
        };
        let acting = self.acting.iter().map(|at| self.thresholds[*at]);
        let mut crossed: Vec<Threshold> = acting.filter(|it| fresh(it.signal)).collect();
        crossed.sort_by_key(|it| urgency(it.signal));
        self.last = figures;
        Outlook { conditions: self.conditions(), crossed }
    }

    /// What the node says of itself.
    #[must_use]
    pub fn conditions(&self) -> Vec<Condition> {
        self.seen.keys().copied().collect()
    }

    /// Whether there is enough again, the minimum to reclaim included.
    #[must_use]
    pub fn is_resolved(&self, figures: &Figures) -> bool {
        !self.thresholds.iter().any(|it| is_crossed(it, figures, Goal::Reclaimed))
    }
}

/// How much there has to be.
#[derive(Clone, Copy, PartialEq)]
enum Goal {
    Least,
    Reclaimed,
}

fn is_crossed(threshold: &Threshold, figures: &Figures, goal: Goal) -> bool {
    figures.get(&threshold.signal).is_some_and(|figure| {
        let more = threshold.reclaim.filter(|_| goal == Goal::Reclaimed);
        let least = threshold.least.of(figure.capacity) + more.map_or(0, |more| more.of(figure.capacity));
        figure.available < least
    })
}

fn within(since: Timestamp, now: Timestamp, period: Duration) -> bool {
    // A clock that went back does not make anything older.
    let period = SignedDuration::try_from(period).unwrap_or(SignedDuration::MAX);
    now.duration_since(since) < period
}

/// Memory first: without it nothing else can be done.
fn urgency(signal: Signal) -> u8 {
    match signal {
        Signal::MemoryAvailable => 0,
        Signal::AllocatableMemoryAvailable => 1,
        _ => 2,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use super::super::threshold::Settings;
    use super::*;

    const MI: i64 = 1 << 20;
    const GI: i64 = 1 << 30;

    fn settings(hard: &[(&str, &str)]) -> Settings {
        let hard = hard.iter().map(|(signal, least)| ((*signal).to_owned(), (*least).to_owned())).collect();
        Settings { hard, ..Settings::default() }
    }

    fn pressure(settings: &Settings) -> Pressure {
        Pressure::new(settings.thresholds().unwrap(), Duration::from_secs(300))
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn see(
        pressure: &mut Pressure,
        seconds: i64,
        figures: &[(Signal, i64, i64)],
    ) -> (Vec<Condition>, Vec<Signal>) {
        let figure = |(signal, available, capacity): &(Signal, i64, i64)| {
            (*signal, Figure { available: *available, capacity: *capacity, at: at(seconds) })
        };
        let outlook = pressure.observe(figures.iter().map(figure).collect(), at(seconds));
        (outlook.conditions, outlook.crossed.iter().map(|it| it.signal).collect())
    }

    /// The documentation's node of 10 Gi with 1.5 Gi for the system and `memory.available<500Mi`.
    #[test]
    fn a_node_of_ten_gibibytes_acts_below_500_mebibytes() {
        let mut node = pressure(&settings(&[("memory.available", "500Mi")]));
        let memory = |available| [(Signal::MemoryAvailable, available, 10 * GI)];
        assert_eq!(see(&mut node, 0, &memory(500 * MI)), (vec![], vec![]));
        let short = (vec![Condition::MemoryPressure], vec![Signal::MemoryAvailable]);
        assert_eq!(see(&mut node, 10, &memory(500 * MI - 1)), short);
        // The condition stays for the transition period, nothing more is evicted meanwhile.
        assert_eq!(see(&mut node, 20, &memory(GI)), (vec![Condition::MemoryPressure], vec![]));
        assert_eq!(see(&mut node, 309, &memory(GI)), (vec![Condition::MemoryPressure], vec![]));
        assert_eq!(see(&mut node, 310, &memory(GI)), (vec![], vec![]));
    }

    /// Hard thresholds with `minimum-reclaim` of 500 Mi on nodefs: reclaimed is 1.5 Gi, not 1 Gi.
    #[test]
    fn what_was_acted_upon_is_over_when_the_minimum_is_reclaimed() {
        let mut settings = settings(&[("nodefs.available", "1Gi"), ("imagefs.available", "100Gi")]);
        settings.reclaim = BTreeMap::from([
            ("nodefs.available".to_owned(), "500Mi".to_owned()),
            ("imagefs.available".to_owned(), "2Gi".to_owned()),
        ]);
        let mut node = pressure(&settings);
        let disk = |available| [(Signal::NodeFsAvailable, available, 100 * GI)];
        assert_eq!(see(&mut node, 0, &disk(1200 * MI)).1, []);
        assert_eq!(see(&mut node, 10, &disk(GI - 1)).1, [Signal::NodeFsAvailable]);
        assert_eq!(see(&mut node, 20, &disk(1200 * MI)).1, [Signal::NodeFsAvailable]);
        assert_eq!(see(&mut node, 30, &disk(GI + 500 * MI)).1, []);
        assert_eq!(see(&mut node, 40, &disk(1200 * MI)).1, []);
        let figure = |available| {
            Figures::from([(Signal::NodeFsAvailable, Figure { available, capacity: 100 * GI, at: at(0) })])
        };
        assert!(!node.is_resolved(&figure(1200 * MI)));
        assert!(node.is_resolved(&figure(GI + 500 * MI)));
    }

    #[test]
    fn soft_thresholds_wait_their_grace_period_and_start_over() {
        let settings = Settings {
            soft: BTreeMap::from([("memory.available".to_owned(), "30%".to_owned())]),
            grace: BTreeMap::from([("memory.available".to_owned(), "1m".to_owned())]),
            ..Settings::default()
        };
        let mut node = pressure(&settings);
        let memory = |available| [(Signal::MemoryAvailable, available, 10 * GI)];
        let pressed = vec![Condition::MemoryPressure];
        for (seconds, available, crossed) in [
            (0, 2 * GI, false),
            (59, 2 * GI, false),
            (60, 2 * GI, true),
            (70, 4 * GI, false),
            (80, 2 * GI, false),
            (139, 2 * GI, false),
            (140, 2 * GI, true),
        ] {
            let expected = if crossed { vec![Signal::MemoryAvailable] } else { vec![] };
            assert_eq!(see(&mut node, seconds, &memory(available)), (pressed.clone(), expected), "{seconds}");
        }
    }

    #[test]
    fn memory_comes_first_and_old_figures_are_not_acted_upon_twice() {
        let mut node = pressure(&settings(&[
            ("imagefs.available", "15%"),
            ("memory.available", "100Mi"),
            ("pid.available", "5%"),
        ]));
        let short = [
            (Signal::ImageFsAvailable, GI, 10 * GI),
            (Signal::MemoryAvailable, MI, 10 * GI),
            (Signal::PidAvailable, 10, 32_768),
        ];
        let (conditions, crossed) = see(&mut node, 0, &short);
        let all = vec![Condition::MemoryPressure, Condition::DiskPressure, Condition::PidPressure];
        assert_eq!(conditions, all);
        assert_eq!(crossed, [Signal::MemoryAvailable, Signal::ImageFsAvailable, Signal::PidAvailable]);
        let figures = node.last.clone();
        assert_eq!(node.observe(figures, at(5)).crossed, []);
        assert_eq!(see(&mut node, 10, &[]), (all, vec![]), "what cannot be measured is not acted upon");
    }
}
