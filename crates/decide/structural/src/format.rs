//! Formats of text that upstream checks (kube-openapi: `pkg/validation/strfmt`); all others mean nothing.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use regex::Regex;

/// A format with the name that the schema gave it.
#[derive(Clone, Debug)]
pub(crate) struct Format {
    /// As the schema spells it.
    pub(crate) name: String,
    check: Option<fn(&str) -> bool>,
}

impl Format {
    /// The format of a type, unless upstream ignores it.
    pub(crate) fn of(kind: &str, name: &str) -> Option<Format> {
        let check = match kind {
            "integer" if matches!(name, "int32" | "int64") => None,
            "number" if matches!(name, "float" | "double") => None,
            "" | "string" => Some(checker(&name.replace('-', ""))?),
            _ => return None,
        };
        Some(Format { name: name.to_owned(), check })
    }

    /// Whether text is written so.
    pub(crate) fn holds(&self, text: &str) -> bool {
        self.check.is_none_or(|check| check(text))
    }

    /// Whether it says something about text.
    pub(crate) fn is_textual(&self) -> bool {
        self.check.is_some()
    }
}

fn checker(name: &str) -> Option<fn(&str) -> bool> {
    Some(match name {
        "bsonobjectid" => |text| text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "uri" => is_request_uri,
        "email" => is_email,
        "hostname" => is_hostname,
        "ipv4" => |text| ip_without_leading_zeros(text) && text.contains('.'),
        "ipv6" => |text| ip_without_leading_zeros(text) && text.contains(':'),
        "cidr" => is_cidr,
        "mac" => is_mac,
        "uuid" => |text| UUID.is_match(text),
        "uuid3" => |text| UUID3.is_match(text),
        "uuid4" => |text| UUID4.is_match(text),
        "uuid5" => |text| UUID5.is_match(text),
        "isbn" => |text| is_isbn10(text) || is_isbn13(text),
        "isbn10" => is_isbn10,
        "isbn13" => is_isbn13,
        "creditcard" => is_credit_card,
        "ssn" => |text| SSN.is_match(text),
        "hexcolor" => |text| HEX_COLOR.is_match(text),
        "rgbcolor" => |text| RGB_COLOR.is_match(text),
        "byte" => |text| BASE64.is_match(text),
        "password" => |_| true,
        "date" => is_date,
        "duration" => is_duration,
        "datetime" => is_date_time,
        "quantity" => |text| text.parse::<plimsoll_meta::quantity::Quantity>().is_ok(),
        "k8sshortname" => |text| plimsoll_meta::name::is_dns1123_label(text).is_ok(),
        "k8slongname" => |text| plimsoll_meta::name::is_dns1123_subdomain(text).is_ok(),
        _ => return None,
    })
}

macro_rules! pattern {
    ($($name:ident = $text:expr;)*) => {
        $(static $name: LazyLock<Regex> =
            LazyLock::new(|| Regex::new($text).expect("the patterns of this table are tested"));)*
    };
}

pattern! {
    HOSTNAME = r"^([a-zA-Z0-9\p{S}\p{L}]((-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?)|([a-zA-Z0-9\p{S}\p{L}](([a-zA-Z0-9\-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?)(\.)){1,}([a-zA-Z\p{L}]){2,63})$";
    UUID = "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$";
    UUID3 = "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$";
    UUID4 = "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$";
    UUID5 = "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$";
    CREDIT_CARD = r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})$";
    SSN = r"^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$";
    HEX_COLOR = "^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$";
    RGB_COLOR = r"^rgb\(\s*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])\s*,\s*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])\s*,\s*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])\s*\)$";
    BASE64 = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$";
    TIME = r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$";
    WORDY_DURATION = "([0-9]+)\\s*([A-Za-zµ]+)";
    GO_DURATION = r"^[-+]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$";
    MAIL = r#"^[^\s@<>(),:;"\[\]\\]+@[^\s@<>(),:;"\\]+$"#;
}

/// Go: `url.ParseRequestURI`, an absolute URI or an absolute path.
fn is_request_uri(text: &str) -> bool {
    if text.is_empty() || text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) || !valid_escapes(text) {
        return false;
    }
    if text.starts_with('/') || text == "*" {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let mut letters = scheme.bytes();
    let named = letters.next().is_some_and(|first| first.is_ascii_alphabetic())
        && letters.all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    named && authority_holds(rest)
}

fn authority_holds(rest: &str) -> bool {
    let Some(rest) = rest.strip_prefix("//") else { return true };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    if host.contains([' ', '<', '>', '"', '\\', '^', '`', '{', '|', '}']) {
        return false;
    }
    let port = match host.rfind(']') {
        Some(at) => host[at + 1..].strip_prefix(':'),
        None => host.split_once(':').map(|(_, port)| port),
    };
    port.is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

fn valid_escapes(text: &str) -> bool {
    text.split('%').skip(1).all(|part| part.bytes().take_while(u8::is_ascii_hexdigit).take(2).count() == 2)
}

/// Go: `mail.ParseAddress`, a bare address or one in angle brackets behind a name.
fn is_email(text: &str) -> bool {
    let text = text.trim();
    let address = match text.strip_suffix('>') {
        Some(front) => match front.rsplit_once('<') {
            Some((_, address)) => address,
            None => return false,
        },
        None => text,
    };
    MAIL.is_match(address)
        && address
            .split('@')
            .all(|part| !part.starts_with('.') && !part.ends_with('.') && !part.contains(".."))
}

fn is_hostname(text: &str) -> bool {
    HOSTNAME.is_match(text) && text.len() <= 255 && text.split('.').all(|part| part.len() <= 63)
}

/// Upstream tolerates leading zeros in IPv4 addresses.
fn ip_without_leading_zeros(text: &str) -> bool {
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().is_ok();
    }
    let parts: Vec<&str> = text
        .split('.')
        .map(|part| if part.len() > 1 { part.trim_start_matches('0') } else { part })
        .collect();
    let parts: Vec<&str> = parts.into_iter().map(|part| if part.is_empty() { "0" } else { part }).collect();
    !text.split('.').any(str::is_empty) && parts.join(".").parse::<Ipv4Addr>().is_ok()
}

fn is_cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = if address.contains(':') { 128 } else { 32 };
    ip_without_leading_zeros(address)
        && bits.bytes().all(|byte| byte.is_ascii_digit())
        && bits.parse::<u32>().is_ok_and(|bits| bits <= most)
}

/// 6, 8 or 20 bytes, by pairs with `:` or `-` or by fours with dots.
fn is_mac(text: &str) -> bool {
    let hex =
        |part: &str, width: usize| part.len() == width && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let groups = |separator: char, width: usize, counts: [usize; 3]| {
        let parts: Vec<&str> = text.split(separator).collect();
        counts.contains(&parts.len()) && parts.iter().all(|part| hex(part, width))
    };
    groups(':', 2, [6, 8, 20]) || groups('-', 2, [6, 8, 20]) || groups('.', 4, [3, 4, 10])
}

fn without_separators(text: &str) -> Vec<u8> {
    text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'-').collect()
}

fn is_isbn10(text: &str) -> bool {
    let bytes = without_separators(text);
    if bytes.len() != 10 || !bytes[..9].iter().all(u8::is_ascii_digit) {
        return false;
    }
    let last = match bytes[9] {
        b'X' => 10,
        digit if digit.is_ascii_digit() => u32::from(digit - b'0'),
        _ => return false,
    };
    let sum: u32 = bytes[..9].iter().zip(1..).map(|(byte, at)| u32::from(byte - b'0') * at).sum();
    (sum + 10 * last).is_multiple_of(11)
}

fn is_isbn13(text: &str) -> bool {
    let bytes = without_separators(text);
    if bytes.len() != 13 || !bytes.iter().all(u8::is_ascii_digit) {
        return false;
    }
    let sum: u32 = bytes[..12]
        .iter()
        .zip([1, 3].into_iter().cycle())
        .map(|(byte, by)| u32::from(byte - b'0') * by)
        .sum();
    u32::from(bytes[12] - b'0') == (10 - sum % 10) % 10
}

/// A number of a known issuer whose Luhn sum is right.
fn is_credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(at, byte)| match (u32::from(byte - b'0'), at % 2) {
            (digit, 0) => digit,
            (digit, _) if digit * 2 > 9 => digit * 2 - 9,
            (digit, _) => digit * 2,
        })
        .sum();
    CREDIT_CARD.is_match(&digits) && sum.is_multiple_of(10)
}

fn is_date(text: &str) -> bool {
    text.len() == 10 && jiff::civil::Date::strptime("%Y-%m-%d", text).is_ok()
}

fn is_date_time(text: &str) -> bool {
    let lower = text.to_lowercase();
    let mut parts = lower.split('t');
    let (Some(date), Some(time)) = (parts.next(), parts.next()) else { return false };
    let Some(found) = TIME.captures(time) else { return false };
    is_date(date) && &found[1] <= "23" && &found[2] <= "59" && &found[3] <= "59"
}

/// As Go writes durations, or any numbers each followed by a unit (`22 ns`, `3 weeks`).
fn is_duration(text: &str) -> bool {
    const UNITS: [(&[&str], &str); 8] = [
        (&["ns"], "nano"),
        (&["us", "µs"], "micro"),
        (&["ms"], "milli"),
        (&["s"], "sec"),
        (&["m"], "min"),
        (&["h", "hr"], "hour"),
        (&["d"], "day"),
        (&["w", "wk"], "week"),
    ];
    GO_DURATION.is_match(text)
        || WORDY_DURATION.captures_iter(text).any(|found| {
            let unit = found[2].to_lowercase();
            UNITS.iter().any(|(exact, prefix)| exact.contains(&unit.as_str()) || unit.starts_with(prefix))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_formats() {
        for (name, good, bad) in [
            ("bsonobjectid", "507f1f77bcf86cd799439011", "507f1f77bcf86cd79943901"),
            ("uri", "http://foo.bar/baz?x=%20", "foo.bar"),
            ("email", "joe@example.com", "joe@"),
            ("hostname", "a.example.com", "-a"),
            ("ipv4", "010.1.1.1", "300.1.1.1"),
            ("ipv6", "fe80::1", "1.1.1.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "01:23:45:67:89:ab", "01:23:45:67:89"),
            ("uuid", "123E4567-e89b-12d3-a456-426614174000", "123e4567"),
            ("uuid3", "6fa459ea-ee8a-3ca4-894e-db77e160355e", "6fa459ea-ee8a-4ca4-894e-db77e160355e"),
            ("uuid4", "6fa459ea-ee8a-4ca4-894e-db77e160355e", "6fa459ea-ee8a-3ca4-894e-db77e160355e"),
            ("uuid5", "886313e1-3b8a-5372-9b90-0c9aee199e5d", "886313e1-3b8a-4372-9b90-0c9aee199e5d"),
            ("isbn", "978-0321751041", "978-0321751040"),
            ("isbn10", "0321751043", "0321751044"),
            ("isbn13", "978 0321751041", "0321751043"),
            ("creditcard", "4012 8888 8888 1881", "4012 8888 8888 1882"),
            ("ssn", "123-45-6789", "123-45"),
            ("hexcolor", "#FFFFFF", "#FFFFF"),
            ("rgbcolor", "rgb(255,255,2)", "rgb(256,1,1)"),
            ("byte", "YWJj", "YWJ"),
            ("date", "2024-02-29", "2023-02-29"),
            ("duration", "22 ns", "soon"),
            ("duration", "1h5m", "1"),
            ("datetime", "2014-12-15T19:30:20.000Z", "2014-12-15T24:30:20Z"),
            ("date-time", "2014-12-15T19:30:20+01:00", "2014-12-15"),
            ("quantity", "10Gi", "ten"),
            ("k8s-short-name", "a-1", "a.b"),
            ("k8s-long-name", "a.b", "a_b"),
        ] {
            let format = Format::of("string", name).expect(name);
            assert!(format.holds(good), "{name} {good}");
            assert!(!format.holds(bad), "{name} {bad}");
        }
    }

    #[test]
    fn other_formats_mean_nothing() {
        for (kind, name) in [("string", "color"), ("integer", "date"), ("object", "date"), ("string", "")] {
            assert!(Format::of(kind, name).is_none(), "{kind} {name}");
        }
        assert!(!Format::of("integer", "int32").expect("known").is_textual());
    }
}
