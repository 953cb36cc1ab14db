//! Seeded changes to examples.

/// How long a mutated input may get.
const LONGEST: usize = 4096;

/// What breaks parsers that count.
const ODD: &[&[u8]] = &[
    b"0",
    b"-1",
    b"1e999",
    b"9223372036854775807",
    b"-9223372036854775808",
    b"18446744073709551616",
    b"null",
    b"{}",
    b"[]",
    b"\"\"",
    b"\xff",
    b"\x00",
    b"\xc3\xa9",
    b"\xf0\x9f\x92\xa5",
    b"\\u0000",
    b"\\ud800",
    b"\n",
    b" ",
    b"/",
    b"~1",
    b"-",
    b".",
    b"*",
    b"&a",
    b"*a",
    b"\xff\xff\xff\xff\x0f",
];

/// Makes inputs from examples; the same seed makes the same ones.
#[derive(Clone, Debug)]
pub struct Mutator {
    state: u64,
    examples: Vec<Vec<u8>>,
    /// Words and signs of all examples.
    tokens: Vec<Vec<u8>>,
}

impl Mutator {
    /// Inputs like `examples`.
    pub fn new(seed: u64, examples: Vec<Vec<u8>>) -> Self {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte >= 0x80;
        let mut tokens: Vec<Vec<u8>> = examples
            .iter()
            .flat_map(|one| one.chunk_by(|a, b| is_word(*a) && is_word(*b)))
            .map(<[u8]>::to_vec)
            .chain(ODD.iter().map(|odd| odd.to_vec()))
            .collect();
        tokens.sort();
        tokens.dedup();
        Self { state: seed.wrapping_mul(2).wrapping_add(1), examples, tokens }
    }

    /// Another input of a few thousand bytes at the most.
    pub fn input(&mut self) -> Vec<u8> {
        let mut bytes = self.example();
        for _ in 0..=self.below(6) {
            self.change(&mut bytes);
            bytes.truncate(LONGEST);
        }
        bytes
    }

    /// An input of `size` bytes that says one thing of an example again and again.
    pub fn long(&mut self, size: usize) -> Vec<u8> {
        let example = self.example();
        let (start, end) = self.range(&example);
        let middle = match self.below(3) {
            0 => self.token(),
            _ => example[start..end].to_vec(),
        };
        if middle.is_empty() {
            return example;
        }
        let room = size.saturating_sub(example.len());
        let mut bytes = example[..start].to_vec();
        bytes.extend(middle.iter().copied().cycle().take(room - room % middle.len()));
        if self.below(2) == 0 {
            bytes.extend(&example[end..]);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let (start, end) = self.range(bytes);
        match self.below(8) {
            0 => {
                let byte = self.below(256) as u8;
                bytes.get_mut(start).into_iter().for_each(|place| *place = byte);
            }
            1 => drop(bytes.drain(start..end)),
            2 | 3 => {
                let token = self.token();
                bytes.splice(start..start, token);
            }
            4 | 5 => {
                let token = self.token();
                bytes.splice(start..end, token);
            }
            6 => {
                let piece = bytes[start..end].to_vec();
                let times = [1, 2, 8, 200][self.below(4)];
                bytes.splice(start..start, piece.repeat(times));
            }
            _ => {
                let other = self.example();
                let (from, to) = self.range(&other);
                bytes.splice(start..end, other[from..to].iter().copied());
            }
        }
    }

    fn example(&mut self) -> Vec<u8> {
        let at = self.below(self.examples.len());
        self.examples.get(at).cloned().unwrap_or_default()
    }

    fn token(&mut self) -> Vec<u8> {
        let at = self.below(self.tokens.len());
        self.tokens[at].clone()
    }

    /// A short range of the bytes, more often a few than many.
    fn range(&mut self, bytes: &[u8]) -> (usize, usize) {
        let start = self.below(bytes.len() + 1);
        let length = [1, 2, 4, 16, 64, 512][self.below(6)];
        (start, (start + 1 + self.below(length)).min(bytes.len()))
    }

    /// A number below `bound`, or 0.
    fn below(&mut self, bound: usize) -> usize {
        // xorshift64*
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let number = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        (number as usize).checked_rem(bound).unwrap_or(0)
    }
}
