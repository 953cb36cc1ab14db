//! Whether text is a time as Go reads it; enters text, leaves upstream's words for what is wrong.

const SECONDS: &str = "2006-01-02T15:04:05Z07:00";
const MICROS: &str = "2006-01-02T15:04:05.000000Z07:00";

/// A time with any fraction of seconds.
pub(crate) fn check(text: &str) -> Result<(), String> {
    Reader { text, rest: text, layout: SECONDS }.read(false)
}

/// A time with microseconds, all six digits of them.
pub(crate) fn check_micro(text: &str) -> Result<(), String> {
    Reader { text, rest: text, layout: MICROS }.read(true)
}

struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    layout: &'static str,
}

impl Reader<'_> {
    fn read(mut self, micros: bool) -> Result<(), String> {
        let year = self.number("2006", 4)?;
        self.literal("-")?;
        let month = self.ranged("01", 1..=12, "month")?;
        self.literal("-")?;
        let day = self.number("02", 2)?;
        self.literal("T")?;
        self.ranged("15", 0..=23, "hour")?;
        self.literal(":")?;
        self.ranged("04", 0..=59, "minute")?;
        self.literal(":")?;
        self.ranged("05", 0..=59, "second")?;
        if micros {
            self.micros()?
        } else {
            self.fraction()
        }
        self.zone()?;
        if !self.rest.is_empty() {
            return Err(format!("parsing time {:?}: extra text: {:?}", self.text, self.rest));
        }
        if (1..=days(year, month)).contains(&day) { Ok(()) } else { Err(self.out_of_range("day")) }
    }

    fn number(&mut self, element: &str, digits: usize) -> Result<u32, String> {
        let found = self.rest.get(..digits).filter(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
        let number = found.and_then(|part| part.parse().ok()).ok_or_else(|| self.misfit(element))?;
        self.rest = &self.rest[digits..];
        Ok(number)
    }

    fn ranged(
        &mut self,
        element: &str,
        range: std::ops::RangeInclusive<u32>,
        noun: &str,
    ) -> Result<u32, String> {
        let number = self.number(element, 2)?;
        if range.contains(&number) { Ok(number) } else { Err(self.out_of_range(noun)) }
    }

    fn literal(&mut self, wanted: &str) -> Result<(), String> {
        self.rest = self.rest.strip_prefix(wanted).ok_or_else(|| self.misfit(wanted))?;
        Ok(())
    }

    fn micros(&mut self) -> Result<(), String> {
        let fits = self.rest.get(..7).is_some_and(|part| {
            part.starts_with(['.', ',']) && part[1..].bytes().all(|byte| byte.is_ascii_digit())
        });
        if !fits {
            return Err(self.misfit(".000000"));
        }
        self.rest = &self.rest[7..];
        Ok(())
    }

    /// Any number of digits, though the layout has none.
    fn fraction(&mut self) {
        let Some(digits) = self.rest.strip_prefix(['.', ',']) else { return };
        let after = digits.trim_start_matches(|letter: char| letter.is_ascii_digit());
        if after.len() < digits.len() {
            self.rest = after;
        }
    }

    fn zone(&mut self) -> Result<(), String> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(());
        }
        let number = |part: &str| part.parse::<u32>().ok();
        let offset = self
            .rest
            .get(..6)
            .filter(|part| part.starts_with(['+', '-']) && part.as_bytes()[3] == b':')
            .and_then(|part| Some((number(part.get(1..3)?)?, number(part.get(4..6)?)?)));
        let (hours, minutes) = offset.ok_or_else(|| self.misfit("Z07:00"))?;
        if hours > 24 {
            return Err(self.out_of_range("time zone offset hour"));
        }
        if minutes > 60 {
            return Err(self.out_of_range("time zone offset minute"));
        }
        self.rest = &self.rest[6..];
        Ok(())
    }

    fn misfit(&self, element: &str) -> String {
        let (text, layout, rest) = (self.text, self.layout, self.rest);
        format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {element:?}")
    }

    fn out_of_range(&self, noun: &str) -> String {
        format!("parsing time {:?}: {noun} out of range", self.text)
    }
}

fn days(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_go_reads_them() {
        for good in ["2020-02-29T23:59:59Z", "2020-01-01T00:00:00.5+02:00", "2020-01-01T00:00:00,123Z"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, message) in [
            ("", r#" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "2006""#),
            ("v2", r#" as "2006-01-02T15:04:05Z07:00": cannot parse "v2" as "2006""#),
            ("2020-01-01", r#" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T""#),
            ("2020-01-01T00:00:00", r#" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00""#),
            ("2020-01-01T00:00:00Zx", r#": extra text: "x""#),
            ("2020-13-01T00:00:00Z", ": month out of range"),
            ("2021-02-29T00:00:00Z", ": day out of range"),
            ("2021-02-20T24:00:00Z", ": hour out of range"),
        ] {
            assert_eq!(check(bad), Err(format!("parsing time {bad:?}{message}")));
        }
    }

    #[test]
    fn microseconds_have_six_digits() {
        assert_eq!(check_micro("2020-01-01T00:00:00.000001Z"), Ok(()));
        assert_eq!(
            check_micro("2020-01-01T00:00:00Z"),
            Err(concat!(
                "parsing time \"2020-01-01T00:00:00Z\" as \"2006-01-02T15:04:05.000000Z07:00\": ",
                "cannot parse \"Z\" as \".000000\""
            )
            .to_owned())
        );
    }
}
