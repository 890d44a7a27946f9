//! The Lambda function behind the queue of steps.

use errand_functions::batch::Batch;
use errand_functions::{Step, boot};
use lambda_runtime::{Error, LambdaEvent, run_concurrent, service_fn};

#[tokio::main]
async fn main() -> Result<(), Error> {
    boot::logs();
    let step = boot::opened(Step::open().await).await?;
    run_concurrent(service_fn(move |event: LambdaEvent<Batch>| {
        let step = step.clone();
        async move { Ok::<_, Error>(step.handle(event.payload, boot::deadline(&event.context)).await) }
    }))
    .await
}
