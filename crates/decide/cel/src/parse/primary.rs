//! Members (`a.b`, `a[b]`, `a.f(b)`) and primaries: names, literals, lists, maps and objects.

use plimsoll_meta::expression::RESERVED;

use super::lexer::{Token, TokenKind};
use super::parser::{OPERAND, Parser};
use super::tree::{Entry, Expr, FieldInit, Kind, Literal};
use crate::error::Issue;

impl Parser {
    pub(super) fn member(&mut self) -> Result<Expr, Issue> {
        let mut expr = self.primary()?;
        let mut levels = 0;
        loop {
            if self.is(".") {
                self.chain(&mut levels)?;
                expr = self.field(expr)?;
            } else if self.is("[") {
                self.chain(&mut levels)?;
                expr = self.index(expr)?;
            } else {
                self.unchain(levels);
                return Ok(expr);
            }
        }
    }

    fn field(&mut self, operand: Expr) -> Result<Expr, Issue> {
        let dot = self.take();
        let optional = self.accept("?").is_some();
        let token = self.peek().clone();
        let name = match token.kind {
            TokenKind::Ident => token.text.clone(),
            TokenKind::Quoted => token.text.trim_matches('`').to_owned(),
            _ => return Err(self.unexpected("{'?', IDENTIFIER, ESC_IDENTIFIER}")),
        };
        self.take();
        if optional {
            let field = self.node(dot.at, Kind::Literal(Literal::String(name.into())));
            return Ok(self.call(dot.at, "_?._", vec![operand, field]));
        }
        if token.kind == TokenKind::Ident && self.is("(") {
            let at = self.take().at;
            let args = self.arguments()?;
            return self.expand(at, name, Some(operand), args);
        }
        Ok(self.node(dot.at, Kind::Select { operand: Box::new(operand), field: name, test: false }))
    }

    fn index(&mut self, operand: Expr) -> Result<Expr, Issue> {
        let at = self.take().at;
        let function = if self.accept("?").is_some() { "_[?_]" } else { "_[_]" };
        let key = self.expr()?;
        self.expect("]", "']'")?;
        Ok(self.call(at, function, vec![operand, key]))
    }

    fn arguments(&mut self) -> Result<Vec<Expr>, Issue> {
        let mut args = Vec::new();
        if self.accept(")").is_some() {
            return Ok(args);
        }
        loop {
            args.push(self.expr()?);
            if self.accept(",").is_none() {
                self.expect(")", "{')', ','}")?;
                return Ok(args);
            }
        }
    }

    fn primary(&mut self) -> Result<Expr, Issue> {
        if self.is("(") {
            return self.parenthesized();
        }
        if self.is("[") {
            return self.list();
        }
        if self.is("{") {
            return self.map();
        }
        if self.peek().kind == TokenKind::Ident {
            return self.name("");
        }
        self.leaf()
    }

    fn parenthesized(&mut self) -> Result<Expr, Issue> {
        self.take();
        let inner = self.expr()?;
        self.expect(")", "')'")?;
        Ok(inner)
    }

    fn leaf(&mut self) -> Result<Expr, Issue> {
        let token = self.peek().clone();
        match (&token.kind, token.text.as_str()) {
            (TokenKind::Symbol, ".") if self.peek_at(1).kind == TokenKind::Ident => {
                self.take();
                self.name(".")
            }
            (TokenKind::Symbol, "-") if self.is_negative_number() => {
                self.take();
                let number = self.take();
                self.number(&number, "-", token.at)
            }
            (TokenKind::Int { .. } | TokenKind::Literal(_), _) => {
                self.take();
                self.number(&token, "", token.at)
            }
            _ => Err(self.unexpected(OPERAND)),
        }
    }

    fn number(&mut self, token: &Token, sign: &str, at: usize) -> Result<Expr, Issue> {
        let literal = match &token.kind {
            TokenKind::Int { digits, radix } => i64::from_str_radix(&format!("{sign}{digits}"), *radix)
                .map(Literal::Int)
                .map_err(|_| Issue::new(at, "invalid int literal".to_owned()))?,
            TokenKind::Literal(Literal::Double(value)) if sign == "-" => Literal::Double(-value),
            TokenKind::Literal(literal) => literal.clone(),
            _ => return Err(self.unexpected(OPERAND)),
        };
        Ok(self.node(at, Kind::Literal(literal)))
    }

    /// A variable, a call of a global function, or an object literal.
    fn name(&mut self, prefix: &str) -> Result<Expr, Issue> {
        if let Some(length) = self.struct_name_length() {
            return self.object(prefix, length);
        }
        let token = self.take();
        if RESERVED.contains(&token.text.as_str()) {
            return Err(Issue::new(token.at, format!("reserved identifier: {}", token.text)));
        }
        let name = format!("{prefix}{}", token.text);
        if self.is("(") {
            let at = self.take().at;
            let args = self.arguments()?;
            return self.expand(at, name, None, args);
        }
        Ok(self.node(token.at, Kind::Ident(name)))
    }

    /// How many tokens `a.b.c` before a `{` takes.
    fn struct_name_length(&self) -> Option<usize> {
        let mut length = 1;
        loop {
            let token = self.peek_at(length);
            match (&token.kind, token.text.as_str()) {
                (TokenKind::Symbol, "{") => return Some(length),
                (TokenKind::Symbol, ".") if self.peek_at(length + 1).kind == TokenKind::Ident => length += 2,
                _ => return None,
            }
        }
    }

    fn object(&mut self, prefix: &str, length: usize) -> Result<Expr, Issue> {
        let mut name = prefix.to_owned();
        for _ in 0..length {
            name.push_str(&self.take().text);
        }
        let at = self.take().at;
        let mut fields = Vec::new();
        while self.accept("}").is_none() {
            let optional = self.accept("?").is_some();
            let token = self.take();
            let name = match token.kind {
                TokenKind::Ident => token.text,
                TokenKind::Quoted => token.text.trim_matches('`').to_owned(),
                _ => {
                    let message = format!(
                        "Syntax error: mismatched input '{}' expecting {{'}}', ',', '?', IDENTIFIER, ESC_IDENTIFIER}}",
                        token.text
                    );
                    return Err(Issue::new(token.at, message));
                }
            };
            let colon = self.expect(":", "':'")?;
            let value = self.expr()?;
            fields.push(FieldInit { at: colon.at, name, value, optional });
            if self.accept(",").is_none() {
                self.expect("}", "{'}', ','}")?;
                break;
            }
        }
        Ok(self.node(at, Kind::Struct { name, fields }))
    }

    fn list(&mut self) -> Result<Expr, Issue> {
        let at = self.take().at;
        let mut items = Vec::new();
        let mut optional = Vec::new();
        while self.accept("]").is_none() {
            optional.push(self.accept("?").is_some());
            items.push(self.expr()?);
            if self.accept(",").is_none() {
                self.expect("]", "{']', ','}")?;
                break;
            }
        }
        Ok(self.node(at, Kind::List { items, optional }))
    }

    fn map(&mut self) -> Result<Expr, Issue> {
        let at = self.take().at;
        let mut entries = Vec::new();
        while self.accept("}").is_none() {
            let optional = self.accept("?").is_some();
            let key = self.expr()?;
            self.expect(":", "':'")?;
            let value = self.expr()?;
            entries.push(Entry { key, value, optional });
            if self.accept(",").is_none() {
                self.expect("}", "{'}', ','}")?;
                break;
            }
        }
        Ok(self.node(at, Kind::Map(entries)))
    }
}
