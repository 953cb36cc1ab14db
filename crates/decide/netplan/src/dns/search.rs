//! The names that a client's resolver is going to ask for when this one does not exist.
//!
//! With `ndots:5` a pod that wants `example.org` asks first for
//! `example.org.NAMESPACE.svc.cluster.local`, and for three names more before the
//! one it means, each twice. Who knows the client's list can answer the first
//! question with what the last will find.

/// How a client searches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Searching {
    /// Its domains, in their order.
    pub domains: Vec<Box<str>>,
    /// Names with fewer dots are tried in the domains first.
    pub dots: usize,
}

impl Searching {
    /// Of the lines of a `resolv.conf`: domains, and options such as `ndots:5`.
    pub fn new<'a>(
        domains: impl IntoIterator<Item = &'a str>,
        options: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let domain = |text: &str| text.trim_end_matches('.').to_ascii_lowercase().into();
        let dots =
            options.into_iter().filter_map(|option| option.strip_prefix("ndots:")?.parse().ok()).last();
        Self { domains: domains.into_iter().map(domain).collect(), dots: dots.unwrap_or(1).min(15) }
    }

    /// The names that the client asks for after `name`, which must be the first of a search; else none.
    ///
    /// A name of one label is not asked of the world: no client expects an answer, and it may be private.
    pub fn after(&self, name: &str) -> Vec<String> {
        let first = self.domains.first();
        let wanted = first.and_then(|domain| name.strip_suffix(&**domain)?.strip_suffix('.'));
        let Some(wanted) = wanted.filter(|wanted| !wanted.is_empty()) else { return Vec::new() };
        let dots = wanted.matches('.').count();
        if dots >= self.dots {
            return Vec::new();
        }
        let tried = self.domains[1..].iter().map(|domain| format!("{wanted}.{domain}"));
        tried.chain((dots > 0).then(|| wanted.to_owned())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_goes_through_the_domains_to_the_name_itself() {
        let domains = ["default.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example."];
        let searching = |options: &[&'static str]| Searching::new(domains, options.iter().copied());
        let five = searching(&["ndots:5"]);
        for (searching, name, expected) in [
            (
                &five,
                "example.org.default.svc.cluster.local",
                &[
                    "example.org.svc.cluster.local",
                    "example.org.cluster.local",
                    "example.org.corp.example",
                    "example.org",
                ][..],
            ),
            (
                &five,
                "web.default.svc.cluster.local",
                &["web.svc.cluster.local", "web.cluster.local", "web.corp.example"],
            ),
            (&five, "example.org.svc.cluster.local", &[]),
            (&five, "default.svc.cluster.local", &[]),
            (&five, "a.b.c.d.e.f.default.svc.cluster.local", &[]),
            (&searching(&["edns0"]), "example.org.default.svc.cluster.local", &[]),
            (
                &searching(&["ndots:2"]),
                "example.org.default.svc.cluster.local",
                &[
                    "example.org.svc.cluster.local",
                    "example.org.cluster.local",
                    "example.org.corp.example",
                    "example.org",
                ],
            ),
            (&Searching::new([], ["ndots:5"]), "example.org", &[]),
        ] {
            assert_eq!(searching.after(name), expected, "{name}");
        }
    }
}
