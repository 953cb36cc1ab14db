//! From tokens to a tree: operators by precedence, then members and primaries.

use super::lexer::{Token, TokenKind, tokens};
use super::tree::{Expr, Kind};
use super::{MAX_DEPTH, MAX_HEIGHT, MAX_LENGTH};
use crate::error::Issue;

/// What may start an operand, as the grammar's error messages list it.
pub(super) const OPERAND: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, \
                                  NUM_UINT, STRING, BYTES, IDENTIFIER}";

/// Parses `text`; the number of nodes comes with the tree.
pub(crate) fn parse(text: &str, bindings: bool) -> Result<(Expr, usize), Vec<Issue>> {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() > MAX_LENGTH {
        let message =
            format!("expression code point size exceeds limit: size: {}, limit {MAX_LENGTH}", chars.len());
        return Err(vec![Issue::nowhere(message)]);
    }
    let tokens = tokens(&chars)?;
    let mut parser = Parser { tokens, next: 0, nodes: 0, depth: 0, bindings };
    let expr = parser.whole().map_err(|issue| vec![issue])?;
    if height(&expr) > MAX_HEIGHT {
        return Err(vec![too_deep()]);
    }
    Ok((expr, parser.nodes))
}

fn too_deep() -> Issue {
    Issue::nowhere(format!("expression recursion limit exceeded: {MAX_DEPTH}"))
}

/// The height of the tree, found without recursion.
fn height(expr: &Expr) -> usize {
    let mut open = vec![(expr, 1)];
    let mut highest = 0;
    while let Some((expr, height)) = open.pop() {
        highest = highest.max(height);
        expr.children(&mut |child| open.push((child, height + 1)));
    }
    highest
}

pub(super) struct Parser {
    tokens: Vec<Token>,
    next: usize,
    pub(super) nodes: usize,
    depth: usize,
    pub(super) bindings: bool,
}

type Parsed = Result<Expr, Issue>;

impl Parser {
    fn whole(&mut self) -> Parsed {
        let expr = self.expr()?;
        if self.peek().kind == TokenKind::End {
            return Ok(expr);
        }
        Err(self.unexpected("<EOF>"))
    }

    pub(super) fn peek(&self) -> &Token {
        &self.tokens[self.next]
    }

    pub(super) fn peek_at(&self, ahead: usize) -> &Token {
        &self.tokens[(self.next + ahead).min(self.tokens.len() - 1)]
    }

    pub(super) fn take(&mut self) -> Token {
        let token = self.tokens[self.next].clone();
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        token
    }

    pub(super) fn is(&self, symbol: &str) -> bool {
        let token = self.peek();
        token.kind == TokenKind::Symbol && token.text == symbol
    }

    pub(super) fn accept(&mut self, symbol: &str) -> Option<Token> {
        self.is(symbol).then(|| self.take())
    }

    pub(super) fn expect(&mut self, symbol: &str, expected: &str) -> Result<Token, Issue> {
        self.accept(symbol).ok_or_else(|| self.unexpected(expected))
    }

    pub(super) fn unexpected(&self, expected: &str) -> Issue {
        let token = self.peek();
        Issue::new(token.at, format!("Syntax error: mismatched input '{}' expecting {expected}", token.text))
    }

    pub(super) fn node(&mut self, at: usize, kind: Kind) -> Expr {
        let id = self.nodes;
        self.nodes += 1;
        Expr { id, at, kind }
    }

    pub(super) fn call(&mut self, at: usize, function: &str, args: Vec<Expr>) -> Expr {
        self.node(at, Kind::Call { function: function.to_owned(), target: None, args })
    }

    fn nest(&mut self, levels: usize) -> Result<(), Issue> {
        self.depth += levels;
        if self.depth > MAX_DEPTH {
            return Err(too_deep());
        }
        Ok(())
    }

    /// Counts one more level of a chain (`a.b.c`, `1 + 2 + 3`), whose length is the tree's depth.
    pub(super) fn chain(&mut self, levels: &mut usize) -> Result<(), Issue> {
        *levels += 1;
        self.nest(1)
    }

    pub(super) fn unchain(&mut self, levels: usize) {
        self.depth -= levels;
    }

    /// `condition ? a : b`, or what operators join.
    pub(super) fn expr(&mut self) -> Parsed {
        self.nest(1)?;
        let mut expr = self.operators(0)?;
        if self.is("?") {
            expr = self.conditional(expr)?;
        }
        self.depth -= 1;
        Ok(expr)
    }

    fn conditional(&mut self, condition: Expr) -> Parsed {
        let at = self.take().at;
        let yes = self.operators(0)?;
        self.expect(":", "':'")?;
        let no = self.expr()?;
        Ok(self.call(at, "_?_:_", vec![condition, yes, no]))
    }

    /// Operands joined by operators of `level` and above.
    fn operators(&mut self, level: usize) -> Parsed {
        let mut left = self.unary()?;
        let mut levels = 0;
        while let Some((strength, function)) = self.operator().filter(|(strength, _)| *strength >= level) {
            left = if strength < LOGIC {
                self.logic(left, strength, function)?
            } else {
                self.chain(&mut levels)?;
                let at = self.take().at;
                let right = self.operators(strength + 1)?;
                self.call(at, function, vec![left, right])
            };
        }
        self.unchain(levels);
        Ok(left)
    }

    /// A chain of `||` or `&&`, balanced so that long ones stay shallow.
    fn logic(&mut self, first: Expr, strength: usize, function: &str) -> Parsed {
        let mut terms = vec![first];
        let mut operators = Vec::new();
        while self.operator().is_some_and(|(found, _)| found == strength) {
            operators.push(self.take().at);
            terms.push(self.operators(strength + 1)?);
        }
        let mut terms = terms.into_iter();
        Ok(self.balanced(function, &operators, &mut terms))
    }

    fn balanced(
        &mut self,
        function: &str,
        operators: &[usize],
        terms: &mut std::vec::IntoIter<Expr>,
    ) -> Expr {
        if operators.is_empty() {
            return terms.next().expect("there is one term more than there are operators");
        }
        let middle = operators.len() / 2;
        let left = self.balanced(function, &operators[..middle], terms);
        let right = self.balanced(function, &operators[middle + 1..], terms);
        self.call(operators[middle], function, vec![left, right])
    }

    /// The operator that comes next, with its strength.
    fn operator(&self) -> Option<(usize, &'static str)> {
        let token = self.peek();
        if token.kind != TokenKind::Symbol {
            return None;
        }
        OPERATORS
            .iter()
            .find(|(symbol, ..)| *symbol == token.text)
            .map(|(_, strength, function)| (*strength, *function))
    }

    fn unary(&mut self) -> Parsed {
        if self.is("!") {
            self.signs("!", "!_")
        } else if self.is("-") && !self.is_negative_number() {
            self.signs("-", "-_")
        } else {
            self.member()
        }
    }

    /// `!` and `-` cancel in pairs.
    fn signs(&mut self, symbol: &str, function: &str) -> Parsed {
        let at = self.peek().at;
        let mut count = 0;
        while self.is(symbol) && (symbol == "!" || count == 0 || !self.is_negative_number()) {
            self.take();
            count += 1;
        }
        let operand = self.member()?;
        Ok(if count % 2 == 0 { operand } else { self.call(at, function, vec![operand]) })
    }

    pub(super) fn is_negative_number(&self) -> bool {
        self.is("-")
            && match &self.peek_at(1).kind {
                TokenKind::Int { .. } => true,
                TokenKind::Literal(literal) => matches!(literal, super::Literal::Double(_)),
                _ => false,
            }
    }
}

/// The strength from which on operators join two operands, not a chain of them.
const LOGIC: usize = 2;

/// Binary operators with their strength.
const OPERATORS: [(&str, usize, &str); 14] = [
    ("||", 0, "_||_"),
    ("&&", 1, "_&&_"),
    ("<", 2, "_<_"),
    ("<=", 2, "_<=_"),
    (">", 2, "_>_"),
    (">=", 2, "_>=_"),
    ("==", 2, "_==_"),
    ("!=", 2, "_!=_"),
    ("in", 2, "@in"),
    ("+", 3, "_+_"),
    ("-", 3, "_-_"),
    ("*", 4, "_*_"),
    ("/", 4, "_/_"),
    ("%", 4, "_%_"),
];
