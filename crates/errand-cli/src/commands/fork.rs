use super::act::act;
use super::start::{model_choice, new_run};
use super::{Context, run_id};
use crate::args::{Fork, Go, RunOptions};
use crate::config::{Bound, Config};
use crate::error::{Error, Exit};
use crate::host::providers;
use crate::operation::Operation;
use errand_core::Budget;
use errand_engine::ports::Store;

/// `errand fork`. The books of a fork start at zero, under the budget of its origin unless another one is given.
pub(super) async fn fork(context: &Context, args: Fork) -> Result<Exit, Error> {
    let run = run_id(&args.run)?;
    let options = RunOptions {
        model: args.model.clone(),
        budget: args.budget.clone(),
        model_base_url: args.carry.model_base_url.clone(),
        script_dir: args.carry.script_dir.clone(),
        tool_dir: args.carry.tool_dir.clone(),
        ..RunOptions::default()
    };
    let config = Config::resolve(&context.global, &options, &context.environment())?;
    let model = match &args.model {
        Some(name) => Some(model_choice(&providers(&config)?, name)?),
        None => None,
    };
    let budget = match args.budget {
        Some(_) => Some(with_usd(origin_budget(context, run).await?, &config)),
        None => None,
    };
    let operation = Operation::Fork { run, at: args.at, fork: new_run(), model, budget, message: args.message };
    act(context, "fork", operation, &Go { no_wait: args.no_wait, carry: args.carry }).await
}

/// The budget of the run to fork: what is not said anew stays as it was.
async fn origin_budget(context: &Context, run: errand_core::RunId) -> Result<Budget, Error> {
    let (_, folder) = context.reading()?;
    let loaded = folder.store().load(run).await?.ok_or(errand_engine::Error::UnknownRun { run })?;
    Ok(loaded.log.run.config.budget)
}

fn with_usd(budget: Budget, config: &Config) -> Budget {
    match config.budget.usd {
        Bound::Some(usd) => Budget { usd: Some(usd), ..budget },
        Bound::None => Budget { usd: None, ..budget },
        Bound::Default => budget,
    }
}
