//! The least that a Rust program can do for the same work: the same HTTP client, a request that grows by appending to its
//! bytes, one JSON parse of each answer, and a durable record per step, or none.
//!
//! Everything but a grouped store runs on one thread.

mod store;
mod talk;

use crate::orders::{Clock, Order};
use anyhow::Context;
use std::io::BufRead;
use std::path::PathBuf;
use std::rc::Rc;
use store::{Kind, Store};
use talk::Talk;
use tokio::task::{JoinSet, LocalSet};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the model is.
    #[arg(long)]
    base_url: String,
    /// An empty folder for the records.
    #[arg(long)]
    data: PathBuf,
    /// How records are kept.
    #[arg(long, value_enum)]
    store: Kind,
}

/// Takes orders on standard input until it ends.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let store = Rc::new(Store::open(args.store, &args.data)?);
    let talk = Rc::new(Talk::new(&args.base_url)?);
    for line in std::io::stdin().lock().lines() {
        let order = Order::parse(&line?)?;
        let clock = Clock::start();
        LocalSet::new().block_on(&runtime, carry_out(&order, &talk, &store))?;
        println!("{}", serde_json::to_string(&clock.done(order.runs))?);
    }
    Ok(())
}

/// Keeps as many runs at work as the order says, until all are done.
async fn carry_out(order: &Order, talk: &Rc<Talk>, store: &Rc<Store>) -> anyhow::Result<()> {
    let mut jobs = JoinSet::new();
    for index in 0..order.runs {
        if jobs.len() >= order.at_once {
            jobs.join_next().await.context("no run is at work")???;
        }
        let (task, talk, store) = (order.task(index), Rc::clone(talk), Rc::clone(store));
        jobs.spawn_local(async move { one_run(&task, &talk, &store).await });
    }
    while let Some(job) = jobs.join_next().await {
        job??;
    }
    Ok(())
}

async fn one_run(task: &str, talk: &Talk, store: &Store) -> anyhow::Result<()> {
    let mut conversation = talk.conversation(task);
    let run = store.begin(task.as_bytes()).await?;
    for number in 1.. {
        let answer = talk.ask(&conversation).await?;
        let reply = talk::read(&answer)?;
        // The tool: it gives back what it is given.
        let result = reply.text()?;
        store.step(run, number, talk::record(&answer, &result)).await?;
        match result {
            Some(result) => conversation.append(&reply, &result)?,
            None => break,
        }
    }
    Ok(())
}
