//! Numbers as people write them.

use super::value::Value;
use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, Zero};

/// Digits shown of a fraction that has no end.
const DIGITS: usize = 30;
/// Most decimals of a fraction that is written out whole.
const DECIMALS_MAX: usize = 60;
/// A numerator or denominator longer than this says nothing to a reader.
const FRACTION_CHARS_MAX: usize = 24;

/// The number, with ≈ before it if it is not exact.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::Exact(number) if number.is_integer() => number.to_integer().to_string(),
        Value::Exact(number) => show_fraction(number),
        Value::Near(number) => format!("≈ {}", float(*number)),
    }
}

fn show_fraction(number: &BigRational) -> String {
    if let Some(decimals) = decimals(number.denom()) {
        return shifted(&(number * ten_to(decimals)).to_integer(), decimals);
    }
    // The whole part's digits count among those shown.
    let whole = number.trunc().to_integer();
    let zeros = if whole.is_zero() { leading_zeros(number) } else { 0 };
    let whole_digits = if whole.is_zero() { 0 } else { whole.abs().to_string().len() };
    let decimals = (DIGITS + zeros).saturating_sub(whole_digits).max(10);
    let near = shifted(&(number * ten_to(decimals)).round().to_integer(), decimals);
    let exact = number.to_string();
    if exact.len() <= FRACTION_CHARS_MAX { format!("≈ {near} (exactly {exact})") } else { format!("≈ {near}") }
}

/// How many decimals a fraction with this denominator has; `None` if they never end, or end too late.
fn decimals(denominator: &BigInt) -> Option<usize> {
    let mut rest = BigInt::one();
    (0..=DECIMALS_MAX).find(|_| {
        let fits = (&rest % denominator).is_zero();
        rest *= 10;
        fits
    })
}

/// Zeros between the point and the first digit of a fraction below 1.
fn leading_zeros(number: &BigRational) -> usize {
    (number.denom() / number.numer().abs()).to_string().len() - 1
}

fn ten_to(power: usize) -> BigRational {
    BigRational::from_integer(num_traits::pow::pow(BigInt::from(10), power))
}

/// A whole number with a point put `decimals` digits before its end, without needless zeros.
fn shifted(number: &BigInt, decimals: usize) -> String {
    let digits = format!("{:0>width$}", number.abs().to_string(), width = decimals + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    let sign = if number.is_negative() { "-" } else { "" };
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
}

/// 15 digits: what a double holds for certain.
fn float(number: f64) -> String {
    let scientific = format!("{number:.14e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-7..=20).contains(&exponent) {
        let decimals = usize::try_from(14 - exponent).unwrap_or(0);
        let plain = format!("{number:.decimals$}");
        return if plain.contains('.') { plain.trim_end_matches('0').trim_end_matches('.').to_owned() } else { plain };
    }
    let mantissa = if mantissa.contains('.') { mantissa.trim_end_matches('0').trim_end_matches('.') } else { mantissa };
    format!("{mantissa}e{exponent}")
}
