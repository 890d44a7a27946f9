//! The probe of tier T2: a real container, with the attempts of tier T1 made in it.

use std::time::{Duration, Instant};

use super::job::Job;
use super::{OciEngine, allowances};
use crate::config::RuntimeKind;
use crate::engine::plan::Message;
use crate::engine::probe::inside::{ANSWER_BYTES, CONTAINER_FIRST, GROUPS, Kernel, decode};
use crate::engine::probe::{Answers, Place, check, container, explain, listen, quota_of, resources, weakened};
use crate::engine::run::last_words;
use crate::engine::watch::descendants;
use crate::error::{Error, Result, Tier};
use crate::exec::{Exec, WORKSPACE_DIR};
use crate::report::{Check, Report, Strength};

/// A runtime that brings a kernel of its own takes up to seconds to start it.
const TIME_MAX: Duration = Duration::from_secs(30);

/// Makes a container and tries to break out of it.
pub(crate) fn probe(engine: &OciEngine) -> Report {
    let begun = Instant::now();
    let elapsed_ms = || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (answers, ids) = match attempt(engine) {
        Ok(answers) => answers,
        Err(error) => return Report::unavailable(Tier::T2, vec![explain(&error)], Vec::new(), elapsed_ms()),
    };
    let shared = answers.get(&CONTAINER_FIRST) != Some(&Ok(0));
    let mut checks = judge(&answers, shared);
    checks.push(host_ids(ids, engine.kind == RuntimeKind::Other && !shared));
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

fn attempt(engine: &OciEngine) -> Result<(Answers, Ids)> {
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
    let exec = Exec { limits: limits.clone(), ..Exec::new(["probe"]) };
    let running = engine.begin(&place.session, &exec, &job)?;
    let mut ids = Ids::default();
    let bytes = listen(&running, TIME_MAX, &mut || {
        if ids.namespaces == 0 {
            ids = Ids::of(running.init_pid());
        }
    });
    let failed = std::iter::from_fn(|| running.message()).any(|message| matches!(message, Message::Failed(..)));
    let said = last_output(&running);
    running.kill();
    let (group, _) = running.wait();
    let mut answers: Answers =
        bytes.chunks_exact(ANSWER_BYTES).filter_map(|chunk| chunk.try_into().ok()).map(decode).collect();
    if failed || answers.is_empty() {
        return Err(Error::RuntimeFailed { said });
    }
    let most = engine.around(&limits).memory_bytes;
    if group.oom_kills() > 0 || group.memory_peak().is_some_and(|peak| peak >= most) {
        // The attempt on the memory, the last of all, may have cost the whole box, or its time.
        let last = u16::try_from(GROUPS.iter().map(|group| group.len()).sum::<usize>() - 1).unwrap_or(u16::MAX);
        answers.entry(last).or_insert(Err(libc::ENOMEM));
    }
    Ok((answers, ids))
}

/// What the host sees of the ids of a box: whatever its own kernel tells it, this is what it may do here.
#[derive(Debug, Clone, Copy, Default)]
struct Ids {
    /// Processes in user namespaces other than the runner's.
    namespaces: usize,
    /// Those among them that are the host's root by one of their ids.
    roots: usize,
}

impl Ids {
    fn of(guard: i32) -> Ids {
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/user")).ok();
        let own = namespace("self");
        let mut ids = Ids::default();
        for pid in descendants(&[guard]).into_iter().map(|pid| pid.to_string()) {
            if namespace(&pid).is_none_or(|its| Some(its) == own) {
                continue;
            }
            let maps = ["uid_map", "gid_map"].map(|map| std::fs::read_to_string(format!("/proc/{pid}/{map}")));
            // One that has ended meanwhile tells nothing; it is the namespace of others as well.
            let [Ok(uids), Ok(gids)] = maps else { continue };
            ids.namespaces += 1;
            ids.roots += usize::from(has_root(&uids) || has_root(&gids));
        }
        ids
    }
}

/// Whether one of the outer ranges begins at 0.
fn has_root(map: &str) -> bool {
    map.lines().any(|line| line.split_ascii_whitespace().nth(1) == Some("0"))
}

fn host_ids(ids: Ids, is_machine: bool) -> Check {
    let pass = ids.namespaces > 0 && ids.roots == 0;
    let found = format!("{} of {}", ids.roots, ids.namespaces);
    let expected = if is_machine { "0, or so: the border is that of a virtual machine" } else { "0 of at least 1" };
    Check {
        id: "O03".into(),
        what: "processes of the box that are the host's root by an id".into(),
        expected: expected.into(),
        found,
        pass: pass || is_machine,
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_root_is_found_in_a_map_and_a_box_without_a_namespace_is_refused() {
        assert!(has_root("         0          0 4294967295\n"));
        assert!(has_root("1000 70000 1\n0 0 1\n"));
        assert!(!has_root("0 70001 1\n1000 70000 1\n"));
        let pass = |namespaces, roots, is_machine| host_ids(Ids { namespaces, roots }, is_machine).pass;
        assert!(pass(2, 0, false) && pass(0, 0, true));
        assert!(!pass(2, 1, false) && !pass(0, 0, false));
    }
}
