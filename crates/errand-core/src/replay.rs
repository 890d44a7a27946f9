//! Running the core again on what was recorded.

use crate::event::Event;
use crate::{Effect, Hash, Input, Making, Message, RecordError, Rejection, RunLog, Sealed};

/// A record that this code would not have made of the same inputs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Divergence {
    /// The log does not begin a run.
    #[error("the log does not begin with a started run")]
    NotStarted,
    /// The core refuses what was recorded.
    #[error("record {number}: the core refuses what was recorded: {rejection}")]
    Rejected {
        /// Which record.
        number: u64,
        /// Why.
        rejection: Rejection,
    },
    /// The core asks for something else.
    #[error("record {number}: the core asks for {made:?}, recorded was {recorded:?}")]
    Effects {
        /// Which record.
        number: u64,
        /// What it asks for now.
        made: Vec<Effect>,
        /// What it asked for then.
        recorded: Vec<Effect>,
    },
    /// The model would be asked something else.
    #[error("record {number}: the model would be asked something else (request {made}, recorded was {recorded})")]
    Request {
        /// Which record.
        number: u64,
        /// Digest of the request now.
        made: Hash,
        /// Digest of the request then.
        recorded: Hash,
    },
    /// The same effects, but another record.
    #[error("record {number}: the core makes another record of the same inputs (ledger {made}, recorded was {recorded})")]
    Ledger {
        /// Which record.
        number: u64,
        /// Ledger hash now.
        made: Hash,
        /// Ledger hash then.
        recorded: Hash,
    },
}

/// What a replay that agreed went through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// Records made again.
    pub records: u64,
    /// Effects compared.
    pub effects: u64,
    /// Model requests compared.
    pub requests: u64,
    /// The ledger head that was reached.
    pub hash: Hash,
}

/// Makes every record of `log` again from its inputs and compares the effects, the model requests and the ledger.
/// `history` is the conversation of the thread before this run.
pub fn replay(log: &RunLog, history: &[Message]) -> Result<Replayed, Divergence> {
    let first = &log.records[0];
    let mut made = begin_again(log)?;
    let mut replayed = Replayed { records: 0, effects: 0, requests: 0, hash: Hash::default() };
    compare(&mut replayed, first, &made.records[0])?;
    for sealed in &log.records[1..] {
        let record = &sealed.record;
        // A fork's own id takes over where it left its origin.
        made.run.id = record.run;
        if let Some(recorded) = record.event.request() {
            let request = made.request(history).map(|request| request.digest()).unwrap_or_default();
            if request != recorded {
                return Err(Divergence::Request { number: record.number, made: request, recorded });
            }
            replayed.requests += 1;
        }
        let input = Input { event: record.event.clone(), books: record.books.clone(), at: record.at, began: record.began };
        let making = Making { made_under: record.made_under, attempt: record.attempt, maker: record.maker };
        let again = made
            .make(input, record.consumed.clone(), making)
            .map_err(|rejection| Divergence::Rejected { number: record.number, rejection })?;
        compare(&mut replayed, sealed, &again)?;
        made.push(again);
    }
    Ok(replayed)
}

fn begin_again(log: &RunLog) -> Result<RunLog, Divergence> {
    let record = &log.records[0].record;
    let Event::Started(started) = &record.event else { return Err(Divergence::NotStarted) };
    let making = Making { made_under: record.made_under, attempt: record.attempt, maker: record.maker };
    Ok(RunLog::begin(record.run, (**started).clone(), record.at, making))
}

fn compare(replayed: &mut Replayed, recorded: &Sealed, made: &Sealed) -> Result<(), Divergence> {
    let number = recorded.record.number;
    let (now, then) = (made.record.head.effects(), recorded.record.head.effects());
    if now != then {
        return Err(Divergence::Effects { number, made: now, recorded: then });
    }
    if made.hash != recorded.hash {
        return Err(Divergence::Ledger { number, made: made.hash, recorded: recorded.hash });
    }
    replayed.records += 1;
    replayed.effects += then.len() as u64;
    replayed.hash = made.hash;
    Ok(())
}

/// Checks a chain of stored bytes and hashes, naming the first record that does not fit.
pub fn verify<'a>(records: impl IntoIterator<Item = (&'a str, Hash)>) -> Result<Vec<Sealed>, RecordError> {
    let mut sealed: Vec<Sealed> = Vec::new();
    for (number, (bytes, hash)) in (1..).zip(records) {
        let before = sealed.last().map_or(Hash::default(), |last| last.hash);
        sealed.push(Sealed::open(bytes, hash, &before, number)?);
    }
    Ok(sealed)
}
