//! Money at its edges: nothing overflows, nothing rounds to nothing, a bound is a bound.

use super::sample::PRICE;
use crate::*;

const MAX: Usd = Usd::from_nanos(u64::MAX);

#[test]
fn sums_stop_at_the_end_of_money() {
    assert_eq!(MAX + Usd::from_nanos(1), MAX);
    assert_eq!([MAX, MAX].into_iter().sum::<Usd>(), MAX);
    assert_eq!(Usd::from_nanos(3).less(Usd::from_nanos(5)), Usd::ZERO);
    let most = Amount { usd: MAX, tokens: u64::MAX };
    assert_eq!(most + most, most);
    let mut allowance = Allowance { amount: most, steps: u32::MAX, active_ms: u64::MAX };
    allowance += allowance;
    assert_eq!(allowance, Allowance { amount: most, steps: u32::MAX, active_ms: u64::MAX });
}

#[test]
fn the_largest_usage_at_the_largest_price_is_a_number() {
    let price = Price { input: u64::MAX, cached_input: u64::MAX, output: u64::MAX };
    let usage = Usage { input_tokens: u64::MAX, cached_input_tokens: 7, output_tokens: u64::MAX, reasoning_tokens: 0 };
    assert_eq!(price.cost(&usage), MAX);
    assert_eq!(price.bound(u64::MAX, u64::MAX), MAX);
    assert_eq!(price.output_for(MAX), 1_000_000);
    assert_eq!(Price { output: 1, ..PRICE }.output_for(MAX), u64::MAX);
}

#[test]
fn one_token_is_never_free_unless_its_price_is() {
    for price in [1, 5_000, 999_999, 1_000_000, 1_000_001] {
        let price = Price { input: price, cached_input: price, output: price };
        let one = Usage { output_tokens: 1, ..Usage::default() };
        assert_eq!(price.cost(&one).nanos(), price.output.div_ceil(1_000_000));
    }
    assert_eq!(Price::FREE.bound(u64::MAX, u64::MAX), Usd::ZERO);
    assert_eq!(Price::FREE.output_for(Usd::ZERO), u64::MAX);
}

/// A provider that says it read more from its cache than there was cannot make a call cheaper than its input.
#[test]
fn more_cached_than_input_counts_as_all_cached() {
    let lying = Usage { input_tokens: 10, cached_input_tokens: 99, output_tokens: 0, reasoning_tokens: 0 };
    let honest = Usage { cached_input_tokens: 10, ..lying };
    assert_eq!(PRICE.cost(&lying), PRICE.cost(&honest));
}

/// Whatever part was cached and whatever the cache costs: the cost is within the bound.
#[test]
fn no_cost_is_beyond_its_bound() {
    let dear_cache = Price { cached_input: 3_000_000, ..PRICE };
    for price in [PRICE, dear_cache, Price { input: 1, cached_input: 1, output: 1 }] {
        for input in [0, 1, 3, 999, 1_000_001] {
            for cached in [0, 1, input / 2, input] {
                for output in [0, 1, 77, 8_192] {
                    let usage = Usage {
                        input_tokens: input,
                        cached_input_tokens: cached,
                        output_tokens: output,
                        reasoning_tokens: 0,
                    };
                    assert!(price.cost(&usage) <= price.bound(input, output), "{price:?} {usage:?}");
                }
            }
        }
    }
}

/// What money buys costs no more than that money, and a token more would.
#[test]
fn output_for_is_exact() {
    for nanos in [0, 1, 2, 3, 999, 1_000_000, u64::from(u32::MAX)] {
        let money = Usd::from_nanos(nanos);
        let tokens = PRICE.output_for(money);
        assert!(PRICE.bound(0, tokens) <= money, "{nanos}");
        assert!(PRICE.bound(0, tokens + 1) > money, "{nanos}");
    }
}

#[test]
fn dollars_are_shown_rounded_up() {
    let shown = [(0, "$0.00"), (1, "$0.000001"), (1_001, "$0.000002"), (10_000_000, "$0.01"), (999_999_999, "$1.00")];
    for (nanos, text) in shown {
        assert_eq!(Usd::from_nanos(nanos).to_string(), text);
    }
    assert_eq!(MAX.to_string(), "$18446744073.709552");
}
