//! Reading DNS messages.

/// Longest name on the wire, in bytes (RFC 1035, 2.3.4).
const LONGEST_NAME: usize = 255;
const HEADER: usize = 12;
const OPT: u16 = 41;
const INTERNET: u16 = 1;
const ANY_CLASS: u16 = 255;

/// The types of records that the cluster's zone has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// IPv4 address.
    A,
    /// Name server.
    Ns,
    /// Alias.
    Cname,
    /// Start of a zone.
    Soa,
    /// Name of an address.
    Ptr,
    /// Text.
    Txt,
    /// IPv6 address.
    Aaaa,
    /// Place of a service.
    Srv,
    /// All of them.
    Any,
    /// One that the cluster never has.
    Other(u16),
}

/// Types by the names that people write.
const NAMES: [(&str, u16); 20] = [
    ("A", 1),
    ("NS", 2),
    ("CNAME", 5),
    ("SOA", 6),
    ("PTR", 12),
    ("MX", 15),
    ("TXT", 16),
    ("AAAA", 28),
    ("LOC", 29),
    ("SRV", 33),
    ("NAPTR", 35),
    ("DS", 43),
    ("SSHFP", 44),
    ("DNSKEY", 48),
    ("TLSA", 52),
    ("SVCB", 64),
    ("HTTPS", 65),
    ("ANY", 255),
    ("URI", 256),
    ("CAA", 257),
];

impl Kind {
    /// The type of this name: `AAAA`, or `TYPE28` for any number.
    pub fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_uppercase();
        let known = NAMES.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        known.or_else(|| name.strip_prefix("TYPE")?.parse().ok()).map(Self::from_number)
    }

    /// The name: `AAAA`, or `TYPE9` where there is none.
    pub fn name(self) -> std::borrow::Cow<'static, str> {
        let known = NAMES.iter().find(|(_, number)| *number == self.number());
        known.map_or_else(|| format!("TYPE{}", self.number()).into(), |(name, _)| (*name).into())
    }

    fn from_number(number: u16) -> Self {
        match number {
            1 => Self::A,
            2 => Self::Ns,
            5 => Self::Cname,
            6 => Self::Soa,
            12 => Self::Ptr,
            16 => Self::Txt,
            28 => Self::Aaaa,
            33 => Self::Srv,
            255 => Self::Any,
            other => Self::Other(other),
        }
    }

    /// The number on the wire.
    pub fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Ns => 2,
            Self::Cname => 5,
            Self::Soa => 6,
            Self::Ptr => 12,
            Self::Txt => 16,
            Self::Aaaa => 28,
            Self::Srv => 33,
            Self::Any => 255,
            Self::Other(number) => number,
        }
    }
}

/// How a query ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rcode {
    /// It succeeded, maybe without records.
    NoError,
    /// It could not be read.
    FormatError,
    /// Nobody could be asked.
    ServerFailure,
    /// There is no such name.
    NameError,
    /// The operation is not offered.
    NotImplemented,
    /// The question is none for this server.
    Refused,
    /// The extension's version is not known.
    BadVersion,
}

impl Rcode {
    /// The number; what exceeds four bits needs EDNS.
    pub(super) fn number(self) -> u16 {
        match self {
            Self::NoError => 0,
            Self::FormatError => 1,
            Self::ServerFailure => 2,
            Self::NameError => 3,
            Self::NotImplemented => 4,
            Self::Refused => 5,
            Self::BadVersion => 16,
        }
    }
}

/// What a message asks to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Query,
    Other,
}

/// Why a message is no query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// It is too short, or a reply: answering it could start a loop.
    Unanswerable,
    /// Its header can be read: it gets a refusal.
    Refusable(Header),
}

/// What a refusal repeats of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    id: [u8; 2],
    flags: u8,
}

impl Header {
    /// A reply of nothing but a header.
    pub fn refusal(self, rcode: Rcode) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..2].copy_from_slice(&self.id);
        bytes[2] = 0x80 | (self.flags & 0x79);
        bytes[3] = rcode.number().to_be_bytes()[1];
        bytes
    }
}

/// A name in lower case, as text without the last dot.
#[derive(Clone)]
pub struct QuestionName {
    bytes: [u8; LONGEST_NAME],
    length: usize,
    /// Whether labels contain what cannot be told apart in text.
    odd: bool,
}

impl std::fmt::Debug for QuestionName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?}", self.text())
    }
}

impl QuestionName {
    /// The text; nothing for names that have none.
    pub fn text(&self) -> Option<&str> {
        if self.odd { None } else { std::str::from_utf8(&self.bytes[..self.length]).ok() }
    }

    /// The bytes, dots between labels; an identity also for names without text, unless dots are inside
    /// labels.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn push(&mut self, label: &[u8]) -> Option<()> {
        let dot = usize::from(self.length > 0);
        let end = self.length + dot + label.len();
        let space = self.bytes.get_mut(self.length..end)?;
        if dot == 1 {
            space[0] = b'.';
        }
        for (to, from) in space[dot..].iter_mut().zip(label) {
            self.odd |= !from.is_ascii_graphic() || *from == b'.';
            *to = from.to_ascii_lowercase();
        }
        self.length = end;
        Some(())
    }
}

/// A message that asks one question.
#[derive(Debug, Clone)]
pub struct Query<'a> {
    pub(super) message: &'a [u8],
    /// What is asked for.
    pub name: QuestionName,
    /// Which records.
    pub kind: Kind,
    class: u16,
    pub(super) opcode: Opcode,
    question_end: usize,
    edns: Option<Edns>,
}

#[derive(Debug, Clone, Copy)]
struct Edns {
    payload: u16,
    version: u8,
    dnssec: bool,
}

impl<'a> Query<'a> {
    /// Reads a message.
    pub fn parse(message: &'a [u8]) -> Result<Self, Malformed> {
        let header = message.get(..HEADER).ok_or(Malformed::Unanswerable)?;
        if header[2] & 0x80 != 0 {
            return Err(Malformed::Unanswerable);
        }
        let refusable = Malformed::Refusable(Header { id: [header[0], header[1]], flags: header[2] });
        Self::parse_body(message).ok_or(refusable)
    }

    fn parse_body(message: &'a [u8]) -> Option<Self> {
        let opcode = if message[2] & 0x78 == 0 { Opcode::Query } else { Opcode::Other };
        if word(message, 4)? != 1 {
            return None;
        }
        let (name, end) = question_name(message, HEADER)?;
        let (kind, class) = (Kind::from_number(word(message, end)?), word(message, end + 2)?);
        let question_end = end + 4;
        let others = usize::from(word(message, 6)?) + usize::from(word(message, 8)?);
        let extra = usize::from(word(message, 10)?);
        let edns = find_edns(message, question_end, others + extra)?;
        Some(Self { message, name, kind, class, opcode, question_end, edns })
    }

    /// The whole message.
    pub fn message(&self) -> &'a [u8] {
        self.message
    }

    /// The same question about another name, with the extension that lets long replies come without a second
    /// try. Nothing for what is no name.
    pub fn about(&self, name: &str) -> Option<Vec<u8>> {
        let flags = [self.message[2] & 0x79, self.message[3] & 0x10];
        let mut query = self.message[..2].to_vec();
        query.extend_from_slice(&[flags[0], flags[1], 0, 1, 0, 0, 0, 0, 0, 1]);
        let start = query.len();
        for label in name.split('.').filter(|_| !name.is_empty()) {
            let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
            query.push(length);
            query.extend_from_slice(label.as_bytes());
        }
        query.push(0);
        if query.len() - start > LONGEST_NAME {
            return None;
        }
        query.extend_from_slice(&self.kind.number().to_be_bytes());
        query.extend_from_slice(&self.class.to_be_bytes());
        let signatures = if self.wants_signatures() { 0x80 } else { 0 };
        query.extend_from_slice(&[0, 0, 41, 4, 208, 0, 0, signatures, 0, 0, 0]);
        Some(query)
    }

    /// The identifier that the reply repeats.
    pub fn id(&self) -> u16 {
        u16::from_be_bytes([self.message[0], self.message[1]])
    }

    /// Header flags that a reply repeats: the opcode and "recursion desired".
    pub(super) fn repeated_flags(&self) -> u8 {
        self.message[2] & 0x79
    }

    /// The question as it was asked, to be repeated in the reply.
    pub fn question(&self) -> &'a [u8] {
        &self.message[HEADER..self.question_end]
    }

    /// Whether the client checks signatures, which upstream's answer depends on.
    pub fn wants_signatures(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec)
    }

    /// Header flag "checking disabled".
    pub fn checking_disabled(&self) -> bool {
        self.message[3] & 0x10 != 0
    }

    /// Whether the client speaks EDNS.
    pub fn has_edns(&self) -> bool {
        self.edns.is_some()
    }

    /// The longest datagram the client takes, in bytes.
    pub fn payload_limit(&self) -> usize {
        self.edns.map_or(512, |edns| usize::from(edns.payload).clamp(512, 4096))
    }

    pub(super) fn edns_version_too_new(&self) -> bool {
        self.edns.is_some_and(|edns| edns.version > 0)
    }

    pub(super) fn is_internet(&self) -> bool {
        self.class == INTERNET || self.class == ANY_CLASS
    }
}

/// The OPT record among the records that follow the question; `None` when they are malformed.
fn find_edns(message: &[u8], mut at: usize, count: usize) -> Option<Option<Edns>> {
    let mut found = None;
    for _ in 0..count {
        let name_end = skip_name(message, at)?;
        let kind = word(message, name_end)?;
        if kind == OPT {
            let extended = message.get(name_end + 4..name_end + 8)?;
            let (version, dnssec) = (extended[1], extended[2] & 0x80 != 0);
            found = Some(Edns { payload: word(message, name_end + 2)?, version, dnssec });
        }
        at = name_end + 10 + usize::from(word(message, name_end + 8)?);
        message.get(..at)?;
    }
    Some(found)
}

/// The name of a question, which cannot be compressed, and where it ends.
fn question_name(message: &[u8], mut at: usize) -> Option<(QuestionName, usize)> {
    let mut name = QuestionName { bytes: [0; LONGEST_NAME], length: 0, odd: false };
    let start = at;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return (at - start <= LONGEST_NAME).then_some((name, at));
        }
        if length > 63 {
            return None;
        }
        name.push(message.get(at..at + length)?)?;
        at += length;
    }
}

/// Where the name that begins at `at` ends. Compressed names end at their pointer.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let length = usize::from(*message.get(at)?);
        match length {
            0 => return Some(at + 1),
            1..=63 => at += 1 + length,
            192.. => return message.get(at + 1).map(|_| at + 2),
            _ => return None,
        }
    }
}

fn word(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(message.get(at..at + 2)?.try_into().ok()?))
}

/// Where the lifetimes of a reply's records stand, and how long the whole reply may be kept, in seconds.
///
/// A reply without answers is kept as long as its SOA record says (RFC 2308); one
/// without that is not kept. `None` when the reply is malformed.
pub fn record_lifetimes(reply: &[u8]) -> Option<(Vec<usize>, u32)> {
    let mut at = HEADER;
    for _ in 0..word(reply, 4)? {
        at = skip_name(reply, at)? + 4;
    }
    let counts = [word(reply, 6)?, word(reply, 8)?, word(reply, 10)?];
    let answered = counts[0] > 0;
    let (mut places, mut least, mut negative) = (Vec::new(), u32::MAX, 0);
    for (section, count) in counts.into_iter().enumerate() {
        for _ in 0..count {
            let fixed = skip_name(reply, at)?;
            let (kind, length) = (word(reply, fixed)?, usize::from(word(reply, fixed + 8)?));
            let data = reply.get(fixed + 10..fixed + 10 + length)?;
            let lifetime = u32::from_be_bytes(reply.get(fixed + 4..fixed + 8)?.try_into().ok()?);
            if kind != OPT {
                places.push(fixed + 4);
                least = least.min(lifetime);
                if section == 1 && kind == Kind::Soa.number() && length >= 20 {
                    let minimum = data[length - 4..].try_into().ok()?;
                    negative = lifetime.min(u32::from_be_bytes(minimum));
                }
            }
            at = fixed + 10 + length;
        }
    }
    Some((places, if answered { least } else { negative }))
}
