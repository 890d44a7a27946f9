use super::{begin, sample, step};
use crate::{DataFolder, FaultPlan, Mode, Moment, SystemWorld};
use errand_core::ItemKey;
use errand_engine::ports::{Put, RunFilter, Store};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// What a child is told, in one line on its standard input: where to work, and at which write to die.
fn child(role: &str, folder: &Path, crash: &str) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("tests::kill::{role}"), "--ignored", "--nocapture"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    writeln!(child.stdin.take().unwrap(), "{crash} {}", folder.to_str().unwrap()).unwrap();
    child
}

fn told() -> (PathBuf, FaultPlan) {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let (crash, folder) = line.trim_end().split_once(' ').unwrap();
    let plan = match crash.split_once('/') {
        Some(("before", write)) => FaultPlan::crash_at(write.parse().unwrap(), Moment::Before),
        Some(("after", write)) => FaultPlan::crash_at(write.parse().unwrap(), Moment::After),
        _ => FaultPlan::none(),
    };
    (folder.into(), plan)
}

fn owned(path: &Path, faults: FaultPlan) -> (DataFolder, Arc<FaultPlan>) {
    let faults = Arc::new(faults);
    let mode = Mode::Own { command: "child".to_owned() };
    let opened = DataFolder::open_with_faults(path, mode, Arc::new(SystemWorld), Arc::clone(&faults));
    (opened.unwrap(), faults)
}

/// Tells the parent what was acknowledged, at once.
fn acknowledged(what: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ack {what}").unwrap();
    out.flush().unwrap();
}

fn acknowledgements(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let out = BufReader::new(child.stdout.take().unwrap());
    // The harness prints the test's name on the line that the first acknowledgement ends up on.
    out.lines().map_while(Result::ok).filter_map(|line| Some(line.split_once("ack ")?.1.to_owned()))
}

/// Writes to eight runs at once, for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "carried out by `what_was_acknowledged_survives_kills` as a process to be killed"]
async fn writes_for_ever() {
    let (folder, plan) = told();
    let (opened, _) = owned(&folder, plan);
    let writers = (1..=8).map(|number| {
        let store = Arc::clone(opened.store());
        tokio::spawn(async move {
            let mut log = match store.load(sample::run(number)).await.unwrap() {
                Some(loaded) => loaded.log,
                None => begin(&store, number).await,
            };
            loop {
                let message = sample::message(&(log.run.number + 1).to_string(), "said before the record");
                assert_eq!(store.put(log.run.id, &message, None).await.unwrap(), Put::Stored);
                acknowledged(&format!("{number} message {}", log.run.number + 1));
                step(&store, &mut log, 0, false).await;
                acknowledged(&format!("{number} record {}", log.run.number));
            }
        })
    });
    futures::future::join_all(writers).await;
}

#[tokio::test]
async fn what_was_acknowledged_survives_kills() {
    let folder = tempfile::tempdir().unwrap();
    for round in 1..=12 {
        let mut child = child("writes_for_ever", folder.path(), "never");
        let mut acks = acknowledgements(&mut child);
        // Killed after another number of writes each time, in the middle of what comes after them.
        let mut seen: Vec<String> = acks.by_ref().take(round * 17).collect();
        assert_eq!(seen.len(), round * 17, "the child ended by itself");
        child.kill().unwrap();
        seen.extend(acks);
        child.wait().unwrap();
        let (opened, _) = owned(folder.path(), FaultPlan::none());
        for ack in &seen {
            let mut words = ack.split(' ');
            let mut number = || words.next().unwrap().parse::<u64>();
            let run = sample::run(number().unwrap());
            let loaded = opened.store().load(run).await.unwrap().expect("an acknowledged run is there").log;
            let (what, number) = ack.rsplit_once(' ').unwrap();
            if what.ends_with("record") {
                assert!(loaded.run.number >= number.parse().unwrap(), "round {round}: lost {ack}");
            } else {
                let key = ItemKey::Message { id: number.to_owned() };
                assert!(loaded.items.contains_key(&key), "round {round}: lost {ack}");
            }
        }
        // A message whose record was not written yet would be refused in the next round.
        for number in 1..=8 {
            if let Some(loaded) = opened.store().load(sample::run(number)).await.unwrap() {
                let mut log = loaded.log;
                step(opened.store(), &mut log, 0, false).await;
            }
        }
        opened.close().await.unwrap();
    }
}

/// A fixed scenario in which each write is acknowledged before the next.
#[tokio::test]
#[ignore = "carried out by `a_crash_at_every_write_leaves_a_whole_folder` as a process that crashes"]
async fn writes_a_little() {
    let (folder, plan) = told();
    let (opened, faults) = owned(&folder, plan);
    let store = opened.store();
    let mut log = begin(store, 1).await;
    acknowledged("records 1");
    opened.blobs().put_blocking(b"a blob").unwrap();
    acknowledged("blob");
    for number in 2..5 {
        store.put(log.run.id, &sample::claim(number, 1, 1, sample::at(1 << 40)), None).await.unwrap();
        step(store, &mut log, 1, number != 3).await;
        acknowledged(&format!("records {number}"));
    }
    opened.close().await.unwrap();
    acknowledged(&format!("writes {}", faults.writes()));
}

/// Tables with the first epoch, run, blob, three records, end.
const WRITES: u64 = 7;

#[tokio::test]
async fn a_crash_at_every_write_leaves_a_whole_folder() {
    let whole = tempfile::tempdir().unwrap();
    let mut whole_child = child("writes_a_little", whole.path(), "never");
    let last = acknowledgements(&mut whole_child).last().unwrap();
    assert!(whole_child.wait().unwrap().success());
    let writes: u64 = last.strip_prefix("writes ").unwrap().parse().unwrap();
    assert_eq!(writes, WRITES, "update the scenario if this changes");
    for write in 1..=writes {
        for moment in ["before", "after"] {
            let folder = tempfile::tempdir().unwrap();
            let mut child = child("writes_a_little", folder.path(), &format!("{moment}/{write}"));
            let acks: Vec<String> = acknowledgements(&mut child).collect();
            assert_eq!(child.wait().unwrap().signal(), Some(6), "{moment} write {write}: it must abort");
            check(folder.path(), &acks, write, moment).await;
        }
    }
}

async fn check(path: &Path, acks: &[String], write: u64, moment: &str) {
    let case = format!("crash {moment} write {write}, acknowledged {acks:?}");
    let (opened, _) = owned(path, FaultPlan::none());
    let promised = acks.iter().filter_map(|ack| ack.strip_prefix("records ")?.parse::<u64>().ok()).max().unwrap_or(0);
    let loaded = opened.store().load(sample::run(1)).await.unwrap();
    let records = loaded.as_ref().map_or(0, |loaded| loaded.log.run.number);
    assert!(records >= promised && records <= promised + 1, "{case}: {records}");
    assert_eq!(opened.store().list(&RunFilter::default()).await.unwrap().runs.len() as u64, records.min(1), "{case}");
    if acks.iter().any(|ack| ack == "blob") {
        let hash = errand_core::Hash::of(b"a blob");
        assert_eq!(opened.blobs().get_blocking(&hash).unwrap().unwrap(), b"a blob", "{case}");
    }
    assert_eq!(fs::read_dir(path.join("blobs/tmp")).unwrap().count(), 0, "{case}");
    let Some(loaded) = loaded else { return };
    let claims =
        loaded.log.items.keys().filter(|key| matches!(key, ItemKey::Claim { record, .. } if *record == records + 1));
    let has_closed = write == WRITES && moment == "after";
    assert_eq!(claims.count(), usize::from(!has_closed), "{case}: one call may have been made");
    let mut log = loaded.log;
    step(opened.store(), &mut log, 0, false).await;
}
