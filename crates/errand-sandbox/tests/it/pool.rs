//! The warm pool over real boxes: what is claimed is fresh, single use, and gone with its holder.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use errand_sandbox::{Cell, CellEnd, Language, Limits, Pool, PoolConfig, Sessions};

use crate::{World, world};

const PATIENCE: Duration = Duration::from_secs(60);

struct Filled {
    pool: Pool,
    sessions: Arc<Sessions>,
    root: tempfile::TempDir,
}

fn pool(languages: &[Language], least: usize) -> Option<Filled> {
    let World { engine, root, .. } = world()?;
    let sessions = Arc::new(Sessions::at(root.path().join("pool")).unwrap());
    let config = PoolConfig { languages: languages.into(), parked: least..=4, limits: Limits::default() };
    let pool = Pool::start(Arc::clone(engine), Arc::clone(&sessions), config).unwrap();
    assert!(pool.is_filled_within(PATIENCE), "{:?}", pool.stats());
    Some(Filled { pool, sessions, root })
}

#[test]
fn a_claim_finds_a_kernel_ready_and_it_is_used_once() {
    let Some(Filled { pool, sessions, root: _root }) = pool(&[Language::Shell], 1) else { return };
    assert_eq!(sessions.list().unwrap(), Vec::<String>::new(), "what is parked belongs to nobody");
    let mut ids = BTreeSet::new();
    for number in 0..3 {
        assert!(pool.is_filled_within(PATIENCE));
        let id = format!("session-{number}");
        let mut claimed = pool.claim(&id, Language::Shell, &Limits::default()).unwrap();
        assert!(claimed.was_ready);
        assert_eq!(claimed.kernel.session().id(), id);
        let outcome =
            claimed.kernel.run(Cell::new("ls -A /workspace /tmp; echo mine > /workspace/mine; echo $secret")).unwrap();
        assert_eq!(outcome.end, CellEnd::Done);
        assert_eq!(outcome.stdout.text(), "/tmp:\n\n/workspace:\n\n", "nothing of another session");
        claimed.kernel.run(Cell::new("secret=canary")).unwrap();
        assert_eq!(claimed.kernel.session().read_file("mine", 0, 9).unwrap().bytes, b"mine\n");
        ids.insert(claimed.kernel.session().host_ids());
    }
    assert_eq!(sessions.list().unwrap(), ["session-0", "session-1", "session-2"]);
    assert_eq!(pool.stats().misses, 0);
}

#[test]
fn an_empty_pool_and_other_limits_make_a_kernel_at_once() {
    let Some(Filled { pool, root: _root, sessions: _ }) = pool(&[Language::Shell], 1) else { return };
    let other = Limits { processes: 20, ..Limits::default() };
    let mut claimed = pool.claim("other-limits", Language::Shell, &other).unwrap();
    assert!(!claimed.was_ready);
    assert_eq!(claimed.kernel.run(Cell::new("true")).unwrap().end, CellEnd::Done);
    let other = pool.claim("other-language", Language::Python, &Limits::default()).unwrap();
    assert!(!other.was_ready);
    assert_eq!(pool.stats().misses, 2);
}

#[test]
fn a_name_that_is_taken_is_refused_and_the_kernel_stays_for_others() {
    let Some(Filled { pool, sessions, root: _root }) = pool(&[Language::Shell], 1) else { return };
    let taken = sessions.create("taken").unwrap();
    for (id, code) in [("taken", "sandbox_session_exists"), ("../up", "sandbox_session_id")] {
        assert_eq!(pool.claim(id, Language::Shell, &Limits::default()).unwrap_err().code(), code);
    }
    assert!(pool.claim("free", Language::Shell, &Limits::default()).unwrap().was_ready);
    drop(taken);
}

#[test]
fn a_pool_that_is_dropped_leaves_nothing_and_what_was_claimed_lives_on() {
    let Some(Filled { pool, root, sessions: _ }) = pool(&[Language::Shell], 2) else { return };
    let mut claimed = pool.claim("kept", Language::Shell, &Limits::default()).unwrap();
    drop(pool);
    let left: Vec<_> =
        std::fs::read_dir(root.path().join("pool")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["kept"]);
    assert_eq!(claimed.kernel.run(Cell::new("echo alive")).unwrap().stdout.text(), "alive\n");
}
