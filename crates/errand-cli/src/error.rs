//! What a command ends with when it cannot do what it was asked: a stable code, a message, a hint, an exit status.

use std::borrow::Cow;
use std::process::ExitCode;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All was done.
    Done,
    /// The errand or the command failed.
    Failed,
    /// The command was given something it cannot use.
    Usage,
    /// A person is needed.
    Person,
    /// The budget does not hold the next call.
    Budget,
    /// As a program in a box ended by itself.
    Program(u8),
    /// Stopped by a signal and handed over: 128 and the signal's number, as shells count.
    Signal(u8),
}

impl Exit {
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Person => 3,
            Exit::Budget => 4,
            Exit::Program(status) => status,
            Exit::Signal(number) => number.saturating_add(128),
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// A refusal or a failure, as people and programs see it. Each code has a page in `docs/errors/`.
#[derive(Debug)]
pub(crate) struct Error {
    pub(crate) code: Cow<'static, str>,
    pub(crate) message: String,
}

/// Codes of mistakes in what was given; everything else is a failure.
const USAGE: &[&str] = &[
    "arguments_invalid",
    "assistant_invalid",
    "assistant_name_invalid",
    "assistant_not_found",
    "budget_invalid",
    "bundle_newer",
    "bundle_not_found",
    "bundle_truncated",
    "bundle_unreadable",
    "call_ambiguous",
    "call_id_invalid",
    "config_invalid",
    "duration_invalid",
    "egress_grant_invalid",
    "egress_not_allowed",
    "error_code_unknown",
    "file_missing",
    "file_name_unusable",
    "file_not_plain",
    "file_too_large",
    "file_unreadable",
    "key_expires_at_once",
    "key_id_invalid",
    "key_limit",
    "key_name_invalid",
    "key_not_found",
    "listen_invalid",
    "too_many_files",
    "image_unusable",
    "model_bad_request",
    "model_unknown",
    "model_auth",
    "no_model_listed",
    "output_schema_invalid",
    "no_such_file",
    "number_invalid",
    "output_exists",
    "price_unknown",
    "record_not_found",
    "run_id_invalid",
    "run_not_ended",
    "run_not_found",
    "sandbox_exec_refused",
    "sandbox_image_in_use",
    "sandbox_image_lock",
    "sandbox_image_unknown",
    "sandbox_limit_out_of_range",
    "sandbox_not_found",
    "sandbox_path_refused",
    "sandbox_session_exists",
    "sandbox_session_id",
    "sandbox_session_missing",
    "settings_invalid",
    "task_empty",
    "task_not_text",
    "task_too_long",
    "tenant_invalid",
    "tool_manifest_broken",
    "tool_named_twice",
    "tool_secret_in_clear",
    "tool_secret_missing",
    "tools_elsewhere",
    "unknown_tool",
];

impl Error {
    pub(crate) fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }

    /// With the errors below it, so that nothing that explains it is lost.
    pub(crate) fn chain(code: &'static str, error: &dyn std::error::Error) -> Self {
        let mut message = error.to_string();
        let mut below = error.source();
        while let Some(source) = below {
            let text = source.to_string();
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            below = source.source();
        }
        Self { code: code.into(), message }
    }

    pub(crate) fn exit(&self) -> Exit {
        if USAGE.contains(&&*self.code) { Exit::Usage } else { Exit::Failed }
    }

    /// What to do about it, in a line.
    pub(crate) fn hint(&self) -> String {
        let short = match &*self.code {
            "run_not_found" | "run_id_invalid" => "`errand runs` lists the runs there are",
            "model_auth" => {
                "set the key that the message names, or ERRAND_MODEL_API_KEY with --model-base-url; `errand models` lists all"
            }
            "error_code_unknown" => "`errand explain` lists all codes",
            "model_unknown" => "`errand doctor` tells which models can be used here",
            "price_unknown" => "give `--budget none --budget-tokens N`, or the price in errand.toml",
            "tool_manifest_broken" | "tool_secret_in_clear" => {
                "`errand tools check DIR` tells all problems of a folder; docs/guide/tools.md shows how tools are written"
            }
            "data_held" => "`errand runs`, `events`, `show`, `files`, `replay` and `verify` work beside it",
            "sandbox_tier_unavailable" | "sandbox_unavailable" => {
                "`errand doctor` tells which checks failed and how to repair them"
            }
            _ => "",
        };
        match short {
            "" => format!("`errand explain {}` tells more", self.code),
            short => format!("{short}; `errand explain {}` tells more", self.code),
        }
    }
}

impl From<errand_keys::Error> for Error {
    fn from(error: errand_keys::Error) -> Self {
        Self::chain(error.code(), &error)
    }
}

impl From<errand_engine::Error> for Error {
    fn from(error: errand_engine::Error) -> Self {
        Self::chain(error.code(), &error)
    }
}

impl From<errand_engine::ports::PortError> for Error {
    fn from(error: errand_engine::ports::PortError) -> Self {
        Self::chain(error.code(), &error)
    }
}

impl From<errand_store_local::Error> for Error {
    fn from(error: errand_store_local::Error) -> Self {
        Self::chain(error.code(), &error)
    }
}

impl From<errand_core::InvalidId> for Error {
    fn from(error: errand_core::InvalidId) -> Self {
        Self::new("run_id_invalid", error.to_string())
    }
}

impl From<errand_core::ModelError> for Error {
    fn from(error: errand_core::ModelError) -> Self {
        Self::new(error.kind.code(), error.message)
    }
}

impl From<errand_models::SettingsError> for Error {
    fn from(error: errand_models::SettingsError) -> Self {
        Self::chain("settings_invalid", &error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_and_failures_have_different_exit_codes() {
        assert_eq!(Error::new("task_empty", "").exit().code(), 2);
        assert_eq!(Error::new("disk_full", "").exit().code(), 1);
    }

    #[test]
    fn every_mistake_has_a_page() {
        for code in USAGE {
            let page = format!("{}/../../docs/errors/{code}.md", env!("CARGO_MANIFEST_DIR"));
            assert!(std::path::Path::new(&page).is_file(), "{page}");
        }
    }

    #[test]
    fn the_chain_is_told_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer")]
        struct Outer(#[source] std::io::Error);
        let error = Error::chain("x", &Outer(std::io::Error::other("inner")));
        assert_eq!(error.message, "outer: inner");
    }
}
