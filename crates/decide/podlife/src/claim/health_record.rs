//! The record of how claimed devices are, in upstream's format (kubelet: pkg/kubelet/cm/dra/healthinfo.go): an agent
//! that starts anew believes what drivers said to the one before it, for as long as they said.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::health::{BELIEVED, Healths, Known};
use crate::device::Health;

#[derive(Deserialize, Serialize)]
struct Driver {
    /// By `pool/device`.
    #[serde(rename = "Devices", default)]
    devices: Option<BTreeMap<String, Device>>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Device {
    pool_name: String,
    device_name: String,
    health: String,
    last_updated: Timestamp,
    /// Billionths of a second; 0 stands for the usual time.
    #[serde(default)]
    health_check_timeout: i64,
    #[serde(default)]
    message: String,
}

/// The record for a file. `now` and `clock` are the same moment.
#[must_use]
pub fn write(healths: &Healths, now: Instant, clock: Timestamp) -> String {
    let device = |((pool, name), known): (&(String, String), &Known)| {
        let age = SignedDuration::try_from(now.saturating_duration_since(known.heard)).unwrap_or_default();
        let device = Device {
            pool_name: pool.clone(),
            device_name: name.clone(),
            health: known.health.as_str().to_owned(),
            last_updated: clock.checked_sub(age).unwrap_or(clock),
            health_check_timeout: i64::try_from(known.believed.as_nanos()).unwrap_or(i64::MAX),
            message: known.message.clone(),
        };
        (format!("{pool}/{name}"), device)
    };
    let driver = |(name, devices): (&String, &BTreeMap<_, _>)| {
        (name.clone(), Driver { devices: Some(devices.iter().map(device).collect()) })
    };
    let drivers: BTreeMap<_, _> = healths.known.iter().map(driver).collect();
    serde_json::to_string(&drivers).unwrap_or_default()
}

/// Reads a record. What is not believed any more is left out.
///
/// # Errors
/// It is damaged.
pub fn read(text: &str, now: Instant, clock: Timestamp) -> Result<Healths, String> {
    let drivers: BTreeMap<String, Driver> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let known = |device: Device| {
        // A clock that was set back makes nothing younger than it can be.
        let age = Duration::try_from(clock.duration_since(device.last_updated)).unwrap_or_default();
        let timeout = u64::try_from(device.health_check_timeout).ok().filter(|nanos| *nanos > 0);
        let believed = timeout.map_or(BELIEVED, Duration::from_nanos);
        let heard = now.checked_sub(age).filter(|_| age <= believed)?;
        let health = Health::parse(&device.health);
        let known = Known { health, message: device.message, believed, heard };
        Some(((device.pool_name, device.device_name), known))
    };
    let driver = |(name, driver): (String, Driver)| {
        (name, driver.devices.unwrap_or_default().into_values().filter_map(known).collect())
    };
    Ok(Healths { known: drivers.into_iter().map(driver).collect() })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::health::Report;
    use super::super::{Claim, Device as Claimed};
    use super::*;

    #[test]
    fn it_is_believed_as_long_as_before() {
        let (start, clock): (Instant, Timestamp) = (Instant::now(), "2026-01-02T03:04:05Z".parse().unwrap());
        let mut healths = Healths::default();
        let report = |name: &str, health, seconds| Report {
            pool: "p/q".into(),
            name: name.into(),
            health,
            message: "hot".into(),
            seconds,
        };
        let reports = vec![report("a", Health::Unhealthy, 20), report("b", Health::Healthy, 0)];
        healths.report("d", reports, start);
        let (now, later) = (start + Duration::from_secs(5), clock + SignedDuration::from_secs(5));
        let text = write(&healths, now, later);
        let expected = r#"{"d":{"Devices":{"p/q/a":{"PoolName":"p/q","DeviceName":"a","Health":"Unhealthy","LastUpdated":"2026-01-02T03:04:05Z","HealthCheckTimeout":20000000000,"Message":"hot"},"p/q/b":{"PoolName":"p/q","DeviceName":"b","Health":"Healthy","LastUpdated":"2026-01-02T03:04:05Z","HealthCheckTimeout":30000000000,"Message":"hot"}}}}"#;
        assert_eq!(text, expected);

        let device = |name: &str| Claimed { pool: "p/q".into(), name: name.into(), ..Claimed::default() };
        let claim =
            Claim { drivers: [("d".to_owned(), vec![device("a"), device("b")])].into(), ..Claim::default() };
        // Seconds after the reports: what is said when it is read, and how long it is believed from then on.
        for (seconds, expected, left) in [
            (6, ["Unhealthy", "Healthy"], Some(14)),
            (20, ["Unhealthy", "Healthy"], Some(0)),
            (21, ["Unknown", "Healthy"], Some(9)),
            (31, ["Unknown", "Unknown"], None),
            // The clock was set back.
            (-60, ["Unhealthy", "Healthy"], Some(20)),
        ] {
            let now = start + Duration::from_secs(100);
            let read = read(&text, now, clock + SignedDuration::from_secs(seconds)).unwrap();
            let status = read.status("c", "", &claim, now).unwrap().resources.unwrap();
            let told: Vec<_> = status.into_iter().map(|it| it.health.unwrap()).collect();
            assert_eq!(told, expected, "{seconds}");
            assert_eq!(read.stale_at("d", now).map(|at| (at - now).as_secs()), left, "{seconds}");
        }
    }

    #[test]
    fn upstreams_records_are_read_and_damaged_ones_are_not() {
        let (now, clock) = (Instant::now(), "2026-01-02T03:04:05Z".parse().unwrap());
        let text = r#"{"d":{"Devices":{"p/a":{"PoolName":"p","DeviceName":"a","Health":"Healthy","LastUpdated":"2026-01-02T04:04:00.123456789+01:00"}}},"e":{"Devices":null}}"#;
        let read_back = read(text, now, clock).unwrap();
        assert!(read_back.stale_at("d", now).is_some() && read_back.stale_at("e", now).is_none());
        assert!(read("{", now, clock).is_err());
    }
}
