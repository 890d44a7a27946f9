//! The functions an expression may call.

use super::Error;
use super::value::Value;
use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Signed, ToPrimitive, Zero};

/// Names, for the error that tells what there is.
pub(super) const NAMES: &str = "abs, sign, floor, ceil, trunc, round, min, max, sum, mean, median, sqrt, cbrt, root, exp, \
     ln, log, log2, sin, cos, tan, asin, acos, atan, sinh, cosh, tanh, rad, deg, gcd, lcm, mod";

/// What became of a call.
pub(super) enum Called {
    Value(Result<Value, Error>),
    /// No function has that name.
    UnknownName,
    /// It takes other arguments: which.
    WrongArguments(&'static str),
}

/// Calls the function `name`.
pub(super) fn call(name: &str, arguments: &[Value]) -> Called {
    let one = |f: fn(&Value) -> Result<Value, Error>| match arguments {
        [x] => Called::Value(f(x)),
        _ => Called::WrongArguments("one argument"),
    };
    let two = |f: fn(&Value, &Value) -> Result<Value, Error>| match arguments {
        [x, y] => Called::Value(f(x, y)),
        _ => Called::WrongArguments("two arguments"),
    };
    let some = |f: fn(&[Value]) -> Result<Value, Error>| match arguments {
        [] => Called::WrongArguments("at least one argument"),
        all => Called::Value(f(all)),
    };
    match name {
        "abs" => one(|x| Ok(x.absolute())),
        "sign" => one(|x| Ok(Value::Exact(x.fraction().signum()))),
        "floor" => one(|x| Ok(Value::Exact(x.fraction().floor()))),
        "ceil" => one(|x| Ok(Value::Exact(x.fraction().ceil()))),
        "trunc" => one(|x| Ok(Value::Exact(x.fraction().trunc()))),
        "round" => match arguments {
            [x] => Called::Value(Ok(Value::Exact(x.fraction().round()))),
            [x, digits] => round(x, digits),
            _ => Called::WrongArguments("a number, and how many digits to keep"),
        },
        "min" => some(|all| extreme(all, std::cmp::Ordering::Less)),
        "max" => some(|all| extreme(all, std::cmp::Ordering::Greater)),
        "sum" => some(sum),
        "mean" | "avg" => some(|all| sum(all)?.divide(&Value::integer(all.len() as i64))),
        "median" => some(median),
        "sqrt" => one(|x| x.root(2)),
        "cbrt" => one(|x| x.root(3)),
        "root" => root(arguments),
        "exp" => one(|x| float(x, "exp", f64::exp, 0, 1)),
        "ln" => one(|x| float(x, "ln", f64::ln, 1, 0)),
        "log" | "log10" => match arguments {
            [x] => Called::Value(logarithm(x, &Value::integer(10))),
            [x, base] => Called::Value(logarithm(x, base)),
            _ => Called::WrongArguments("a number, and the base if it is not 10"),
        },
        "log2" => one(|x| logarithm(x, &Value::integer(2))),
        "sin" => one(|x| float(x, "sin", f64::sin, 0, 0)),
        "cos" => one(|x| float(x, "cos", f64::cos, 0, 1)),
        "tan" => one(|x| float(x, "tan", f64::tan, 0, 0)),
        "asin" => one(|x| float(x, "asin", f64::asin, 0, 0)),
        "acos" => one(|x| float(x, "acos", f64::acos, 1, 0)),
        "atan" => one(|x| float(x, "atan", f64::atan, 0, 0)),
        "sinh" => one(|x| float(x, "sinh", f64::sinh, 0, 0)),
        "cosh" => one(|x| float(x, "cosh", f64::cosh, 0, 1)),
        "tanh" => one(|x| float(x, "tanh", f64::tanh, 0, 0)),
        "rad" => one(|x| float(x, "rad", f64::to_radians, 0, 0)),
        "deg" => one(|x| float(x, "deg", f64::to_degrees, 0, 0)),
        "gcd" => whole(arguments, |a, b| a.gcd(&b)),
        "lcm" => whole(arguments, |a, b| a.lcm(&b)),
        "mod" => two(Value::remainder),
        _ => Called::UnknownName,
    }
}

/// `n!`
pub(super) fn factorial(value: &Value) -> Result<Value, Error> {
    let n = value.whole().filter(|n| !n.is_negative()).ok_or(Error::NotReal { function: "the factorial" })?;
    // 500! has 3,768 bits; 600! is over the bound.
    let n = n.to_u32().filter(|n| *n <= 600).ok_or(Error::TooLarge { what: "the factorial" })?;
    let product = (2..=n).fold(BigInt::one(), |product, k| product * k);
    Value::exact(BigRational::from_integer(product), "the factorial")
}

/// A function of floats. It is exactly `at` where its argument is exactly `exact`.
fn float(x: &Value, name: &'static str, f: fn(f64) -> f64, exact: i64, at: i64) -> Result<Value, Error> {
    if *x == Value::integer(exact) {
        return Ok(Value::integer(at));
    }
    Value::near(f(x.float()?), name)
}

/// Halves go away from zero.
fn round(x: &Value, digits: &Value) -> Called {
    let Some(digits) = digits.whole().and_then(|digits| digits.to_i32()).filter(|digits| (-300..=300).contains(digits))
    else {
        return Called::WrongArguments("a number, and a whole number of digits from -300 to 300");
    };
    let scale = BigRational::from_integer(BigInt::from(10)).pow(digits);
    Called::Value(Value::exact((x.fraction() * &scale).round() / scale, "the rounded number"))
}

fn root(arguments: &[Value]) -> Called {
    let degree = arguments.get(1).and_then(Value::whole).and_then(|n| n.to_u32()).filter(|n| (1..=1000).contains(n));
    match (arguments, degree) {
        ([x, _], Some(degree)) => Called::Value(x.root(degree)),
        _ => Called::WrongArguments("a number, and a whole degree from 1 to 1000"),
    }
}

fn extreme(all: &[Value], wanted: std::cmp::Ordering) -> Result<Value, Error> {
    let mut best = &all[0];
    for value in &all[1..] {
        if value.compare(best)? == wanted {
            best = value;
        }
    }
    Ok(best.clone())
}

fn sum(all: &[Value]) -> Result<Value, Error> {
    all.iter().try_fold(Value::integer(0), |sum, value| sum.add(value))
}

fn median(all: &[Value]) -> Result<Value, Error> {
    let mut keyed = all.iter().map(|value| (value.fraction(), value)).collect::<Vec<_>>();
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    let middle = keyed.len() / 2;
    if keyed.len() % 2 == 1 {
        return Ok(keyed[middle].1.clone());
    }
    keyed[middle - 1].1.add(keyed[middle].1)?.divide(&Value::integer(2))
}

/// Exact if it is a whole number.
fn logarithm(x: &Value, base: &Value) -> Result<Value, Error> {
    let not_real = Error::NotReal { function: "the logarithm" };
    let (argument, base_float) = (x.float()?, base.float()?);
    if argument <= 0.0 || base_float <= 0.0 || *base == Value::integer(1) {
        return Err(not_real);
    }
    let near = match base_float {
        2.0 => argument.log2(),
        10.0 => argument.log10(),
        _ => argument.ln() / base_float.ln(),
    };
    let whole = Value::integer(near.round() as i64);
    if matches!((x, base), (Value::Exact(_), Value::Exact(_))) && base.power(&whole).is_ok_and(|power| power == *x) {
        return Ok(whole);
    }
    Value::near(near, "the logarithm")
}

fn whole(arguments: &[Value], f: fn(BigInt, BigInt) -> BigInt) -> Called {
    let numbers = arguments.iter().map(Value::whole).collect::<Option<Vec<_>>>();
    let Some(numbers) = numbers.filter(|numbers| !numbers.is_empty()) else {
        return Called::WrongArguments("whole numbers");
    };
    let mut result = numbers[0].abs();
    for number in &numbers[1..] {
        result = f(result, number.clone());
        if result.bits() > super::value::BITS_MAX {
            return Called::Value(Err(Error::TooLarge { what: "the result" }));
        }
    }
    debug_assert!(!result.is_negative() || result.is_zero());
    Called::Value(Value::exact(BigRational::from_integer(result), "the result"))
}
