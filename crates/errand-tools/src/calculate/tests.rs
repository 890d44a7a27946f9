use super::Calculate;
use proptest::prelude::*;

fn value(expression: &str) -> String {
    match (Calculate { expression: expression.to_owned() }).run() {
        Ok(text) => text,
        Err(error) => format!("{}: {error}", error.code()),
    }
}

fn check(expression: &str, wanted: &str) {
    assert_eq!(value(expression), wanted, "{expression}");
}

#[test]
fn arithmetic_is_exact() {
    check("0.1 + 0.2", "0.3");
    check("1/3 * 3", "1");
    check("1/3", "≈ 0.333333333333333333333333333333 (exactly 1/3)");
    check("-2/3", "≈ -0.666666666666666666666666666667 (exactly -2/3)");
    check("1/3000", "≈ 0.000333333333333333333333333333333 (exactly 1/3000)");
    check("2^100", "1267650600228229401496703205376");
    check("1_000 * 1.07^2", "1144.9");
    check("20!", "2432902008176640000");
    check("1e3 + 2.5e-2 + 1E+2", "1100.025");
    check("7 / 8", "0.875");
}

#[test]
fn operators_bind_as_in_mathematics() {
    check("2 + 3 * 4", "14");
    check("(2 + 3) * 4", "20");
    check("2^3^2", "512");
    check("2**3**2", "512");
    check("-2^2", "-4");
    check("2^-1", "0.5");
    check("2^-1*3", "1.5");
    check("10 - 4 - 3", "3");
    check("100 / 10 / 2", "5");
    check("--3", "3");
    check("3 × 4 ÷ 6 − 1", "1");
    check("3!^2", "36");
}

#[test]
fn percent_and_remainder_are_told_apart_by_what_follows() {
    check("10 % 3", "1");
    check("-7 % 3", "2");
    check("200 * 15%", "30");
    check("15% * 200", "30");
    check("(5%)", "0.05");
    check("50%!", "not_a_number: the factorial has no real value there: check its argument");
    check("mod(10, 4)", "2");
}

#[test]
fn functions_are_exact_where_they_can_be() {
    check("sqrt(16) + cbrt(-27) + root(1/16, 4)", "1.5");
    check("sqrt(2)", "≈ 1.4142135623731");
    check("4^0.5", "2");
    check("8^(2/3)", "4");
    check("log(1000)", "3");
    check("log(8, 2)", "3");
    check("log2(1/1024)", "-10");
    check("sin(0) + cos(0) + ln(1) + exp(0)", "2");
    check("ln(2)", "≈ 0.693147180559945");
    check("round(2.5)", "3");
    check("round(-2.5)", "-3");
    check("round(pi, 4)", "3.1416");
    check("round(1234, -2)", "1200");
    check("min(3, 1, 2) + max(1/2, 0.25)", "1.5");
    check("mean(1, 2, 4)", "≈ 2.33333333333333333333333333333 (exactly 7/3)");
    check("median(5, 1, 3, 2)", "2.5");
    check("gcd(12, 18) + lcm(4, 6)", "18");
    check("floor(-1.5) + ceil(1.2) + trunc(-1.9) + sign(-3) + abs(-4)", "2");
    check("exp(100)", "≈ 2.68811714181614e43");
    check("sin(pi/2)", "≈ 1");
}

#[test]
fn what_cannot_be_is_said_clearly() {
    check("1/0", "division_by_zero: division by zero");
    check("5 % 0", "division_by_zero: division by zero");
    check("0^-1", "division_by_zero: division by zero");
    check("sqrt(-1)", "not_a_number: the root has no real value there: check its argument");
    check("ln(-1)", "not_a_number: ln has no real value there: check its argument");
    check("log(0)", "not_a_number: the logarithm has no real value there: check its argument");
    check("asin(2)", "not_a_number: asin has no real value there: check its argument");
    check(
        "1,000",
        "expression_invalid: cannot read the expression at character 2: a comma separates arguments of a function; write 1000 or 1_000 for thousands",
    );
    check(
        "2(3)",
        "expression_invalid: cannot read the expression at character 2: an operator is missing before '('; write * to multiply",
    );
    check("2 +", "expression_invalid: cannot read the expression at character 4: it ends where a number is missing");
    check("(2", "expression_invalid: cannot read the expression at character 3: a `)` is missing");
    check("$5", "expression_invalid: cannot read the expression at character 1: a number is missing before '$'");
    check("sqrt(1, 2)", "expression_invalid: cannot read the expression at character 1: sqrt takes one argument");
    assert!(value("foo(1)").starts_with(
        "expression_invalid: cannot read the expression at character 1: there is no function \"foo\"; there are abs,"
    ));
    assert!(value("x + 1").contains("\"x\" is not known"));
}

#[test]
fn nothing_takes_long_or_overflows() {
    for expression in ["9^9^9^9", "9^9999", "(2^4000)^2", "700!", "10^400 * 10^900", "1e99999999999", "exp(1e9)", "1e1201"] {
        assert!(value(expression).starts_with("number_too_large"), "{expression}: {}", value(expression));
    }
    for expression in ["(".repeat(2000), "-".repeat(2000), "2^".repeat(1000)] {
        assert!(value(&expression).starts_with("expression_invalid"), "{expression}");
    }
    let long = format!("1/3{}", "*1.0000000000001".repeat(80));
    assert!(value(&long).starts_with('≈'));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,80}") {
        let _ = value(&text);
    }

    #[test]
    fn no_expression_like_text_makes_it_panic(text in "([0-9.]{1,4}|[-+*/^%!(),e]|sqrt\\(|log\\(|round\\(|root\\(|gcd\\(|median\\(|pi){1,24}") {
        let _ = value(&text);
    }

    #[test]
    fn whole_numbers_agree_with_the_machine(a in -10_000i64..10_000, b in -10_000i64..10_000, c in 1i64..100) {
        prop_assert_eq!(value(&format!("({a}) * ({b}) - ({a}) % {c}")), (a * b - a.rem_euclid(c)).to_string());
    }
}
