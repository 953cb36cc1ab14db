//! Thresholds as users write them.

use std::collections::BTreeMap;
use std::time::Duration;

use plimsoll_meta::duration;
use plimsoll_meta::quantity::Quantity;

use super::Signal;

/// An amount, or a part of what there is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// Bytes, inodes or process ids.
    Quantity(Quantity),
    /// A part of the capacity, 1 for all of it.
    Part(f64),
}

impl Amount {
    /// The amount when the capacity is this.
    #[must_use]
    pub fn of(self, capacity: i64) -> i64 {
        match self {
            Self::Quantity(quantity) => quantity.value(),
            Self::Part(part) => (capacity as f64 * part) as i64,
        }
    }
}

/// Less than `least` of something is too little.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// Of what.
    pub signal: Signal,
    /// How much there has to be.
    pub least: Amount,
    /// How long there may be less; zero for a hard threshold.
    pub grace: Duration,
    /// How much more than `least` there has to be until it is over.
    pub reclaim: Option<Amount>,
}

impl Threshold {
    /// Whether it is acted upon at once.
    #[must_use]
    pub fn is_hard(&self) -> bool {
        self.grace.is_zero()
    }
}

/// Why thresholds make no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(String);

/// Settings by signal, as in a KubeletConfiguration.
pub type Statements = BTreeMap<String, String>;

/// The thresholds that hold when a user says nothing.
#[must_use]
pub fn defaults() -> Statements {
    let defaults = [
        ("memory.available", "100Mi"),
        ("nodefs.available", "10%"),
        ("nodefs.inodesFree", "5%"),
        ("imagefs.available", "15%"),
        ("imagefs.inodesFree", "5%"),
    ];
    defaults.map(|(signal, least)| (signal.to_owned(), least.to_owned())).into()
}

/// What a user says about thresholds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `evictionHard`.
    pub hard: Statements,
    /// `evictionSoft`.
    pub soft: Statements,
    /// `evictionSoftGracePeriod`.
    pub grace: Statements,
    /// `evictionMinimumReclaim`.
    pub reclaim: Statements,
    /// Whether the memory of all pods together has a threshold as well.
    pub enforce_allocatable: bool,
}

impl Settings {
    /// Reads the statements.
    ///
    /// # Errors
    /// The first statement that makes no sense, in upstream's words.
    pub fn thresholds(&self) -> Result<Vec<Threshold>, Refused> {
        let graces = each(&self.grace, grace)?;
        let reclaims = each(&self.reclaim, reclaim)?;
        let mut all = Vec::new();
        for (signal, least) in each(&self.hard, least)? {
            all.extend(least.map(|least| Threshold { signal, least, grace: Duration::ZERO, reclaim: None }));
        }
        for (signal, least) in each(&self.soft, least)? {
            let Some(least) = least else { continue };
            let grace = *graces.get(&signal).ok_or_else(|| {
                Refused(format!("grace period must be specified for the soft eviction threshold {signal}"))
            })?;
            all.push(Threshold { signal, least, grace, reclaim: None });
        }
        for threshold in &mut all {
            threshold.reclaim = reclaims.get(&threshold.signal).copied();
        }
        if self.enforce_allocatable {
            let hard = |it: &&Threshold| it.signal == Signal::MemoryAvailable && it.is_hard();
            let copy = all.iter().find(hard).copied();
            all.extend(copy.map(|it| Threshold { signal: Signal::AllocatableMemoryAvailable, ..it }));
        }
        Ok(all)
    }

    /// How much of a resource is kept free by the hard thresholds, of a capacity.
    ///
    /// # Errors
    /// As [`Self::thresholds`].
    pub fn kept(&self, signal: Signal, capacity: i64) -> Result<i64, Refused> {
        let all = self.thresholds()?;
        let hard = all.iter().find(|threshold| threshold.signal == signal && threshold.is_hard());
        Ok(hard.map_or(0, |threshold| threshold.least.of(capacity)))
    }
}

fn each<T>(
    statements: &Statements,
    read: fn(Signal, &str) -> Result<T, Refused>,
) -> Result<BTreeMap<Signal, T>, Refused> {
    let read = |(name, value): (&String, &String)| {
        let signal: Signal = name.parse().map_err(|error| Refused(format!("{error}")))?;
        Ok((signal, read(signal, value)?))
    };
    statements.iter().map(read).collect()
}

/// What a threshold demands; nothing when it demands nothing.
fn least(signal: Signal, text: &str) -> Result<Option<Amount>, Refused> {
    if matches!(text, "0%" | "100%") {
        return Ok(None);
    }
    if let Some(part) = part(text)? {
        if part < 0.0 {
            return Err(Refused(format!("eviction percentage threshold {signal} must be >= 0%: {text}")));
        }
        if part > 1.0 {
            return Err(Refused(format!("eviction percentage threshold {signal} must be <= 100%: {text}")));
        }
        return Ok(Some(Amount::Part(part)));
    }
    let quantity = quantity(text)?;
    if quantity.sign() <= 0 {
        return Err(Refused(format!("eviction threshold {signal} must be positive: {quantity}")));
    }
    Ok(Some(Amount::Quantity(quantity)))
}

fn reclaim(signal: Signal, text: &str) -> Result<Amount, Refused> {
    if let Some(part) = part(text)? {
        if part <= 0.0 {
            let problem = format!("eviction percentage minimum reclaim {signal} must be positive: {text}");
            return Err(Refused(problem));
        }
        return Ok(Amount::Part(part));
    }
    let quantity = quantity(text)?;
    if quantity.sign() < 0 {
        return Err(Refused(format!("negative eviction minimum reclaim specified for {signal}")));
    }
    Ok(Amount::Quantity(quantity))
}

fn grace(_: Signal, text: &str) -> Result<Duration, Refused> {
    if text.starts_with('-') && duration::parse(&text[1..]).is_ok() {
        let problem = format!("invalid eviction grace period specified: {text}, must be a positive value");
        return Err(Refused(problem));
    }
    duration::parse(text).map_err(Refused)
}

fn part(text: &str) -> Result<Option<f64>, Refused> {
    let Some(number) = text.strip_suffix('%') else { return Ok(None) };
    let number: f64 = number
        .parse()
        .map_err(|_| Refused(format!("strconv.ParseFloat: parsing {number:?}: invalid syntax")))?;
    if !number.is_finite() {
        return Err(Refused(format!("strconv.ParseFloat: parsing {number:?}: value out of range")));
    }
    Ok(Some(number / 100.0))
}

fn quantity(text: &str) -> Result<Quantity, Refused> {
    text.parse().map_err(|error| Refused(format!("{error}")))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn one(signal: &str, value: &str) -> Statements {
        BTreeMap::from([(signal.to_owned(), value.to_owned())])
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_upstreams_words() {
        let hard = |signal, value| Settings { hard: one(signal, value), ..Settings::default() };
        let soft = |grace| Settings { soft: one("pid.available", "10"), grace, ..Settings::default() };
        let reclaim = |value| Settings { reclaim: one("nodefs.available", value), ..Settings::default() };
        for (settings, expected) in [
            (hard("mem.available", "1Gi"), "unsupported eviction signal mem.available"),
            (
                hard("memory.available", "-5%"),
                "eviction percentage threshold memory.available must be >= 0%: -5%",
            ),
            (
                hard("memory.available", "101%"),
                "eviction percentage threshold memory.available must be <= 100%: 101%",
            ),
            (hard("memory.available", "-1Mi"), "eviction threshold memory.available must be positive: -1Mi"),
            (hard("memory.available", "0"), "eviction threshold memory.available must be positive: 0"),
            (hard("memory.available", "x%"), "strconv.ParseFloat: parsing \"x\": invalid syntax"),
            (
                soft(Statements::new()),
                "grace period must be specified for the soft eviction threshold pid.available",
            ),
            (soft(one("pid.available", "5")), "time: missing unit in duration \"5\""),
            (
                soft(one("pid.available", "-5s")),
                "invalid eviction grace period specified: -5s, must be a positive value",
            ),
            (reclaim("0%"), "eviction percentage minimum reclaim nodefs.available must be positive: 0%"),
            (reclaim("-1"), "negative eviction minimum reclaim specified for nodefs.available"),
        ] {
            assert_eq!(settings.thresholds().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn thresholds_are_amounts_or_parts_and_may_be_switched_off() {
        let settings = Settings {
            hard: BTreeMap::from([
                ("memory.available".to_owned(), "500Mi".to_owned()),
                ("nodefs.available".to_owned(), "10%".to_owned()),
                ("nodefs.inodesFree".to_owned(), "0%".to_owned()),
            ]),
            soft: one("memory.available", "1Gi"),
            grace: one("memory.available", "1m30s"),
            reclaim: one("nodefs.available", "500Mi"),
            enforce_allocatable: true,
        };
        let all = settings.thresholds().unwrap();
        let shown: Vec<_> = all
            .iter()
            .map(|it| {
                (
                    it.signal.as_str(),
                    it.least.of(10 << 30) >> 20,
                    it.grace.as_secs(),
                    it.reclaim.map(|it| it.of(0) >> 20),
                )
            })
            .collect();
        assert_eq!(
            shown,
            [
                ("memory.available", 500, 0, None),
                ("nodefs.available", 1024, 0, Some(500)),
                ("memory.available", 1024, 90, None),
                ("allocatableMemory.available", 500, 0, None),
            ]
        );
        assert_eq!(settings.kept(Signal::NodeFsAvailable, 100 << 30).unwrap(), 10 << 30);
        assert_eq!(settings.kept(Signal::PidAvailable, 100).unwrap(), 0);
        let usual = Settings { hard: defaults(), ..Settings::default() };
        assert_eq!(usual.thresholds().unwrap().len(), 5);
    }
}
