//! Query parameters.

use std::num::{IntErrorKind, ParseIntError};

use percent_encoding::percent_decode_str;
use plimsoll_meta::status::Status;

/// The decoded parameters of a request, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: Option<&str>) -> Self {
        let decode = |part: &str| {
            let spaced = part.replace('+', " ");
            percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
        };
        let pairs = text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(k, v)| (decode(k), decode(v)))
                .collect(),
        )
    }

    /// The first value of a parameter; empty when absent.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// Is it there, and neither `false` nor `0`? So upstream reads the flags of its options.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.has(name) && !matches!(self.get(name), text if text == "0" || text.eq_ignore_ascii_case("false"))
    }

    /// A whole number, if given.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        if !self.has(name) {
            return Ok(None);
        }
        let text = self.get(name);
        text.parse().map(Some).map_err(|error| {
            let cause = number_error(&error);
            Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: {cause}"))
        })
    }
}

/// What Go says of a number that cannot be read.
pub(crate) fn number_error(error: &ParseIntError) -> &'static str {
    match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
        _ => "invalid syntax",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse(Some("labelSelector=a%3Db%2Cc&watch=1&command=ls&command=-l&x=a+b"));
        assert_eq!(query.get("labelSelector"), "a=b,c");
        assert!(query.flag("watch") && !query.flag("follow"));
        for (text, set) in
            [("a=true", true), ("a=", true), ("a", true), ("a=False", false), ("a=0", false), ("b=1", false)]
        {
            assert_eq!(Query::parse(Some(text)).flag("a"), set, "{text}");
        }
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["ls", "-l"]);
        assert_eq!(query.get("x"), "a b");
    }
}
