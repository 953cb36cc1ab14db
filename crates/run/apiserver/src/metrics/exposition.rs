//! The text of `/metrics`: OpenMetrics for those who ask for it, else Prometheus' own format.

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::registry::Registry;

const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All registries as one text, and its media type.
pub(super) fn write(registries: &[&Registry], accept: &str) -> (&'static str, String) {
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
                let total = if counters.contains(&name) { "_total" } else { "" };
                out.push_str(&format!("{head}{name}{total} {rest}\n"));
            }
            None => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;

    #[test]
    fn each_format_names_counters_in_its_own_way() {
        let mut registry = Registry::default();
        let (counter, gauge): (Counter, Gauge) = Default::default();
        counter.inc();
        registry.register("requests", "Requests", counter);
        registry.register("size_bytes", "Size", gauge);
        let plain = "# HELP requests_total Requests.\n# TYPE requests_total counter\nrequests_total 1\n\
            # HELP size_bytes Size.\n# TYPE size_bytes gauge\nsize_bytes 0\n";
        assert_eq!(write(&[&registry], "*/*"), (PLAIN, plain.to_owned()));
        let (media_type, open) = write(&[&registry], "application/openmetrics-text;version=1.0.0");
        assert_eq!(media_type, OPEN);
        assert!(
            open.starts_with("# HELP requests Requests.\n# TYPE requests counter\nrequests_total 1\n"),
            "{open}"
        );
        assert!(open.ends_with("# EOF\n"));
    }
}
