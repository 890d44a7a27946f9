//! The part of the OCI runtime specification that a box needs (version 1.0.2, config.md and config-linux.md, read
//! 2026-11-21), as it is written to `config.json`.
//!
//! Own structures: the crate for it brings builders, setters and a regular-expression engine for what is one page here.

use serde::Serialize;

/// `config.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Spec {
    pub(crate) oci_version: &'static str,
    pub(crate) process: Process,
    pub(crate) root: Root,
    pub(crate) hostname: &'static str,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) linux: Linux,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Process {
    pub(crate) terminal: bool,
    pub(crate) user: User,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: &'static str,
    pub(crate) capabilities: Capabilities,
    pub(crate) no_new_privileges: bool,
    pub(crate) rlimits: Vec<Rlimit>,
}

#[derive(Debug, Serialize)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

#[derive(Debug, Serialize)]
pub(crate) struct Rlimit {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) soft: u64,
    pub(crate) hard: u64,
}

/// All five sets, all empty.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Capabilities {
    pub(crate) bounding: [&'static str; 0],
    pub(crate) effective: [&'static str; 0],
    pub(crate) inheritable: [&'static str; 0],
    pub(crate) permitted: [&'static str; 0],
    pub(crate) ambient: [&'static str; 0],
}

#[derive(Debug, Serialize)]
pub(crate) struct Root {
    pub(crate) path: &'static str,
    pub(crate) readonly: bool,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) destination: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) options: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Linux {
    pub(crate) uid_mappings: Vec<IdMapping>,
    pub(crate) gid_mappings: Vec<IdMapping>,
    pub(crate) namespaces: Vec<Namespace>,
    pub(crate) masked_paths: Vec<String>,
    pub(crate) readonly_paths: Vec<String>,
    pub(crate) seccomp: Seccomp,
}

#[derive(Debug, Serialize, PartialEq, Eq)]
pub(crate) struct IdMapping {
    #[serde(rename = "containerID")]
    pub(crate) container_id: u32,
    #[serde(rename = "hostID")]
    pub(crate) host_id: u32,
    pub(crate) size: u32,
}

#[derive(Debug, Serialize)]
pub(crate) struct Namespace {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Seccomp {
    pub(crate) default_action: &'static str,
    pub(crate) default_errno_ret: i32,
    pub(crate) syscalls: Vec<Syscalls>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Syscalls {
    pub(crate) names: Vec<&'static str>,
    pub(crate) action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) errno_ret: Option<i32>,
}
