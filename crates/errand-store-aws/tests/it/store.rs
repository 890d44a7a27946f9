//! What is peculiar to runs and blobs on AWS.

use crate::conformance::sample;
use crate::emulator::{aws, dynamodb, s3};
use aws_sdk_dynamodb::types::AttributeValue;
use errand_core::{
    CallId, Event, Hash, Input, Item, ItemBody, ItemKey, Making, ModelReplied, ModelReply, Nonce, Observation, Outcome,
    RunLog, Sealed, UserMessage,
};
use errand_engine::ports::{Blobs, Commit, Put, Signer, Store};
use errand_store_aws::Aws;
use std::collections::HashMap;
use std::time::Duration;

/// Text that does not shrink.
fn noise(bytes: usize) -> String {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'!' + (state % 90) as u8).to_string().replace(['"', '\\'], "x")
    };
    std::iter::repeat_with(next).take(bytes).collect()
}

async fn begun(store: &dyn Store, number: u64) -> RunLog {
    let log = sample::log(sample::run(number), sample::at(number));
    assert_eq!(store.begin(log.run.id, &log.records, sample::at(number)).await.unwrap(), Commit::Stored);
    log
}

/// A model turn that says `text`, with one quick call so that another turn is due.
fn saying(log: &RunLog, text: String) -> Sealed {
    let usual = sample::step(log, 0, 3, false);
    let Event::ModelReplied(replied) = usual.record.event.clone() else { panic!("a turn") };
    let replied = ModelReplied { reply: ModelReply { text, ..replied.reply.clone() }, ..*replied };
    let input = Input { event: Event::ModelReplied(Box::new(replied)), books: vec![], at: log.run.at.plus(10), began: None };
    let number = log.run.number + 1;
    log.make(input, vec![], Making { made_under: number, attempt: 0, maker: Nonce(3) }).unwrap()
}

/// The rows of a run as they lie in the table, by sort key.
async fn rows(aws: &Aws, run: &str) -> HashMap<String, HashMap<String, AttributeValue>> {
    let query = dynamodb(aws.settings()).await.query().table_name(&aws.settings().table);
    let query = query.key_condition_expression("pk = :run");
    let query = query.expression_attribute_values(":run", AttributeValue::S(run.to_owned()));
    let rows = query.into_paginator().items().send().try_collect().await.unwrap();
    rows.into_iter().map(|row| (row["sk"].as_s().unwrap().clone(), row)).collect()
}

/// Changes one attribute of a row, as somebody could who may write to the table.
async fn tamper(aws: &Aws, run: &str, sort: &str, name: &str, value: AttributeValue) {
    let update = dynamodb(aws.settings()).await.update_item().table_name(&aws.settings().table);
    let key = |name: &str, value: &str| (name.to_owned(), AttributeValue::S(value.to_owned()));
    let update = update.set_key(Some([key("pk", run), key("sk", sort)].into()));
    let update = update.update_expression("SET #a = :v").expression_attribute_names("#a", name);
    update.expression_attribute_values(":v", value).send().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_records_and_items_lie_in_the_bucket() {
    let Some(aws) = aws().await else { return };
    let store = aws.store();
    let mut log = begun(&store, 1).await;
    // Some that stay, some that shrink, some around the largest row there is, one far beyond.
    for text in [noise(500), "x".repeat(300 << 10), noise(6 << 10), noise(9 << 10), noise(399 << 10), noise(2 << 20)] {
        let record = saying(&log, text);
        assert_eq!(store.commit(log.run.id, &record, None).await.unwrap(), Commit::Stored);
        let taken = aws.store().commit(log.run.id, &record, None).await.unwrap();
        assert_eq!(taken, Commit::Taken(record.record.clone()));
        log.push(record);
        assert_eq!(aws.store().last(log.run.id).await.unwrap().unwrap(), log.records.last().unwrap().record);
    }
    let call = CallId { record: 2, index: 0 };
    let outcome = Outcome::Ok { text: noise(1 << 20) };
    let large = Item {
        key: ItemKey::Result { call },
        at: sample::at(1),
        body: ItemBody::Result { observation: Observation::free(call, outcome) },
    };
    assert_eq!(store.put(log.run.id, &large, Some(sample::at(2))).await.unwrap(), Put::Stored);
    assert_eq!(store.put(log.run.id, &large, None).await.unwrap(), Put::Taken(large.clone()));
    let loaded = aws.store().load(log.run.id).await.unwrap().unwrap().log;
    assert_eq!(loaded.records, log.records);
    assert_eq!(loaded.items[&large.key], large);
    let rows = rows(&aws, &log.run.id.to_string()).await;
    let size = |row: &HashMap<String, AttributeValue>| -> usize {
        row.values().map(|value| value.as_b().map_or(0, |bytes| bytes.as_ref().len())).sum()
    };
    let largest = rows.values().map(size).max().unwrap();
    assert!(largest <= (8 << 10) + 64, "a row has {largest} bytes");
    assert_eq!(rows.values().filter(|row| row.contains_key("s")).count(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_runs_come_in_pages_and_long_forks_whole() {
    let Some(aws) = aws().await else { return };
    let store = aws.store();
    let mut log = begun(&store, 1).await;
    for _ in 0..170 {
        let record = saying(&log, noise(7_000));
        store.commit(log.run.id, &record, None).await.unwrap();
        log.push(record);
    }
    let loaded = aws.store().load(log.run.id).await.unwrap().unwrap();
    assert_eq!(loaded.log.records.len(), 171, "more than a page of a query, which has a megabyte");
    assert_eq!(loaded.log.records, log.records);
    let fork = log.prefix(sample::run(2), 150).unwrap();
    assert_eq!(store.begin(fork.run.id, &fork.records, sample::at(9)).await.unwrap(), Commit::Stored);
    let first = Commit::Taken(fork.records[0].record.clone());
    assert_eq!(store.begin(fork.run.id, &fork.records, sample::at(9)).await.unwrap(), first);
    assert_eq!(aws.store().begin(fork.run.id, &fork.records, sample::at(9)).await.unwrap(), first);
    assert_eq!(aws.store().load(fork.run.id).await.unwrap().unwrap().log.records, fork.records);
    // What is left of a beginning that did not come to its end is no run, and in nobody's way.
    let dynamodb = dynamodb(aws.settings()).await;
    let key = |name: &str, value: String| (name.to_owned(), AttributeValue::S(value));
    for sort in (1..=90).map(|number| format!("2/{number:010}")).chain(["1".to_owned()]) {
        let key = [key("pk", fork.run.id.to_string()), key("sk", sort)].into();
        dynamodb.delete_item().table_name(&aws.settings().table).set_key(Some(key)).send().await.unwrap();
    }
    let other = aws.store();
    assert!(other.load(fork.run.id).await.unwrap().is_none() && other.last(fork.run.id).await.unwrap().is_none());
    assert_eq!(other.commit(fork.run.id, log.records.last().unwrap(), None).await.unwrap_err().code(), "run_unknown");
    assert_eq!(other.begin(fork.run.id, &fork.records, sample::at(9)).await.unwrap(), Commit::Stored);
    assert_eq!(other.load(fork.run.id).await.unwrap().unwrap().log.records, fork.records);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_to_a_run_that_is_not_there_are_refused() {
    let Some(aws) = aws().await else { return };
    let (store, log) = (aws.store(), sample::log(sample::run(1), sample::at(1)));
    let (run, claim) = (log.run.id, sample::claim(2, 1, 1, sample::at(9)));
    for wake in [None, Some(sample::at(1))] {
        assert_eq!(store.put(run, &claim, wake).await.unwrap_err().code(), "run_unknown");
        let record = sample::step(&log, 0, 1, false);
        assert_eq!(store.commit(run, &record, wake).await.unwrap_err().code(), "run_unknown");
    }
    assert!(!store.move_due(run, None, Some(sample::at(1))).await.unwrap());
    assert!(rows(&aws, &run.to_string()).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_any_length_and_kind_can_be_said_under() {
    let Some(aws) = aws().await else { return };
    let store = aws.store();
    let run = begun(&store, 1).await.run.id;
    let ids = ["", "é\u{0}/~", &"x".repeat(10_000), &"x".repeat(10_001)];
    for id in ids {
        let message = UserMessage { id: id.to_owned(), text: "hello".to_owned() };
        let key = ItemKey::Message { id: id.to_owned() };
        let item = Item { key: key.clone(), at: sample::at(1), body: ItemBody::Message { message } };
        assert_eq!(store.put(run, &item, None).await.unwrap(), Put::Stored, "{}", id.len());
        assert_eq!(store.item(run, &key).await.unwrap().unwrap(), item);
    }
    assert_eq!(store.load(run).await.unwrap().unwrap().log.items.len(), ids.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_altered_is_noticed() {
    let Some(aws) = aws().await else { return };
    let store = aws.store();
    let code = async |number, sort: &str, name: &str, value| {
        let mut log = begun(&store, number).await;
        let record = saying(&log, "x".to_owned());
        store.commit(log.run.id, &record, None).await.unwrap();
        log.push(record);
        tamper(&aws, &log.run.id.to_string(), sort, name, value).await;
        aws.store().load(log.run.id).await.map(|_| ()).unwrap_err().code()
    };
    let (second, bytes) = (format!("2/{:010}", 2), |bytes: &[u8]| AttributeValue::B(bytes.to_vec().into()));
    assert_eq!(code(1, &second, "b", bytes(b"{}")).await, "ledger_broken");
    assert_eq!(code(2, &second, "h", bytes(&[7; 32])).await, "ledger_broken");
    assert_eq!(code(3, &second, "h", AttributeValue::S("x".to_owned())).await, "ledger_broken");
    assert_eq!(code(4, "1", "v", AttributeValue::N("2".to_owned())).await, "data_newer");
    assert_eq!(code(5, "1", "v", AttributeValue::S("x".to_owned())).await, "data_unreadable");
    assert_eq!(code(6, "3/claim/1", "b", bytes(b"no item")).await, "data_unreadable");
    assert_eq!(code(7, "3/claim/1", "x", bytes(b"")).await, "data_unreadable", "a row without bytes");
    assert_eq!(code(8, "3/claim/1", "z", bytes(b"\xff\xff\xff\xffno")).await, "data_unreadable");
    assert_eq!(code(9, "3/claim/1", "s", bytes(&[7; 32])).await, "blob_missing");
    assert_eq!(code(10, "2/0000000004", "b", bytes(b"{}")).await, "ledger_broken", "a record is missing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_that_is_not_what_it_should_be_is_noticed() {
    let Some(aws) = aws().await else { return };
    let (blobs, s3) = (aws.blobs(), s3(aws.settings()).await);
    for bytes in [b"short".to_vec(), b"text that shrinks ".repeat(1000)] {
        let hash = blobs.put(&bytes).await.unwrap();
        let key = format!("blobs/{hash}");
        let stored = s3.get_object().bucket(&aws.settings().bucket).key(&key).send().await.unwrap();
        assert!(stored.content_length().unwrap() <= bytes.len() as i64);
        let form = stored.metadata().and_then(|metadata| metadata.get("errand-form")).cloned();
        let put = s3.put_object().bucket(&aws.settings().bucket).key(&key).set_metadata(stored.metadata.clone());
        put.body(b"other".to_vec().into()).send().await.unwrap();
        assert_eq!(blobs.get(&hash).await.unwrap_err().code(), "blob_damaged", "{form:?}");
        let put = s3.put_object().bucket(&aws.settings().bucket).key(&key).metadata("errand-form", "zstd");
        put.body(b"other".to_vec().into()).send().await.unwrap();
        assert_eq!(blobs.get(&hash).await.unwrap_err().code(), "data_unreadable", "a form of newer code");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_lead_to_the_bytes_as_they_were_put() {
    let Some(aws) = aws().await else { return };
    let blobs = aws.blobs();
    for bytes in [b"short".to_vec(), b"text that shrinks ".repeat(1000)] {
        let hash = blobs.put(&bytes).await.unwrap();
        for _ in 0..2 {
            let link = blobs.link(&hash, Duration::from_secs(60)).await.unwrap();
            assert!(link.contains("X-Amz-Expires=60") && link.contains("X-Amz-Signature="), "{link}");
            assert_eq!(fetched(&link).await, bytes);
        }
    }
    let missing = blobs.link(&Hash::of(b"nowhere"), Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(missing.code(), "blob_missing");
    let hash = blobs.put(b"short").await.unwrap();
    let link = blobs.link(&hash, Duration::from_secs(u64::MAX)).await.unwrap();
    assert!(link.contains("X-Amz-Expires=604800"), "as long as can be: {link}");
}

/// What whoever has the link gets, who knows nothing of us.
async fn fetched(link: &str) -> Vec<u8> {
    use http_body_util::{BodyExt, Empty};
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
    let request = hyper::Request::get(link).body(Empty::<bytes::Bytes>::new()).unwrap();
    let answer = client.request(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.into_body().collect().await.unwrap().to_bytes().to_vec()
}
