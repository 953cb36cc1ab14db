//! Values of annotations, in nginx's notations.

use std::time::Duration;

use ipnet::IpNet;

/// A size: bytes, or with `k`, `m` or `g` at the end.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.as_bytes().last().map(u8::to_ascii_lowercase) {
        Some(b'k') => (&text[..text.len() - 1], 1 << 10),
        Some(b'm') => (&text[..text.len() - 1], 1 << 20),
        Some(b'g') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let amount = digits.parse::<u64>().ok().and_then(|amount| amount.checked_mul(factor));
    amount.ok_or_else(|| "must be a size in bytes, or with k, m or g".to_owned())
}

/// Whole seconds, with or without `s`.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let digits = text.strip_suffix('s').unwrap_or(text);
    let seconds = digits.parse::<u32>().ok().filter(|seconds| *seconds > 0);
    let seconds = seconds.ok_or_else(|| "must be a number of seconds above zero".to_owned())?;
    Ok(Duration::from_secs(seconds.into()))
}

/// A word for yes or no, as Go's `ParseBool` reads it.
pub(crate) fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("must be true or false".to_owned()),
    }
}

/// A whole number.
pub(crate) fn number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| "must be a whole number, zero or more".to_owned())
}

/// Ranges of addresses, or single ones, with commas between.
pub(crate) fn ranges(text: &str) -> Result<Vec<IpNet>, String> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let ranges: Result<Vec<IpNet>, String> = parts.map(range).collect();
    match ranges {
        Ok(ranges) if ranges.is_empty() => Err("must name at least one range".to_owned()),
        other => other,
    }
}

fn range(text: &str) -> Result<IpNet, String> {
    let single = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
    text.parse::<IpNet>().ok().or_else(single).ok_or_else(|| format!("{text:?} is no range of addresses"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notations_of_nginx() {
        let sizes = [
            ("8m", Some(8 << 20)),
            ("1K", Some(1024)),
            ("2g", Some(2 << 30)),
            ("0", Some(0)),
            ("17", Some(17)),
            ("m", None),
            ("-1", None),
            ("99999999999999999999", None),
            ("18446744073709551615g", None),
            ("", None),
        ];
        for (text, expected) in sizes {
            assert_eq!(size(text).ok(), expected, "{text}");
        }
        let times = [("60", Some(60)), ("5s", Some(5)), ("0", None), ("1h", None), ("", None)];
        for (text, expected) in times {
            assert_eq!(seconds(text).ok(), expected.map(Duration::from_secs), "{text}");
        }
        for (text, count) in
            [("10.0.0.0/8, 1.2.3.4,fd00::/8", Some(3)), ("10.0.0.0/33", None), (" ", None), ("x", None)]
        {
            assert_eq!(ranges(text).ok().map(|ranges| ranges.len()), count, "{text}");
        }
        assert_eq!((switch("True"), switch("0"), switch("yes").is_err()), (Ok(true), Ok(false), true));
    }
}
