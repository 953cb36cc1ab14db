//! What `wrk` found out.

use std::process::Command;

use anyhow::Context as _;

/// Connections at once.
const CONNECTIONS: &str = "-c64";

/// The figures of one run.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Figures {
    pub(crate) requests: f64,
    pub(crate) rate: f64,
    /// Microseconds, which 99 of 100 answers do not take.
    pub(crate) worst: f64,
    /// Requests without a good answer.
    pub(crate) failed: u64,
    /// Microseconds of the server's processor time for each request.
    pub(crate) cost: f64,
}

impl Figures {
    /// The run in the middle, by its rate.
    pub(crate) fn median(mut runs: Vec<Self>) -> Option<Self> {
        let failed = runs.iter().map(|run| run.failed).sum();
        runs.sort_by(|one, other| one.rate.total_cmp(&other.rate));
        let middle = runs.len() / 2;
        runs.into_iter().nth(middle).map(|run| Self { failed, ..run })
    }
}

/// Asks for so many seconds.
pub(crate) fn ask(url: &str, seconds: u64) -> anyhow::Result<Figures> {
    let duration = format!("-d{seconds}s");
    let output = Command::new("wrk").args(["-t1", CONNECTIONS, &duration, "--latency", url]).output();
    let output = output.context("wrk, which asks, is not installed")?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text).with_context(|| format!("wrk says {text}{}", String::from_utf8_lossy(&output.stderr)))
}

fn parse(text: &str) -> Option<Figures> {
    let after = |start: &str| text.lines().find_map(|line| line.trim().strip_prefix(start)).map(str::trim);
    let total = text.lines().find(|line| line.contains(" requests in "))?;
    let errors = after("Socket errors:").unwrap_or_default().split(|letter: char| !letter.is_ascii_digit());
    let errors: u64 = errors.filter_map(|word| word.parse::<u64>().ok()).sum();
    let bad = after("Non-2xx or 3xx responses:").map_or(Some(0), |count| count.parse::<u64>().ok())?;
    Some(Figures {
        requests: total.split_whitespace().next()?.parse().ok()?,
        rate: after("Requests/sec:")?.parse().ok()?,
        worst: micros(after("99%")?)?,
        failed: errors + bad,
        cost: 0.0,
    })
}

/// `635.00us`, `2.94ms`, `1.20s`.
fn micros(text: &str) -> Option<f64> {
    let unit = text.find(|letter: char| letter.is_ascii_alphabetic())?;
    let times =
        [("us", 1.0), ("ms", 1e3), ("s", 1e6)].into_iter().find(|(name, _)| text[unit..] == **name)?.1;
    Some(text[..unit].parse::<f64>().ok()? * times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_all_figures() {
        let text = "  Latency Distribution\n     50%  635.00us\n     99%    2.94ms\n  \
                    1000 requests in 2.00s, 1.76MB read\n  Socket errors: connect 1, read 2, write 0, timeout 0\n  \
                    Non-2xx or 3xx responses: 4\nRequests/sec:    500.25\nTransfer/sec:      1.0MB\n";
        let expected = Figures { requests: 1000.0, rate: 500.25, worst: 2940.0, failed: 7, cost: 0.0 };
        assert_eq!(parse(text), Some(expected));
        assert_eq!(micros("1.50s"), Some(1.5e6));
        assert_eq!(parse("unable to connect"), None);
    }
}
