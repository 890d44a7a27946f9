use super::{TestWorld, begin, own, sample};
use errand_core::RunLog;
use errand_engine::ports::{Commit, Put, Store};
use std::sync::Arc;

/// The writer takes whatever waits: while it is held up at its first transaction, 64 runs commit, and what had to wait
/// is one transaction more.
#[tokio::test]
async fn commits_of_many_runs_share_transactions() {
    let folder = tempfile::tempdir().unwrap();
    let opened = own(folder.path(), &TestWorld::new()).unwrap();
    let store = Arc::clone(opened.store());
    let mut logs: Vec<RunLog> = Vec::new();
    for number in 1..=64 {
        logs.push(begin(&store, number).await);
    }
    // Whoever wrote last, alone, need not wait for the writer.
    begin(&store, 65).await;
    let stats = || (store.stats().unwrap().transactions(), store.stats().unwrap().writes());
    let before = stats();
    let records: Vec<_> = logs.iter().map(|log| sample::step(log, 0, 1, false)).collect();
    let commits = logs.iter().zip(&records).map(|(log, record)| store.commit(log.run.id, record, None));
    let mut commits = futures::future::join_all(commits);
    let blocker = rusqlite::Connection::open(folder.path().join("errand.db")).unwrap();
    blocker.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(futures::poll!(&mut commits).is_pending());
    blocker.execute_batch("COMMIT").unwrap();
    for commit in commits.await {
        assert_eq!(commit.unwrap(), Commit::Stored);
    }
    let after = stats();
    assert_eq!(after.1 - before.1, 64);
    assert!(after.0 - before.0 <= 2, "{} transactions for 64 commits", after.0 - before.0);
    for (log, record) in logs.iter_mut().zip(records) {
        log.push(record);
        assert_eq!(store.load(log.run.id).await.unwrap().unwrap().log.records, log.records);
    }
}

/// Writes of one run in one group see each other, and a refused one among them takes nothing with it.
#[tokio::test]
async fn writes_of_a_group_see_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let opened = own(folder.path(), &TestWorld::new()).unwrap();
    let store = opened.store();
    let log = begin(store, 1).await;
    // So that it is not alone.
    begin(store, 2).await;
    let run = log.run.id;
    let second = sample::step(&log, 0, 1, false);
    let mut after = log.clone();
    after.push(second.clone());
    let third = sample::step(&after, 0, 1, false);
    let mut gap = after.clone();
    gap.push(third.clone());
    gap.push(sample::step(&gap, 0, 1, false));
    let sixth = sample::step(&gap, 0, 1, false);
    let (one, two) = (sample::message("1", "first"), sample::message("1", "second"));
    let (commits, puts) = futures::future::join(
        futures::future::join_all([
            store.commit(run, &second, None),
            store.commit(run, &sixth, None),
            store.commit(run, &second, None),
            store.commit(run, &third, None),
        ]),
        futures::future::join(store.put(run, &one, None), store.put(run, &two, None)),
    )
    .await;
    let commits: Vec<_> = commits.into_iter().map(Result::ok).collect();
    assert_eq!(commits, [Some(Commit::Stored), None, Some(Commit::Taken(Arc::clone(&second.record))), Some(Commit::Stored)]);
    assert_eq!((puts.0.unwrap(), puts.1.unwrap()), (Put::Stored, Put::Taken(one)));
    assert_eq!(store.load_stored(run).await.unwrap().unwrap().log.records.len(), 3);
}

/// A run that writes alone and one that is joined by others lose nothing when they take turns, nor when the store is
/// closed after them.
#[tokio::test]
async fn alone_and_together_is_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let opened = own(folder.path(), &TestWorld::new()).unwrap();
    let store = opened.store();
    let mut logs = [begin(store, 1).await, begin(store, 2).await];
    for turn in 0..60 {
        let writers = if turn / 10 % 2 == 0 { 1 } else { 2 };
        let records: Vec<_> = logs.iter().take(writers).map(|log| sample::step(log, 0, 1, false)).collect();
        let commits = logs.iter().zip(&records).map(|(log, record)| store.commit(log.run.id, record, None));
        for commit in futures::future::join_all(commits).await {
            assert_eq!(commit.unwrap(), Commit::Stored);
        }
        logs.iter_mut().zip(records).for_each(|(log, record)| log.push(record));
    }
    opened.close().await.unwrap();
    let late = sample::step(&logs[0], 0, 1, false);
    assert!(store.commit(logs[0].run.id, &late, None).await.is_err());
    drop(opened);
    let again = own(folder.path(), &TestWorld::new()).unwrap();
    for log in &logs {
        assert_eq!(again.store().load(log.run.id).await.unwrap().unwrap().log.records, log.records);
    }
}
