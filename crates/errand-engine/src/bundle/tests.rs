use super::*;
use errand_core::{
    Budget, Cancelled, Event, History, Input, Item, ItemBody, ItemKey, Limits, Making, ModelChoice, Nonce, Price, RunConfig,
    Started, UserMessage, WhenExceeded,
};

fn id(number: u128) -> RunId {
    RunId::new(Timestamp::from_millis(1), number)
}

const MAKING: Making = Making { made_under: 0, attempt: 0, maker: Nonce(7) };

/// A run that was told something and then stopped.
fn told(run: RunId, history: Option<History>) -> RunLog {
    let config = RunConfig {
        tenant: Default::default(),
        min_tier: None,
        fallbacks: Vec::new(),
        summarizers: Vec::new(),
        output: None,
        assistant: None,
        model: ModelChoice {
            image_tokens: 0,
            name: "m".to_owned(),
            price: Some(Price::FREE),
            context_tokens: None,
            endpoint: None,
        },
        instructions: String::new(),
        tools: Vec::new(),
        limits: Limits::default(),
        budget: Budget { usd: None, tokens: None, steps: 9, active_ms: 9_000, when_exceeded: WhenExceeded::End },
    };
    let started = Started {
        images: Vec::new(),
        config,
        task: "zähle".to_owned(),
        files: Vec::new(),
        workspace: None,
        history,
        parent: None,
        withdrawn: None,
        given: Vec::new(),
        metadata: Default::default(),
        surface: None,
    };
    let mut log = RunLog::begin(run, started, Timestamp::from_millis(5), MAKING);
    let key = ItemKey::Message { id: "a".to_owned() };
    let message = UserMessage { id: "a".to_owned(), text: "schneller".to_owned() };
    let at = Timestamp::from_millis(6);
    log.items.insert(key.clone(), Item { key, at, body: ItemBody::Message { message } });
    let errand_core::Next::Commit { event, consumed } = log.next(at) else { panic!("nothing to read") };
    let sealed = log.make(Input { event, books: Vec::new(), at, began: None }, consumed, MAKING).unwrap();
    log.push(sealed);
    let event = Event::Cancelled(Cancelled { reason: String::new(), by: "me".to_owned() });
    let sealed = log.make(Input { event, books: Vec::new(), at, began: None }, Vec::new(), MAKING).unwrap();
    log.push(sealed);
    log
}

fn written(logs: &[RunLog], blobs: &[&[u8]]) -> Vec<u8> {
    let run = logs[logs.len() - 1].run.id;
    let mut writer = Writer::new(Vec::new(), run, Timestamp::from_millis(9), !blobs.is_empty()).unwrap();
    logs.iter().for_each(|log| writer.log(log).unwrap());
    blobs.iter().for_each(|blob| writer.blob(blob).unwrap());
    writer.finish().unwrap()
}

fn code(bytes: &[u8]) -> &'static str {
    read(bytes).and_then(|bundle| bundle.check()).expect_err("it should be refused").code()
}

fn replaced(bytes: &[u8], old: &str, new: &str) -> Vec<u8> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(text.contains(old), "{old}");
    text.replacen(old, new, 1).into_bytes()
}

#[test]
fn what_was_written_is_read() {
    let first = told(id(1), None);
    let history = History { images: 0, run: id(1), number: first.run.number, hash: first.run.hash, bytes: 3, messages: 2 };
    let second = told(id(2), Some(history));
    let bytes = written(&[first.clone(), second.clone()], &[b"one", b"two\n\x00"]);
    let bundle = read(&bytes[..]).unwrap();
    assert_eq!(bundle.log().unwrap().records, second.records);
    assert_eq!(bundle.logs[&id(1)].items, first.items);
    assert_eq!(bundle.history().unwrap(), first.conversation());
    let checked = bundle.check().unwrap();
    assert_eq!((checked.records, checked.items, checked.blobs, checked.head), (6, 2, 2, second.run.hash));
}

#[test]
fn every_cut_is_noticed() {
    let bytes = written(&[told(id(1), None)], &[b"one"]);
    for end in 0..bytes.len() {
        let error = read(&bytes[..end]).unwrap_err();
        assert_eq!(error.code(), "bundle_truncated", "cut at {end}: {error}");
    }
}

#[test]
fn every_altered_byte_is_noticed() {
    let bytes = written(&[told(id(1), None)], &[b"one"]);
    for position in 0..bytes.len() {
        let mut forged = bytes.clone();
        forged[position] ^= 1;
        assert!(read(&forged[..]).and_then(|bundle| bundle.check()).is_err(), "byte {position}");
    }
}

#[test]
fn an_altered_record_is_named() {
    let bytes = written(&[told(id(1), None)], &[]);
    let error = read(&replaced(&bytes, "schneller", "langsamer")[..]).unwrap_err();
    assert_eq!(error.code(), "bundle_forged");
    assert!(error.to_string().contains("record 2 was altered"), "{error}");
}

#[test]
fn an_item_that_was_not_consumed_so_is_named() {
    let mut log = told(id(1), None);
    let key = ItemKey::Message { id: "a".to_owned() };
    let message = UserMessage { id: "a".to_owned(), text: "langsamer".to_owned() };
    log.items.insert(key.clone(), Item { key, at: Timestamp::from_millis(6), body: ItemBody::Message { message } });
    let error = read(&written(&[log.clone()], &[])[..]).unwrap().check().unwrap_err();
    assert_eq!(error.code(), "bundle_forged");
    assert!(error.to_string().contains("record 2 consumed item `message/a`"), "{error}");
    log.items.clear();
    assert_eq!(code(&written(&[log], &[])), "bundle_forged");
}

#[test]
fn newer_foreign_and_doctored_files_are_refused() {
    let bytes = written(&[told(id(1), None)], &[b"one"]);
    assert_eq!(code(&replaced(&bytes, "\"errand_bundle\":1", "\"errand_bundle\":2")), "bundle_newer");
    assert_eq!(code(b"PK\x03\x04\n"), "bundle_unreadable");
    assert_eq!(code(&[b'x'; 10_000]), "bundle_unreadable");
    assert_eq!(code(&[&bytes[..], b"more"].concat()), "bundle_unreadable");
    assert_eq!(code(&replaced(&bytes, "\none\n", "\ntwo\n")), "bundle_forged");
    let huge = replaced(&bytes, "\"bytes\":3}", "\"bytes\":99999999999}");
    assert_eq!(code(&huge), "bundle_too_large");
}

#[test]
fn a_thread_without_its_beginning_is_refused() {
    let first = told(id(1), None);
    let history = History { images: 0, run: id(1), number: 3, hash: first.run.hash, bytes: 0, messages: 0 };
    let second = told(id(2), Some(history.clone()));
    assert_eq!(code(&written(&[second], &[])), "bundle_incomplete");
    let third = told(id(2), Some(History { hash: Hash::default(), ..history.clone() }));
    assert_eq!(code(&written(&[first.clone(), third], &[])), "bundle_incomplete");
    let fourth = told(id(2), Some(History { number: 9, ..history }));
    assert_eq!(code(&written(&[first, fourth], &[])), "bundle_incomplete");
}
