//! The text of a label selector, read and refused as `k8s.io/apimachinery/pkg/labels/selector.go` does it.

use std::collections::BTreeSet;
use std::fmt;

use super::{Requirement, Test, name};
use crate::error::BadRequest;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Token<'a> {
    End,
    Word(&'a str),
    Symbol(&'static str),
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Token::End => "",
            Token::Word(w) => w,
            Token::Symbol(s) => s,
        })
    }
}

/// The longer symbol stands before the one that it starts with.
const SYMBOLS: [&str; 9] = ["==", "!=", "=", "!", "(", ")", ",", ">", "<"];

struct Tokens<'a> {
    rest: &'a str,
}

/// All requirements of a text, in their order.
pub(super) fn requirements(text: &str) -> Result<Vec<Requirement>, BadRequest> {
    let mut tokens = Tokens { rest: text };
    let mut all = Vec::new();
    match tokens.peek() {
        Token::End => return Ok(all),
        Token::Word(_) | Token::Symbol("!") => {}
        other => return Err(found(other, ", expected: !, identifier, or 'end of string'")),
    }
    loop {
        let requirement = tokens.requirement();
        all.push(requirement.map_err(|e| BadRequest::new(format!("unable to parse requirement: {e}")))?);
        match tokens.next_token() {
            Token::End => return Ok(all),
            Token::Symbol(",") => {}
            other => return Err(found(other, ", expected: ',' or 'end of string'")),
        }
        if !matches!(tokens.peek(), Token::Word(_) | Token::Symbol("!")) {
            return Err(found(tokens.peek(), ", expected: identifier after ','"));
        }
    }
}

impl<'a> Tokens<'a> {
    fn next_token(&mut self) -> Token<'a> {
        let text = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        if let Some(symbol) = SYMBOLS.into_iter().find(|s| text.starts_with(s)) {
            self.rest = text.strip_prefix(symbol).unwrap_or_default();
            return Token::Symbol(symbol);
        }
        let stop = |c: char| " \t\r\n=!(),<>".contains(c);
        let (word, rest) = text.split_at_checked(text.find(stop).unwrap_or(text.len())).unwrap_or_default();
        self.rest = rest;
        if word.is_empty() { Token::End } else { Token::Word(word) }
    }

    fn peek(&self) -> Token<'a> {
        Tokens { rest: self.rest }.next_token()
    }

    fn requirement(&mut self) -> Result<Requirement, BadRequest> {
        let missing = self.peek() == Token::Symbol("!");
        if missing {
            self.next_token();
        }
        let key = match self.next_token() {
            Token::Word(word) => word,
            other => return Err(found(other, ", expected: identifier")),
        };
        name::check_key(key)?;
        let test = if missing { Test::Missing } else { self.test(key)? };
        Ok(Requirement { key: key.to_owned(), test })
    }

    fn test(&mut self, key: &str) -> Result<Test, BadRequest> {
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok(Test::Exists);
        }
        Ok(match self.next_token() {
            Token::Symbol("=" | "==") => Test::In(self.one_value(key)?),
            Token::Symbol("!=") => Test::NotIn(self.one_value(key)?),
            Token::Symbol(">") => Test::Above(self.number(key)?),
            Token::Symbol("<") => Test::Below(self.number(key)?),
            Token::Word("in") => Test::In(self.values(key)?),
            Token::Word("notin") => Test::NotIn(self.values(key)?),
            other => return Err(found(other, ", expected: in, notin, =, ==, !=, gt, lt")),
        })
    }

    /// One value, which may be empty.
    fn value(&mut self) -> Result<&'a str, BadRequest> {
        if matches!(self.peek(), Token::End | Token::Symbol(",")) {
            return Ok("");
        }
        match self.next_token() {
            Token::Word(word) => Ok(word),
            other => Err(found(other, ", expected: identifier")),
        }
    }

    fn one_value(&mut self, key: &str) -> Result<BTreeSet<String>, BadRequest> {
        name::checked(key, [self.value()?.to_owned()].into())
    }

    fn number(&mut self, key: &str) -> Result<i64, BadRequest> {
        let value = self.value()?;
        match value.parse() {
            Ok(number) => name::checked(key, [value.to_owned()].into()).map(|_| number),
            Err(_) => Err(BadRequest::new(format!(
                "values[0]: Invalid value: {value:?}: for 'Gt', 'Lt' operators, the value must be an integer"
            ))),
        }
    }

    /// `(a,b)`; values may be empty, so `()` holds one.
    fn values(&mut self, key: &str) -> Result<BTreeSet<String>, BadRequest> {
        match self.next_token() {
            Token::Symbol("(") => {}
            other => return Err(found(other, " expected: '('")),
        }
        match self.peek() {
            Token::Word(_) | Token::Symbol(",") => name::checked(key, self.list()?),
            Token::Symbol(")") => {
                self.next_token();
                Ok([String::new()].into())
            }
            other => Err(found(other, ", expected: ',', ')' or identifier")),
        }
    }

    /// What stands between the parentheses, and the closing one.
    fn list(&mut self) -> Result<BTreeSet<String>, BadRequest> {
        let mut values = BTreeSet::new();
        loop {
            match self.next_token() {
                Token::Word(word) => {
                    values.insert(word.to_owned());
                    match self.peek() {
                        Token::Symbol(",") => {}
                        Token::Symbol(")") => break,
                        other => return Err(found(other, ", expected: ',' or ')'")),
                    }
                }
                Token::Symbol(",") => {
                    let next = self.peek();
                    if values.is_empty() || matches!(next, Token::Symbol(")" | ",")) {
                        values.insert(String::new());
                    }
                    match next {
                        Token::Symbol(")") => break,
                        Token::Symbol(",") => drop(self.next_token()),
                        _ => {}
                    }
                }
                other => return Err(found(other, ", expected: ',', or identifier")),
            }
        }
        self.next_token();
        Ok(values)
    }
}

fn found(token: Token<'_>, instead: &str) -> BadRequest {
    BadRequest::new(format!("found '{token}'{instead}"))
}
