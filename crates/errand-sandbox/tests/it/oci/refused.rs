//! What is no tight container is never offered.

use errand_sandbox::{Defence, Error, OciConfig, OciEngine, Strength};

use super::{config, worlds};

#[test]
fn a_runtime_that_is_none_or_fails_is_never_offered() {
    let reason = |change: fn(&mut OciConfig)| {
        let mut config = config("/usr/bin/crun");
        change(&mut config);
        let report = OciEngine::probe(&config);
        assert!(!report.available && report.quotas.list().iter().all(|(_, strength)| *strength == Strength::Absent));
        let Error::TierUnavailable { reasons, .. } = OciEngine::start(&config).unwrap_err() else { panic!("another error") };
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        reasons.concat()
    };
    let relative = reason(|config| config.runtime = "crun".into());
    if relative.contains("as root") {
        println!("skipped: {relative}");
        return;
    }
    assert!(relative.contains("absolute path"), "{relative}");
    assert!(reason(|config| config.runtime = "/no/such/runtime".into()).contains("cannot be examined"));
    assert!(reason(|config| config.runtime = "/etc/passwd".into()).contains("no executable"));
    assert!(reason(|config| config.inside.program = "/no/such/program".into()).contains("first process"));
    assert!(reason(|config| config.flags = vec!["a\0b".into()]).contains("NUL"));
    assert!(reason(|config| config.runtime = "/bin/true".into()).contains("did not start the box"));
    assert!(reason(|config| config.inside.program = "/bin/true".into()).contains("did not start the box"));
    assert!(reason(|config| config.flags = vec!["run".into()]).contains("no option"));
    assert!(reason(|config| config.flags = vec!["--no-such-option=1".into()]).contains("did not start the box"));
    let script = tempfile::tempdir().unwrap();
    let path = script.path().join("runtime");
    std::fs::write(&path, "#!/bin/sh\necho 'told\twhy' >&2\nexit 3\n").unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let told = OciEngine::probe(&config(path.to_str().unwrap())).reasons.concat();
    assert!(told.contains("did not start the box (told why)"), "{told}");
    // One that answers with noise is no box either, however much of it there is.
    std::fs::write(&path, "#!/bin/sh\nexec head -c 10000000 /dev/zero\n").unwrap();
    assert!(!OciEngine::probe(&config(path.to_str().unwrap())).available);
}

#[test]
fn a_box_without_one_of_its_defences_is_never_offered() {
    for world in worlds() {
        for missing in Defence::ALL {
            // gVisor has processes and settings of a kernel of its own, whatever is asked for.
            if world.is_gvisor() && matches!(missing, Defence::Processes | Defence::KernelSettings) {
                continue;
            }
            let report = OciEngine::rehearse(&config(world.name), missing);
            assert!(!report.available && !report.reasons.is_empty(), "{} without {missing:?}: {report}", world.name);
            let id = match missing {
                // Not even the runtime makes a box without.
                Defence::Processes => continue,
                Defence::Ids => "O03",
                Defence::KernelSettings => "K14",
                Defence::Limits => "R02",
            };
            let refused = report.checks.iter().any(|check| check.id == id && !check.pass);
            assert!(refused, "{} without {missing:?}: {report}", world.name);
        }
    }
}
