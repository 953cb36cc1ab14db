//! From lines to instructions.

use std::time::Duration;

use super::lines::{self, Heredoc, Line, wrong};
use crate::error::Result;

/// A parsed Dockerfile.
#[derive(Clone, Debug)]
pub struct Dockerfile {
    /// Instructions in order; the first ones may be ARG, then FROM begins each stage.
    pub steps: Vec<Step>,
    pub(crate) escape: char,
}

/// An instruction and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Line, from 1.
    pub line: usize,
    /// The instruction as it was written, on one line.
    pub text: String,
    /// What it says.
    pub instruction: Instruction,
}

/// What an instruction says, variables not yet replaced.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "named after the instructions and their arguments")]
pub enum Instruction {
    From { image: String, name: Option<String>, platform: Option<String> },
    Arg(Vec<(String, Option<String>)>),
    Env(Vec<(String, String)>),
    Label(Vec<(String, String)>),
    Maintainer(String),
    Run { command: Command, heredocs: Vec<Heredoc> },
    Copy(Copy),
    Workdir(String),
    User(String),
    Expose(String),
    Volume(Vec<String>),
    Entrypoint(Command),
    Cmd(Command),
    Shell(Vec<String>),
    StopSignal(String),
    Healthcheck(Option<Healthcheck>),
}

/// A command for a shell, or a program with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Text for the shell.
    Shell(String),
    /// Program and arguments.
    Exec(Vec<String>),
}

/// COPY or ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Patterns of what to copy.
    pub sources: Vec<String>,
    /// Where to.
    pub destination: String,
    /// Files that stand in the Dockerfile itself.
    pub heredocs: Vec<Heredoc>,
    /// Where the sources are.
    pub from: Origin,
    /// `user[:group]`.
    pub chown: Option<String>,
    /// Octal permissions.
    pub chmod: Option<String>,
    /// Whether archives are unpacked: ADD.
    pub unpack: bool,
}

/// Where COPY finds its sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The build context.
    Context,
    /// A stage or an image.
    Image(String),
}

/// HEALTHCHECK, in Docker's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after the options")]
pub struct Healthcheck {
    pub command: Command,
    pub interval: Duration,
    pub timeout: Duration,
    pub start_period: Duration,
    pub start_interval: Duration,
    pub retries: u32,
}

impl Dockerfile {
    /// Parses the text of a Dockerfile.
    pub fn parse(text: &str) -> Result<Self> {
        let (lines, escape) = lines::split(text)?;
        let steps = lines.into_iter().map(|line| step(line, escape)).collect::<Result<Vec<_>>>()?;
        let is_from = |step: &&Step| matches!(step.instruction, Instruction::From { .. });
        let Some(_) = steps.iter().find(is_from) else {
            return Err(wrong(1, "file with no instructions: it needs a FROM"));
        };
        let allowed =
            |step: &&Step| matches!(step.instruction, Instruction::From { .. } | Instruction::Arg(_));
        if let Some(early) = steps.iter().take_while(|step| !is_from(step)).find(|step| !allowed(step)) {
            return Err(wrong(
                early.line,
                "no build stage in current context: only ARG may stand before FROM",
            ));
        }
        Ok(Self { steps, escape })
    }
}

fn step(line: Line, escape: char) -> Result<Step> {
    let (keyword, rest) = line.text.split_once(char::is_whitespace).unwrap_or((&line.text, ""));
    let (flags, rest) = flags(rest.trim_start());
    let arguments =
        Arguments { line: line.number, escape, keyword: keyword.to_ascii_uppercase(), flags, rest };
    let instruction = arguments.instruction(&line.heredocs)?;
    Ok(Step { line: line.number, text: line.text, instruction })
}

/// Takes `--name=value` and `--name` from the front.
fn flags(mut text: &str) -> (Vec<(&str, Option<&str>)>, &str) {
    let mut flags = Vec::new();
    while let Some(rest) = text.strip_prefix("--") {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let flag = &rest[..end];
        text = rest[end..].trim_start();
        if flag.is_empty() {
            break;
        }
        flags.push(match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag, None),
        });
    }
    (flags, text)
}

struct Arguments<'a> {
    line: usize,
    escape: char,
    keyword: String,
    flags: Vec<(&'a str, Option<&'a str>)>,
    rest: &'a str,
}

impl Arguments<'_> {
    fn instruction(&self, heredocs: &[Heredoc]) -> Result<Instruction> {
        if self.rest.is_empty() && self.keyword != "ENTRYPOINT" && self.keyword != "CMD" {
            return Err(self.wrong(&format!("{} requires at least one argument", self.keyword)));
        }
        self.check_flags()?;
        Ok(match self.keyword.as_str() {
            "FROM" => self.from()?,
            "ARG" => self.arg()?,
            "ENV" => Instruction::Env(self.pairs()?),
            "LABEL" => Instruction::Label(self.pairs()?),
            "MAINTAINER" => Instruction::Maintainer(self.rest.into()),
            "RUN" => Instruction::Run { command: self.command(), heredocs: heredocs.to_vec() },
            "COPY" | "ADD" => Instruction::Copy(self.copy(heredocs)?),
            "WORKDIR" => Instruction::Workdir(self.rest.into()),
            "USER" => Instruction::User(self.rest.into()),
            "EXPOSE" => Instruction::Expose(self.rest.into()),
            "VOLUME" => Instruction::Volume(self.list()),
            "ENTRYPOINT" => Instruction::Entrypoint(self.command()),
            "CMD" => Instruction::Cmd(self.command()),
            "SHELL" => match self.command() {
                Command::Exec(shell) if !shell.is_empty() => Instruction::Shell(shell),
                _ => return Err(self.wrong("SHELL requires the arguments to be in JSON form")),
            },
            "STOPSIGNAL" => Instruction::StopSignal(self.rest.into()),
            "HEALTHCHECK" => self.healthcheck()?,
            "ONBUILD" => {
                return Err(self.wrong("ONBUILD is not supported: write the instruction where it is used"));
            }
            other => return Err(self.wrong(&format!("unknown instruction: {other}"))),
        })
    }

    fn from(&self) -> Result<Instruction> {
        let platform = self.flag("platform").map(str::to_owned);
        let words: Vec<&str> = self.rest.split_whitespace().collect();
        let (image, name) = match words.as_slice() {
            [image] => (image, None),
            [image, keyword, name] if keyword.eq_ignore_ascii_case("as") => {
                (image, Some(name.to_lowercase()))
            }
            _ => return Err(self.wrong("FROM requires either one or three arguments")),
        };
        let valid = |name: &String| {
            name.starts_with(|c: char| c.is_ascii_lowercase())
                && name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.'))
        };
        if let Some(name) = name.as_ref().filter(|name| !valid(name)) {
            return Err(self.wrong(&format!("invalid name for build stage: {name:?}")));
        }
        Ok(Instruction::From { image: (*image).to_owned(), name, platform })
    }

    fn arg(&self) -> Result<Instruction> {
        let words = self.words();
        words
            .into_iter()
            .map(|word| match word.split_once('=') {
                Some(("", _)) => Err(self.wrong("ARG names can not be blank")),
                Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
                None => Ok((word, None)),
            })
            .collect::<Result<_>>()
            .map(Instruction::Arg)
    }

    /// `a=b c="d e"`, or in the old form `a b c d`.
    fn pairs(&self) -> Result<Vec<(String, String)>> {
        let words = self.words();
        if !words.first().is_some_and(|word| word.contains('=')) {
            return match self.rest.split_once(char::is_whitespace) {
                Some((name, value)) => Ok(vec![(name.into(), value.trim_start().into())]),
                None => Err(self.wrong(&format!("{} must have two arguments", self.keyword))),
            };
        }
        let pair = |word: String| match word.split_once('=') {
            Some(("", _)) => Err(self.wrong(&format!("{} names can not be blank", self.keyword))),
            Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
            None => Err(self
                .wrong(&format!("syntax error: can't find = in {word:?}. Must be of the form: name=value"))),
        };
        words.into_iter().map(pair).collect()
    }

    fn copy(&self, heredocs: &[Heredoc]) -> Result<Copy> {
        let mut sources = match self.command() {
            Command::Exec(list) => list,
            Command::Shell(_) => self.words(),
        };
        let destination = sources.pop().filter(|_| !sources.is_empty());
        let Some(destination) = destination else {
            return Err(self.wrong(&format!("{} requires at least two arguments", self.keyword)));
        };
        sources.retain(|source| !heredocs.iter().any(|heredoc| heredoc.marker == *source));
        let unpack = self.keyword == "ADD";
        if let Some(source) = sources.iter().find(|source| unpack && is_remote(source)) {
            return Err(self.wrong(&format!("ADD from {source} is not supported: fetch it in a RUN step")));
        }
        Ok(Copy {
            sources,
            destination,
            heredocs: heredocs.to_vec(),
            from: self.flag("from").map_or(Origin::Context, |name| Origin::Image(name.into())),
            chown: self.flag("chown").map(str::to_owned),
            chmod: self.flag("chmod").map(str::to_owned),
            unpack,
        })
    }

    fn healthcheck(&self) -> Result<Instruction> {
        let (kind, rest) = self.rest.split_once(char::is_whitespace).unwrap_or((self.rest, ""));
        if kind.eq_ignore_ascii_case("none") {
            return Ok(Instruction::Healthcheck(None));
        }
        if !kind.eq_ignore_ascii_case("cmd") || rest.trim().is_empty() {
            return Err(self.wrong("HEALTHCHECK needs NONE, or CMD and a command"));
        }
        let duration = |name| match self.flag(name) {
            Some(text) => {
                parse_duration(text).ok_or_else(|| self.wrong(&format!("invalid duration {text:?}")))
            }
            None => Ok(Duration::ZERO),
        };
        let retries = self.flag("retries").unwrap_or("0");
        Ok(Instruction::Healthcheck(Some(Healthcheck {
            command: command(rest.trim_start()),
            interval: duration("interval")?,
            timeout: duration("timeout")?,
            start_period: duration("start-period")?,
            start_interval: duration("start-interval")?,
            retries: retries.parse().map_err(|_| self.wrong("--retries must be a number"))?,
        })))
    }

    /// A JSON list, or words split at blanks.
    fn list(&self) -> Vec<String> {
        match self.command() {
            Command::Exec(list) => list,
            Command::Shell(_) => self.words(),
        }
    }

    fn command(&self) -> Command {
        command(self.rest)
    }

    /// Words split at blanks outside of quotes; quotes stay for the expansion.
    fn words(&self) -> Vec<String> {
        let mut words = vec![String::new()];
        let mut quote = None;
        let mut letters = self.rest.chars();
        while let Some(c) = letters.next() {
            let word = words.last_mut().expect("it starts with one");
            match quote {
                None if c.is_whitespace() => words.push(String::new()),
                _ if c == self.escape && quote != Some('\'') => {
                    word.push(c);
                    word.extend(letters.next());
                }
                None if matches!(c, '\'' | '"') => {
                    quote = Some(c);
                    word.push(c);
                }
                _ => {
                    if quote == Some(c) {
                        quote = None;
                    }
                    word.push(c);
                }
            }
        }
        words.retain(|word| !word.is_empty());
        words
    }

    fn flag(&self, name: &str) -> Option<&str> {
        self.flags.iter().find(|(flag, _)| *flag == name).map(|(_, value)| value.unwrap_or(""))
    }

    /// Options that change the result are either understood or refused.
    fn check_flags(&self) -> Result<()> {
        let (known, harmless): (&[&str], &[&str]) = match self.keyword.as_str() {
            "FROM" => (&["platform"], &[]),
            "COPY" => (&["from", "chown", "chmod"], &["link"]),
            "ADD" => (&["chown", "chmod"], &["link"]),
            "HEALTHCHECK" => (&["interval", "timeout", "start-period", "start-interval", "retries"], &[]),
            _ => (&[], &[]),
        };
        for (flag, value) in &self.flags {
            let valued = known.contains(flag) && value.is_some_and(|value| !value.is_empty());
            if !valued && !harmless.contains(flag) {
                let reason = if known.contains(flag) { "needs a value" } else { "is not supported" };
                return Err(self.wrong(&format!("{} --{flag} {reason}", self.keyword)));
            }
        }
        Ok(())
    }

    fn wrong(&self, reason: &str) -> crate::error::Error {
        wrong(self.line, reason)
    }
}

/// JSON lists are the exec form; whatever does not parse as one is for the shell, as in docker.
fn command(text: &str) -> Command {
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(list) if text.starts_with('[') => Command::Exec(list),
        _ => Command::Shell(text.into()),
    }
}

fn is_remote(source: &str) -> bool {
    ["http://", "https://", "git@", "git://", "ssh://"].iter().any(|scheme| source.starts_with(scheme))
}

/// Go's durations: `1m30s`, `500ms`, `1.5h`.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = 0.0;
    let mut rest = text;
    if text.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        total += number
            * match &rest[..unit] {
                "ns" => 1e-9,
                "us" | "µs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    Duration::try_from_secs_f64(total).ok()
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
