//! Numbers: exact as long as they can be.

use super::Error;
use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};
use std::cmp::Ordering;

/// Most bits of a numerator or denominator: about 1,200 decimal digits. Keeps one operation under a millisecond.
pub(super) const BITS_MAX: u64 = 4096;

/// A finite number.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// A fraction, exactly.
    Exact(BigRational),
    /// Close to the true value; never infinite or NaN.
    Near(f64),
}

impl Value {
    pub(super) fn integer(number: i64) -> Self {
        Value::Exact(BigRational::from_integer(number.into()))
    }

    /// An exact number, if it is small enough.
    pub(super) fn exact(number: BigRational, what: &'static str) -> Result<Self, Error> {
        if number.numer().bits() > BITS_MAX || number.denom().bits() > BITS_MAX {
            return Err(Error::TooLarge { what });
        }
        Ok(Value::Exact(number))
    }

    /// An approximate number, if it is one.
    pub(super) fn near(number: f64, function: &'static str) -> Result<Self, Error> {
        match number {
            n if n.is_nan() => Err(Error::NotReal { function }),
            n if n.is_infinite() => Err(Error::TooLarge { what: "the result" }),
            n => Ok(Value::Near(n)),
        }
    }

    /// Approximately.
    pub(super) fn float(&self) -> Result<f64, Error> {
        let float = match self {
            Value::Exact(number) => number.to_f64().unwrap_or(f64::NAN),
            Value::Near(number) => *number,
        };
        if float.is_finite() { Ok(float) } else { Err(Error::TooLarge { what: "a number given to a function" }) }
    }

    /// As a fraction: an approximate number is taken at its word.
    pub(super) fn fraction(&self) -> BigRational {
        match self {
            Value::Exact(number) => number.clone(),
            Value::Near(number) => BigRational::from_float(*number).unwrap_or_else(BigRational::zero),
        }
    }

    /// As a whole number, if it is exactly one.
    pub(super) fn whole(&self) -> Option<BigInt> {
        match self {
            Value::Exact(number) if number.is_integer() => Some(number.to_integer()),
            _ => None,
        }
    }

    pub(super) fn is_zero(&self) -> bool {
        match self {
            Value::Exact(number) => number.is_zero(),
            Value::Near(number) => *number == 0.0,
        }
    }

    pub(super) fn add(&self, other: &Value) -> Result<Value, Error> {
        self.combine(other, "the sum", |a, b| a + b, |a, b| a + b)
    }

    pub(super) fn subtract(&self, other: &Value) -> Result<Value, Error> {
        self.combine(other, "the difference", |a, b| a - b, |a, b| a - b)
    }

    pub(super) fn multiply(&self, other: &Value) -> Result<Value, Error> {
        self.combine(other, "the product", |a, b| a * b, |a, b| a * b)
    }

    pub(super) fn divide(&self, other: &Value) -> Result<Value, Error> {
        if other.is_zero() {
            return Err(Error::DivisionByZero);
        }
        self.combine(other, "the quotient", |a, b| a / b, |a, b| a / b)
    }

    /// The remainder with the sign of the divisor: -7 % 3 is 2.
    pub(super) fn remainder(&self, other: &Value) -> Result<Value, Error> {
        if other.is_zero() {
            return Err(Error::DivisionByZero);
        }
        self.combine(other, "the remainder", |a, b| a - b * (a / b).floor(), |a, b| a - b * (a / b).floor())
    }

    pub(super) fn negate(&self) -> Value {
        match self {
            Value::Exact(number) => Value::Exact(-number),
            Value::Near(number) => Value::Near(-number),
        }
    }

    pub(super) fn absolute(&self) -> Value {
        match self {
            Value::Exact(number) => Value::Exact(number.abs()),
            Value::Near(number) => Value::Near(number.abs()),
        }
    }

    pub(super) fn power(&self, exponent: &Value) -> Result<Value, Error> {
        if let (Value::Exact(base), Value::Exact(by)) = (self, exponent) {
            if by.is_integer() {
                return power_whole(base, &by.to_integer());
            }
            if let Some(degree) = by.denom().to_u32().filter(|degree| *degree <= 64)
                && let Value::Exact(root) = self.root(degree)?
            {
                return power_whole(&root, by.numer());
            }
        }
        Value::near(self.float()?.powf(exponent.float()?), "the power")
    }

    /// The root of that degree (at least 1), exactly if it is a fraction.
    pub(super) fn root(&self, degree: u32) -> Result<Value, Error> {
        let negative = match self {
            Value::Exact(number) => number.is_negative(),
            Value::Near(number) => *number < 0.0,
        };
        if degree == 0 || (negative && degree.is_even()) {
            return Err(Error::NotReal { function: "the root" });
        }
        if let Value::Exact(number) = self {
            let root = BigRational::new(number.numer().nth_root(degree), number.denom().nth_root(degree));
            if num_traits::pow::Pow::pow(&root, degree) == *number {
                return Ok(Value::Exact(root));
            }
        }
        let float = self.float()?;
        let root = match degree {
            2 => float.sqrt(),
            3 => float.cbrt(),
            degree => float.abs().powf(1.0 / f64::from(degree)).copysign(float),
        };
        Value::near(root, "the root")
    }

    pub(super) fn compare(&self, other: &Value) -> Result<Ordering, Error> {
        match (self, other) {
            (Value::Exact(a), Value::Exact(b)) => Ok(a.cmp(b)),
            _ => Ok(self.float()?.total_cmp(&other.float()?)),
        }
    }

    fn combine(
        &self,
        other: &Value,
        what: &'static str,
        exact: impl Fn(&BigRational, &BigRational) -> BigRational,
        near: impl Fn(f64, f64) -> f64,
    ) -> Result<Value, Error> {
        match (self, other) {
            (Value::Exact(a), Value::Exact(b)) => Value::exact(exact(a, b), what),
            _ => Value::near(near(self.float()?, other.float()?), what),
        }
    }
}

fn power_whole(base: &BigRational, exponent: &BigInt) -> Result<Value, Error> {
    if exponent.is_zero() {
        return Ok(Value::integer(1));
    }
    if base.is_zero() {
        return if exponent.is_negative() { Err(Error::DivisionByZero) } else { Ok(Value::integer(0)) };
    }
    if base.abs().is_one() {
        let negative = base.is_negative() && exponent.is_odd();
        return Ok(Value::integer(if negative { -1 } else { 1 }));
    }
    let too_large = Error::TooLarge { what: "the power" };
    let times = exponent.abs().to_u64().filter(|times| *times <= BITS_MAX).ok_or(too_large.clone())?;
    // A number of b bits is at least 2^(b-1): what is surely too large is not worked out.
    let bits = base.numer().bits().max(base.denom().bits()) - 1;
    if bits * times > BITS_MAX {
        return Err(too_large);
    }
    let times = i32::try_from(times).map_err(|_| too_large)?;
    Value::exact(base.pow(if exponent.is_negative() { -times } else { times }), "the power")
}
