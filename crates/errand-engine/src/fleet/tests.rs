use super::*;
use crate::ports::{Admission, Delivery, Inbox, ToolJob, ToolReply, Tools};
use errand_core::{Approval, CallId, Class, Executor, Nonce, Outcome, TenantId, ToolDefinition, ToolSpec, Verdict};
use futures::executor::block_on;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Heads, queues and a clock in memory.
#[derive(Default)]
struct Memory {
    now: AtomicU64,
    nonces: AtomicU64,
    heads: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Queues of runners; the one without a name is everybody's.
    queues: Mutex<BTreeMap<String, Vec<Message>>>,
    raised: AtomicU64,
    reads: AtomicU64,
    /// The next write is done and its answer lost.
    loses_answer: AtomicBool,
}

impl Memory {
    fn pass(&self, millis: u64) {
        self.now.fetch_add(millis, Ordering::Relaxed);
    }

    fn answer(&self, done: bool) -> Result<bool, PortError> {
        match self.loses_answer.swap(false, Ordering::Relaxed) {
            true => Err(PortError::Retry { message: "lost".to_owned() }),
            false => Ok(done),
        }
    }

    fn waiting(&self, runner: &str) -> usize {
        self.queues.lock().unwrap().get(runner).map_or(0, Vec::len)
    }
}

#[async_trait]
impl Heads for Memory {
    async fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PortError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(self.heads.lock().unwrap().get(name).cloned())
    }

    async fn replace(&self, name: &str, expected: Option<&[u8]>, bytes: &[u8]) -> Result<bool, PortError> {
        let mut heads = self.heads.lock().unwrap();
        let fits = heads.get(name).map(Vec::as_slice) == expected;
        if fits {
            heads.insert(name.to_owned(), bytes.to_vec());
        }
        self.answer(fits)
    }

    async fn remove(&self, name: &str, expected: &[u8]) -> Result<bool, PortError> {
        let mut heads = self.heads.lock().unwrap();
        let fits = heads.get(name).is_some_and(|bytes| bytes == expected);
        if fits {
            heads.remove(name);
        }
        self.answer(fits)
    }

    async fn list(&self, kind: &str, after: Option<&str>, limit: usize) -> Result<Vec<(String, Vec<u8>)>, PortError> {
        let heads = self.heads.lock().unwrap();
        let of = heads.iter().filter(|(name, _)| name.split_once('.').is_some_and(|(of, _)| of == kind));
        let next = of.filter(|(name, _)| after.is_none_or(|after| name.as_str() > after));
        Ok(next.take(limit).map(|(name, bytes)| (name.clone(), bytes.clone())).collect())
    }
}

#[async_trait]
impl World for Memory {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.load(Ordering::Relaxed))
    }

    fn nonce(&self) -> Nonce {
        Nonce(self.nonces.fetch_add(1, Ordering::Relaxed))
    }

    async fn sleep(&self, _: u64) {}
}

struct Nothing;

#[async_trait]
impl Inbox for Nothing {
    async fn receive(&self) -> Option<Delivery> {
        None
    }

    async fn ack(&self, _: &Delivery) {}

    async fn give_back(&self, _: &Delivery, _: Timestamp) {}

    async fn close(&self) {}
}

#[async_trait]
impl RunnerQueues for Memory {
    async fn make(&self, runner: &str) -> Result<Arc<dyn Inbox>, PortError> {
        self.queues.lock().unwrap().entry(runner.to_owned()).or_default();
        Ok(Arc::new(Nothing))
    }

    async fn send(&self, runner: &str, message: &Message) -> Result<bool, PortError> {
        let mut queues = self.queues.lock().unwrap();
        let Some(queue) = queues.get_mut(runner) else { return Ok(false) };
        queue.push(message.clone());
        Ok(true)
    }

    async fn dissolve(&self, runner: &str, to: &dyn Queue) -> Result<(), PortError> {
        let messages = self.queues.lock().unwrap().remove(runner).unwrap_or_default();
        for message in messages {
            to.send(message).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Queue for Memory {
    async fn send(&self, message: Message) -> Result<(), PortError> {
        self.queues.lock().unwrap().entry(String::new()).or_default().push(message);
        Ok(())
    }
}

#[async_trait]
impl Scale for Memory {
    async fn raise(&self) -> Result<(), PortError> {
        self.raised.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

fn fleet() -> (Arc<Memory>, Fleet) {
    let memory = Arc::new(Memory::default());
    memory.pass(1_000_000);
    let settings = FleetSettings { alive_ms: 30_000, margin_ms: 10_000 };
    let fleet = Fleet::new(memory.clone(), memory.clone(), memory.clone(), memory.clone(), settings);
    (memory.clone(), fleet.with_scale(memory))
}

fn runner(fleet: &Fleet, id: &str) -> Arc<Runner> {
    block_on(Runner::start(fleet.clone(), id)).unwrap().0
}

fn run(number: u128) -> RunId {
    RunId::new(Timestamp::ZERO, number)
}

fn call(number: u128) -> Message {
    Message::Call { run: run(number), call: CallId { record: 2, index: 0 }, sandbox: true, not_before: None }
}

fn claim(runner: &Runner, number: u128) -> Claim {
    block_on(runner.claim(run(number))).unwrap()
}

const NEW: Claim = Claim::Mine { is_new: true };
const KNOWN: Claim = Claim::Mine { is_new: false };

#[test]
fn a_session_is_one_runners_while_that_lives() {
    let (memory, fleet) = fleet();
    let (a, b) = (runner(&fleet, "a"), runner(&fleet, "b"));
    assert_eq!((claim(&a, 1), claim(&b, 2)), (NEW, NEW));
    assert_eq!(claim(&b, 1), Claim::Of("a".to_owned()));
    let reads = memory.reads.load(Ordering::Relaxed);
    assert_eq!(claim(&a, 1), KNOWN);
    assert_eq!(memory.reads.load(Ordering::Relaxed), reads, "what it holds costs nothing");
    block_on(a.release(run(1))).unwrap();
    assert_eq!(claim(&b, 1), NEW);
    let leases = block_on(fleet.leases()).unwrap();
    let leases: Vec<_> = leases.iter().map(|lease| (lease.run, lease.runner.as_str())).collect();
    assert_eq!(leases, [(run(1), "b"), (run(2), "b")]);
}

#[test]
fn a_runner_that_died_keeps_nothing_and_one_that_beats_keeps_all() {
    let (memory, fleet) = fleet();
    let (a, b) = (runner(&fleet, "a"), runner(&fleet, "b"));
    assert_eq!((claim(&a, 1), claim(&b, 2)), (NEW, NEW));
    for _ in 0..10 {
        memory.pass(b.beat_ms());
        assert!(block_on(b.beat()).unwrap());
        // Up to the margin it may be alive, whatever the clocks say.
        let expected = if memory.now.load(Ordering::Relaxed) <= 1_040_000 { Claim::Of("a".to_owned()) } else { NEW };
        let claimed = claim(&b, 1);
        assert_eq!(claimed, expected);
        if claimed == NEW {
            break;
        }
    }
    assert_eq!(block_on(fleet.runners()).unwrap(), ["b"]);
    // Its own clock tells a that it cannot be sure any longer, so it looks.
    assert_eq!(claim(&a, 1), Claim::Of("b".to_owned()));
    assert_eq!(claim(&b, 2), KNOWN);
}

#[test]
fn a_clock_that_jumps_ahead_costs_a_session_and_not_two_owners() {
    let (memory, fleet) = fleet();
    let (a, b) = (runner(&fleet, "a"), runner(&fleet, "b"));
    assert_eq!(claim(&a, 1), NEW);
    memory.pass(86_400_000);
    assert_eq!(claim(&b, 1), NEW, "a looks dead");
    assert_eq!(claim(&a, 1), NEW, "and so does b, which has not told since that it lives");
    assert!(block_on(b.beat()).unwrap());
    assert!(block_on(a.beat()).unwrap());
    assert_eq!((claim(&b, 1), claim(&a, 1)), (Claim::Of("a".to_owned()), KNOWN));
}

#[test]
fn calls_go_to_the_holder_and_else_to_all() {
    let (memory, fleet) = fleet();
    let send = |message| block_on(Queue::send(&fleet, message)).unwrap();
    send(call(1));
    assert_eq!((memory.waiting(""), memory.raised.load(Ordering::Relaxed)), (1, 1), "nobody is alive");
    let a = runner(&fleet, "a");
    claim(&a, 1);
    send(call(1));
    send(call(2));
    assert_eq!((memory.waiting("a"), memory.waiting(""), memory.raised.load(Ordering::Relaxed)), (1, 2, 1));
    send(Message::Step { run: run(1), record: 3, not_before: None });
    send(Message::Call { run: run(1), call: CallId { record: 2, index: 1 }, sandbox: false, not_before: None });
    assert_eq!(memory.waiting("a"), 1, "steps and other calls are for all");
    // Its queue is gone and it has not left properly.
    memory.queues.lock().unwrap().remove("a");
    send(call(1));
    assert_eq!(memory.waiting(""), 5);
    memory.pass(50_000);
    send(call(1));
    assert_eq!(memory.raised.load(Ordering::Relaxed), 2, "a is dead, so somebody must come up");
}

#[test]
fn who_leaves_leaves_nothing() {
    let (memory, fleet) = fleet();
    let a = runner(&fleet, "a");
    claim(&a, 1);
    block_on(Queue::send(&fleet, call(1))).unwrap();
    assert_eq!(memory.waiting("a"), 1);
    block_on(a.leave()).unwrap();
    assert_eq!(memory.waiting(""), 1, "what waited is for all");
    assert!(memory.heads.lock().unwrap().is_empty() && !memory.queues.lock().unwrap().contains_key("a"));
}

#[test]
fn the_dead_are_buried_and_their_runs_looked_after() {
    let (memory, fleet) = fleet();
    let (a, b) = (runner(&fleet, "a"), runner(&fleet, "b"));
    claim(&a, 1);
    claim(&b, 2);
    block_on(Queue::send(&fleet, call(1))).unwrap();
    memory.pass(20_000);
    block_on(b.beat()).unwrap();
    memory.pass(25_000);
    let revived = Mutex::new(Vec::new());
    let bury = || {
        block_on(fleet.bury(|run| {
            revived.lock().unwrap().push(run);
            std::future::ready(Ok(()))
        }))
    };
    assert_eq!(bury().unwrap(), 1);
    assert_eq!(*revived.lock().unwrap(), [run(1)]);
    assert_eq!((memory.waiting(""), bury().unwrap()), (1, 0));
    assert_eq!(claim(&b, 1), NEW);
    // It was only held up: it learns that it has nothing any longer, and takes part again.
    assert!(!block_on(a.beat()).unwrap());
    assert!(block_on(a.beat()).unwrap());
    assert_eq!((claim(&a, 1), claim(&a, 3)), (Claim::Of("b".to_owned()), NEW));
    assert!(memory.queues.lock().unwrap().contains_key("a"));
}

#[test]
fn lost_answers_double_nothing() {
    let (memory, fleet) = fleet();
    let a = runner(&fleet, "a");
    memory.loses_answer.store(true, Ordering::Relaxed);
    assert!(block_on(a.beat()).is_err());
    memory.pass(1);
    assert!(block_on(a.beat()).unwrap(), "what it wrote itself is no other's");
    memory.loses_answer.store(true, Ordering::Relaxed);
    assert!(block_on(a.claim(run(1))).is_err());
    assert_eq!(claim(&a, 1), KNOWN);
    memory.loses_answer.store(true, Ordering::Relaxed);
    assert!(block_on(a.release(run(1))).is_err());
    block_on(a.release(run(1))).unwrap();
    assert_eq!(block_on(fleet.leases()).unwrap(), []);
}

#[test]
fn an_id_is_one_runners() {
    let (memory, fleet) = fleet();
    let _a = runner(&fleet, "a");
    let second = block_on(Runner::start(fleet.clone(), "a")).err().unwrap();
    assert_eq!(second.code(), "runner_taken");
    // What a newer version wrote, or nobody can read, is left alone and alive to nobody.
    memory.heads.lock().unwrap().insert("runner.b".to_owned(), b"{\"schema\":2,\"by\":1,\"until\":9}".to_vec());
    memory.heads.lock().unwrap().insert(format!("session.{}", run(5)), b"\xff".to_vec());
    assert_eq!(block_on(fleet.runners()).unwrap(), ["a"]);
    assert_eq!(block_on(fleet.bury(|_| std::future::ready(Ok(())))).unwrap(), 0);
    assert!(memory.heads.lock().unwrap().contains_key("runner.b"));
}

struct Room(AtomicU64);

#[async_trait]
impl Tools for Room {
    fn check(&self, _: &ToolSpec, _: &str, _: Timestamp) -> Verdict {
        Verdict::ACCEPTED
    }

    fn check_answer(&self, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }

    async fn admit(&self, _: RunId, _: &TenantId, _: &ToolSpec) -> Result<Admission, PortError> {
        let has_room = self.0.load(Ordering::Relaxed) > 0;
        Ok(if has_room { Admission::Here } else { Admission::Later { millis: 500 } })
    }

    async fn run(&self, _: ToolJob<'_>) -> ToolReply {
        ToolReply::free(Outcome::Ok { text: String::new() })
    }

    async fn release(&self, _: RunId) {}
}

#[test]
fn a_runner_without_room_claims_nothing_that_another_could_take() {
    let (_, fleet) = fleet();
    let (a, b) = (runner(&fleet, "a"), runner(&fleet, "b"));
    let room = Arc::new(Room(AtomicU64::new(0)));
    let tools = RunnerTools::new(room.clone(), a.clone());
    let spec = |executor| ToolSpec {
        definition: ToolDefinition { name: "t".to_owned(), description: String::new(), parameters: "{}".to_owned() },
        class: Class::Idempotent,
        executor,
        approval: Approval::Never,
        timeout_ms: 1_000,
        taint_out: Vec::new(),
        source: None,
        min_tier: None,
        egress: None,
    };
    let admit = |number, executor| block_on(tools.admit(run(number), &TenantId::default(), &spec(executor))).unwrap();
    let later = Admission::Later { millis: 500 };
    assert_eq!(admit(1, Executor::Sandbox), later);
    assert_eq!(claim(&b, 1), NEW);
    assert_eq!(admit(1, Executor::Sandbox), Admission::Elsewhere);
    claim(&a, 2);
    assert_eq!(admit(2, Executor::Sandbox), later);
    assert_eq!(claim(&b, 2), Claim::Of("a".to_owned()), "what it had before it keeps");
    room.0.store(1, Ordering::Relaxed);
    assert_eq!(admit(3, Executor::Sandbox), Admission::Held);
    assert_eq!(claim(&b, 3), Claim::Of("a".to_owned()));
    assert_eq!(admit(1, Executor::Worker), Admission::Here, "only the workspace is one runner's");
    block_on(tools.release(run(3)));
    assert_eq!(claim(&b, 3), NEW);
}

fn snapshot(turn: u64) -> errand_core::Snapshot {
    errand_core::Snapshot { turn, manifest: errand_core::Hash::of(&turn.to_be_bytes()) }
}

const CALL: CallId = CallId { record: 2, index: 0 };
const NEXT: CallId = CallId { record: 2, index: 1 };

fn advance(runner: &Runner, turn: u64) -> Result<bool, PortError> {
    let kept = Kept { by: CALL, before: Some(snapshot(turn - 1)), after: snapshot(turn) };
    block_on(runner.advance(run(1), kept))
}

#[test]
fn of_two_that_believe_they_hold_a_session_ones_files_count() {
    let (memory, fleet) = fleet();
    let (a, b) = (runner(&fleet, "a"), runner(&fleet, "b"));
    assert_eq!(claim(&a, 1), NEW);
    assert!(advance(&a, 1).unwrap());
    // The answer is lost, and the write was done.
    memory.loses_answer.store(true, Ordering::Relaxed);
    assert!(advance(&a, 2).unwrap());
    // It stands still with a call in hand.
    memory.pass(60_000);
    assert!(block_on(b.beat()).unwrap());
    assert_eq!(claim(&b, 1), NEW);
    assert!(!advance(&a, 3).unwrap(), "it comes too late");
    assert!(advance(&b, 3).unwrap());
    let kept = Kept { by: CALL, before: None, after: snapshot(1) };
    assert!(!block_on(b.advance(run(7), kept)).unwrap(), "nobody's session");
}

#[test]
fn what_was_kept_before_it_had_a_result_is_there_and_not_made_twice() {
    let (memory, fleet) = fleet();
    let (a, b) = (runner(&fleet, "a"), runner(&fleet, "b"));
    claim(&a, 1);
    assert_eq!(a.start_of(run(1), CALL, None), None);
    assert!(advance(&a, 3).unwrap());
    memory.pass(60_000);
    assert!(block_on(b.beat()).unwrap());
    claim(&b, 1);
    let start = |call, given| b.start_of(run(1), call, given);
    assert_eq!(start(NEXT, Some(snapshot(2))), Some(snapshot(3)), "its files are not lost");
    assert_eq!(start(CALL, Some(snapshot(2))), Some(snapshot(2)), "it is carried out again as if it never was");
    assert_eq!(start(NEXT, Some(snapshot(3))), Some(snapshot(3)));
    assert_eq!(start(NEXT, Some(snapshot(9))), Some(snapshot(9)), "the run knows better");
}
