//! The worker's memory, counted where it is asked for: the bound that every system has, and the number from which the
//! interpreter knows how much it may still use.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use monty_types::{BASELINE_MEMORY, LIVE_MEMORY, OOM_EXIT_CODE};

/// Counting begins here and not at zero: memory from before may be given back after.
const ORIGIN: usize = 1 << (usize::BITS - 2);
/// Beyond the interpreter's own bound. Up to that one code ends with a message, beyond this one the process ends.
const HEADROOM_BYTES: usize = 8 << 20;

static COUNTS: AtomicBool = AtomicBool::new(false);
static MOST: AtomicUsize = AtomicUsize::new(usize::MAX);

/// The system's allocator, which counts in a worker of tier T0 and costs one look at a flag everywhere else.
///
/// A binary that is its own worker installs it:
/// ```
/// #[global_allocator]
/// static ALLOCATOR: errand_sandbox::t0::CountingAllocator = errand_sandbox::t0::CountingAllocator;
/// # fn main() {}
/// ```
#[derive(Debug)]
pub struct CountingAllocator;

/// Counts from now on, and ends the process when it holds `memory_bytes` and some headroom more than now. False where
/// another allocator is installed.
pub(crate) fn count(memory_bytes: usize) -> bool {
    LIVE_MEMORY.store(ORIGIN, Ordering::Relaxed);
    BASELINE_MEMORY.store(ORIGIN, Ordering::Relaxed);
    MOST.store(ORIGIN.saturating_add(memory_bytes).saturating_add(HEADROOM_BYTES), Ordering::Relaxed);
    COUNTS.store(true, Ordering::Relaxed);
    let before = LIVE_MEMORY.load(Ordering::Relaxed);
    let held = std::hint::black_box(Vec::<u8>::with_capacity(64));
    let counted = LIVE_MEMORY.load(Ordering::Relaxed) > before;
    drop(held);
    counted
}

fn take(bytes: usize) {
    if COUNTS.load(Ordering::Relaxed) {
        let held = LIVE_MEMORY.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if held > MOST.load(Ordering::Relaxed) {
            out_of_memory();
        }
    }
}

fn give_back(bytes: usize) {
    if COUNTS.load(Ordering::Relaxed) {
        LIVE_MEMORY.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// In a worker: ends the process in a way the engine can tell from a crash. Elsewhere the caller decides, as ever.
fn refused_by_system<T>(pointer: *mut T) -> *mut T {
    if pointer.is_null() && COUNTS.load(Ordering::Relaxed) {
        out_of_memory();
    }
    pointer
}

#[cold]
fn out_of_memory() -> ! {
    // What runs at the end may itself ask for a little.
    MOST.store(usize::MAX, Ordering::Relaxed);
    std::process::exit(OOM_EXIT_CODE)
}

// SAFETY: every method hands its arguments to `System` as they came and gives back what `System` gave, or does not return;
// the counting beside it touches atomics only and never allocates.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promises for `layout` are those that `System` asks for.
        refused_by_system(unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: as above.
        refused_by_system(unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        give_back(layout.size());
        // SAFETY: `pointer` came from `System` with this layout, for all methods here pass on to it.
        unsafe { System.dealloc(pointer, layout) };
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        match new_size.checked_sub(layout.size()) {
            Some(more) => take(more),
            None => give_back(layout.size() - new_size),
        }
        // SAFETY: as for `dealloc`; the caller's promises for `new_size` are those that `System` asks for.
        refused_by_system(unsafe { System.realloc(pointer, layout, new_size) })
    }
}
