//! What most often stands in the way of boxes, as far as a host says.

use std::path::Path;

/// What to do where no box of namespaces can be made: a line for each thing, for people.
pub fn repairs() -> Vec<String> {
    let value = |path: &str| std::fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default();
    let mut repairs = Vec::new();
    let mut advise = |line: &str| repairs.push(line.to_owned());
    if value("/proc/sys/kernel/unprivileged_userns_clone") == "0" {
        advise("allow user namespaces: sudo sysctl -w kernel.unprivileged_userns_clone=1");
    }
    if value("/proc/sys/user/max_user_namespaces").parse().is_ok_and(|most: u64| most < 100) {
        advise("allow user namespaces: sudo sysctl -w user.max_user_namespaces=15000");
    }
    if value("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" {
        advise(
            "Ubuntu keeps user namespaces from programs without an AppArmor profile: give this program one with `userns,`, \
             or sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        );
    }
    if Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists() {
        advise(
            "inside a container: allow nested user namespaces (docker run --security-opt seccomp=unconfined \
             --security-opt apparmor=unconfined --security-opt systempaths=unconfined)",
        );
    }
    if repairs.is_empty() {
        repairs.push("docs/errors/sandbox_unavailable.md tells what each check needs".to_owned());
    }
    repairs
}
