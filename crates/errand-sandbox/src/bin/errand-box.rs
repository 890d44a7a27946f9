//! The first process of a box that an OCI runtime makes, as a program of its own, where `errand` itself shall not be shown in boxes.

fn main() -> std::process::ExitCode {
    errand_sandbox::run_inside_box()
}
