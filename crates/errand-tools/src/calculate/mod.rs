//! The tool `calculate`: exact arithmetic on fractions of any size up to a bound, and approximate functions that say so.
//!
//! Bounded in every direction: the expression's length by its schema, nesting by [`DEPTH_MAX`], numbers by
//! [`value::BITS_MAX`]; so the work of one call is bounded, and it may run within the attempt that asked for it.

mod functions;
mod parse;
mod show;
mod value;

use serde::Deserialize;

/// Parentheses and signs within one another, at most.
const DEPTH_MAX: usize = 64;

/// Arguments of the tool.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Calculate {
    expression: String,
}

impl Calculate {
    /// The value of the expression, as text.
    pub(crate) fn run(&self) -> Result<String, Error> {
        parse::evaluate(&self.expression).map(|value| show::show(&value))
    }
}

/// Why an expression has no value here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// It is not written as an expression.
    #[error("cannot read the expression at character {position}: {problem}")]
    Unreadable { position: usize, problem: String },
    #[error("division by zero")]
    DivisionByZero,
    #[error("{what} is too large: numbers may have about {} digits", value::BITS_MAX * 3 / 10)]
    TooLarge { what: &'static str },
    #[error("{function} has no real value there: check its argument")]
    NotReal { function: &'static str },
}

impl Error {
    /// The stable code.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Error::Unreadable { .. } => "expression_invalid",
            Error::DivisionByZero => "division_by_zero",
            Error::TooLarge { .. } => "number_too_large",
            Error::NotReal { .. } => "not_a_number",
        }
    }
}

#[cfg(test)]
mod tests;
