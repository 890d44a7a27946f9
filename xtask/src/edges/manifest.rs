//! What the packages of the workspace depend on, from `cargo metadata`.

use crate::cargo::cargo;
use anyhow::{Context, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A package of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    /// Its folder, from the workspace's root, with `/` between names.
    pub(super) folder: String,
    pub(super) dependencies: Vec<Dependency>,
    /// Each feature with those it implies, as in the manifest.
    pub(super) features: BTreeMap<String, Vec<String>>,
}

/// One line of a manifest's dependency tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dependency {
    /// The package's own name, also where the manifest renames it.
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) source: Source,
    pub(super) features: Vec<String>,
}

/// Whether a dependency is part of what is built, or of its tests only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A normal or a build dependency.
    Linked,
    Dev,
}

/// Where a dependency comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Workspace,
    CratesIo,
    /// Another registry, a git repository, or a folder that is no member of the workspace.
    Elsewhere(String),
}

/// How cargo names crates.io in `cargo metadata`.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The members of the workspace that holds the current folder.
///
/// # Errors
/// When cargo fails, for instance on a broken manifest, or its answer cannot be read.
pub(super) fn read() -> anyhow::Result<Vec<Member>> {
    let output = cargo().args(["metadata", "--no-deps", "--format-version", "1"]).output().context("starting cargo")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    parse(&output.stdout)
}

/// The members in the JSON of `cargo metadata --no-deps`, format version 1.
pub(super) fn parse(metadata: &[u8]) -> anyhow::Result<Vec<Member>> {
    let metadata: Metadata = serde_json::from_slice(metadata).context("parsing what cargo metadata printed")?;
    let folders: Vec<PathBuf> = metadata.packages.iter().map(|package| folder_of(&package.manifest_path)).collect();
    Ok(metadata.packages.iter().map(|package| member(package, &metadata.workspace_root, &folders)).collect())
}

fn member(package: &PackageJson, root: &Path, folders: &[PathBuf]) -> Member {
    let folder = folder_of(&package.manifest_path);
    let names = folder.strip_prefix(root).unwrap_or(&folder).components();
    let names: Vec<_> = names.map(|name| name.as_os_str().to_string_lossy()).collect();
    Member {
        name: package.name.clone(),
        folder: names.join("/"),
        dependencies: package.dependencies.iter().map(|dependency| edge(dependency, folders)).collect(),
        features: package.features.clone(),
    }
}

fn edge(dependency: &DependencyJson, folders: &[PathBuf]) -> Dependency {
    let source = match (&dependency.source, &dependency.path) {
        (Some(source), _) if source == CRATES_IO => Source::CratesIo,
        (Some(source), _) => Source::Elsewhere(source.clone()),
        (None, Some(path)) if folders.contains(path) => Source::Workspace,
        (None, Some(path)) => Source::Elsewhere(path.display().to_string()),
        (None, None) => Source::Elsewhere("an unknown place".to_owned()),
    };
    let kind = match dependency.kind.as_deref() {
        Some("dev") => Kind::Dev,
        _ => Kind::Linked,
    };
    Dependency { name: dependency.name.clone(), kind, source, features: dependency.features.clone() }
}

fn folder_of(manifest: &Path) -> PathBuf {
    manifest.parent().unwrap_or(manifest).to_owned()
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<PackageJson>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct PackageJson {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<DependencyJson>,
    features: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct DependencyJson {
    name: String,
    source: Option<String>,
    kind: Option<String>,
    path: Option<PathBuf>,
    features: Vec<String>,
}
