//! What is wrong with the machines and links of an etcd cluster, by what its members measured.
//!
//! What enters is the text of each member's metrics; what leaves names what is outside of etcd's own bounds
//! (its tuning and hardware guides), and the settings or the remedy.

/// A log that syncs slower holds every write up (etcd: hardware guide, 99th percentile).
const SYNC: f64 = 0.010;
/// The same for the database.
const COMMIT: f64 = 0.025;
/// etcd's default, in milliseconds.
const HEARTBEAT: f64 = 100.0;
/// An election takes at least so many round trips, and heartbeats.
const TIMES: f64 = 10.0;
/// Fewer observations tell nothing of a 99th percentile.
const ENOUGH: f64 = 100.0;

/// What a member measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Where it was asked.
    pub endpoint: String,
    /// The longest of the average round trips to its peers, in seconds.
    pub round_trip: Option<f64>,
    /// The 99th percentile of the log's syncs, in seconds.
    pub sync: Option<f64>,
    /// The 99th percentile of the database's commits, in seconds.
    pub commit: Option<f64>,
}

impl Measured {
    /// Reads a member's metrics.
    #[must_use]
    pub fn read(endpoint: &str, metrics: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            round_trip: longest(metrics),
            sync: slowest(metrics, "etcd_disk_wal_fsync_duration_seconds"),
            commit: slowest(metrics, "etcd_disk_backend_commit_duration_seconds"),
        }
    }
}

/// What is to be done; nothing when all is well.
#[must_use]
pub fn advise(members: &[Measured]) -> Vec<String> {
    let mut advice = Vec::new();
    let longest = members.iter().filter_map(|member| member.round_trip).fold(0.0, f64::max) * 1e3;
    if longest > HEARTBEAT {
        let heartbeat = longest.ceil();
        advice.push(format!(
            "round trips between members take {longest:.0} ms: start all of them with --heartbeat-interval={heartbeat:.0} \
             --election-timeout={:.0}, or bring them nearer to each other",
            heartbeat * TIMES
        ));
    }
    for Measured { endpoint, sync, commit, .. } in members {
        if let Some(took) = sync.filter(|took| *took > SYNC) {
            advice.push(format!(
                "{endpoint}: the log's syncs take {:.0} ms (99th percentile; bound: {:.0} ms): give the log a disk of \
                 its own, an SSD or NVMe (--wal-dir), and nothing else that syncs there",
                took * 1e3,
                SYNC * 1e3
            ));
        }
        if let Some(took) = commit.filter(|took| *took > COMMIT) {
            advice.push(format!(
                "{endpoint}: the database's commits take {:.0} ms (99th percentile; bound: {:.0} ms): give etcd a faster \
                 disk, or let it commit less often (--backend-batch-interval, --backend-batch-limit)",
                took * 1e3,
                COMMIT * 1e3
            ));
        }
    }
    advice
}

/// Lines of a metric: their labels, and their values.
fn lines<'m>(metrics: &'m str, name: &'m str) -> impl Iterator<Item = (&'m str, f64)> {
    metrics.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.split_once("} ")?,
            None => ("", rest.strip_prefix(' ')?),
        };
        Some((labels, value.trim().parse().ok()?))
    })
}

fn longest(metrics: &str) -> Option<f64> {
    let counts: Vec<_> = lines(metrics, "etcd_network_peer_round_trip_time_seconds_count").collect();
    let averages =
        lines(metrics, "etcd_network_peer_round_trip_time_seconds_sum").filter_map(|(peer, sum)| {
            let (_, count) = counts.iter().find(|(known, _)| *known == peer)?;
            (*count > 0.0).then(|| sum / count)
        });
    averages.reduce(f64::max)
}

/// The 99th percentile of a histogram, as Prometheus finds it; what is beyond the last bucket is as slow as that.
fn slowest(metrics: &str, name: &str) -> Option<f64> {
    let bucket = format!("{name}_bucket");
    let bound = |labels: &str| {
        let (_, rest) = labels.split_once("le=\"")?;
        match rest.split_once('"')?.0 {
            "+Inf" => Some(f64::INFINITY),
            number => number.parse().ok(),
        }
    };
    let buckets: Vec<(f64, f64)> =
        lines(metrics, &bucket).filter_map(|(labels, count)| Some((bound(labels)?, count))).collect();
    let total = buckets.last()?.1;
    let rank = 0.99 * total;
    let at = buckets.iter().position(|(_, count)| *count >= rank).filter(|_| total >= ENOUGH)?;
    let (low, before) = at.checked_sub(1).map_or((0.0, 0.0), |at| buckets[at]);
    let (high, count) = buckets[at];
    match high.is_finite() {
        true if count > before => Some(low + (high - low) * (rank - before) / (count - before)),
        _ => Some(low),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(name: &str, counts: [u32; 4]) -> String {
        let bounds = ["0.008", "0.016", "0.032", "+Inf"];
        let line = |(bound, count)| format!("{name}_bucket{{le=\"{bound}\"}} {count}\n");
        bounds.into_iter().zip(counts).map(line).collect()
    }

    #[test]
    fn metrics_are_read() {
        let mut text = histogram("etcd_disk_wal_fsync_duration_seconds", [0, 200, 200, 200]);
        text += &histogram("etcd_disk_backend_commit_duration_seconds", [0, 0, 0, 7]);
        text += "etcd_network_peer_round_trip_time_seconds_sum{To=\"a\"} 3\n\
                 etcd_network_peer_round_trip_time_seconds_count{To=\"a\"} 10\n\
                 etcd_network_peer_round_trip_time_seconds_sum{To=\"b\"} 1\n\
                 etcd_network_peer_round_trip_time_seconds_count{To=\"b\"} 10\n";
        let found = Measured::read("m", &text);
        assert_eq!((found.round_trip, found.commit), (Some(0.3), None), "seven commits tell nothing");
        assert!(found.sync.is_some_and(|sync| (sync - 0.01592).abs() < 1e-9), "{found:?}");
        assert_eq!(Measured::read("m", ""), Measured { endpoint: "m".into(), ..Measured::default() });
        let beyond = histogram("x", [0, 0, 0, 200]);
        assert_eq!(slowest(&beyond, "x"), Some(0.032));
    }

    #[test]
    fn what_is_outside_of_the_bounds_is_named_with_its_remedy() {
        let member = |round_trip, sync, commit| Measured {
            endpoint: "m".into(),
            round_trip: Some(round_trip),
            sync: Some(sync),
            commit: Some(commit),
        };
        for (member, says) in [
            (member(0.1, 0.010, 0.025), vec![]),
            (member(0.1504, 0.001, 0.001), vec!["--heartbeat-interval=151 --election-timeout=1510"]),
            (member(0.001, 0.011, 0.001), vec!["m: the log's syncs take 11 ms"]),
            (member(0.001, 0.001, 0.1), vec!["m: the database's commits take 100 ms"]),
        ] {
            let advice = advise(&[member]);
            assert_eq!(advice.len(), says.len(), "{advice:?}");
            assert!(advice.iter().zip(says).all(|(advice, says)| advice.contains(says)), "{advice:?}");
        }
    }
}
