//! The Lambda function behind the schedule and the queue of dead letters.

use errand_functions::{Event, Sweep, boot};
use lambda_runtime::{Error, LambdaEvent, run_concurrent, service_fn};

#[tokio::main]
async fn main() -> Result<(), Error> {
    boot::logs();
    let sweep = boot::opened(Sweep::open().await).await?;
    run_concurrent(service_fn(move |event: LambdaEvent<Event>| {
        let sweep = sweep.clone();
        async move { Ok::<_, Error>(sweep.handle(event.payload, boot::deadline(&event.context)).await?) }
    }))
    .await
}
