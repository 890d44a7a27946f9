//! Reading an expression and working it out on the way, by operator precedence.

use super::functions::{self, Called};
use super::value::Value;
use super::{DEPTH_MAX, Error};
use num_bigint::BigInt;
use num_rational::BigRational;

/// How strongly operators bind: sums, products, signs, powers, then `!` and `%` behind a number.
const SUM: u8 = 10;
const PRODUCT: u8 = 20;
const SIGN: u8 = 30;
const POWER: u8 = 40;

/// A power of ten in a number, at most.
const EXPONENT_MAX: i32 = 1200;

/// The value of `text`.
pub(super) fn evaluate(text: &str) -> Result<Value, Error> {
    let mut reader = Reader { chars: text.chars().collect(), at: 0, depth: 0 };
    let value = reader.expression(0)?;
    match reader.peek() {
        None => Ok(value),
        Some(',') => Err(reader.problem("a comma separates arguments of a function; write 1000 or 1_000 for thousands")),
        Some(')') => Err(reader.problem("this `)` closes nothing")),
        Some(found) if found.is_alphanumeric() || found == '(' => {
            Err(reader.problem(format!("an operator is missing before {found:?}; write * to multiply")))
        }
        Some(found) => Err(reader.problem(format!("{found:?} is no operator"))),
    }
}

struct Reader {
    chars: Vec<char>,
    at: usize,
    depth: usize,
}

impl Reader {
    /// An expression of operators that bind more strongly than `floor`.
    fn expression(&mut self, floor: u8) -> Result<Value, Error> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.problem(format!("more than {DEPTH_MAX} parentheses or signs within one another")));
        }
        let mut left = self.operand()?;
        while let Some((operator, strength)) = self.operator() {
            if strength <= floor {
                break;
            }
            self.at += operator.width();
            // A power takes the whole power to its right: 2^3^2 is 2^9.
            let right = self.expression(if strength == POWER { strength - 1 } else { strength })?;
            left = operator.apply(&left, &right)?;
        }
        self.depth -= 1;
        Ok(left)
    }

    /// A number, a name, something in parentheses, each with signs before and `!` or `%` behind.
    fn operand(&mut self) -> Result<Value, Error> {
        let mut value = match self.peek() {
            Some('-' | '−') => {
                self.at += 1;
                return Ok(self.expression(SIGN)?.negate());
            }
            Some('+') => {
                self.at += 1;
                return self.expression(SIGN);
            }
            Some('(') => {
                self.at += 1;
                let value = self.expression(0)?;
                self.close()?;
                value
            }
            Some(c) if c.is_ascii_digit() || c == '.' => self.number()?,
            Some(c) if c.is_alphabetic() => self.name()?,
            Some(c) => return Err(self.problem(format!("a number is missing before {c:?}"))),
            None => return Err(self.problem("it ends where a number is missing")),
        };
        loop {
            match self.peek() {
                Some('!') => value = functions::factorial(&value)?,
                Some('%') if !self.is_remainder() => value = value.divide(&Value::integer(100))?,
                _ => return Ok(value),
            }
            self.at += 1;
        }
    }

    /// Whether the `%` here has an operand behind it.
    fn is_remainder(&self) -> bool {
        let next = self.chars[self.at + 1..].iter().find(|c| !c.is_whitespace());
        next.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '('))
    }

    fn operator(&mut self) -> Option<(Operator, u8)> {
        Some(match self.peek()? {
            '+' => (Operator::Add, SUM),
            '-' | '−' => (Operator::Subtract, SUM),
            '*' if self.chars.get(self.at + 1) == Some(&'*') => (Operator::DoubleStar, POWER),
            '*' | '×' | '·' => (Operator::Multiply, PRODUCT),
            '/' | '÷' => (Operator::Divide, PRODUCT),
            '%' => (Operator::Remainder, PRODUCT),
            '^' => (Operator::Power, POWER),
            _ => return None,
        })
    }

    fn number(&mut self) -> Result<Value, Error> {
        let start = self.at;
        let (mut digits, mut decimals, mut point) = (String::new(), 0i32, false);
        while let Some(&c) = self.chars.get(self.at) {
            match c {
                '0'..='9' => {
                    digits.push(c);
                    decimals += i32::from(point);
                }
                '.' if !point => point = true,
                '_' if !digits.is_empty() => {}
                _ => break,
            }
            self.at += 1;
        }
        let Ok(number) = digits.parse::<BigInt>() else {
            self.at = start;
            return Err(self.problem("a point without digits"));
        };
        let exponent = self.exponent()?.saturating_sub(decimals);
        if exponent.abs() > EXPONENT_MAX {
            return Err(Error::TooLarge { what: "a number in the expression" });
        }
        let scale = BigRational::from_integer(BigInt::from(10)).pow(exponent);
        Value::exact(BigRational::from_integer(number) * scale, "a number in the expression")
    }

    /// What follows an `e` in a number; 0 if none does.
    fn exponent(&mut self) -> Result<i32, Error> {
        let rest = &self.chars[self.at..];
        let sign = match rest {
            ['e' | 'E', '+', digit, ..] if digit.is_ascii_digit() => 1,
            ['e' | 'E', '-' | '−', digit, ..] if digit.is_ascii_digit() => -1,
            ['e' | 'E', digit, ..] if digit.is_ascii_digit() => 0,
            _ => return Ok(0),
        };
        self.at += if sign == 0 { 1 } else { 2 };
        let digits: String = self.chars[self.at..].iter().take_while(|c| c.is_ascii_digit()).collect();
        self.at += digits.len();
        let size = digits.parse::<i32>().map_err(|_| Error::TooLarge { what: "a number in the expression" })?;
        Ok(if sign < 0 { -size } else { size })
    }

    /// A constant, or a function with its arguments.
    fn name(&mut self) -> Result<Value, Error> {
        let start = self.at;
        let name: String =
            self.chars[start..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').collect::<String>().to_lowercase();
        self.at += self.chars[start..].iter().take_while(|c| c.is_alphanumeric() || **c == '_').count();
        if self.peek() != Some('(') {
            return match name.as_str() {
                "pi" | "π" => Ok(Value::Near(std::f64::consts::PI)),
                "e" => Ok(Value::Near(std::f64::consts::E)),
                _ => Err(self.problem_at(
                    start,
                    format!("{name:?} is not known; the constants are pi and e, the functions {}", functions::NAMES),
                )),
            };
        }
        let arguments = self.arguments()?;
        match functions::call(&name, &arguments) {
            Called::Value(value) => value,
            Called::WrongArguments(takes) => Err(self.problem_at(start, format!("{name} takes {takes}"))),
            Called::UnknownName => {
                Err(self.problem_at(start, format!("there is no function {name:?}; there are {}", functions::NAMES)))
            }
        }
    }

    fn arguments(&mut self) -> Result<Vec<Value>, Error> {
        self.at += 1;
        let mut arguments = Vec::new();
        if self.peek() == Some(')') {
            self.at += 1;
            return Ok(arguments);
        }
        loop {
            arguments.push(self.expression(0)?);
            match self.peek() {
                Some(',' | ';') => self.at += 1,
                _ => {
                    self.close()?;
                    return Ok(arguments);
                }
            }
        }
    }

    fn close(&mut self) -> Result<(), Error> {
        if self.peek() != Some(')') {
            return Err(self.problem("a `)` is missing"));
        }
        self.at += 1;
        Ok(())
    }

    /// The next character that is no space; stands on it.
    fn peek(&mut self) -> Option<char> {
        while self.chars.get(self.at).is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
        self.chars.get(self.at).copied()
    }

    fn problem(&self, problem: impl Into<String>) -> Error {
        self.problem_at(self.at, problem)
    }

    fn problem_at(&self, at: usize, problem: impl Into<String>) -> Error {
        Error::Unreadable { position: at + 1, problem: problem.into() }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Power,
    /// `**`, another way to write a power.
    DoubleStar,
}

impl Operator {
    fn width(self) -> usize {
        if self == Operator::DoubleStar { 2 } else { 1 }
    }

    fn apply(self, left: &Value, right: &Value) -> Result<Value, Error> {
        match self {
            Operator::Add => left.add(right),
            Operator::Subtract => left.subtract(right),
            Operator::Multiply => left.multiply(right),
            Operator::Divide => left.divide(right),
            Operator::Remainder => left.remainder(right),
            Operator::Power | Operator::DoubleStar => left.power(right),
        }
    }
}
