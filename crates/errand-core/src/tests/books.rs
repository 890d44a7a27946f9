//! Who may spend, what a run can have cost, and what the next record puts on the books.

use super::sample::*;
use crate::*;

fn amount(nanos: u64) -> Amount {
    Amount { usd: Usd::from_nanos(nanos), tokens: nanos }
}

fn put(log: &mut RunLog, key: ItemKey, body: ItemBody) {
    log.items.insert(key.clone(), Item { key, at: at(0), body });
}

fn claim(log: &mut RunLog, record: u64, attempt: u32, bound: u64, expires: Timestamp) {
    let body = ItemBody::Claim { by: Nonce(u64::from(attempt)), bound: amount(bound), expires };
    put(log, ItemKey::Claim { record, attempt }, body);
}

fn void(log: &mut RunLog, record: u64, attempt: u32) {
    put(log, ItemKey::Void { record, attempt }, ItemBody::Void);
}

fn waste(log: &mut RunLog, record: u64, attempt: u32, nanos: u64, confirmed: bool) {
    let spent = Spent { amount: amount(nanos), confirmed };
    put(log, ItemKey::Waste { record, attempt }, ItemBody::Waste { spent });
}

const LATER: Timestamp = Timestamp::from_millis(1_790_000_100_000);

/// The budget of these runs, in nanodollars.
const BUDGET: u64 = 1_000_000;

fn reserve(log: &RunLog) -> Amount {
    match log.run.head.due {
        Due::Model { reserve, .. } => reserve,
        _ => Amount::ZERO,
    }
}

#[test]
fn a_claim_is_asked_for_only_where_a_model_call_is_due() {
    for (name, log) in states() {
        let decision = log.claim(at(9_000));
        assert_eq!(decision.is_some(), matches!(log.run.head.due, Due::Model { .. }), "{name}");
    }
}

/// What stands beside the log, and what a claimant is told at `at(9_000)`; claims that expire do so at `LATER`.
#[test]
fn claims_go_wait_or_do_not_fit() {
    type Beside = fn(&mut RunLog);
    let go = |attempt| Some(ClaimDecision::Go { attempt });
    let wait = Some(ClaimDecision::Wait { until: LATER });
    let not = Some(ClaimDecision::DoesNotFit { bound: BudgetBound::Usd });
    let table: [(&str, Beside, Option<ClaimDecision>); 11] = [
        ("nothing", |_| {}, go(1)),
        ("one alive", |log| claim(log, 2, 1, 10, LATER), wait),
        ("one over", |log| claim(log, 2, 1, 10, at(9_000)), go(2)),
        (
            "one alive and void",
            |log| {
                claim(log, 2, 1, 10, LATER);
                void(log, 2, 1);
            },
            go(2),
        ),
        (
            "one that told what it wasted",
            |log| {
                claim(log, 2, 1, BUDGET, LATER);
                waste(log, 2, 1, 10, true);
            },
            go(2),
        ),
        ("one over that may have spent all", |log| claim(log, 2, 1, BUDGET, at(1)), not),
        ("one alive at an earlier record", |log| claim(log, 1, 1, 10, LATER), go(1)),
        ("one alive at an earlier record, too dear beside it", |log| claim(log, 1, 1, BUDGET, LATER), wait),
        ("one over at an earlier record, too dear beside it", |log| claim(log, 1, 1, BUDGET, at(1)), not),
        (
            "waste that leaves too little",
            |log| {
                claim(log, 2, 1, 10, LATER);
                waste(log, 2, 1, BUDGET - 100, true);
            },
            not,
        ),
        (
            "two over, numbers with a gap",
            |log| {
                claim(log, 2, 1, 10, at(1));
                claim(log, 2, 4, 10, at(2));
            },
            go(5),
        ),
    ];
    for (name, beside, expected) in table {
        let mut log = begun();
        beside(&mut log);
        assert_eq!(log.claim(at(9_000)), expected, "{name}");
    }
}

/// The bound that does not fit is the one there is.
#[test]
fn tokens_bound_claims_as_well() {
    let mut log = begun_with(Budget { usd: None, tokens: Some(BUDGET), ..budget() });
    claim(&mut log, 2, 1, BUDGET, at(1));
    assert_eq!(log.claim(at(9_000)), Some(ClaimDecision::DoesNotFit { bound: BudgetBound::Tokens }));
    let mut log = begun_with(Budget { usd: None, tokens: None, ..budget() });
    claim(&mut log, 2, 1, BUDGET, at(1));
    assert_eq!(log.claim(at(9_000)), Some(ClaimDecision::Go { attempt: 2 }));
}

/// To the nanodollar: what is left holds the call, and one less does not.
#[test]
fn a_claim_fits_exactly() {
    let needed = reserve(&begun()).usd.nanos();
    for (left, fits) in [(needed, true), (needed - 1, false)] {
        let mut log = begun();
        claim(&mut log, 1, 1, BUDGET - left, at(1));
        assert_eq!(matches!(log.claim(at(9_000)), Some(ClaimDecision::Go { .. })), fits, "{left} left");
    }
}

#[test]
fn the_bill_is_totals_and_open_claims_and_waste() {
    let mut log = begun();
    assert_eq!(log.bill().total(), Amount::ZERO);
    claim(&mut log, 2, 1, 100, LATER);
    assert_eq!(log.bill(), Bill { open: amount(100), ..Bill::default() });
    claim(&mut log, 2, 2, 50, LATER);
    void(&mut log, 2, 2);
    assert_eq!(log.bill().open, amount(100), "a void claim costs nothing");
    waste(&mut log, 2, 1, 7, true);
    assert_eq!(log.bill(), Bill { waste: amount(7), ..Bill::default() }, "waste takes the place of the claim");
    let own = Booked { record: 2, attempt: 3, spent: Spent { amount: amount(30), confirmed: true } };
    let books = log.settle(Some(own), at(9_000));
    let event = reply(&log, "", &["pay"]);
    push_with(&mut log, event, books, Vec::new());
    assert_eq!(log.bill(), Bill { counted: amount(37), ..Bill::default() }, "what was booked is counted once");
    let observation = Observation { spent: amount(9), ..observation(2, 0, ok("paid")) };
    let call = observation.call;
    put(&mut log, ItemKey::Result { call }, ItemBody::Result { observation: observation.clone() });
    assert_eq!(log.bill().waste, amount(9), "a result that no record has taken in");
    push(&mut log, Event::Observed(Observed { observations: vec![observation] }));
    assert_eq!(log.bill(), Bill { counted: amount(46), ..Bill::default() });
}

#[test]
fn the_next_record_books_its_own_attempt_and_all_that_are_over() {
    let own = |attempt| Booked { record: 2, attempt, spent: Spent { amount: amount(30), confirmed: true } };
    let mut log = begun();
    claim(&mut log, 2, 1, 100, at(1));
    claim(&mut log, 2, 2, 200, LATER);
    claim(&mut log, 2, 3, 300, LATER);
    claim(&mut log, 2, 4, 400, at(1));
    claim(&mut log, 2, 5, 500, LATER);
    void(&mut log, 2, 4);
    waste(&mut log, 2, 3, 7, true);
    let books = log.settle(Some(own(5)), at(9_000));
    let expected = vec![
        Booked { record: 2, attempt: 1, spent: Spent { amount: amount(100), confirmed: false } },
        Booked { record: 2, attempt: 3, spent: Spent { amount: amount(7), confirmed: true } },
        own(5),
    ];
    assert_eq!(books, expected, "the second can be alive, the fourth is void");
    let event = reply(&log, "42", &[]);
    push_with(&mut log, event, books, Vec::new());
    assert_eq!(log.run.head.totals.spent, amount(137));
    assert_eq!(log.run.head.totals.unconfirmed, Usd::from_nanos(100));
    assert_eq!(log.settle(None, at(9_000)), Vec::new(), "what was booked is not booked again");
    assert_eq!(log.bill().total(), amount(337));
    let late = log.settle(None, LATER);
    assert_eq!(late, [Booked { record: 2, attempt: 2, spent: Spent { amount: amount(200), confirmed: false } }]);
}

/// The slices of sub-runs at work are gone from what is left, and come back with what they did not use.
#[test]
fn slices_are_shared_out_and_given_back() {
    let mut log = begun();
    let event = reply(&log, "", &["delegate", "delegate"]);
    push(&mut log, event);
    let slices: Vec<Amount> = log
        .run
        .head
        .due
        .calls()
        .iter()
        .filter_map(|call| match call.state {
            CallState::SubRun { slice, .. } => Some(slice),
            _ => None,
        })
        .collect();
    assert_eq!(slices.iter().map(|slice| slice.usd.nanos()).collect::<Vec<_>>(), [BUDGET / 3, BUDGET / 3]);
    assert_eq!(log.run.left(&log.run.head).usd, Some(Usd::from_nanos(BUDGET - 2 * (BUDGET / 3))));
    let spent = |index| Observation { spent: amount(11), ..observation(2, index, ok("did")) };
    push(&mut log, Event::Observed(Observed { observations: vec![spent(0), spent(1)] }));
    assert_eq!(log.run.left(&log.run.head).usd, Some(Usd::from_nanos(BUDGET - 22)));
}
