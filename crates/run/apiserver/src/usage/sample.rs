//! What a node agent says is used, and what that is in a second.
//!
//! What enters is the text of `/metrics/resource`; two of them make usages over the time between them.

use std::collections::BTreeMap;

/// The namespace, pod and name of a container.
pub(super) type ContainerId = (String, String, String);

/// What was used up to one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Counted {
    /// Seconds of one processor.
    cpu: Option<f64>,
    /// Bytes.
    memory: Option<f64>,
    /// Milliseconds since 1970.
    at: i64,
}

/// What one agent said at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Scrape {
    pub(super) node: Counted,
    pub(super) containers: BTreeMap<ContainerId, Counted>,
}

/// What is used between two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    /// Billionths of a processor.
    pub(super) cpu: u64,
    /// Bytes, at the end.
    pub(super) memory: u64,
    /// The end, in milliseconds since 1970.
    pub(super) at: i64,
    /// Milliseconds between both.
    pub(super) window: i64,
}

impl Scrape {
    /// Reads the text; samples that do not say when they were taken were taken `now`.
    pub(super) fn read(text: &str, now: i64) -> Self {
        let mut scrape = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some(sample) = Line::read(line) else { continue };
            let at = sample.at.unwrap_or(now);
            match sample.name {
                "node_cpu_usage_seconds_total" => {
                    scrape.node = Counted { cpu: Some(sample.value), at, ..scrape.node };
                }
                "node_memory_working_set_bytes" => scrape.node.memory = Some(sample.value),
                "container_cpu_usage_seconds_total" => {
                    let Some(counted) = scrape.container(&sample) else { continue };
                    *counted = Counted { cpu: Some(sample.value), at, ..*counted };
                }
                "container_memory_working_set_bytes" => {
                    let Some(counted) = scrape.container(&sample) else { continue };
                    counted.memory = Some(sample.value);
                }
                _ => {}
            }
        }
        scrape
    }

    fn container(&mut self, line: &Line<'_>) -> Option<&mut Counted> {
        let label = |name| line.label(name).map(str::to_owned);
        let id = (label("namespace")?, label("pod")?, label("container")?);
        Some(self.containers.entry(id).or_default())
    }
}

impl Counted {
    /// What is used since `before`; none where it began anew, or where a part is not known.
    pub(super) fn since(&self, before: &Self) -> Option<Usage> {
        let (from, to) = (before.cpu?, self.cpu?);
        let window = self.at - before.at;
        if window <= 0 || to < from {
            return None;
        }
        let cpu = (to - from) * 1e12 / window as f64;
        Some(Usage { cpu: cpu.round() as u64, memory: self.memory? as u64, at: self.at, window })
    }
}

/// One sample: `name{label="value",…} value [time]`.
struct Line<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
    at: Option<i64>,
}

impl<'a> Line<'a> {
    fn read(line: &'a str) -> Option<Self> {
        let (series, rest) = match line.rfind('}') {
            Some(end) => (&line[..end], &line[end + 1..]),
            None => line.split_once(' ')?,
        };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let mut words = rest.split_whitespace();
        let value = words.next()?.parse().ok()?;
        Some(Self { name, labels, value, at: words.next().and_then(|word| word.parse().ok()) })
    }

    /// Values of these labels have neither quotes nor backslashes: they are names.
    fn label(&self, name: &str) -> Option<&'a str> {
        let of = |label: &'a str| label.trim().strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"');
        self.labels.split(',').find_map(of)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(cpu: f64, memory: u64, seconds: i64) -> Scrape {
        let at = seconds * 1000;
        let labels = "{container=\"c\",namespace=\"ns\",pod=\"p\"}";
        let text = format!(
            "# TYPE node_cpu_usage_seconds_total counter\nnode_cpu_usage_seconds_total {} {at}\n\
             node_memory_working_set_bytes 4096 {at}\ncontainer_cpu_usage_seconds_total{labels} {cpu} {at}\n\
             container_memory_working_set_bytes{labels} {memory} {at}\nscrape_error 0\n",
            cpu * 2.0
        );
        Scrape::read(&text, 77)
    }

    #[test]
    fn two_scrapes_make_a_usage() {
        let (before, after) = (scrape(10.0, 100, 1000), scrape(13.75, 300, 1015));
        assert_eq!(
            after.node.since(&before.node),
            Some(Usage { cpu: 500_000_000, memory: 4096, at: 1_015_000, window: 15_000 })
        );
        let id = ("ns".to_owned(), "p".to_owned(), "c".to_owned());
        let of = |scrape: &Scrape| scrape.containers.get(&id).copied().unwrap_or_default();
        assert_eq!(
            of(&after).since(&of(&before)),
            Some(Usage { cpu: 250_000_000, memory: 300, at: 1_015_000, window: 15_000 })
        );
        assert_eq!(of(&before).since(&of(&after)), None, "time does not go back");
        assert_eq!(of(&scrape(1.0, 100, 1020)).since(&of(&after)), None, "it began anew");
        assert_eq!(of(&after).since(&Counted::default()), None, "one is not enough");
        assert_eq!(Scrape::read("node_cpu_usage_seconds_total 1.5\n", 77).node.at, 77);
    }
}
