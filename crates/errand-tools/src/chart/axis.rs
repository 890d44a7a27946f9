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
        let (low, high) = (low - (high - low) * room, high + (high - low) * room);
        Axis { low, high, ticks: ticks(low, high, step(low, high, count)) }
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

/// A number beside what it measures: at most three decimals, no needless zeros.
pub(super) fn brief(value: f64) -> String {
    let largest = value.abs();
    if largest >= 1e6 || (largest > 0.0 && largest < 1e-3) {
        let format = Format::of(value, value, largest / 100.0);
        return format.show(value);
    }
    let decimals = if largest >= 1000.0 {
        0
    } else if largest >= 10.0 {
        1
    } else {
        3
    };
    let text = grouped(value, decimals);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
