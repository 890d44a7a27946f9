//! The first process of a box that an OCI runtime makes, as a program of its own, where `errand` itself shall not be shown in boxes.
//! Called with `probe FILE` it makes the attempts of the probe where it is, over the baits in the file.

fn main() -> std::process::ExitCode {
    #[cfg(target_os = "linux")]
    {
        let mut arguments = std::env::args_os().skip(1);
        if arguments.next().is_some_and(|first| first == "probe") {
            return errand_sandbox::probe_here(arguments.next().unwrap_or_default().as_ref());
        }
    }
    errand_sandbox::run_inside_box()
}
