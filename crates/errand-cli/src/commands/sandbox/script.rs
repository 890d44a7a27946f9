//! `errand sandbox script`: tier T0 by hand. Its workers are this very program.

use super::{Context, ended, failed, limits, pass_on, stoppable, told};
use crate::args::SandboxScript;
use crate::error::{Error, Exit};
use crate::text;
use crate::view::{Audience, print_json};
use errand_sandbox::t0::{CODE_BYTES_MAX, ScriptConfig, ScriptEngine};
use errand_sandbox::{CancelToken, OnOutput};
use std::io::Read;
use std::path::Path;

/// How workers are started.
pub(crate) fn worker() -> Result<ScriptConfig, Error> {
    let program = std::env::current_exe().map_err(|error| {
        Error::new("engine_stopped", format!("this program does not find itself, so it can start no worker: {error}"))
    })?;
    Ok(ScriptConfig::new(program, ["t0-worker"]))
}

pub(super) async fn script(context: &Context, args: SandboxScript) -> Result<Exit, Error> {
    let (limits, code) = (limits(&args.limits)?, code(&args.file)?);
    let cancel = CancelToken::new().map_err(|error| Error::new("engine_stopped", error.to_string()))?;
    let is_live = context.audience() == Audience::People;
    let (config, token) = (worker()?, cancel.clone());
    let work = move || {
        let on_output: Option<OnOutput> = if is_live { Some(Box::new(pass_on)) } else { None };
        ScriptEngine::start(config)?.run_script(&code, &limits, on_output, Some(&token))
    };
    let (outcome, signal) = stoppable(work, &cancel).await?;
    let outcome = outcome.map_err(|error| failed(&error))?;
    if !is_live {
        print_json(&told(&outcome, serde_json::Value::Null));
    }
    Ok(ended(signal, outcome.exit))
}

/// One byte more than is taken, so that the refusal is the engine's.
fn code(file: &Path) -> Result<Vec<u8>, Error> {
    let most = CODE_BYTES_MAX as u64 + 1;
    let mut code = Vec::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(most).read_to_end(&mut code)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(most).read_to_end(&mut code))
    };
    read.map_err(|error| Error::new("task_not_text", format!("{} cannot be read: {error}", text::path(file))))?;
    Ok(code)
}
