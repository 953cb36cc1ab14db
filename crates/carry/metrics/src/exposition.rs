//! The text of `/metrics`: OpenMetrics for those who ask for it, else Prometheus' own format as its Go library
//! writes it, which upstream uses.

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;

const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Counters whose names upstream gave before counters had to end with `_total`.
const NAMELESS: [&str; 16] = [
    "authentication_attempts",
    "authenticated_user_requests",
    "apiserver_admission_webhook_fail_open_count",
    "apiserver_admission_webhook_rejection_count",
    "kubelet_container_aligned_compute_resources_count",
    "kubelet_container_aligned_compute_resources_failure_count",
    "kubelet_evictions",
    "kubelet_pod_resources_endpoint_errors_get",
    "kubelet_pod_resources_endpoint_errors_get_allocatable",
    "kubelet_pod_resources_endpoint_errors_list",
    "kubelet_pod_resources_endpoint_requests_get",
    "kubelet_pod_resources_endpoint_requests_get_allocatable",
    "kubelet_pod_resources_endpoint_requests_list",
    "kubelet_preemptions",
    "nginx_ingress_controller_requests",
    "nginx_ingress_controller_success",
];

/// All registries as one text, and its media type.
///
/// # Panics
/// Never: what the library writes to is memory.
#[must_use]
pub fn write(registries: &[&Registry], accept: &str) -> (&'static str, String) {
    let mut text = String::new();
    for registry in registries {
        encode_registry(&mut text, registry).expect("writing to memory does not fail");
    }
    if accept.contains("application/openmetrics-text") {
        encode_eof(&mut text).expect("writing to memory does not fail");
        return (OPEN, text);
    }
    (PLAIN, plain(&text))
}

/// OpenMetrics says the type of `x_total` of `x`; Prometheus' format says it of `x_total`, and has no units.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let counters: Vec<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    for line in text.lines().filter(|line| !line.starts_with("# UNIT ")) {
        let head = ["# HELP ", "# TYPE "].into_iter().find_map(|head| Some((head, line.strip_prefix(head)?)));
        match head {
            Some((head, rest)) => {
                let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let total = counters.contains(&name) && !NAMELESS.contains(&name);
                let total = if total { "_total" } else { "" };
                // The library ends what it is given with a full stop.
                let rest = if head == "# HELP " { rest.strip_suffix('.').unwrap_or(rest) } else { rest };
                out.push_str(&format!("{head}{name}{total} {rest}\n"));
            }
            None => sample(line, &mut out),
        }
    }
    out
}

/// A line with a value, its numbers as Go writes them.
fn sample(line: &str, out: &mut String) {
    let (series, value) = line.rsplit_once(' ').unwrap_or((line, ""));
    let end = series.find('{').unwrap_or(series.len());
    let (name, labels) = series.split_at(end);
    let short = name.strip_suffix("_total").filter(|name| NAMELESS.contains(name));
    out.push_str(short.unwrap_or(name));
    // The library writes the bound before the labels of the series, Go behind them.
    let mut names = labels.match_indices("le=\"").map(|(at, _)| at);
    let bound = names.find(|at| labels[..*at].ends_with(['{', ','])).filter(|_| name.ends_with("_bucket"));
    match bound.and_then(|at| Some((&labels[..at], labels[at + 4..].split_once('"')?))) {
        Some((before, (bound, rest))) => {
            let others = format!("{before}{}", rest.trim_start_matches(','));
            let others = others.trim_start_matches('{').trim_end_matches('}').trim_end_matches(',');
            let comma = if others.is_empty() { "" } else { "," };
            out.push_str(&format!("{{{others}{comma}le=\"{}\"}}", number(bound)));
        }
        None => out.push_str(labels),
    }
    out.push(' ');
    out.push_str(&number(value));
    out.push('\n');
}

/// A float in Go's shortest form: `1`, `0.005`, `1e+06`. What is no float stays.
fn number(text: &str) -> String {
    let float = text.contains(['.', 'e']).then(|| text.parse::<f64>().ok()).flatten();
    let Some(float) = float.filter(|float| float.is_finite()) else { return text.to_owned() };
    let scientific = format!("{float:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => go_exponent(digits, exponent),
        _ => float.to_string(),
    }
}

fn go_exponent(digits: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Histogram;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::family::Family;
    use prometheus_client::metrics::gauge::Gauge;

    #[test]
    fn each_format_names_counters_in_its_own_way() {
        let mut registry = Registry::default();
        let (counter, gauge): (Counter, Gauge) = Default::default();
        counter.inc();
        registry.register("requests", "Requests.", counter);
        registry.register("size_bytes", "Size", gauge);
        let plain = "# HELP requests_total Requests.\n# TYPE requests_total counter\nrequests_total 1\n\
            # HELP size_bytes Size\n# TYPE size_bytes gauge\nsize_bytes 0\n";
        assert_eq!(write(&[&registry], "*/*"), (PLAIN, plain.to_owned()));
        let (media_type, open) = write(&[&registry], "application/openmetrics-text;version=1.0.0");
        assert_eq!(media_type, OPEN);
        assert!(open.contains("# TYPE requests counter\nrequests_total 1\n"), "{open}");
        assert!(open.ends_with("# EOF\n"));
    }

    #[test]
    fn old_names_and_numbers_are_those_of_upstream() {
        let mut registry = Registry::default();
        let attempts: Family<Vec<(String, String)>, Counter> = Family::default();
        attempts.get_or_create(&vec![("result".to_owned(), "a le=\"1.0\"} b".to_owned())]).inc();
        registry.register("authentication_attempts", "Attempts.", attempts);
        let sizes = Histogram::new(&[0.005, 1.0, 1e6]);
        sizes.observe(2_592_000.0);
        registry.register("sizes", "Sizes", sizes);
        for (given, expected) in [
            ("{le=\"1.0\",verb=\"GET\"}", "{verb=\"GET\",le=\"1\"}"),
            ("{role=\"a\",le=\"10.0\",verb=\"{}\"}", "{role=\"a\",verb=\"{}\",le=\"10\"}"),
            ("{role=\"a\",le=\"+Inf\"}", "{role=\"a\",le=\"+Inf\"}"),
        ] {
            let mut bucket = String::new();
            sample(&format!("x_bucket{given} 3"), &mut bucket);
            assert_eq!(bucket, format!("x_bucket{expected} 3\n"));
        }
        let expected = "# HELP authentication_attempts Attempts.\n# TYPE authentication_attempts counter\n\
            authentication_attempts{result=\"a le=\\\"1.0\\\"} b\"} 1\n\
            # HELP sizes Sizes\n# TYPE sizes histogram\nsizes_sum 2.592e+06\nsizes_count 1\n\
            sizes_bucket{le=\"0.005\"} 0\nsizes_bucket{le=\"1\"} 0\nsizes_bucket{le=\"1e+06\"} 0\n\
            sizes_bucket{le=\"+Inf\"} 1\n";
        assert_eq!(write(&[&registry], "").1, expected);
        for (given, written) in
            [("0.0", "0"), ("9.999999999999999e-6", "9.999999999999999e-06"), ("12.5", "12.5"), ("7", "7")]
        {
            assert_eq!(number(given), written);
        }
    }
}
