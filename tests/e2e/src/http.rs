//! The least of HTTP: one GET for each connection.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What a server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// Asks `address` for `path`; gives up after `limit` without a byte.
pub fn get(address: SocketAddr, path: &str, limit: Duration) -> io::Result<Response> {
    let stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    get_from(stream, path)
}

/// Asks the server at the other end of `stream` for `path`.
pub fn get_from(mut stream: impl Read + Write, path: &str) -> io::Result<Response> {
    // Version 1.0: the server closes the connection at the end of the body.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: application/json, */*\r\n\r\n")?;
    let mut text = Vec::new();
    stream.read_to_end(&mut text)?;
    parse(&String::from_utf8_lossy(&text))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP response"))
}

fn parse(text: &str) -> Option<Response> {
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some(Response { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_response_has_status_and_body() {
        let table = [
            ("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Some((200, "ok"))),
            ("HTTP/1.1 404 Not Found\r\n\r\n", Some((404, ""))),
            ("nonsense", None),
        ];
        for (text, expected) in table {
            let expected = expected.map(|(status, body)| Response { status, body: body.to_owned() });
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
