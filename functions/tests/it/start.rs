//! How functions start, and how they do not.

use crate::emulator::settings;
use crate::lambda::Function;
use crate::world::STEP;
use std::path::Path;

const SWEEP: &str = env!("CARGO_BIN_EXE_sweep");

async fn refused(program: &str, more: &[(&str, &str)]) -> (String, String) {
    // Nobody listens there; a start asks nothing of AWS.
    let settings = settings("http://127.0.0.1:9");
    let mut function = Function::start(program, &settings, Path::new("/tmp"), more).await;
    let told = function.told().await;
    assert_eq!(told.what, "init/error", "{}", told.body);
    assert!(!function.ended().await);
    let text = |name: &str| told.body[name].as_str().unwrap().to_owned();
    (text("errorType"), text("errorMessage"))
}

#[tokio::test]
async fn what_is_missing_or_wrong_is_told_at_the_start() {
    let cases = [
        (STEP, ("ERRAND_AWS_TABLE", ""), "setting_missing", "ERRAND_AWS_TABLE"),
        (SWEEP, ("ERRAND_AWS_DEAD_QUEUE", " "), "setting_missing", "ERRAND_AWS_DEAD_QUEUE"),
        (STEP, ("ERRAND_FUNCTION_TIMEOUT", "60"), "function_timeout_short", "240 s"),
        (STEP, ("ERRAND_MODEL_DIALECT", "grpc"), "config_invalid", "grpc"),
    ];
    for (program, variable, code, says) in cases {
        let (kind, message) = refused(program, &[variable]).await;
        assert_eq!(kind, code, "{message}");
        assert!(message.contains(says), "{message}");
    }
}
