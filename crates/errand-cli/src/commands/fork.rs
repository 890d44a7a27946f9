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
        budget_tokens: args.budget_tokens.clone(),
        max_steps: args.max_steps.clone(),
        max_time: args.max_time.clone(),
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
    let is_bounded_anew =
        [&args.budget, &args.budget_tokens, &args.max_steps, &args.max_time].into_iter().any(Option::is_some);
    let budget = match is_bounded_anew {
        true => Some(bounded(origin_budget(context, run).await?, &args, &config)),
        false => None,
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

/// The budget with the bounds that were given for the fork; neither the settings' nor the variables' count.
fn bounded(mut budget: Budget, args: &Fork, config: &Config) -> Budget {
    let chosen = &config.budget;
    if args.budget.is_some() {
        budget.usd = given(chosen.usd);
    }
    if args.budget_tokens.is_some() {
        budget.tokens = given(chosen.tokens);
    }
    if args.max_steps.is_some() {
        budget.steps = chosen.steps;
    }
    if args.max_time.is_some() {
        budget.active_ms = chosen.active_ms;
    }
    budget
}

fn given<T>(bound: Bound<T>) -> Option<T> {
    match bound {
        Bound::Some(amount) => Some(amount),
        Bound::None | Bound::Default => None,
    }
}
