//! Host names of listeners and routes together.

/// The more exact one of two host names of which one contains the other; "" is any host, `*.` stands for any labels.
pub(crate) fn intersection<'a>(one: &'a str, other: &'a str) -> Option<&'a str> {
    if contains(one, other) {
        Some(other)
    } else if contains(other, one) {
        Some(one)
    } else {
        None
    }
}

fn contains(outer: &str, inner: &str) -> bool {
    match outer.strip_prefix('*') {
        _ if outer.is_empty() || outer == inner => true,
        Some(suffix) => {
            inner.strip_prefix('*').unwrap_or(inner).len() >= suffix.len() && inner.ends_with(suffix)
        }
        None => false,
    }
}

/// Those of a route that a listener takes: `None` if there is none.
pub(crate) fn shared(listener: &str, route: &[String]) -> Option<Vec<String>> {
    let listener = listener.to_ascii_lowercase();
    if route.is_empty() {
        return Some(vec![listener]);
    }
    let lower = route.iter().map(|host| host.to_ascii_lowercase());
    let mut out: Vec<String> =
        lower.filter_map(|host| intersection(&listener, &host).map(str::to_owned)).collect();
    out.sort();
    out.dedup();
    (!out.is_empty()).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_exact_name_counts() {
        // Listener, route, both.
        let table = [
            ("", "", Some("")),
            ("", "a.com", Some("a.com")),
            ("a.com", "", Some("a.com")),
            ("a.com", "a.com", Some("a.com")),
            ("a.com", "b.com", None),
            ("*.a.com", "x.a.com", Some("x.a.com")),
            ("*.a.com", "y.x.a.com", Some("y.x.a.com")),
            ("*.a.com", "a.com", None),
            ("*.a.com", "xa.com", None),
            ("x.a.com", "*.a.com", Some("x.a.com")),
            ("*.com", "*.a.com", Some("*.a.com")),
            ("*.a.com", "*.com", Some("*.a.com")),
            ("*.a.com", "*.a.com", Some("*.a.com")),
            ("*.a.com", "*.b.com", None),
        ];
        for (listener, route, expected) in table {
            assert_eq!(intersection(listener, route), expected, "{listener} {route}");
        }
        let route = ["X.a.com", "b.com", "*.com"].map(str::to_owned);
        assert_eq!(shared("*.a.com", &route), Some(vec!["*.a.com".to_owned(), "x.a.com".to_owned()]));
        assert_eq!(shared("*.c.org", &route), None);
        assert_eq!(shared("a.com", &[]), Some(vec!["a.com".to_owned()]));
    }
}
