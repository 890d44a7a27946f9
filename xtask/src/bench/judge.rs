//! The goals, and whether they are met: by the median and by four of five rounds.

use super::noise::Noise;
use super::round::median;
use serde::Serialize;

/// Which figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Key {
    CpuAlone,
    CpuTogether,
    Gap,
    Throughput,
    Growth,
    Flat,
    Memory,
    WaitingHere,
    WaitingRestarted,
    Start,
    Box,
    /// Something to know besides.
    Note,
}

/// One measurement of a figure.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Measured {
    pub(super) key: Key,
    /// Of a note.
    pub(super) name: &'static str,
    pub(super) ours: f64,
    /// What it is compared with, if with anything.
    pub(super) floor: Option<f64>,
    /// Why there is no figure.
    pub(super) missing: Option<String>,
}

impl Measured {
    pub(super) fn pair(key: Key, ours: f64, floor: f64) -> Self {
        Self { key, name: "", ours, floor: Some(floor), missing: None }
    }

    pub(super) fn one(key: Key, ours: f64) -> Self {
        Self { key, name: "", ours, floor: None, missing: None }
    }

    pub(super) fn note(name: &'static str, value: f64) -> Self {
        Self { name, ..Self::one(Key::Note, value) }
    }

    pub(super) fn missing(key: Key, why: String) -> Self {
        Self { missing: Some(why), ..Self::one(key, f64::NAN) }
    }

    /// What the goal is about: ours as a multiple of the floor, or as it is.
    pub(super) fn value(&self) -> f64 {
        self.floor.map_or(self.ours, |floor| self.ours / floor)
    }
}

/// On which side of its bound a figure should be.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// None: to know besides.
    None,
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Goal::AtMost(bound) => value <= bound,
            Goal::AtLeast(bound) => value >= bound,
            Goal::None => true,
        }
    }
}

/// A figure with all its measurements.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figure {
    pub(super) key: Key,
    pub(super) name: &'static str,
    pub(super) unit: &'static str,
    pub(super) goal: Goal,
    /// Whether it is in wall time, which a busy machine stretches.
    pub(super) wall: bool,
    pub(super) measured: Vec<Measured>,
}

/// What is said of a figure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Met,
    Missed,
    Noisy,
    NotMeasured(String),
    Note,
}

/// All figures, with nothing measured yet.
pub(super) fn figures() -> Vec<Figure> {
    let figure = |key, name, unit, goal, wall| Figure { key, name, unit, goal, wall, measured: Vec::new() };
    let most = Goal::AtMost;
    vec![
        figure(Key::CpuAlone, "CPU per step, 1 run, to SQLite with a commit each", "us", most(1.5), false),
        figure(Key::CpuTogether, "CPU per step, 16 runs, to SQLite with grouped commits", "us", most(1.5), false),
        figure(Key::Gap, "gap between two model calls, p50, 1 run, to SQLite with a commit each", "us", most(1.3), true),
        figure(Key::Throughput, "runs/s, 16 runs, to SQLite with grouped commits", "", Goal::AtLeast(0.8), true),
        figure(Key::Growth, "bytes of 200 steps to those of 50", "kB", most(4.2), false),
        figure(Key::Flat, "last tenth of 200 steps to the first, gap beyond the longer request's", "us", most(1.5), true),
        figure(Key::Memory, "memory (PSS) after 64 runs at once", "MB", most(25.0), false),
        figure(Key::WaitingHere, "memory of a run that waits, where it ran", "B", most(100.0), false),
        figure(Key::WaitingRestarted, "memory of a run that waits, after a restart", "B", most(100.0), false),
        figure(Key::Start, "start to first model call, to SQLite with a commit each", "ms", most(2.0), true),
        figure(Key::Box, "`true` in a fresh box, to bubblewrap with everything unshared", "ms", most(1.0), true),
    ]
}

/// Adds what was measured to its figures.
pub(super) fn add(figures: &mut Vec<Figure>, measured: &[Measured]) {
    for one in measured {
        let same = |figure: &&mut Figure| figure.key == one.key && (one.key != Key::Note || figure.name == one.name);
        match figures.iter_mut().find(same) {
            Some(figure) => figure.measured.push(one.clone()),
            None => figures.push(Figure {
                key: one.key,
                name: one.name,
                unit: "",
                goal: Goal::None,
                wall: false,
                measured: vec![one.clone()],
            }),
        }
    }
}

impl Figure {
    /// Median of ours, of the floor, and of what the goal is about.
    pub(super) fn medians(&self) -> (f64, Option<f64>, f64) {
        let of = |value: &dyn Fn(&Measured) -> Option<f64>| {
            let mut values: Vec<f64> = self.measured.iter().filter_map(value).collect();
            median(&mut values)
        };
        let has_floor = self.measured.iter().any(|one| one.floor.is_some());
        (of(&|one| Some(one.ours)), has_floor.then(|| of(&|one| one.floor)), of(&|one| Some(one.value())))
    }

    /// How many of the measurements meet the goal.
    pub(super) fn met(&self) -> usize {
        self.measured.iter().filter(|one| self.goal.is_met(one.value())).count()
    }

    pub(super) fn verdict(&self, noise: &[Noise]) -> Verdict {
        if let Some(why) = self.measured.iter().find_map(|one| one.missing.clone()) {
            return Verdict::NotMeasured(why);
        }
        if self.goal == Goal::None {
            return Verdict::Note;
        }
        let quiet = noise.iter().filter(|noise| noise.is_quiet()).count();
        if self.wall && quiet < four_of_five(noise.len()) {
            return Verdict::Noisy;
        }
        match self.goal.is_met(self.medians().2) && self.met() >= four_of_five(self.measured.len()) {
            true => Verdict::Met,
            false => Verdict::Missed,
        }
    }
}

fn four_of_five(rounds: usize) -> usize {
    (rounds * 4).div_ceil(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(goal: Goal, wall: bool, values: &[f64], stretch: f64) -> Verdict {
        let measured = values.iter().map(|value| Measured::pair(Key::Gap, *value, 2.0)).collect();
        let figure = Figure { key: Key::Gap, name: "", unit: "", goal, wall, measured };
        figure.verdict(&vec![Noise { load: 1.0, stretch }; values.len()])
    }

    #[test]
    fn a_goal_is_met_by_the_median_and_by_four_of_five() {
        let goal = Goal::AtMost(1.5);
        assert_eq!(verdict(goal, false, &[3.0, 3.0, 3.0, 3.0, 9.0], 1.0), Verdict::Met);
        assert_eq!(verdict(goal, false, &[3.0, 3.0, 3.0, 9.0, 9.0], 1.0), Verdict::Missed);
        assert_eq!(verdict(Goal::AtLeast(0.8), false, &[1.7], 1.0), Verdict::Met);
        assert_eq!(verdict(Goal::AtLeast(0.8), false, &[1.5], 1.0), Verdict::Missed);
        assert_eq!(verdict(goal, false, &[f64::NAN], 1.0), Verdict::Missed);
    }

    #[test]
    fn wall_time_is_judged_on_a_quiet_machine_only() {
        assert_eq!(verdict(Goal::AtMost(1.5), true, &[9.0], 1.6), Verdict::Noisy);
        assert_eq!(verdict(Goal::AtMost(1.5), true, &[9.0], 1.4), Verdict::Missed);
        assert_eq!(verdict(Goal::AtMost(1.5), false, &[9.0], 1.6), Verdict::Missed);
    }

    #[test]
    fn what_is_missing_is_said() {
        let mut figures = figures();
        add(&mut figures, &[Measured::missing(Key::Box, "bwrap missing".to_owned())]);
        let figure = figures.iter().find(|figure| figure.key == Key::Box).unwrap();
        assert_eq!(figure.verdict(&[]), Verdict::NotMeasured("bwrap missing".to_owned()));
    }
}
