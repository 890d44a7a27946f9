//! The probe of tier T2: a real container, with the attempts of tier T1 made in it.

use std::time::{Duration, Instant};

use super::job::Job;
use super::{OciEngine, allowances};
use crate::engine::plan::Message;
use crate::engine::probe::inside::{ANSWER_BYTES, CONTAINER_FIRST, GROUPS, Kernel, decode};
use crate::engine::probe::{Answers, Place, check, container, explain, listen, quota_of, resources, weakened};
use crate::engine::run::last_words;
use crate::error::{Error, Result, Tier};
use crate::exec::WORKSPACE_DIR;
use crate::report::{Check, Report, Strength};

/// A runtime that brings a kernel of its own takes up to seconds to start it.
const TIME_MAX: Duration = Duration::from_secs(30);

/// Makes a container and tries to break out of it.
pub(crate) fn probe(engine: &OciEngine) -> Report {
    let begun = Instant::now();
    let elapsed_ms = || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let answers = match attempt(engine) {
        Ok(answers) => answers,
        Err(error) => return Report::unavailable(Tier::T2, vec![explain(&error)], Vec::new(), elapsed_ms()),
    };
    let shared = answers.get(&CONTAINER_FIRST) != Some(&Ok(0));
    let mut checks = judge(&answers, shared);
    if shared && engine.config.allow_shared_kernel {
        allow(&mut checks);
    }
    let failed = checks.iter().filter(|check| !check.pass && quota_of(&check.id).is_none());
    let reasons: Vec<String> = failed.map(reason).collect();
    let mut quotas = weakened(engine.quotas(shared), &checks);
    if !shared && engine.host.groups.has_pids() {
        // The box's kernel does not count; the host's does, with room for that kernel: it is overshot before it holds.
        quotas.processes = Strength::Soft;
    }
    Report { tier: Tier::T2, available: reasons.is_empty(), reasons, quotas, checks, elapsed_ms: elapsed_ms() }
}

fn attempt(engine: &OciEngine) -> Result<Answers> {
    let place = Place::new()?;
    let limits = resources::limits();
    let (around, _) = engine.overhead();
    let mut baits = place.baits()?;
    baits.hog_bytes = limits.memory_bytes + around + (64 << 20);
    baits.kernel = Some(host_kernel()?);
    let job = Job {
        candidates: Vec::new(),
        argv: Vec::new(),
        env: Vec::new(),
        cwd: WORKSPACE_DIR.to_owned(),
        probe: Some(baits.into()),
    };
    let running = engine.begin(&place.session, &[], &limits, None, &job)?;
    let bytes = listen(&running, TIME_MAX);
    let failed = std::iter::from_fn(|| running.message()).any(|message| matches!(message, Message::Failed(..)));
    let said = last_output(&running);
    running.kill();
    let (group, _) = running.wait();
    let mut answers: Answers =
        bytes.chunks_exact(ANSWER_BYTES).filter_map(|chunk| chunk.try_into().ok()).map(decode).collect();
    if failed || answers.is_empty() {
        return Err(Error::RuntimeFailed { said });
    }
    if group.oom_kills() > 0 {
        // The attempt on the memory, the last of all, may have cost the whole box.
        let last = u16::try_from(GROUPS.iter().map(|group| group.len()).sum::<usize>() - 1).unwrap_or(u16::MAX);
        answers.entry(last).or_insert(Err(libc::ENOMEM));
    }
    Ok(answers)
}

/// What the runtime wrote to its standard error.
fn last_output(running: &crate::engine::launch::Running) -> String {
    let mut bytes = vec![0u8; 64 << 10];
    let count = rustix::io::read(&running.stderr, &mut *bytes).unwrap_or(0);
    last_words(bytes.get(..count).unwrap_or(&[]))
}

fn host_kernel() -> Result<Kernel> {
    let path = "/proc/sys/kernel/random/boot_id";
    let boot_id = std::fs::read_to_string(path).map_err(|e| Error::io("reading the kernel's boot id", path, e))?;
    let names = rustix::system::uname();
    let text = |name: &std::ffi::CStr| name.to_string_lossy().into_owned();
    Ok(Kernel { boot_id: boot_id.trim_end().to_owned(), release: text(names.release()), version: text(names.version()) })
}

fn judge(answers: &Answers, shared: bool) -> Vec<Check> {
    let usual = GROUPS.iter().flat_map(|group| group.iter()).zip(0u16..);
    let own = container::CHECKS.iter().zip(CONTAINER_FIRST..);
    let judged = own.chain(usual).map(|(spec, index)| {
        let answer = answers.get(&index).copied();
        let mut check = check(spec, answer);
        let why = answer.and_then(|answer| allowances::why(spec.id, answer, shared)).filter(|_| !check.pass);
        if let Some(why) = why {
            check.pass = true;
            check.expected = format!("{}, or so: {why}", check.expected);
        }
        check
    });
    judged.collect()
}

fn reason(check: &Check) -> String {
    let Check { id, what, found, expected, .. } = check;
    if id == container::KERNEL_ID && found == "1" {
        return format!(
            "check {id}: this runtime's boxes run on the host's kernel; choose one that brings its own (runsc, krun), or allow \
             it in the configuration"
        );
    }
    format!("check {id} ({what}): {found}, expected {expected}")
}

/// Notes that a shared kernel is as the configuration wants it.
fn allow(checks: &mut [Check]) {
    for check in checks.iter_mut().filter(|check| check.id == container::KERNEL_ID && check.found == "1") {
        check.pass = true;
        "0 or 1: a shared kernel is allowed by the configuration".clone_into(&mut check.expected);
    }
}
