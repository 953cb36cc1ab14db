//! The notation of schedules: five fields, or a word such as `@daily`.

/// A field: its name, its range and the words that stand for numbers.
struct Field {
    low: u32,
    high: u32,
    words: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const FIELDS: [Field; 5] = [
    Field { low: 0, high: 59, words: &[] },
    Field { low: 0, high: 23, words: &[] },
    Field { low: 1, high: 31, words: &[] },
    Field { low: 1, high: 12, words: MONTHS },
    Field { low: 0, high: 6, words: DAYS },
];

const SHORTHANDS: [&str; 7] =
    ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// Tells what is wrong with a schedule, in the words of the library that upstream uses.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    let mut line = schedule;
    if line.starts_with("TZ=") || line.starts_with("CRON_TZ=") {
        line = line.split_once(' ').map_or("", |(_, rest)| rest.trim());
    }
    if line.is_empty() {
        return Err("empty spec string".to_owned());
    }
    if line.starts_with('@') {
        return check_shorthand(line);
    }
    let fields: Vec<&str> = line.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}: [{}]", fields.len(), fields.join(" ")));
    }
    fields
        .iter()
        .zip(&FIELDS)
        .try_for_each(|(text, field)| text.split(',').try_for_each(|range| field.check(range)))
}

fn check_shorthand(line: &str) -> Result<(), String> {
    if SHORTHANDS.contains(&line) {
        return Ok(());
    }
    match line.strip_prefix("@every ") {
        Some(duration) => plimsoll_meta::duration::parse(duration)
            .map(drop)
            .map_err(|error| format!("failed to parse duration {line}: {error}")),
        None => Err(format!("unrecognized descriptor: {line}")),
    }
}

impl Field {
    /// `*`, `5`, `1-5`, each with `/2` perhaps.
    fn check(&self, text: &str) -> Result<(), String> {
        let parts: Vec<&str> = text.split('/').collect();
        let bounds: Vec<&str> = parts[0].split('-').collect();
        let is_all = matches!(bounds[0], "*" | "?");
        let (start, end) = match bounds[..] {
            _ if is_all => (self.low, self.high),
            [one] => (self.number(one)?, self.number(one)?),
            [start, end] => (self.number(start)?, self.number(end)?),
            _ => return Err(format!("too many hyphens: {text}")),
        };
        let (step, end) = match parts[..] {
            [_] => (1, end),
            // A start with a step and no end goes on to the last.
            [_, step] => (number(step)?, if bounds.len() == 1 { self.high } else { end }),
            _ => return Err(format!("too many slashes: {text}")),
        };
        match () {
            () if start < self.low => {
                Err(format!("beginning of range ({start}) below minimum ({}): {text}", self.low))
            }
            () if end > self.high => {
                Err(format!("end of range ({end}) above maximum ({}): {text}", self.high))
            }
            () if start > end => {
                Err(format!("beginning of range ({start}) beyond end of range ({end}): {text}"))
            }
            () if step == 0 => Err(format!("step of range should be a positive number: {text}")),
            () => Ok(()),
        }
    }

    fn number(&self, text: &str) -> Result<u32, String> {
        match self.words.iter().position(|word| text.eq_ignore_ascii_case(word)) {
            Some(at) => Ok(u32::try_from(at).unwrap_or(0) + self.low),
            None => number(text),
        }
    }
}

fn number(text: &str) -> Result<u32, String> {
    match text.parse::<i64>() {
        Ok(number) if number < 0 => Err(format!("negative number ({number}) not allowed: {text}")),
        Ok(number) => Ok(u32::try_from(number).unwrap_or(u32::MAX)),
        Err(_) => {
            Err(format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_judged() {
        for good in [
            "*/5 * * * *",
            "0 0 1 1 *",
            "@daily",
            "@every 1h30m",
            "0-10/2,30 1 ? jan-mar mon",
            "5/10 * * * *",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, message) in [
            ("", "empty spec string"),
            ("* * *", "expected exactly 5 fields, found 3: [* * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("@never", "unrecognized descriptor: @never"),
        ] {
            assert_eq!(check(bad), Err(message.to_owned()), "{bad}");
        }
    }
}
