//! The kind `command`: a program in a sealed box over the workspace, as `shell` is one.

use super::Setting;
use super::problem::Problems;
use super::template::{Arguments, Template, text};
use super::used::Used;
use crate::arguments::Refused;
use crate::code::Program;
use crate::execute::{Checked, Execute, Work};
use async_trait::async_trait;
use errand_core::{Hash, Outcome, Timestamp};
use errand_engine::ports::ToolReply;
use errand_sandbox::Exec;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Most that a command's files have together, in bytes.
const FILES_BYTES_MAX: u64 = 4 << 20;
/// Longest argument, in bytes (Linux takes 128 KiB for one).
const ARGUMENT_BYTES_MAX: usize = 100 << 10;

/// Its part of the manifest.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommandForm {
    argv: Vec<String>,
    stdin: Option<String>,
    #[serde(default)]
    files: Vec<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
}

/// A command, ready to be filled in.
pub(crate) struct Command {
    program: String,
    arguments: Vec<Template>,
    stdin: Option<Template>,
    files: Vec<(String, Vec<u8>)>,
    env: Vec<(String, String)>,
}

impl Command {
    /// From its part of a manifest, with the digests of the files it brings.
    pub(crate) fn new(
        form: &CommandForm,
        parameters: &Value,
        setting: &Setting<'_>,
        problems: &mut Problems,
    ) -> Option<(Self, Vec<Hash>)> {
        let files = files(form, setting, problems);
        let mut used = Used::new(parameters);
        let program = form.argv.first().cloned().unwrap_or_default();
        if program.is_empty() || program.contains(['{', '}', '\0']) {
            problems.add("command.argv.0", "the program must be named, without placeholders: the model does not choose it");
        }
        let mut arguments = Vec::new();
        for (index, argument) in form.argv.iter().enumerate().skip(1) {
            arguments.extend(used.template(argument, &format!("command.argv.{index}"), problems));
        }
        let stdin = form.stdin.as_ref().and_then(|stdin| used.template(stdin, "command.stdin", problems));
        used.finish(problems);
        let digests = files.iter().map(|(_, bytes)| Hash::of(bytes)).collect();
        let env = form.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        Some((Self { program, arguments, stdin, files, env }, digests))
    }

    fn argv(&self, arguments: &Arguments) -> Result<Vec<String>, Refused> {
        let mut argv = vec![self.program.clone()];
        for template in &self.arguments {
            match template.whole().map(|name| arguments.get(name)) {
                Some(None | Some(Value::Null)) => {}
                Some(Some(Value::Array(list))) => argv.extend(list.iter().map(text)),
                _ if template.is_given(arguments) => argv.push(template.plain(arguments)),
                _ => {}
            }
        }
        match argv.iter().find(|argument| argument.contains('\0') || argument.len() > ARGUMENT_BYTES_MAX) {
            Some(_) => Err(Refused::invalid(format!(
                "an argument of the command holds a null character, or more than {ARGUMENT_BYTES_MAX} bytes"
            ))),
            None => Ok(argv),
        }
    }
}

#[async_trait]
impl Execute for Command {
    fn check(&self, _: &str, arguments: &Value, _: Timestamp) -> Result<Checked, Refused> {
        if let Some(arguments) = arguments.as_object() {
            self.argv(arguments)?;
        }
        Ok(Checked::default())
    }

    async fn run(&self, work: Work<'_>) -> ToolReply {
        let none = Arguments::new();
        let arguments = work.arguments.as_object().unwrap_or(&none);
        let argv = match self.argv(arguments) {
            Ok(argv) => argv,
            Err(refused) => return ToolReply::free(Outcome::error(refused.code(), refused.to_string())),
        };
        let mut exec = Exec::new(argv);
        exec.stdin = self.stdin.as_ref().map(|stdin| stdin.plain(arguments).into_bytes());
        exec.files.clone_from(&self.files);
        exec.env.clone_from(&self.env);
        let (program, bounds) = (Program::from(exec), work.bounds());
        work.in_workspace(move |desk| program.run(desk, bounds)).await
    }
}

/// The files beside the manifest, as they are now: later changes change nothing in this process.
fn files(form: &CommandForm, setting: &Setting<'_>, problems: &mut Problems) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut room = FILES_BYTES_MAX;
    for (index, name) in form.files.iter().enumerate() {
        let path = setting.folder.join(name);
        // A link could lead to a file that nobody meant to give away.
        let read = std::fs::symlink_metadata(&path).map_err(|error| error.to_string()).and_then(|metadata| {
            let fits = metadata.is_file() && metadata.len() <= room;
            let bytes = fits.then(|| std::fs::read(&path).map_err(|error| error.to_string()));
            bytes.unwrap_or_else(|| Err(format!("plain files of together at most {FILES_BYTES_MAX} bytes are taken")))
        });
        match read {
            Ok(bytes) => {
                room = room.saturating_sub(bytes.len() as u64);
                files.push((name.clone(), bytes));
            }
            Err(problem) => problems.add(&format!("command.files.{index}"), format!("{name:?} cannot be taken: {problem}")),
        }
    }
    files
}
