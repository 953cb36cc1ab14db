//! What the URL of a request says.

use percent_encoding::percent_decode_str;

/// The streams that a client asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandStreams {
    /// The client sends input.
    pub stdin: bool,
    /// The client reads output.
    pub stdout: bool,
    /// The client reads errors. With a terminal they are part of the output.
    pub stderr: bool,
    /// The command gets a terminal.
    pub tty: bool,
}

/// Why a query cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A port is missing.
    #[error("query parameter \"port\" is required")]
    NoPort,
    /// A port is not one.
    #[error("unable to parse {0:?} as a port")]
    BadPort(String),
}

impl CommandStreams {
    /// Reads the API server's parameters (`stdin=true`) as well as the kubelet's (`input=1`).
    #[must_use]
    pub fn from_query(query: &str) -> Self {
        let asked = |names: [&str; 2]| {
            pairs(query).any(|(name, value)| names.contains(&&*name) && matches!(&*value, "1" | "true"))
        };
        let tty = asked(["tty", "tty"]);
        Self {
            stdin: asked(["stdin", "input"]),
            stdout: asked(["stdout", "output"]),
            stderr: asked(["stderr", "error"]) && !tty,
            tty,
        }
    }
}

/// The words of the command, in order.
#[must_use]
pub fn command(query: &str) -> Vec<String> {
    pairs(query).filter(|(name, _)| name == "command").map(|(_, value)| value).collect()
}

/// The ports of a port-forward request (`port=80,81&port=82`), which only its WebSocket form names.
///
/// # Errors
/// When a port is missing or not between 1 and 65535.
pub fn ports(query: &str) -> Result<Vec<u16>, QueryError> {
    let values: Vec<_> = pairs(query).filter(|(name, _)| name == "port" || name == "ports").collect();
    let words = values.iter().flat_map(|(_, value)| value.split(','));
    let parse = |word: &str| match word.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(QueryError::BadPort(word.to_owned())),
    };
    let ports: Vec<u16> = words.map(parse).collect::<Result<_, _>>()?;
    if ports.is_empty() { Err(QueryError::NoPort) } else { Ok(ports) }
}

fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(name), decode(value))
    })
}

fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_asked_for_in_two_dialects() {
        let streams = |stdin, stdout, stderr, tty| CommandStreams { stdin, stdout, stderr, tty };
        for (query, expected) in [
            ("stdin=true&stdout=true&stderr=true", streams(true, true, true, false)),
            ("input=1&output=1&error=1&tty=1", streams(true, true, false, true)),
            ("stdin=false&stdout=1&stderr=0", streams(false, true, false, false)),
            ("stdout", streams(false, false, false, false)),
            ("", streams(false, false, false, false)),
        ] {
            assert_eq!(CommandStreams::from_query(query), expected, "{query}");
        }
    }

    #[test]
    fn a_command_is_decoded_word_by_word() {
        let query = "command=sh&command=-c&container=a&command=echo+%22a%26b%22%20%2B&stdout=true";
        assert_eq!(command(query), ["sh", "-c", "echo \"a&b\" +"]);
        assert_eq!(command("command=&command"), ["", ""]);
    }

    #[test]
    fn ports_are_numbers_of_ports() {
        for (query, expected) in [
            ("port=80", Ok(vec![80])),
            ("port=80,8080&ports=65535", Ok(vec![80, 8080, 65535])),
            ("", Err(QueryError::NoPort)),
            ("port=", Err(QueryError::BadPort(String::new()))),
            ("port=0", Err(QueryError::BadPort("0".into()))),
            ("port=80,65536", Err(QueryError::BadPort("65536".into()))),
            ("port=-1", Err(QueryError::BadPort("-1".into()))),
        ] {
            assert_eq!(ports(query), expected, "{query}");
        }
    }
}
