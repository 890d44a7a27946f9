//! The profile of browsers: what it allows beyond that of code, and what it does not.

use std::path::Path;
use std::time::Duration;

use errand_sandbox::{Exec, Profile};

use crate::world;

/// Where Debian puts it, without its wrapper.
const CHROMIUM: &str = "/usr/lib/chromium/chromium";

fn browser(mut exec: Exec) -> Exec {
    exec.profile = Profile::Browser;
    exec
}

#[test]
fn the_profile_is_probed_whole_and_differs_in_what_is_listed() {
    let Some(world) = world() else { return };
    let (code, browser) = (world.engine.report(), world.engine.probe_browser());
    assert!(browser.available, "{browser}");
    let ids = |report: &errand_sandbox::Report| report.checks.iter().map(|check| check.id.clone()).collect::<Vec<_>>();
    let (code, browser) = (ids(code), ids(&browser));
    let lifted: Vec<&String> = code.iter().filter(|id| !browser.contains(id)).collect();
    assert_eq!(lifted, ["N-user", "N09", "S26"]);
    let more = browser.iter().filter(|id| !code.contains(id)).count();
    assert!(more == 27 && browser.iter().rev().take(more).all(|id| id.starts_with('B')), "{browser:?}");
    // The guide lists what it lifts.
    let guide = include_str!("../../../../docs/guide/sandbox.md");
    for name in ["`unshare`", "`chroot`", "`capset`", "N-user", "N09", "S26", "B01"] {
        assert!(guide.contains(name), "{name}");
    }
}

#[test]
fn only_the_profile_of_browsers_makes_user_namespaces() {
    let Some(world) = world() else { return };
    for (options, works) in
        [("--user", true), ("--user --pid --net --fork", true), ("--user --mount", false), ("--mount", false)]
    {
        let script = || Exec::shell(format!("unshare {options} true"));
        assert!(!world.run(script()).success(), "{options}");
        let outcome = world.run(browser(script()));
        assert_eq!(outcome.success(), works, "{options}: {outcome:?}");
    }
}

#[test]
fn a_browser_runs_with_a_sandbox_of_its_own() {
    let Some(world) = world() else { return };
    if !Path::new(CHROMIUM).exists() {
        println!("skipped: this machine has no {CHROMIUM}");
        return;
    }
    let page = "<p id=it></p><script>it.textContent = 6 * 7 + ' from the script'</script>";
    world.session.put_file("page.html", page.as_bytes()).unwrap();
    let dom = || {
        let options = "--headless=new --disable-gpu --disable-dev-shm-usage --user-data-dir=/tmp/profile --dump-dom";
        let mut exec = Exec::shell(format!("exec {CHROMIUM} {options} file:///workspace/page.html"));
        exec.limits.processes = 500;
        exec.limits.wall = Duration::from_secs(60);
        exec
    };
    let outcome = world.run(browser(dom()));
    assert!(outcome.stdout.text().contains("42 from the script"), "{outcome:?}: {}", outcome.stderr.text());
    // Under the profile of code it finds no sandbox to use, and does not go on without one.
    let outcome = world.run(dom());
    assert!(!outcome.success() && !outcome.stdout.text().contains("42 from"), "{outcome:?}");
}
