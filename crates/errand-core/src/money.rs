//! Money and tokens: what a call may cost at most, and what it did cost.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};

/// US dollars in nanodollars (10⁻⁹ USD), never negative.
///
/// The cheapest price known (cached tokens at $0.005 per million) is 5 nanodollars a token, so nothing rounds to 0;
/// the largest amount is 18 billion dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Usd(u64);

impl Usd {
    /// No money.
    pub const ZERO: Usd = Usd(0);

    /// From nanodollars.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// In nanodollars.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// What is left after `other`, at least 0.
    pub const fn less(self, other: Usd) -> Usd {
        Usd(self.0.saturating_sub(other.0))
    }
}

impl Add for Usd {
    type Output = Usd;
    fn add(self, other: Usd) -> Usd {
        Usd(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Usd {
    fn add_assign(&mut self, other: Usd) {
        *self = *self + other;
    }
}

impl Sum for Usd {
    fn sum<I: Iterator<Item = Usd>>(amounts: I) -> Usd {
        amounts.fold(Usd::ZERO, Add::add)
    }
}

impl fmt::Display for Usd {
    /// Dollars with as many decimals as the amount needs, at least 2 and at most 6 (rounded up).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.div_ceil(1_000);
        let (whole, fraction) = (micros / 1_000_000, micros % 1_000_000);
        let digits = format!("{fraction:06}");
        let kept = digits.trim_end_matches('0').len().max(2);
        write!(f, "${whole}.{}", &digits[..kept])
    }
}

/// What a model's tokens cost, in nanodollars per million tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Price {
    /// Input tokens that the provider had not cached.
    pub input: u64,
    /// Input tokens read from the provider's cache.
    pub cached_input: u64,
    /// Output tokens, reasoning included.
    pub output: u64,
}

impl Price {
    /// A model that costs nothing (scripted or run by the user).
    pub const FREE: Price = Price { input: 0, cached_input: 0, output: 0 };

    /// What `usage` costs, rounded up to a nanodollar.
    pub fn cost(&self, usage: &Usage) -> Usd {
        let fresh = usage.input_tokens.saturating_sub(usage.cached_input_tokens);
        let cached = usage.cached_input_tokens.min(usage.input_tokens);
        let parts = [(fresh, self.input), (cached, self.cached_input), (usage.output_tokens, self.output)];
        let parts = parts.iter().map(|(tokens, price)| u128::from(*tokens) * u128::from(*price));
        let sum = parts.fold(0, u128::saturating_add);
        Usd(u64::try_from(sum.div_ceil(1_000_000)).unwrap_or(u64::MAX))
    }

    /// The most that `input` and `output` tokens can cost, caching ignored.
    pub fn bound(&self, input: u64, output: u64) -> Usd {
        let dearest = Price { input: self.input.max(self.cached_input), ..*self };
        dearest.cost(&Usage { input_tokens: input, output_tokens: output, ..Usage::default() })
    }

    /// How many output tokens `money` buys at most.
    pub fn output_for(&self, money: Usd) -> u64 {
        if self.output == 0 {
            return u64::MAX;
        }
        u64::try_from(u128::from(money.nanos()) * 1_000_000 / u128::from(self.output)).unwrap_or(u64::MAX)
    }
}

/// Tokens as the provider counted them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// All input tokens, the cached ones among them.
    pub input_tokens: u64,
    /// Input tokens read from the provider's cache.
    pub cached_input_tokens: u64,
    /// All output tokens, reasoning among them.
    pub output_tokens: u64,
    /// Output tokens spent on reasoning.
    pub reasoning_tokens: u64,
}

/// What is reserved, spent or granted: money and tokens together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Amount {
    /// Money.
    pub usd: Usd,
    /// Input and output tokens.
    pub tokens: u64,
}

impl Amount {
    /// Nothing.
    pub const ZERO: Amount = Amount { usd: Usd::ZERO, tokens: 0 };
}

impl Add for Amount {
    type Output = Amount;
    fn add(self, other: Amount) -> Amount {
        Amount { usd: self.usd + other.usd, tokens: self.tokens.saturating_add(other.tokens) }
    }
}

impl AddAssign for Amount {
    fn add_assign(&mut self, other: Amount) {
        *self = *self + other;
    }
}

impl Sum for Amount {
    fn sum<I: Iterator<Item = Amount>>(amounts: I) -> Amount {
        amounts.fold(Amount::ZERO, Add::add)
    }
}

/// What an attempt cost, and whether anybody confirmed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// The amount put on the books.
    pub amount: Amount,
    /// False if the answer was lost and the reserved bound was booked in its place.
    pub confirmed: bool,
}

/// What a run may spend. A call whose bound does not fit is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Money; `None` for no bound.
    pub usd: Option<Usd>,
    /// Input and output tokens; `None` for no bound.
    pub tokens: Option<u64>,
    /// Model turns.
    pub steps: u32,
    /// Time the run is at work, in milliseconds. Waiting for people, timers and providers' limits does not count.
    pub active_ms: u64,
    /// What happens when the next call does not fit.
    pub when_exceeded: WhenExceeded,
}

/// What is granted on top of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Allowance {
    /// Money and tokens.
    pub amount: Amount,
    /// Model turns.
    pub steps: u32,
    /// Time at work, in milliseconds.
    pub active_ms: u64,
}

impl AddAssign for Allowance {
    fn add_assign(&mut self, other: Allowance) {
        self.amount += other.amount;
        self.steps = self.steps.saturating_add(other.steps);
        self.active_ms = self.active_ms.saturating_add(other.active_ms);
    }
}

/// What happens when the next call does not fit into the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WhenExceeded {
    /// The run ends as `budget_exceeded`.
    End,
    /// The run pauses until its budget is raised.
    Pause,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_round_up_and_cached_tokens_are_cheaper() {
        let price = Price { input: 150_000_000, cached_input: 75_000_000, output: 600_000_000 };
        let usage = Usage { input_tokens: 3, cached_input_tokens: 2, output_tokens: 1, reasoning_tokens: 0 };
        assert_eq!(price.cost(&usage), Usd::from_nanos(150 + 2 * 75 + 600));
        assert_eq!(Price { input: 1, ..Price::FREE }.cost(&usage), Usd::from_nanos(1));
        assert_eq!(price.output_for(Usd::from_nanos(1_199)), 1);
    }

    #[test]
    fn dollars_print_with_the_decimals_they_need() {
        assert_eq!(Usd::from_nanos(1_000_000_000).to_string(), "$1.00");
        assert_eq!(Usd::from_nanos(1_234_500).to_string(), "$0.001235");
        assert_eq!(Usd::from_nanos(1).to_string(), "$0.000001");
    }
}
