//! The simulation beside AWS: the real engine, with crashes, duplicates, delays and people, asks the store on the emulator
//! what it asks the simulated one, over a proxy with faults of its own, and every answer must be the same.

use crate::emulator::{clients, emulator, make, settings};
use crate::proxy::{Call, Fault, Proxy};
use errand_sim::{Stats, Twin, simulate_beside};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::runtime::Runtime;

/// Seeds from 0 on that are lived through; each asks some hundred times.
const SEEDS: u64 = 8;

/// Now and then a first try is refused, fails, is cut, loses its answer or is done twice.
fn now_and_then() -> impl Fn(&Call) -> Fault {
    let turn = AtomicU32::new(0);
    move |call| match (call.attempt, turn.fetch_add(1, Ordering::Relaxed) % 50) {
        (1, 7) => Fault::throttled(&call.action),
        (1, 17) => Fault::failed(),
        (1, 27) => Fault::Cut,
        (1, 37) => Fault::Lose,
        (1, 47) => Fault::Twice,
        _ => Fault::None,
    }
}

#[test]
fn the_engine_under_faults_finds_the_store_as_it_should_be() {
    let Some(emulator) = emulator() else { return };
    let runtime = Runtime::new().unwrap();
    let proxy = runtime.block_on(Proxy::start(&emulator.endpoint));
    proxy.plan(now_and_then());
    let mut sum = Stats::default();
    for seed in 0..SEEDS {
        let store = runtime.block_on(async {
            let mut settings = settings(&emulator.endpoint);
            make(&settings).await;
            settings.endpoint = Some(proxy.endpoint.clone());
            clients(settings).await.store()
        });
        let handle = runtime.handle().clone();
        let twin = Twin { store: Arc::new(store), drive: Arc::new(move |asked| handle.block_on(asked)) };
        match simulate_beside(seed, twin) {
            Ok(stats) => sum += stats,
            Err(violation) => panic!("{violation}"),
        }
    }
    assert!(sum.commits > 10 * SEEDS, "{sum:?}");
    let calls = proxy.take_calls();
    println!("{sum:?}, {} calls, {} of them repeated", calls.len(), calls.iter().filter(|call| call.attempt > 1).count());
    assert!(calls.iter().any(|call| call.attempt > 1), "the proxy did nothing");
}
