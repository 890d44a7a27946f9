//! Tier T0 among the others: what of a call it can run.

use super::ScriptEngine;
use crate::error::{Error, Result};
use crate::exec::{Exec, ExecOutcome};
use crate::isolation::Isolation;
use crate::report::Report;
use crate::session::Session;

impl Isolation for ScriptEngine {
    fn report(&self) -> &Report {
        ScriptEngine::report(self)
    }

    /// Runs what [`Exec::python`] makes, without the session's files: code of this tier sees none.
    fn run(&self, session: &Session, mut exec: Exec) -> Result<ExecOutcome> {
        let code = code_of(&mut exec)?;
        let mut outcome = self.run_script(&code, &exec.limits, exec.on_output.take(), exec.cancel.as_ref())?;
        // Nothing of it has changed.
        let entries = session.list("", true, usize::try_from(exec.limits.workspace_files).unwrap_or(usize::MAX))?;
        outcome.workspace_bytes = entries.iter().fold(0, |sum, entry| entry.size.saturating_add(sum));
        outcome.workspace_files = entries.len() as u64;
        Ok(outcome)
    }
}

/// The code of a call that is Python and nothing else.
fn code_of(exec: &mut Exec) -> Result<Vec<u8>> {
    let plain = Exec::python(Vec::new());
    let refuse = |what: &str| {
        let reason = format!("tier t0 runs Python code alone, and this call has {what}; use a box (tier t1) for it");
        Err(Error::ExecRefused { reason })
    };
    if exec.argv != plain.argv {
        return refuse("another program");
    }
    if exec.way_out.is_some() {
        return refuse("a way out");
    }
    if exec.stdin.as_ref().is_some_and(|input| !input.is_empty()) {
        return refuse("an input");
    }
    if exec.env != plain.env {
        return refuse("variables");
    }
    if !exec.cwd.is_empty() {
        return refuse("a folder");
    }
    match exec.files.as_mut_slice() {
        [(name, code)] if *name == plain.files[0].0 => Ok(std::mem::take(code)),
        _ => refuse("files"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_python_code_alone_is_taken() {
        assert_eq!(code_of(&mut Exec::python("1")).unwrap(), b"1");
        type Change = fn(&mut Exec);
        let cases: [(Exec, Change, &str); 6] = [
            (Exec::shell("ls"), |_| (), "another program"),
            (Exec::node("1"), |_| (), "another program"),
            (Exec::python("1"), |exec| exec.stdin = Some(b"x".to_vec()), "an input"),
            (Exec::python("1"), |exec| exec.env.push(("A".into(), "b".into())), "variables"),
            (Exec::python("1"), |exec| exec.cwd = "sub".into(), "a folder"),
            (Exec::python("1"), |exec| exec.files.push(("data".into(), Vec::new())), "files"),
        ];
        for (mut exec, change, wanted) in cases {
            change(&mut exec);
            let error = code_of(&mut exec).unwrap_err();
            assert!(error.code() == "sandbox_exec_refused" && error.to_string().contains(wanted), "{error}");
        }
    }
}
