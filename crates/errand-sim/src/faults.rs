//! Which faults a seed has. Each seed turns some kinds off, so that no kind always hides another.

use crate::rng::Rng;

/// How often each fault happens, in cases per thousand, and what kind of world it is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// One process owns the store: claims are kept in memory and the whole process dies at once.
    pub(crate) exclusive: bool,
    /// How deep sub-runs nest.
    pub(crate) depth: u32,
    /// A worker dies at a point where it waits.
    pub(crate) crash: u64,
    /// The process dies (exclusive worlds).
    pub(crate) process_crash: u64,
    /// A worker is held up for minutes.
    pub(crate) stall: u64,
    /// The store refuses an operation.
    pub(crate) throttle: u64,
    /// A write succeeds and its answer is lost.
    pub(crate) lost_reply: u64,
    /// A write is tried twice and the second answer is seen.
    pub(crate) retried: u64,
    /// A message arrives twice.
    pub(crate) double: u64,
    /// A message is late.
    pub(crate) delay: u64,
    /// A message is delivered again while a worker still has it.
    pub(crate) early_redelivery: u64,
    /// An acknowledgement is lost.
    pub(crate) lost_ack: u64,
    /// A model call fails, hangs, lies about its usage or says nonsense.
    pub(crate) bad_model: u64,
    /// Runs have fall-back models, windows that fill up, and forms that answers must have.
    pub(crate) many_models: bool,
    /// A tool fails or hangs.
    pub(crate) bad_tool: u64,
    /// Somebody acts from outside at a step of the world.
    pub(crate) people: u64,
    /// The share of those acts that is a cancel.
    pub(crate) cancel: u64,
    /// A clock differs from the world's by up to so many milliseconds.
    pub(crate) skew_ms: u64,
}

impl Faults {
    /// The faults of a seed.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        if rng.chance(80) {
            return Self { people: 4, ..Self::default() };
        }
        match rng.below(10) {
            0 | 1 => Self { people: 0, double: 0, early_redelivery: 0, lost_ack: 0, ..Self::mixed(rng, false) },
            2 | 3 => Self { people: 60, cancel: 700, stall: 30, depth: 3, ..Self::mixed(rng, false) },
            // Every worker lives to say what it knows, while people stop runs all the time.
            4 => Self { people: 60, cancel: 500, depth: 2, double: 50, delay: 100, ..Self::default() },
            _ => {
                let exclusive = rng.chance(300);
                Self::mixed(rng, exclusive)
            }
        }
    }

    fn mixed(rng: &mut Rng, exclusive: bool) -> Self {
        let depth = rng.below(3) as u32;
        let mut some = |most: u64| if rng.chance(550) { rng.between(1, most) } else { 0 };
        Self {
            crash: if exclusive { 0 } else { some(30) },
            process_crash: if exclusive { some(12) } else { 0 },
            stall: if exclusive { 0 } else { some(25) },
            throttle: some(40),
            lost_reply: some(30),
            retried: some(60),
            double: if exclusive { 0 } else { some(200) },
            delay: some(200),
            early_redelivery: if exclusive { 0 } else { some(60) },
            lost_ack: if exclusive { 0 } else { some(80) },
            bad_model: some(300),
            bad_tool: some(200),
            people: some(40),
            cancel: some(400),
            skew_ms: if exclusive { 0 } else { some(2_000) },
            depth,
            many_models: false,
            exclusive,
        }
    }

    /// True if every attempt learns what it cost, so that the books must be exact.
    pub(crate) fn books_are_exact(&self) -> bool {
        self.crash + self.process_crash + self.stall + self.throttle + self.lost_reply + self.bad_model == 0
            && !self.exclusive
    }

    /// True if redelivery alone must heal what a crash leaves: nobody acts from outside, and no message has a double whose
    /// original is gone.
    pub(crate) fn redelivery_heals(&self) -> bool {
        self.double + self.early_redelivery + self.lost_ack + self.people == 0 && !self.exclusive
    }

    /// True if nothing ever goes wrong.
    pub(crate) fn is_quiet(&self) -> bool {
        self.crash + self.process_crash + self.stall + self.throttle + self.lost_reply + self.retried == 0
            && self.double + self.delay + self.early_redelivery + self.lost_ack + self.bad_model + self.bad_tool == 0
            && !self.exclusive
    }

    /// The world after the faults have stopped.
    pub(crate) fn calm(&self) -> Self {
        Self { exclusive: self.exclusive, many_models: self.many_models, ..Self::default() }
    }
}
