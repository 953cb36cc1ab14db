//! How claimed devices are: what their drivers say, as long as it is to be believed
//! (kubelet: pkg/kubelet/cm/dra/healthinfo.go).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ResourceHealth, ResourceStatus};

use super::{Claim, Device};
use crate::device::Health;

/// How long a driver is believed that says nothing about it.
pub(super) const BELIEVED: Duration = Duration::from_secs(30);
/// As many characters of a message are told.
const LONGEST: usize = 1024;

/// What a driver says of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The pool that it is of.
    pub pool: String,
    /// Its name there.
    pub name: String,
    /// How it is.
    pub health: Health,
    /// What else there is to say.
    pub message: String,
    /// For how many seconds it holds; not more than 0 for the usual time.
    pub seconds: i64,
}

#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) health: Health,
    pub(super) message: String,
    /// For how long it is believed after `heard`.
    pub(super) believed: Duration,
    pub(super) heard: Instant,
}

impl Known {
    fn until(&self) -> Instant {
        self.heard.checked_add(self.believed).unwrap_or(self.heard + BELIEVED)
    }
}

/// What all drivers say.
#[derive(Clone, Debug, Default)]
pub struct Healths {
    /// By driver, then by pool and name.
    pub(super) known: BTreeMap<String, BTreeMap<(String, String), Known>>,
}

impl Healths {
    /// Takes in what a driver says. Whether anything is another than before. What it says nothing of any more
    /// holds until its time is over.
    pub fn report(&mut self, driver: &str, reports: Vec<Report>, now: Instant) -> bool {
        let known = self.known.entry(driver.to_owned()).or_default();
        let mut changed = false;
        for report in reports {
            let seconds = u64::try_from(report.seconds).ok().filter(|seconds| *seconds > 0);
            let believed = seconds.map_or(BELIEVED, Duration::from_secs);
            let message = shortened(report.message);
            let fresh = Known { health: report.health, message, believed, heard: now };
            let before = known.insert((report.pool, report.name), fresh.clone());
            changed |= before.is_none_or(|before| {
                before.until() < now || (before.health, before.message) != (fresh.health, fresh.message)
            });
        }
        changed
    }

    /// A driver is heard of no more.
    pub fn forget(&mut self, driver: &str) {
        self.known.remove(driver);
    }

    /// When the next of a driver's words will not be believed any more.
    #[must_use]
    pub fn stale_at(&self, driver: &str, now: Instant) -> Option<Instant> {
        self.known.get(driver)?.values().map(Known::until).filter(|until| *until >= now).min()
    }

    fn of(&self, driver: &str, device: &Device, now: Instant) -> (Health, Option<String>) {
        let key = (device.pool.clone(), device.name.clone());
        let known = self.known.get(driver).and_then(|all| all.get(&key)).filter(|known| known.until() >= now);
        let message = known.map(|known| known.message.clone()).filter(|message| !message.is_empty());
        (known.map_or(Health::Unknown, |known| known.health), message)
    }

    /// How the devices of a claim are that a container has by a `request`; an empty one is for all of them. None
    /// where drivers have told of no devices. `word` is what the pod calls the claim.
    #[must_use]
    pub fn status(&self, word: &str, request: &str, claim: &Claim, now: Instant) -> Option<ResourceStatus> {
        let all =
            claim.drivers.iter().flat_map(|(driver, all)| all.iter().map(move |device| (driver, device)));
        let of = all.filter(|(_, device)| device.is_for(request)).map(|(driver, device)| {
            let (health, message) = self.of(driver, device, now);
            let id = || format!("{driver}/{}/{}", device.pool, device.name);
            ResourceHealth {
                health: Some(health.as_str().to_owned()),
                resource_id: device.cdi.first().cloned().unwrap_or_else(id),
                message,
            }
        });
        let resources: Vec<ResourceHealth> = of.collect();
        let name =
            if request.is_empty() { format!("claim:{word}") } else { format!("claim:{word}/{request}") };
        (!resources.is_empty()).then_some(ResourceStatus { name, resources: Some(resources) })
    }
}

/// As much of a message as is told.
fn shortened(message: String) -> String {
    if message.chars().count() <= LONGEST {
        return message;
    }
    message.chars().take(LONGEST - 3).chain("...".chars()).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn report(name: &str, health: Health, seconds: i64) -> Report {
        Report { pool: "p".into(), name: name.into(), health, message: String::new(), seconds }
    }

    fn claim() -> Claim {
        let device = |name: &str, request: &str, cdi: &[&str]| Device {
            pool: "p".into(),
            name: name.into(),
            requests: vec![request.into()],
            cdi: cdi.iter().map(|name| (*name).to_owned()).collect(),
            ..Device::default()
        };
        let devices = vec![device("a", "one", &["v/c=a", "v/c=b"]), device("b", "two", &[])];
        Claim { drivers: [("d".to_owned(), devices)].into(), ..Claim::default() }
    }

    #[test]
    fn drivers_are_believed_for_a_while() {
        let (start, mut healths) = (Instant::now(), Healths::default());
        let at = |seconds| start + Duration::from_secs(seconds);
        let told = |healths: &Healths, request: &str, now| {
            let status = healths.status("g", request, &claim(), now).unwrap();
            let one = |it: ResourceHealth| format!("{} {}", it.resource_id, it.health.unwrap());
            (status.name, status.resources.unwrap().into_iter().map(one).collect::<Vec<_>>().join(", "))
        };
        let all = |healths: &Healths, now| told(healths, "", now).1;
        assert_eq!(told(&healths, "", at(0)), ("claim:g".into(), "v/c=a Unknown, d/p/b Unknown".into()));
        let both = || vec![report("a", Health::Healthy, 0), report("b", Health::Unhealthy, 5)];
        assert!(healths.report("d", both(), at(0)));
        assert_eq!(told(&healths, "one", at(1)), ("claim:g/one".into(), "v/c=a Healthy".into()));
        assert_eq!(all(&healths, at(1)), "v/c=a Healthy, d/p/b Unhealthy");
        // The same again changes nothing but how long it holds.
        assert!(!healths.report("d", both(), at(4)));
        assert_eq!(healths.stale_at("d", at(4)), Some(at(9)));
        assert_eq!(all(&healths, at(9)), "v/c=a Healthy, d/p/b Unhealthy");
        assert_eq!(all(&healths, at(10)), "v/c=a Healthy, d/p/b Unknown");
        assert_eq!(healths.stale_at("d", at(10)), Some(at(34)));
        assert_eq!(all(&healths, at(35)), "v/c=a Unknown, d/p/b Unknown");
        assert!(healths.report("d", both(), at(40)), "it is believed anew");
        assert!(healths.report("d", vec![report("a", Health::Unhealthy, -1)], at(41)));
        healths.forget("d");
        assert_eq!(all(&healths, at(41)), "v/c=a Unknown, d/p/b Unknown");
        assert_eq!(healths.status("g", "three", &claim(), at(41)), None);
    }

    #[test]
    fn messages_are_told_in_part() {
        let (now, mut healths) = (Instant::now(), Healths::default());
        for (message, expected) in
            [("hot".to_owned(), "hot".to_owned()), ("ä".repeat(1025), format!("{}...", "ä".repeat(1021)))]
        {
            healths.report("d", vec![Report { message, ..report("a", Health::Unhealthy, 0) }], now);
            let told = healths.status("g", "one", &claim(), now).unwrap().resources.unwrap().remove(0);
            assert_eq!(told.message, Some(expected));
        }
    }
}
