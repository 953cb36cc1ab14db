//! From text to tokens.

use super::literal;
use super::tree::Literal;
use crate::error::Issue;

/// A token with its position and end in code points.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) at: usize,
    pub(super) text: String,
    pub(super) kind: TokenKind,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum TokenKind {
    Ident,
    /// `` `name` ``, only allowed as a field.
    Quoted,
    Literal(Literal),
    /// A whole number without its suffix; the sign decides whether it fits.
    Int {
        digits: String,
        radix: u32,
    },
    Symbol,
    End,
}

const SYMBOLS: [&str; 24] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":",
    "+", "*", "/", "%",
];

/// Splits `text` into tokens, the last of which is the end.
pub(super) fn tokens(text: &[char]) -> Result<Vec<Token>, Vec<Issue>> {
    let mut lexer = Lexer { text, at: 0, issues: Vec::new() };
    let mut tokens = Vec::new();
    while let Some(token) = lexer.next() {
        tokens.push(token);
    }
    if lexer.issues.is_empty() {
        tokens.push(Token { at: text.len(), text: "<EOF>".to_owned(), kind: TokenKind::End });
        Ok(tokens)
    } else {
        Err(lexer.issues)
    }
}

struct Lexer<'t> {
    text: &'t [char],
    at: usize,
    issues: Vec<Issue>,
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.text.get(self.at + ahead).copied()
    }

    fn slice(&self, from: usize) -> String {
        self.text[from..self.at].iter().collect()
    }

    fn next(&mut self) -> Option<Token> {
        loop {
            self.skip_blanks();
            let c = self.peek(0)?;
            let at = self.at;
            match self.token(c) {
                Some(Ok(kind)) => return Some(Token { at, text: self.slice(at), kind }),
                Some(Err(message)) => self.issues.push(Issue::new(at, message)),
                None => {
                    self.at = self.at.max(at + 1);
                    let message = format!("Syntax error: token recognition error at: '{}'", self.slice(at));
                    self.issues.push(Issue::new(at, message));
                }
            }
        }
    }

    fn skip_blanks(&mut self) {
        while let Some(c) = self.peek(0) {
            if matches!(c, ' ' | '\t' | '\r' | '\n' | '\u{c}') {
                self.at += 1;
            } else if c == '/' && self.peek(1) == Some('/') {
                while self.peek(0).is_some_and(|c| c != '\n') {
                    self.at += 1;
                }
            } else {
                return;
            }
        }
    }

    /// The token at the present position; `None` when no rule knows the text.
    fn token(&mut self, c: char) -> Option<Result<TokenKind, String>> {
        if let Some(prefix) = self.string_prefix() {
            return self.string(prefix);
        }
        match c {
            'a'..='z' | 'A'..='Z' | '_' => Some(Ok(self.ident())),
            '0'..='9' => Some(self.number()),
            '.' if self.peek(1).is_some_and(|c| c.is_ascii_digit()) => Some(self.number()),
            '`' => self.quoted().map(Ok),
            _ => self.symbol().map(Ok),
        }
    }

    fn ident(&mut self) -> TokenKind {
        let from = self.at;
        while self.peek(0).is_some_and(|c| c.is_ascii_alphanumeric() || c == '_') {
            self.at += 1;
        }
        match self.slice(from).as_str() {
            "true" => TokenKind::Literal(Literal::Bool(true)),
            "false" => TokenKind::Literal(Literal::Bool(false)),
            "null" => TokenKind::Literal(Literal::Null),
            "in" => TokenKind::Symbol,
            _ => TokenKind::Ident,
        }
    }

    fn quoted(&mut self) -> Option<TokenKind> {
        let mut ahead = 1;
        while self
            .peek(ahead)
            .is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' '))
        {
            ahead += 1;
        }
        if ahead == 1 || self.peek(ahead) != Some('`') {
            return None;
        }
        self.at += ahead + 1;
        Some(TokenKind::Quoted)
    }

    fn symbol(&mut self) -> Option<TokenKind> {
        let symbol = SYMBOLS.iter().find(|s| s.chars().enumerate().all(|(i, c)| self.peek(i) == Some(c)))?;
        self.at += symbol.len();
        Some(TokenKind::Symbol)
    }

    fn digits(&mut self, radix: u32) -> String {
        let from = self.at;
        while self.peek(0).is_some_and(|c| c.is_digit(radix)) {
            self.at += 1;
        }
        self.slice(from)
    }

    fn number(&mut self) -> Result<TokenKind, String> {
        let from = self.at;
        let hex = self.peek(0) == Some('0')
            && matches!(self.peek(1), Some('x' | 'X'))
            && self.peek(2).is_some_and(|c| c.is_ascii_hexdigit());
        if hex {
            self.at += 2;
            let digits = self.digits(16);
            return self.whole(digits, 16);
        }
        let digits = self.digits(10);
        let fraction = self.peek(0) == Some('.') && self.peek(1).is_some_and(|c| c.is_ascii_digit());
        if fraction {
            self.at += 1;
            self.digits(10);
        }
        let exponent = self.exponent();
        if fraction || exponent {
            let value = self.slice(from).parse::<f64>().map_err(|_| "invalid double literal".to_owned())?;
            if value.is_infinite() {
                return Err("invalid double literal".to_owned());
            }
            return Ok(TokenKind::Literal(Literal::Double(value)));
        }
        self.whole(digits, 10)
    }

    fn exponent(&mut self) -> bool {
        let sign = usize::from(matches!(self.peek(1), Some('+' | '-')));
        let exponent = matches!(self.peek(0), Some('e' | 'E'))
            && self.peek(1 + sign).is_some_and(|c| c.is_ascii_digit());
        if exponent {
            self.at += 1 + sign;
            self.digits(10);
        }
        exponent
    }

    fn whole(&mut self, digits: String, radix: u32) -> Result<TokenKind, String> {
        if !matches!(self.peek(0), Some('u' | 'U')) {
            return Ok(TokenKind::Int { digits, radix });
        }
        self.at += 1;
        u64::from_str_radix(&digits, radix)
            .map(|value| TokenKind::Literal(Literal::Uint(value)))
            .map_err(|_| "invalid uint literal".to_owned())
    }

    /// The prefix letters (`r`, `b`) of a string that starts here.
    fn string_prefix(&self) -> Option<literal::Prefix> {
        let mut prefix = literal::Prefix::default();
        for ahead in 0..3 {
            match self.peek(ahead)? {
                'r' | 'R' if !prefix.raw => prefix.raw = true,
                'b' | 'B' if !prefix.bytes && !prefix.raw => prefix.bytes = true,
                '"' | '\'' => {
                    prefix.length = ahead;
                    return Some(prefix);
                }
                _ => return None,
            }
        }
        None
    }

    fn string(&mut self, prefix: literal::Prefix) -> Option<Result<TokenKind, String>> {
        let rest = &self.text[self.at + prefix.length..];
        let (consumed, content) = literal::delimited(rest, prefix.raw);
        self.at += prefix.length + consumed;
        let content = content?;
        Some(literal::unescape(content, &prefix).map(TokenKind::Literal))
    }
}
