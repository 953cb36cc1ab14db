//! What network links have carried, from `/proc/<process>/net/dev`.

use std::fs;

/// One link's counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) name: String,
    pub(super) received: Carried,
    pub(super) sent: Carried,
}

/// One direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) bytes: u64,
    pub(super) packets: u64,
    pub(super) errors: u64,
    pub(super) dropped: u64,
}

/// Links that show nothing but what other links show (cAdvisor: ignoredDevicePrefixes).
const IGNORED: [&str; 4] = ["lo", "veth", "docker", "nerdctl"];

/// The links of the machine.
pub(super) fn of_machine() -> Vec<Link> {
    parse(&fs::read_to_string("/proc/self/net/dev").unwrap_or_default())
}

/// The links of a process that has a network of its own.
pub(super) fn of_process(process: i32) -> Option<Vec<Link>> {
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).ok();
    let id = process.to_string();
    if namespace(&id)? == namespace("self")? {
        return None;
    }
    Some(parse(&fs::read_to_string(format!("/proc/{id}/net/dev")).ok()?))
}

fn parse(text: &str) -> Vec<Link> {
    let links = text.lines().filter_map(|line| {
        let (name, numbers) = line.split_once(':')?;
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let carried = |first: usize| {
            let get = |index: usize| numbers.get(first + index).copied().unwrap_or(0);
            Carried { bytes: get(0), packets: get(1), errors: get(2), dropped: get(3) }
        };
        Some(Link { name: name.trim().to_owned(), received: carried(0), sent: carried(8) })
    });
    links.filter(|link| !IGNORED.iter().any(|prefix| link.name.starts_with(prefix))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_have_two_directions() {
        let text = "Inter-|   Receive\n face |bytes\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  \
                    eth0: 10 2 3 4 5 6 7 8 90 11 12 13 13 14 15 16\n veth1: 1 1\n";
        let received = Carried { bytes: 10, packets: 2, errors: 3, dropped: 4 };
        let sent = Carried { bytes: 90, packets: 11, errors: 12, dropped: 13 };
        assert_eq!(parse(text), [Link { name: "eth0".into(), received, sent }]);
    }
}
