use serde_json::json;

use super::*;
use crate::config::Inside;

fn made() -> (Bundle, serde_json::Value) {
    let tree = |path: &str, recursive, attr| Tree { recursive, attr, ..system_tree(path.as_ref(), 0) };
    let trees = vec![
        tree("/usr", true, READ_ONLY),
        tree("/etc/localtime", true, READ_ONLY | MOUNT_ATTR_NOEXEC),
        tree("/dev/null", true, READ_ONLY),
        tree("/srv/sessions/a/workspace", false, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV),
    ];
    let (dir, attach) = (|path: &str| Step::Dir(c_string(path)), |number, path: &str| Step::Attach(number, c_string(path)));
    let view = vec![
        dir("usr"),
        attach(0, "usr"),
        Step::Link(c"usr/bin".into(), c"bin".into()),
        dir("etc"),
        Step::File(c"etc/passwd".into(), b"errand".to_vec()),
        Step::File(c"etc/localtime".into(), Vec::new()),
        attach(1, "etc/localtime"),
        dir("dev"),
        Step::File(c"dev/null".into(), Vec::new()),
        attach(2, "dev/null"),
        Step::Link(c"/proc/self/fd".into(), c"dev/fd".into()),
        dir("tmp"),
        Step::Mount(c"tmpfs".into(), tmpfs_options(8192, "1777"), MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, c"tmp".into()),
        dir("run"),
        dir("proc"),
        Step::Mount(c"proc".into(), Vec::new(), 0, c"proc".into()),
        Step::ReadOnly(c"proc/sys".into(), c"proc/sys".into()),
        Step::ReadOnly(c"dev/null".into(), c"proc/kcore".into()),
        dir("workspace"),
        attach(3, "workspace"),
    ];
    let inside = Inside { program: "/opt/errand".into(), arguments: vec!["inside".into()] };
    let rlimits = [(libc::RLIMIT_NOFILE, 64)];
    let facts = Facts { host_ids: (70_000, 80_000), inside: &inside, rlimits: &rlimits, job: b"{}".to_vec() };
    let bundle = bundle(trees, view, facts);
    let config = serde_json::to_value(&bundle.spec).unwrap();
    (bundle, config)
}

#[test]
fn the_configuration_says_the_view_and_the_defences() {
    let (_, config) = made();
    let none: [u8; 0] = [];
    let process = json!({
        "terminal": false,
        "user": {"uid": 1000, "gid": 1000},
        "args": ["/run/box/init", "inside"],
        "env": [FIRST_PATH],
        "cwd": "/",
        "capabilities": {"bounding": none, "effective": none, "inheritable": none, "permitted": none, "ambient": none},
        "noNewPrivileges": true,
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 64, "hard": 64}],
    });
    assert_eq!(config["process"], process);
    assert_eq!(config["root"], json!({"path": "rootfs", "readonly": true}));
    let bind = |destination: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": "bind", "source": format!("/run/errand-oci/{source}"), "options": options});
    let mounts = json!([
        {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "noexec", "mode=755", "size=65536"]},
        bind("/usr", "trees/0", &["rbind", "ro", "nosuid", "nodev"]),
        bind("/etc/localtime", "trees/1", &["rbind", "ro", "nosuid", "nodev", "noexec"]),
        {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs",
         "options": ["nosuid", "nodev", "size=8192", "nr_inodes=64", "mode=1777"]},
        bind("/workspace", "trees/2", &["bind", "nosuid", "nodev"]),
        bind("/run/box/init", "trees/3", &["rbind", "ro", "nosuid", "nodev"]),
        bind("/run/box/end", "told/end", &["bind", "nosuid", "nodev", "noexec"]),
    ]);
    assert_eq!(config["mounts"], mounts);
    let linux = &config["linux"];
    let ids = |host: u32| json!([{"containerID": 0, "hostID": host + 1, "size": 1}, {"containerID": 1000, "hostID": host, "size": 1}]);
    assert_eq!((&linux["uidMappings"], &linux["gidMappings"]), (&ids(70_000), &ids(80_000)));
    assert_eq!((&linux["readonlyPaths"], &linux["maskedPaths"]), (&json!(["/proc/sys"]), &json!(["/proc/kcore"])));
    let kinds: Vec<_> = linux["namespaces"].as_array().unwrap().iter().map(|one| one["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["pid", "network", "ipc", "uts", "mount", "user"]);
}

#[test]
fn the_filter_of_the_configuration_denies_what_it_does_not_name() {
    let (_, config) = made();
    let seccomp = &config["linux"]["seccomp"];
    assert_eq!((&seccomp["defaultAction"], &seccomp["defaultErrnoRet"]), (&json!("SCMP_ACT_ERRNO"), &json!(libc::ENOSYS)));
    let names = |number: usize| {
        let entry = &seccomp["syscalls"][number];
        (entry["action"].as_str().unwrap(), entry["names"].as_array().unwrap().clone())
    };
    let ((allow, allowed), (deny, denied)) = (names(0), names(1));
    assert_eq!((allow, deny), ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"));
    assert_eq!(seccomp["syscalls"][1]["errnoRet"], json!(libc::EPERM));
    assert!(allowed.contains(&json!("read")) && !allowed.contains(&json!("clone3")) && denied.contains(&json!("mount")));
    assert!(allowed.iter().all(|name| !denied.contains(name)));
}

#[test]
fn the_bundle_has_a_place_for_every_mount_and_nothing_of_dev() {
    let (bundle, config) = made();
    let made: Vec<String> = bundle
        .steps
        .iter()
        .filter_map(|step| match step {
            Step::Dir(path) | Step::File(path, _) => Some(path.to_str().unwrap().to_owned()),
            _ => None,
        })
        .collect();
    for mount in config["mounts"].as_array().unwrap() {
        let place = format!("rootfs{}", mount["destination"].as_str().unwrap());
        assert!(made.contains(&place), "{place} in {made:?}");
        if let Some(source) = mount["source"].as_str().unwrap().strip_prefix("/run/errand-oci/") {
            assert!(made.iter().any(|path| path == source), "{source} in {made:?}");
        }
    }
    assert!(!made.iter().any(|path| path.starts_with("rootfs/dev/")), "{made:?}");
    let sources: Vec<_> = bundle.trees.iter().map(|tree| tree.source.to_str().unwrap()).collect();
    assert_eq!(sources, ["/usr", "/etc/localtime", "/srv/sessions/a/workspace", "/opt/errand"]);
    let modes = bundle.steps.iter().filter_map(|step| match step {
        Step::Mode(path, mode) => Some((path.to_str().unwrap(), *mode)),
        _ => None,
    });
    assert_eq!(modes.collect::<Vec<_>>(), [("rootfs/tmp", 0o1777), ("told/end", 0o666)]);
}
