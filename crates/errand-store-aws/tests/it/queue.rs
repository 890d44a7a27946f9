//! What is peculiar to queues on AWS.

use crate::conformance::sample;
use crate::emulator::{aws, clients, emulator, make, settings, sqs};
use crate::world::Clock;
use aws_sdk_sqs::types::{Message as Raw, MessageSystemAttributeName, QueueAttributeName};
use errand_core::{CallId, Timestamp};
use errand_engine::ports::{Inbox, Message, Queue, RunnerQueues, World};
use errand_store_aws::{Aws, AwsInbox, Settings};
use std::sync::Arc;
use std::time::Duration;

const HOUR: u64 = 3_600_000;

/// Queues of their own, with all that a test uses of them.
struct Queues {
    aws: Aws,
    sqs: aws_sdk_sqs::Client,
    clock: Arc<Clock>,
}

impl Queues {
    async fn new() -> Option<Self> {
        let aws = aws().await?;
        Some(Self { sqs: sqs(aws.settings()).await, clock: Clock::new(), aws })
    }

    fn settings(&self) -> &Settings {
        self.aws.settings()
    }

    fn steps(&self) -> AwsInbox {
        self.aws.inbox(&self.settings().steps, self.clock.clone(), 10)
    }

    async fn send(&self, message: &Message) {
        self.aws.queue(self.clock.clone()).send(message.clone()).await.unwrap();
    }

    /// Puts a body into the queue of steps as it is.
    async fn send_raw(&self, body: &str) {
        self.sqs.send_message().queue_url(&self.settings().steps).message_body(body).send().await.unwrap();
    }

    /// What lies visible in a queue; it is hidden afterwards for `hidden` seconds.
    async fn look(&self, url: &str, hidden: i32) -> Vec<Raw> {
        let receive = self.sqs.receive_message().queue_url(url).max_number_of_messages(10).visibility_timeout(hidden);
        let receive = receive.message_system_attribute_names(MessageSystemAttributeName::All).message_attribute_names("All");
        receive.send().await.unwrap().messages.unwrap_or_default()
    }

    /// How many messages are visible, in somebody's hands, and not due yet.
    async fn counts(&self, url: &str) -> [usize; 3] {
        let ask = self.sqs.get_queue_attributes().queue_url(url).attribute_names(QueueAttributeName::All);
        let attributes = ask.send().await.unwrap().attributes.unwrap_or_default();
        let names = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
            QueueAttributeName::ApproximateNumberOfMessagesDelayed,
        ];
        names.map(|name| attributes.get(&name).map_or(0, |count| count.parse().unwrap()))
    }
}

fn step(record: u64) -> Message {
    Message::Step { run: sample::run(1), record, not_before: None }
}

fn body(message: &Message) -> String {
    format!(r#"{{"v":1,"body":{}}}"#, serde_json::to_string(message).unwrap())
}

#[tokio::test]
async fn the_tenant_is_the_group_of_a_message() {
    let Some(queues) = Queues::new().await else { return };
    queues.send(&step(2)).await;
    let found = queues.look(&queues.settings().steps, 0).await;
    let group = found[0].attributes().unwrap().get(&MessageSystemAttributeName::MessageGroupId);
    assert_eq!(group.map(String::as_str), Some(errand_store_aws::TENANT));
}

#[tokio::test]
async fn what_is_due_after_the_longest_delay_is_sent_on() {
    let Some(queues) = Queues::new().await else { return };
    let later = step(2).at(queues.clock.now().plus(HOUR));
    queues.send_raw(&body(&later)).await;
    queues.send_raw(&body(&step(3))).await;
    let inbox = queues.steps();
    let delivery = inbox.receive().await.unwrap();
    assert_eq!(delivery.message, step(3));
    inbox.ack(&delivery).await;
    assert_eq!(queues.counts(&queues.settings().steps).await, [0, 0, 1], "it waits, once, and is in nobody's hands");
    // A clock that is ahead, or 15 minutes later: it is due.
    queues.send_raw(&body(&later)).await;
    queues.clock.pass(HOUR);
    assert_eq!(inbox.receive().await.unwrap().message, later);
}

#[tokio::test]
async fn what_nobody_can_use_goes_to_the_dead_letters_with_the_reason() {
    let Some(queues) = Queues::new().await else { return };
    let large = format!(r#"{{"v":1,"body":"{}"}}"#, "é".repeat(150 << 10));
    for body in ["hello", r#"{"v":1,"body":{"message":"dance"}}"#, &large] {
        queues.send_raw(body).await;
    }
    queues.send(&step(2)).await;
    let inbox = queues.steps();
    assert_eq!(inbox.receive().await.unwrap().message, step(2), "the others keep nobody from their work");
    assert_eq!(queues.counts(&queues.settings().steps).await, [0, 1, 0]);
    let dead = queues.look(&queues.settings().dead, 0).await;
    let reason = |raw: &Raw| raw.message_attributes().unwrap()["reason"].string_value().unwrap().to_owned();
    assert_eq!(dead.len(), 3);
    assert_eq!(dead[0].body(), Some("hello"));
    assert!(reason(&dead[0]).contains("no message of Errand"), "{}", reason(&dead[0]));
    assert!(reason(&dead[1]).contains("dance"), "{}", reason(&dead[1]));
    assert!(reason(&dead[2]).contains("at most"), "{}", reason(&dead[2]));
    assert!(dead[2].body().unwrap().len() <= 200 << 10 && large.starts_with(dead[2].body().unwrap()));
}

#[tokio::test]
async fn newer_messages_are_left_to_newer_code_for_a_while() {
    let Some(queues) = Queues::new().await else { return };
    let newer = r#"{"v":2,"body":{"message":"dance"}}"#;
    queues.send_raw(newer).await;
    queues.send(&step(2)).await;
    let inbox = queues.steps();
    let delivery = inbox.receive().await.unwrap();
    assert_eq!(delivery.message, step(2));
    inbox.ack(&delivery).await;
    assert_eq!(queues.counts(&queues.settings().steps).await, [0, 1, 0], "it is hidden for a while");
    assert_eq!(queues.counts(&queues.settings().dead).await, [0, 0, 0]);
    // Another one that nobody took however often it was delivered.
    queues.send_raw(newer).await;
    for _ in 0..20 {
        assert_eq!(queues.look(&queues.settings().steps, 0).await.len(), 1);
    }
    queues.send(&step(3)).await;
    assert_eq!(inbox.receive().await.unwrap().message, step(3));
    let dead = queues.look(&queues.settings().dead, 0).await;
    assert_eq!(dead.iter().map(|raw| raw.body().unwrap()).collect::<Vec<_>>(), [newer]);
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again_when_its_time_is_over() {
    let Some(emulator) = emulator() else { return };
    let mut settings = settings(&emulator.endpoint);
    settings.visibility = Duration::from_secs(3);
    make(&settings).await;
    let (aws, clock) = (clients(settings).await, Clock::new());
    let inbox = aws.inbox(&aws.settings().steps, clock.clone(), 1);
    aws.queue(clock.clone()).send(step(2)).await.unwrap();
    let before = clock.now();
    let first = inbox.receive().await.unwrap();
    assert!(first.hidden_until <= clock.now().plus(3_000) && first.hidden_until >= before.plus(3_000));
    let again = inbox.receive().await.unwrap();
    assert_eq!((first.message.clone(), first.receives), (step(2), 1));
    assert!(again.message == step(2) && again.receives > first.receives, "{again:?}");
    inbox.ack(&again).await;
    // Too late, and known to be: nothing happens.
    inbox.ack(&first).await;
    inbox.give_back(&first, clock.now()).await;
    inbox.give_back(&again, clock.now()).await;
    aws.queue(clock).send(step(3)).await.unwrap();
    // Where this machine was so slow that the second acknowledgement came too late, the message comes once more.
    let next = async { while inbox.receive().await.unwrap().message != step(3) {} };
    tokio::time::timeout(Duration::from_secs(30), next).await.unwrap();
}

#[tokio::test]
async fn what_is_given_back_for_longer_than_a_message_can_be_hidden_is_sent_anew() {
    let Some(queues) = Queues::new().await else { return };
    queues.send(&step(2)).await;
    let inbox = queues.steps();
    let delivery = inbox.receive().await.unwrap();
    inbox.give_back(&delivery, queues.clock.now().plus(20 * HOUR)).await;
    assert_eq!(queues.counts(&queues.settings().steps).await, [0, 0, 1]);
    queues.send(&step(3)).await;
    let delivery = inbox.receive().await.unwrap();
    inbox.give_back(&delivery, queues.clock.now().plus(9 * HOUR)).await;
    assert_eq!(queues.counts(&queues.settings().steps).await, [0, 1, 1], "this one is hidden");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_dropped_loses_nothing_and_closing_gives_back() {
    let Some(queues) = Queues::new().await else { return };
    let inbox = queues.steps();
    let dropped = tokio::spawn({
        let inbox = inbox.clone();
        async move { inbox.receive().await }
    });
    tokio::task::yield_now().await;
    dropped.abort();
    for record in 2..6 {
        queues.send(&step(record)).await;
    }
    let mut received = vec![inbox.receive().await.unwrap()];
    while received.len() < 2 {
        received.push(inbox.receive().await.unwrap());
    }
    inbox.close().await;
    assert_eq!(inbox.receive().await, None);
    // Whatever it had taken and not handed out is there for others at once.
    let other = queues.steps();
    while received.len() < 4 {
        received.push(other.receive().await.unwrap());
    }
    let mut records: Vec<Message> = received.into_iter().map(|delivery| delivery.message).collect();
    records.sort_by_key(|message| format!("{message:?}"));
    assert_eq!(records, [step(2), step(3), step(4), step(5)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_wakes_whoever_waits() {
    let Some(queues) = Queues::new().await else { return };
    let inbox = queues.steps();
    let waits = tokio::spawn({
        let inbox = inbox.clone();
        async move { inbox.receive().await }
    });
    tokio::task::yield_now().await;
    inbox.close().await;
    assert_eq!(waits.await.unwrap(), None);
}

#[tokio::test]
async fn what_waited_here_for_too_long_goes_back_to_the_queue() {
    let Some(queues) = Queues::new().await else { return };
    queues.send(&step(2)).await;
    queues.send(&step(3)).await;
    let inbox = queues.steps();
    let first = inbox.receive().await.unwrap();
    inbox.ack(&first).await;
    queues.clock.pass(queues.settings().visibility.as_millis() as u64 / 2);
    let second = inbox.receive().await.unwrap();
    assert_ne!(second.message, first.message);
    assert_eq!(second.receives, 2, "it was received anew, with all of its time");
}

#[tokio::test]
async fn dead_letters_count_as_delivered_too_often_and_what_nobody_can_use_stays() {
    let Some(queues) = Queues::new().await else { return };
    let dead = queues.settings().dead.clone();
    let queue = queues.aws.queue(queues.clock.clone());
    queue.put_aside("hello", "no message").await.unwrap();
    queue.send_to(&dead, &step(2)).await.unwrap();
    let inbox = queues.aws.inbox(&dead, queues.clock.clone(), 10);
    let delivery = inbox.receive().await.unwrap();
    assert_eq!((delivery.message.clone(), delivery.receives), (step(2), u32::MAX));
    inbox.ack(&delivery).await;
    assert_eq!(queues.counts(&dead).await, [0, 1, 0], "hidden for as long as can be, for people to look at");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_messages_at_once_arrive_once_each() {
    let Some(queues) = Queues::new().await else { return };
    let queue = queues.aws.queue(queues.clock.clone());
    let sends = (2..102).map(|record| queue.send(step(record)));
    for sent in futures::future::join_all(sends).await {
        sent.unwrap();
    }
    let inbox = queues.steps();
    let mut records = Vec::new();
    for _ in 2..102 {
        let delivery = inbox.receive().await.unwrap();
        inbox.ack(&delivery).await;
        let Message::Step { record, .. } = delivery.message else { panic!("{delivery:?}") };
        records.push(record);
    }
    records.sort_unstable();
    assert_eq!(records, (2..102).collect::<Vec<_>>());
    assert_eq!(queues.counts(&queues.settings().steps).await, [0, 0, 0]);
}

#[tokio::test]
async fn a_runner_has_a_queue_of_its_own_and_leaves_its_messages_to_others() {
    let Some(queues) = Queues::new().await else { return };
    let (runners, shared) = (queues.aws.runner_queues(queues.clock.clone(), 10), queues.aws.queue(queues.clock.clone()));
    let call = |index| {
        let call = CallId { record: 2, index };
        Message::Call { run: sample::run(1), call, sandbox: true, not_before: None }
    };
    assert!(!runners.send("r-1_a", &call(0)).await.unwrap(), "it has none yet");
    let inbox = runners.make("r-1_a").await.unwrap();
    runners.make("r-1_a").await.unwrap();
    for index in 0..3 {
        assert!(runners.send("r-1_a", &call(index)).await.unwrap());
    }
    assert_eq!(queues.counts(&queues.settings().calls).await, [0, 0, 0]);
    let delivery = inbox.receive().await.unwrap();
    inbox.ack(&delivery).await;
    inbox.give_back(&inbox.receive().await.unwrap(), Timestamp::ZERO).await;
    // It had taken the third as well: that is lost with it, and the due index brings it back.
    drop(inbox);
    runners.dissolve("r-1_a", &shared).await.unwrap();
    runners.dissolve("r-1_a", &shared).await.unwrap();
    assert!(!runners.send("r-1_a", &call(0)).await.unwrap(), "it has none any longer");
    assert_eq!(queues.counts(&queues.settings().calls).await, [1, 0, 0], "what waited waits for others now");
    for name in ["", "a b", "a/b", "é", &"x".repeat(65), "a.fifo"] {
        assert_eq!(runners.make(name).await.err().map(|error| error.code()), Some("data_unfit"), "{name}");
    }
}

#[tokio::test]
async fn calls_that_need_no_runner_go_to_those_who_make_records() {
    let Some(queues) = Queues::new().await else { return };
    let call = |sandbox| {
        let call = CallId { record: 2, index: 0 };
        Message::Call { run: sample::run(1), call, sandbox, not_before: None }
    };
    queues.send(&call(false)).await;
    queues.send(&call(true)).await;
    assert_eq!(queues.steps().receive().await.unwrap().message, call(false));
    let calls = queues.aws.inbox(&queues.settings().calls, queues.clock.clone(), 1);
    assert_eq!(calls.receive().await.unwrap().message, call(true));
}
