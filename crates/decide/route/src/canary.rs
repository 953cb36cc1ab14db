//! Which requests try the new version of a backend.

use regex::Regex;

/// Who goes to the canary (ingress-nginx: `canary` annotations).
#[derive(Clone, Debug)]
pub struct Canary {
    /// A header's say, if one is named.
    pub header: Option<Header>,
    /// A cookie that says `always` or `never`.
    pub cookie: Option<String>,
    /// How many of `total` other requests.
    pub weight: u32,
    /// Of how many.
    pub total: u32,
    /// Whether clients whose cookie names a pod, of the canary or not, stay there whatever the rest says.
    pub sticky: bool,
}

/// A header that chooses.
#[derive(Clone, Debug)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// What it must say.
    pub value: Value,
}

/// What a header must say for the canary.
#[derive(Clone, Debug)]
pub enum Value {
    /// `always`, or `never` for the opposite.
    Always,
    /// This text.
    Text(String),
    /// What a pattern finds something in.
    Pattern(Regex),
}

impl Canary {
    /// Whether a request goes to the canary: its header says so, else its cookie, else chance. `draw` is any number.
    pub fn takes<'a>(
        &self,
        header: impl Fn(&str) -> Option<&'a str>,
        cookie: impl Fn(&str) -> Option<&'a str>,
        draw: u32,
    ) -> bool {
        let by_header = self.header.as_ref().and_then(|rule| rule.says(header(&rule.name)?));
        let by_cookie = || word(cookie(self.cookie.as_deref()?)?);
        by_header.or_else(by_cookie).unwrap_or(self.total > 0 && draw % self.total < self.weight)
    }
}

impl Header {
    fn says(&self, value: &str) -> Option<bool> {
        match &self.value {
            Value::Always => word(value),
            Value::Text(text) => (value == text).then_some(true),
            Value::Pattern(pattern) => pattern.is_match(value).then_some(true),
        }
    }
}

fn word(value: &str) -> Option<bool> {
    match value {
        "always" => Some(true),
        "never" => Some(false),
        _ => None,
    }
}

/// The value of a cookie among those of `Cookie` headers.
pub fn cookie<'a>(headers: impl IntoIterator<Item = &'a str>, name: &str) -> Option<&'a str> {
    let pairs = headers.into_iter().flat_map(|header| header.split(';'));
    let mut pairs = pairs.filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(known, _)| *known == name).map(|(_, value)| value)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn header_then_cookie_then_chance() {
        let rule = |value| Some(Header { name: "X-Canary".to_owned(), value });
        let text = || Value::Text("blue".to_owned());
        let pattern = || Value::Pattern(Regex::new("^b").unwrap());
        // Header's rule, header, cookie, draw, canary; the weight is 30 of 100.
        let table = [
            (None, None, None, 29, true),
            (None, None, None, 130, false),
            (None, Some("always"), None, 99, false),
            (rule(Value::Always), Some("always"), Some("never"), 99, true),
            (rule(Value::Always), Some("never"), Some("always"), 0, false),
            (rule(Value::Always), Some("other"), Some("always"), 99, true),
            (rule(Value::Always), None, Some("never"), 0, false),
            (rule(text()), Some("blue"), None, 99, true),
            (rule(text()), Some("always"), None, 99, false),
            (rule(text()), Some("never"), None, 0, true),
            (rule(pattern()), Some("black"), None, 99, true),
        ];
        for (index, (header, sent, cookie, draw, expected)) in table.into_iter().enumerate() {
            let canary =
                Canary { header, cookie: Some("c".to_owned()), weight: 30, total: 100, sticky: true };
            assert_eq!(canary.takes(|_| sent, |_| cookie, draw), expected, "row {index}");
        }
    }

    #[test]
    fn cookies_are_pairs() {
        for (headers, expected) in
            [(vec!["a=1; b=2"], Some("2")), (vec!["a=1", "b=x=y"], Some("x=y")), (vec!["bb=1;b"], None)]
        {
            assert_eq!(cookie(headers.clone(), "b"), expected, "{headers:?}");
        }
    }
}
