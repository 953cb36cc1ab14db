//! What somebody wants of the node's own logs (`/logs/?query=…`; kubelet: kubelet_server_journal.go, v1.37).

use jiff::Timestamp;
use serde_json::json;

/// Lines that can be asked for at most.
const MOST_LINES: i64 = 100_000;
/// Letters that a service's name has at most, and services that can be asked for at once.
const LONGEST_NAME: usize = 256;
const MOST_SERVICES: usize = 4;

/// A question about logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Services by name.
    pub services: Vec<String>,
    /// Files below the folder of logs.
    pub files: Vec<String>,
    /// Which lines of services.
    pub options: Options,
}

/// Which lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    tail: Option<i64>,
    boot: Option<i64>,
    pattern: String,
}

impl Query {
    /// Reads it from the decoded values of a URL's query; nothing where nothing is asked.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn parse(values: &[(String, String)]) -> Result<Option<Self>, String> {
        let mut wrong = Vec::new();
        let mut query = Self::default();
        let asked: Vec<&String> =
            values.iter().filter(|(name, _)| name == "query").map(|(_, value)| value).collect();
        for one in &asked {
            // A slash hints at a file.
            if one.contains(['/', '\\']) {
                query.files.push((*one).clone());
            } else if !one.trim().is_empty() {
                query.services.push((*one).clone());
            }
        }
        if !asked.is_empty() && query.files.is_empty() && query.services.is_empty() {
            wrong.push(invalid("query", &json!(asked), "query cannot be empty"));
        }
        let value = |name: &str| {
            let found = values.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
            found.filter(|value| !value.is_empty())
        };
        let options = &mut query.options;
        for (name, place) in [("sinceTime", &mut options.since), ("untilTime", &mut options.until)] {
            match value(name).map(|text| (text, text.parse())) {
                Some((_, Ok(time))) => *place = Some(time),
                Some((text, Err(_))) => wrong.push(invalid(name, &json!(text), "invalid time format")),
                None => {}
            }
        }
        for (name, place) in [("boot", &mut options.boot), ("tailLines", &mut options.tail)] {
            match value(name).map(|text| (text, text.parse())) {
                Some((_, Ok(number))) => *place = Some(number),
                Some((text, Err(_))) => {
                    let why = format!("strconv.Atoi: parsing {text:?}: invalid syntax");
                    wrong.push(invalid(name, &json!(text), &why));
                }
                None => {}
            }
        }
        value("pattern").unwrap_or_default().clone_into(&mut options.pattern);
        done(wrong)?;
        Ok(Some(query).filter(|query| *query != Self::default()))
    }

    /// Checks that it makes sense. Whether a file is there is not known here.
    ///
    /// # Errors
    /// What does not.
    pub fn check(&self) -> Result<(), String> {
        let mut wrong = Vec::new();
        for service in &self.services {
            if let Some(why) = unsafe_name(service) {
                wrong.push(invalid("query", &json!(service), &why));
            }
        }
        if self.services.len() > MOST_SERVICES {
            let count = self.services.len();
            wrong.push(format!("query: Too many: {count}: must have at most {MOST_SERVICES} items"));
        }
        match (self.files.len(), self.services.len()) {
            (0, 0) => wrong.push("query: Required value: cannot be empty with options".into()),
            (1.., 1..) => {
                let both = format!("[{}], [{}]", self.files.join(" "), self.services.join(" "));
                wrong.push(invalid("query", &json!(both), "cannot specify a file and service"));
            }
            (2.., _) => {
                wrong.push(invalid("query", &json!(self.files), "cannot specify more than one file"));
            }
            (1, _) if self.options != Options::default() => {
                wrong.push(invalid("query", &json!(self.files), "cannot specify file with options"));
            }
            _ => {}
        }
        wrong.extend(self.options.problems());
        done(wrong)
    }
}

impl Options {
    fn problems(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since > until
        {
            wrong.push(invalid("untilTime", &json!(until.to_string()), "must be after `sinceTime`"));
        }
        if let Some(boot) = self.boot.filter(|boot| *boot > 0) {
            wrong.push(invalid("boot", &json!(boot), "must be less than 1"));
        }
        if let Some(tail) = self.tail.filter(|tail| !(0..=MOST_LINES).contains(tail)) {
            let why = format!("must be between 0 and {MOST_LINES}, inclusive");
            wrong.push(invalid("tailLines", &json!(tail), &why));
        }
        wrong
    }

    /// The arguments of `journalctl` for the lines of services.
    #[must_use]
    pub fn arguments(&self, services: &[String]) -> Vec<String> {
        let mut all: Vec<String> = ["--utc", "--no-pager", "--output=short-precise"].map(String::from).into();
        let time = |time: Timestamp| time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string();
        all.extend(self.since.map(|since| format!("--since={}", time(since))));
        all.extend(self.until.map(|until| format!("--until={}", time(until))));
        if let Some(tail) = self.tail {
            all.extend(["--pager-end".to_owned(), format!("--lines={tail}")]);
        }
        all.extend(services.iter().map(|service| format!("--unit={service}")));
        if !self.pattern.is_empty() {
            all.push(format!("--grep={}", self.pattern));
        }
        if let Some(boot) = self.boot {
            all.extend(["--boot".to_owned(), boot.to_string()]);
        }
        all
    }
}

/// Where the log of a service may be that does not use the journal.
#[must_use]
pub fn places(service: &str) -> [String; 3] {
    [service.to_owned(), format!("{service}.log"), format!("{service}/{service}.log")]
}

fn unsafe_name(name: &str) -> Option<String> {
    if name.len() > LONGEST_NAME {
        return Some(format!("length must be less than {LONGEST_NAME}"));
    }
    let is_safe = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '@');
    (!name.chars().all(is_safe)).then(|| "input contains unsupported characters".to_owned())
}

fn invalid(field: &str, value: &serde_json::Value, why: &str) -> String {
    format!("{field}: Invalid value: {value}: {why}")
}

fn done(wrong: Vec<String>) -> Result<(), String> {
    match wrong.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        all => Err(format!("[{}]", all.join(", "))),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn values(text: &str) -> Vec<(String, String)> {
        let pairs = text.split('&').filter(|it| !it.is_empty());
        pairs
            .map(|it| it.split_once('=').unwrap())
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    #[test]
    fn what_is_asked() {
        let cases = [
            ("query= ", "query: Invalid value: [\" \"]: query cannot be empty"),
            ("query=a&sinceTime=x", "sinceTime: Invalid value: \"x\": invalid time format"),
            (
                "query=a&tailLines=x",
                "tailLines: Invalid value: \"x\": strconv.Atoi: parsing \"x\": invalid syntax",
            ),
            ("tailLines=5", "query: Required value: cannot be empty with options"),
            ("query=a;b", "query: Invalid value: \"a;b\": input contains unsupported characters"),
            ("query=/a&query=b", "query: Invalid value: \"[/a], [b]\": cannot specify a file and service"),
            ("query=/a&query=/b", "query: Invalid value: [\"/a\",\"/b\"]: cannot specify more than one file"),
            ("query=/a&boot=0", "query: Invalid value: [\"/a\"]: cannot specify file with options"),
            ("query=a&boot=1", "boot: Invalid value: 1: must be less than 1"),
            ("query=a&tailLines=-1", "tailLines: Invalid value: -1: must be between 0 and 100000, inclusive"),
            ("query=a&query=b&query=c&query=d&query=e", "query: Too many: 5: must have at most 4 items"),
        ];
        for (text, expected) in cases {
            let found = Query::parse(&values(text)).and_then(|query| query.unwrap().check());
            assert_eq!(found.unwrap_err(), expected, "{text}");
        }
        assert_eq!(Query::parse(&values("other=1")), Ok(None));
        assert_eq!(Query::parse(&values("query=/foo.log")).unwrap().unwrap().check(), Ok(()));
    }

    #[test]
    fn the_journal_is_asked_for_the_same_lines() {
        let text = "query=a&sinceTime=2026-01-02T03:04:05Z&untilTime=2026-01-02T03:04:06Z&tailLines=7&pattern=x y&boot=-1";
        let query = Query::parse(&values(text)).unwrap().unwrap();
        query.check().unwrap();
        assert_eq!(
            query.options.arguments(&query.services)[3..],
            [
                "--since=2026-01-02 03:04:05 UTC",
                "--until=2026-01-02 03:04:06 UTC",
                "--pager-end",
                "--lines=7",
                "--unit=a",
                "--grep=x y",
                "--boot",
                "-1",
            ]
        );
        assert_eq!(places("s"), ["s", "s.log", "s/s.log"]);
    }
}
