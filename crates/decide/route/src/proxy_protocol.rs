//! The PROXY protocol, versions 1 and 2: a balancer before this server tells whose connection it passes on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const MARK: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// The longest header of version 1, with its line end.
const LONGEST_LINE: usize = 107;

/// More after the addresses of version 2 is refused.
const LONGEST_REST: usize = 4096;

/// What the first bytes of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// Not yet complete.
    Incomplete,
    /// No header, or a broken one.
    Invalid,
    /// A header.
    Complete {
        /// How many bytes it has.
        length: usize,
        /// Whose connection it is; none if the balancer speaks for itself or does not know.
        source: Option<SocketAddr>,
    },
}

/// Reads the header at the beginning of a connection.
pub fn parse(bytes: &[u8]) -> Header {
    let known = bytes.len().min(MARK.len());
    if known > 0 && bytes[..known] == MARK[..known] {
        return binary(bytes);
    }
    const WORD: &[u8] = b"PROXY ";
    let known = bytes.len().min(WORD.len());
    if bytes[..known] == WORD[..known] { line(bytes) } else { Header::Invalid }
}

/// How many bytes to read next after those of an incomplete header, so that nothing behind it is read.
pub fn missing(bytes: &[u8]) -> usize {
    let known = bytes.len();
    match bytes.split_first_chunk::<16>() {
        Some((head, _)) if head.starts_with(&MARK) => {
            (16 + usize::from(u16::from_be_bytes([head[14], head[15]]))).saturating_sub(known).max(1)
        }
        None if known < 12 => 12 - known,
        None if bytes.starts_with(&MARK) => 16 - known,
        _ => 1,
    }
}

fn line(bytes: &[u8]) -> Header {
    let within = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < LONGEST_LINE { Header::Incomplete } else { Header::Invalid };
    };
    let Ok(text) = std::str::from_utf8(&bytes[..end]) else { return Header::Invalid };
    let mut words = text.split(' ').skip(1);
    let source = match words.next() {
        Some("UNKNOWN") => None,
        Some(family @ ("TCP4" | "TCP6")) => match addresses(words.collect(), family == "TCP4") {
            Some(source) => Some(source),
            None => return Header::Invalid,
        },
        _ => return Header::Invalid,
    };
    Header::Complete { length: end + 2, source }
}

fn addresses(words: Vec<&str>, ipv4: bool) -> Option<SocketAddr> {
    let [source, target, source_port, target_port] = words[..] else { return None };
    let (source, target) = (source.parse::<IpAddr>().ok()?, target.parse::<IpAddr>().ok()?);
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u16>().ok())?;
    let (port, _) = (number(source_port)?, number(target_port)?);
    (source.is_ipv4() == ipv4 && target.is_ipv4() == ipv4).then(|| SocketAddr::new(source, port))
}

fn binary(bytes: &[u8]) -> Header {
    let Some((head, rest)) = bytes.split_first_chunk::<16>() else { return Header::Incomplete };
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    if head[12] >> 4 != 2 || length > LONGEST_REST {
        return Header::Invalid;
    }
    let Some(rest) = rest.get(..length) else { return Header::Incomplete };
    let source = match (head[12] & 0xf, head[13]) {
        (0, _) => Some(None),
        (1, 0x11) => ipv4(rest).map(Some),
        (1, 0x21) => ipv6(rest).map(Some),
        // Families that say nothing of an address here.
        (1, _) => Some(None),
        _ => None,
    };
    match source {
        Some(source) => Header::Complete { length: 16 + length, source },
        None => Header::Invalid,
    }
}

fn ipv4(rest: &[u8]) -> Option<SocketAddr> {
    let (block, _) = rest.split_first_chunk::<12>()?;
    let address = Ipv4Addr::new(block[0], block[1], block[2], block[3]);
    Some(SocketAddr::new(address.into(), u16::from_be_bytes([block[8], block[9]])))
}

fn ipv6(rest: &[u8]) -> Option<SocketAddr> {
    let (block, _) = rest.split_first_chunk::<36>()?;
    let (address, _) = block.split_first_chunk::<16>()?;
    Some(SocketAddr::new(Ipv6Addr::from(*address).into(), u16::from_be_bytes([block[32], block[33]])))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = (rest.len() as u16).to_be_bytes();
        [&MARK[..], &[0x20 | command, family], &length, rest].concat()
    }

    #[test]
    fn headers_of_both_versions() {
        let four = [1, 2, 3, 4, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];
        let mut six = [0; 36];
        (six[15], six[33]) = (1, 80);
        let with_more = [&four[..], &[3, 0, 1, 9]].concat();
        let table: Vec<(Vec<u8>, Option<Option<&str>>)> = vec![
            (b"PROXY TCP4 1.2.3.4 10.0.0.1 8080 80\r\n".to_vec(), Some(Some("1.2.3.4:8080"))),
            (b"PROXY TCP6 ::1 ::2 8080 80\r\n".to_vec(), Some(Some("[::1]:8080"))),
            (b"PROXY UNKNOWN\r\n".to_vec(), Some(None)),
            (b"PROXY UNKNOWN ff ff 1 1\r\n".to_vec(), Some(None)),
            (b"PROXY TCP4 ::1 ::2 8080 80\r\n".to_vec(), None),
            (b"PROXY TCP4 1.2.3.4 10.0.0.1 8080\r\n".to_vec(), None),
            (b"PROXY TCP4 1.2.3.4 10.0.0.1 99999 80\r\n".to_vec(), None),
            (b"PROXY TCP4 1.2.3.4 10.0.0.1 +80 80\r\n".to_vec(), None),
            (b"PROXY TCP4 1.2.3.4 10.0.0.1 80 80 80\r\n".to_vec(), None),
            (b"PROXY TCP4  1.2.3.4 10.0.0.1 80 80\r\n".to_vec(), None),
            (b"PROXY TCP4 1.2.3.04 10.0.0.1 80 80\r\n".to_vec(), None),
            (b"PROXY TCP6 ::1%eth0 ::2 80 80\r\n".to_vec(), None),
            (b"PROXY TCP4 1.2.3.\xff 10.0.0.1 80 80\r\n".to_vec(), None),
            (b"PROXY \r\n".to_vec(), None),
            (b"proxy TCP4 1.2.3.4 10.0.0.1 80 80\r\n".to_vec(), None),
            (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), None),
            (b"PROXY TCP5 1.2.3.4 10.0.0.1 80 80\r\n".to_vec(), None),
            ([b"PROXY TCP4 ".to_vec(), vec![b'1'; 200]].concat(), None),
            (b"GET / HTTP/1.1\r\n".to_vec(), None),
            (v2(1, 0x11, &four), Some(Some("1.2.3.4:8080"))),
            (v2(1, 0x11, &with_more), Some(Some("1.2.3.4:8080"))),
            (v2(1, 0x21, &six), Some(Some("[::1]:80"))),
            (v2(0, 0, &[]), Some(None)),
            (v2(1, 0x31, &[0; 216]), Some(None)),
            (v2(1, 0x11, &four[..11]), None),
            (v2(2, 0x11, &four), None),
            (v2(0x10, 0x11, &four), None),
            (v2(1, 0x21, &six[..35]), None),
            (v2(0, 0, &[0; 5000]), None),
        ];
        for (bytes, expected) in table {
            let expected = match expected {
                Some(source) => {
                    let source = source.map(|text| text.parse().unwrap());
                    Header::Complete { length: bytes.len(), source }
                }
                None => Header::Invalid,
            };
            let shown = String::from_utf8_lossy(&bytes).into_owned();
            let longer = [&bytes[..], b"GET"].concat();
            assert_eq!(parse(&longer), expected, "{shown}");
            if matches!(expected, Header::Complete { .. }) {
                let partial = (0..bytes.len()).all(|end| parse(&bytes[..end]) == Header::Incomplete);
                assert!(partial, "{shown}");
                let mut read = 0;
                while read < bytes.len() {
                    read += missing(&bytes[..read]);
                }
                assert_eq!(read, bytes.len(), "{shown}");
            }
        }
    }
}
