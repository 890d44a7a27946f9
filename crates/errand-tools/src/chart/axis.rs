//! Scales and their labels.

/// A place on an axis, and what stands there.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    pub(super) at: f64,
    pub(super) label: String,
}

/// An axis of numbers.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) ticks: Vec<Tick>,
}

impl Axis {
    /// Where `value` lies between the ends, from 0 to 1.
    pub(super) fn share(&self, value: f64) -> f64 {
        // Halves: the difference of two huge numbers must not overflow.
        (value / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0)
    }

    /// An axis from round number to round number around `low` and `high`, with about `count` ticks.
    pub(super) fn rounded(low: f64, high: f64, count: usize) -> Axis {
        let (low, high) = widened(low, high);
        let step = step(low, high, count);
        let (low, high) = ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step);
        Axis { low, high, ticks: ticks(low, high, step) }
    }

    /// An axis that ends where the values do (with a little room), with ticks at round numbers.
    pub(super) fn tight(low: f64, high: f64, count: usize, room: f64) -> Axis {
        let (low, high) = widened(low, high);
        let step = step(low, high, count);
        let (low, high) = (low - (high - low) * room, high + (high - low) * room);
        Axis { low, high, ticks: ticks(low, high, step) }
    }
}

/// Two numbers apart enough to be the ends of an axis.
fn widened(low: f64, high: f64) -> (f64, f64) {
    let least = low.abs().max(high.abs()) * 1e-9;
    if high - low > least {
        return (low, high);
    }
    let around = if low == 0.0 { 1.0 } else { low.abs() * 0.1 };
    (low - around, high + around)
}

/// 1, 2 or 5 times a power of ten that makes about `count` steps.
fn step(low: f64, high: f64, count: usize) -> f64 {
    let rough = (high / 2.0 - low / 2.0) * 2.0 / count.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0];
    steps.into_iter().map(|factor| factor * power).find(|step| *step >= rough * 0.999).unwrap_or(10.0 * power)
}

fn ticks(low: f64, high: f64, step: f64) -> Vec<Tick> {
    let first = (low / step - 1e-6).ceil();
    let last = (high / step + 1e-6).floor();
    let count = (last - first).clamp(0.0, 100.0) as usize;
    let format = Format::of(low, high, step);
    // A sum of many steps would drift: each tick is worked out on its own, and -0 is 0.
    (0..=count).map(|n| (first + n as f64) * step + 0.0).map(|at| Tick { at, label: format.show(at) }).collect()
}

/// How the numbers of one axis are written: all alike.
pub(super) struct Format {
    divisor: f64,
    suffix: &'static str,
    decimals: usize,
    scientific: bool,
}

impl Format {
    /// For numbers from `low` to `high` that are `step` apart.
    pub(super) fn of(low: f64, high: f64, step: f64) -> Format {
        let largest = low.abs().max(high.abs());
        let (divisor, suffix) = match largest {
            n if n >= 1e15 => (1.0, ""),
            n if n >= 1e12 => (1e12, "T"),
            n if n >= 1e9 => (1e9, "B"),
            n if n >= 1e6 => (1e6, "M"),
            _ => (1.0, ""),
        };
        let scientific = largest >= 1e15 || (largest > 0.0 && largest < 1e-4);
        let decimals = (-(step / divisor).log10() - 1e-9).ceil().clamp(0.0, 10.0) as usize;
        Format { divisor, suffix, decimals, scientific }
    }

    pub(super) fn show(&self, value: f64) -> String {
        if value == 0.0 {
            return "0".to_owned();
        }
        if self.scientific {
            let text = format!("{value:.2e}");
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            return format!("{}e{exponent}", mantissa.trim_end_matches('0').trim_end_matches('.'));
        }
        format!("{}{}", grouped(value / self.divisor, self.decimals), self.suffix)
    }
}

/// A number with commas between thousands.
pub(super) fn grouped(value: f64, decimals: usize) -> String {
    let text = format!("{:.decimals$}", value.abs());
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut out = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    let sign = if value < 0.0 && text.chars().any(|c| c.is_ascii_digit() && c != '0') { "−" } else { "" };
    if fraction.is_empty() { format!("{sign}{out}") } else { format!("{sign}{out}.{fraction}") }
}

/// A number beside what it measures: about three digits, no needless zeros.
pub(super) fn brief(value: f64) -> String {
    let largest = value.abs();
    if largest >= 1e6 || (largest > 0.0 && largest < 1e-3) {
        let text = Format::of(value, value, largest / 100.0).show(value);
        let (number, suffix) = text.split_at(text.trim_end_matches(['M', 'B', 'T']).len());
        return if number.contains('e') { text } else { format!("{}{suffix}", without_zeros(number)) };
    }
    let decimals = match largest {
        n if n >= 1000.0 => 0,
        n if n >= 10.0 => 1,
        _ => 3,
    };
    without_zeros(&grouped(value, decimals)).to_owned()
}

fn without_zeros(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_written_alike() {
        assert_eq!(labels(&Axis::rounded(0.0, 21_000.0, 5)), ["0", "5,000", "10,000", "15,000", "20,000", "25,000"]);
        assert_eq!(labels(&Axis::rounded(-0.3, 0.4, 4)), ["−0.4", "−0.2", "0", "0.2", "0.4"]);
        assert_eq!(labels(&Axis::rounded(0.0, 2.2e6, 4)), ["0", "1M", "2M", "3M"]);
        assert_eq!(labels(&Axis::rounded(0.0, 2e-7, 4)), ["0", "5e-8", "1e-7", "1.5e-7", "2e-7"]);
        assert_eq!(labels(&Axis::rounded(5.0, 5.0, 2)), ["4.5", "5.0", "5.5"]);
        assert_eq!(labels(&Axis::tight(0.0, 10.0, 5, 0.03)), ["0", "2", "4", "6", "8", "10"]);
    }

    #[test]
    fn values_are_brief() {
        let cases = [
            (0.00012, "0.00012"),
            (12.345, "12.3"),
            (1.5, "1.5"),
            (15_300.4, "15,300"),
            (2_500_000.0, "2.5M"),
            (-3.0, "−3"),
            (0.0, "0"),
        ];
        for (value, wanted) in cases {
            assert_eq!(brief(value), wanted);
        }
    }

    proptest! {
        #[test]
        fn any_numbers_make_an_axis_around_them(a in -1e300..1e300f64, b in -1e300..1e300f64, scale in -300i32..0, count in 2usize..12) {
            let (a, b) = (a * 10f64.powi(scale), b * 10f64.powi(scale));
            let (low, high) = (a.min(b), a.max(b));
            let axis = Axis::rounded(low, high, count);
            prop_assert!(axis.low <= low && axis.high >= high, "{axis:?}");
            prop_assert!((2..=30).contains(&axis.ticks.len()), "{axis:?}");
            for value in [low, high] {
                prop_assert!((-0.01..=1.01).contains(&axis.share(value)), "{axis:?}");
            }
            let tight = Axis::tight(low, high, count, 0.0);
            prop_assert!(tight.ticks.len() <= 30, "{tight:?}");
        }
    }
}
