//! What is printed, and what is written as JSON.

use super::judge::{Figure, Goal, Verdict};
use super::noise::Noise;
use serde_json::{Value, json};

/// The whole table, with the noise before it.
pub(super) fn render(figures: &[Figure], noise: &[Noise]) -> String {
    let load = noise.iter().map(|noise| noise.load).fold(0.0, f64::max);
    let stretch: Vec<String> = noise.iter().map(|noise| format!("{:.2}", noise.stretch)).collect();
    let mut text = format!(
        "load up to {load:.1}; wall to CPU time of a probe in each round: {}\n\n{:<74} {:>9} {:>9} {:>7} {:>8}  rounds  verdict\n",
        stretch.join(", "),
        "",
        "ours",
        "floor",
        "",
        "goal",
    );
    for figure in figures {
        text.push_str(&line(figure, noise));
    }
    text
}

fn line(figure: &Figure, noise: &[Noise]) -> String {
    let verdict = figure.verdict(noise);
    if let Verdict::NotMeasured(why) = verdict {
        return format!("{:<74} not measured: {why}\n", figure.name);
    }
    let (ours, floor, value) = figure.medians();
    let unit = if figure.unit.is_empty() { String::new() } else { format!(", {}", figure.unit) };
    let floor_text = floor.map_or(String::new(), number);
    let value = if floor.is_some() { format!("{value:.2}x") } else { String::new() };
    let goal = match figure.goal {
        Goal::AtMost(bound) => format!("<= {bound}"),
        Goal::AtLeast(bound) => format!(">= {bound}"),
        Goal::None => String::new(),
    };
    let (rounds, verdict) = match verdict {
        Verdict::Met => (rounds(figure), "met"),
        Verdict::Missed => (rounds(figure), "MISSED"),
        Verdict::Noisy => (rounds(figure), "not judged: noisy"),
        Verdict::Note | Verdict::NotMeasured(_) => (String::new(), ""),
    };
    let name = format!("{}{unit}", figure.name);
    let line = format!("{name:<74} {:>9} {floor_text:>9} {value:>7} {goal:>8}  {rounds:<6}  {verdict}", number(ours));
    format!("{}\n", line.trim_end())
}

fn rounds(figure: &Figure) -> String {
    format!("{}/{}", figure.met(), figure.measured.len())
}

/// As many digits as mean something.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// Everything that was measured.
pub(super) fn json(figures: &[Figure], noise: &[Noise]) -> Value {
    let figures: Vec<Value> = figures
        .iter()
        .map(|figure| {
            let (ours, floor, value) = figure.medians();
            let verdict = format!("{:?}", figure.verdict(noise));
            json!({ "figure": figure, "ours": ours, "floor": floor, "value": value, "verdict": verdict })
        })
        .collect();
    json!({ "figures": figures, "noise": noise })
}

#[cfg(test)]
mod tests {
    use super::super::judge::{Key, Measured, add, figures};
    use super::*;

    #[test]
    fn each_figure_has_a_line_with_its_verdict() {
        let mut all = figures();
        all.retain(|figure| [Key::CpuAlone, Key::Box].contains(&figure.key));
        let missing = Measured::missing(Key::Box, "bwrap missing".to_owned());
        add(&mut all, &[Measured::pair(Key::CpuAlone, 300.0, 200.0), missing, Measured::note("a note", 1.0)]);
        let text = render(&all, &[Noise { load: 1.0, stretch: 1.0 }]);
        let lines: Vec<&str> = text.lines().skip(3).collect();
        assert!(lines[0].ends_with("300       200   1.50x   <= 1.5  1/1     met"), "{text}");
        assert!(lines[1].ends_with("not measured: bwrap missing"), "{text}");
        assert!(lines[2].starts_with("a note") && lines[2].ends_with("1.00"), "{text}");
    }
}
