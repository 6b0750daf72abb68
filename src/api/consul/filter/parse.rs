//! From a filter's text to what has to hold.
//!
//! `or` binds weaker than `and`, that weaker than `not`, that weaker than a comparison.

use regex::RegexBuilder;
use serde_json::Value;

use super::{
    Error, Expression, Match, Test, Wanted,
    field::{Fields, Kind},
    scan::{Operand, Scanner},
};
use crate::api::params::truth;

/// Deepest nesting of parentheses: each takes some of the stack.
const MAX_DEPTH: usize = 64;

/// Most regular expressions in one filter, and most memory that one may take when compiled and,
/// again, its cache.
const MAX_PATTERNS: usize = 16;
const PATTERN_SIZE: usize = 1 << 18;

#[derive(Debug)]
struct Parser<'a> {
    scanner: Scanner<'a>,
    fields: Fields,
    depth: usize,
    patterns: usize,
}

#[derive(Debug, Clone, Copy)]
enum Operator {
    Equal,
    In,
    Contains,
    Matches,
    IsEmpty,
}

pub(super) fn parse(text: &str, fields: Fields) -> Result<Expression, Error> {
    let mut parser = Parser { scanner: Scanner::new(text), fields, depth: 0, patterns: 0 };
    let expression = parser.any()?;
    if parser.scanner.is_at_end() {
        return Ok(expression);
    }
    Err(parser.scanner.unexpected("and, or or the end"))
}

impl Parser<'_> {
    fn any(&mut self) -> Result<Expression, Error> {
        let first = self.all()?;
        let mut terms = vec![first];
        while self.scanner.word("or") {
            terms.push(self.all()?);
        }
        Ok(one_or(terms, Expression::Any))
    }

    fn all(&mut self) -> Result<Expression, Error> {
        let first = self.negation()?;
        let mut terms = vec![first];
        while self.scanner.word("and") {
            terms.push(self.negation()?);
        }
        Ok(one_or(terms, Expression::All))
    }

    fn negation(&mut self) -> Result<Expression, Error> {
        let mut wanted = Wanted::Holds;
        while self.scanner.word("not") {
            wanted = wanted.reversed();
        }
        let term = if self.scanner.symbol("(") { self.group()? } else { self.comparison()? };
        Ok(match wanted {
            Wanted::Holds => term,
            Wanted::Fails => Expression::Not(Box::new(term)),
        })
    }

    fn group(&mut self) -> Result<Expression, Error> {
        if self.depth == MAX_DEPTH {
            let at = self.scanner.next_place();
            let problem = format!("more than {MAX_DEPTH} parentheses in each other");
            return Err(self.scanner.fault(at, problem));
        }
        self.depth += 1;
        let inner = self.any()?;
        self.depth -= 1;
        if self.scanner.symbol(")") {
            return Ok(inner);
        }
        Err(self.scanner.unexpected("and, or or )"))
    }

    fn comparison(&mut self) -> Result<Expression, Error> {
        let left = self.scanner.operand()?;
        let (operator, wanted) = self.operator()?;
        let (field, value) = match operator {
            Operator::In => (self.scanner.value()?, left.text),
            Operator::Equal | Operator::Contains | Operator::Matches => {
                (left, self.scanner.value()?.text)
            }
            Operator::IsEmpty => (left, String::new()),
        };
        let Operand { at, text: name, path } = field;
        let fault = |problem| self.scanner.fault(at, problem);
        let Some(path) = path else {
            return Err(fault(format!("expected a field, found the value {name:?}")));
        };
        let (kind, keyed) = resolve(self.fields, &path).map_err(fault)?;
        let test = test(operator, kind, &name, &value).map_err(fault)?;
        if matches!(test, Test::Matches(_)) {
            self.patterns += 1;
            if self.patterns > MAX_PATTERNS {
                let problem = format!("more than {MAX_PATTERNS} regular expressions");
                return Err(self.scanner.fault(at, problem));
            }
        }
        let absent = matches!(test, Test::IsEmpty)
            || matches!(keyed, Keyed::No) && test.holds(&kind.blank());
        Ok(Expression::Match(Match { path, test, wanted, absent }))
    }

    fn operator(&mut self) -> Result<(Operator, Wanted), Error> {
        let scanner = &mut self.scanner;
        if scanner.symbol("==") {
            return Ok((Operator::Equal, Wanted::Holds));
        }
        if scanner.symbol("!=") {
            return Ok((Operator::Equal, Wanted::Fails));
        }
        let is = scanner.word("is");
        let wanted = if scanner.word("not") { Wanted::Fails } else { Wanted::Holds };
        if is {
            let found = scanner.word("empty").then_some((Operator::IsEmpty, wanted));
            return found.ok_or_else(|| scanner.unexpected("empty"));
        }
        let words = [
            ("in", Operator::In),
            ("contains", Operator::Contains),
            ("matches", Operator::Matches),
        ];
        match words.into_iter().find(|(word, _)| scanner.word(word)) {
            Some((_, operator)) => Ok((operator, wanted)),
            None if wanted == Wanted::Fails => Err(scanner.unexpected("in, contains or matches")),
            None => {
                let expected = "==, !=, in, contains, matches, is empty or one of these with not";
                Err(scanner.unexpected(expected))
            }
        }
    }
}

impl Wanted {
    fn reversed(self) -> Self {
        match self {
            Self::Holds => Self::Fails,
            Self::Fails => Self::Holds,
        }
    }
}

fn one_or(mut terms: Vec<Expression>, many: fn(Vec<Expression>) -> Expression) -> Expression {
    if terms.len() == 1 { terms.remove(0) } else { many(terms) }
}

/// Whether the way to a field leads by a key that may not be there.
#[derive(Debug, Clone, Copy)]
enum Keyed {
    Yes,
    No,
}

fn resolve(fields: Fields, path: &[String]) -> Result<(Kind, Keyed), String> {
    let (mut kind, mut keyed) = (Kind::Object(fields), Keyed::No);
    for (n, step) in path.iter().enumerate() {
        let refused = || format!("Selector {:?} is not valid", path[..=n].join("."));
        kind = match kind {
            Kind::Object(fields) | Kind::Objects(fields) => {
                match fields.iter().find(|(name, _)| name == step) {
                    Some((_, kind)) => *kind,
                    None => return Err(format!("{}; there are {}", refused(), names(fields))),
                }
            }
            Kind::Map(inner) => {
                keyed = Keyed::Yes;
                *inner
            }
            Kind::Text | Kind::Number | Kind::Flag | Kind::Texts => return Err(refused()),
        };
    }
    Ok((kind, keyed))
}

fn names(fields: Fields) -> String {
    fields.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

fn test(operator: Operator, kind: Kind, name: &str, value: &str) -> Result<Test, String> {
    let no = |what: &str| format!("{value:?} is no {what}, which {name:?} is");
    match (operator, kind) {
        (Operator::Equal, Kind::Text) => Ok(Test::Equals(Value::from(value))),
        (Operator::Equal, Kind::Number) => {
            let number = value.parse::<i64>().map_err(|_| no("whole number"))?;
            Ok(Test::Equals(Value::from(number)))
        }
        (Operator::Equal, Kind::Flag) => {
            let flag = truth(value).ok_or_else(|| no("true or false"))?;
            Ok(Test::Equals(Value::from(flag)))
        }
        (Operator::In | Operator::Contains, Kind::Text | Kind::Texts | Kind::Map(_)) => {
            Ok(Test::Holds(value.to_owned()))
        }
        (Operator::Matches, Kind::Text) => {
            let mut builder = RegexBuilder::new(value);
            let compiled = builder.size_limit(PATTERN_SIZE).dfa_size_limit(PATTERN_SIZE).build();
            compiled.map(Test::Matches).map_err(|error| refused_pattern(value, &error))
        }
        (Operator::IsEmpty, Kind::Text | Kind::Texts | Kind::Map(_) | Kind::Objects(_)) => {
            Ok(Test::IsEmpty)
        }
        (operator, kind) => {
            let (operator, kind) = (operator.as_str(), kind.as_str());
            Err(format!("{operator} cannot be asked of {name:?}, which is {kind}"))
        }
    }
}

/// The parser of patterns draws a picture over several lines; its last one says what is wrong.
fn refused_pattern(pattern: &str, error: &regex::Error) -> String {
    let text = error.to_string();
    let line = text.lines().last().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    format!("Failed to compile regular expression {pattern:?}: {line}")
}

impl Operator {
    fn as_str(self) -> &'static str {
        match self {
            Self::Equal => "equality",
            Self::In | Self::Contains => "in and contains",
            Self::Matches => "matches",
            Self::IsEmpty => "is empty",
        }
    }
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Number => "a number",
            Self::Flag => "true or false",
            Self::Texts => "a list of texts",
            Self::Map(_) => "a map",
            Self::Object(_) => "an object",
            Self::Objects(_) => "a list of objects",
        }
    }
}
