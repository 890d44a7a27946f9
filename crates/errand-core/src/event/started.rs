use crate::{
    Allowance, CallId, ContextSize, Due, Faults, Hash, Head, Image, Message, Run, RunConfig, RunId, Snapshot, Status, Totals,
};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Record 1: what is to be done, with what, and on whose behalf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// What the run is pinned to.
    pub config: RunConfig,
    /// What the user wants.
    pub task: String,
    /// Images that are shown to the model with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<Image>,
    /// Files the user gave, as they lie in the workspace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<InputFile>,
    /// The workspace with those files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<Snapshot>,
    /// The run of the same thread before this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<History>,
    /// The call of another run that this run carries out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Parent>,
    /// Set if the run was stopped before it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<String>,
    /// The conversation as the caller gave it, with the task in its place, where there is more to it than the task. It
    /// may end with results of calls that the caller made. The task is then what lists show and summaries keep.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given: Vec<Message>,
    /// What the caller wants to know the run by. It says nothing to the engine or the model.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// How the run was asked for, for the surface that shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surface: Option<Surface>,
}

/// What the surface that accepted a run has to know later to show it in its own form. It says nothing to anybody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Surface {
    /// Which one, with the version of its form.
    pub name: String,
    /// What it has to know, in the form that it chose.
    pub content: String,
}

/// A file the user gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputFile {
    /// Its path in the workspace.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its content.
    pub sha256: Hash,
}

/// The run of the same thread before this one; its conversation comes first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// That run.
    pub run: RunId,
    /// Its last record.
    pub number: u64,
    /// The ledger hash there.
    pub hash: Hash,
    /// Bytes of the conversation up to there.
    pub bytes: u64,
    /// Messages of the conversation up to there.
    pub messages: u64,
    /// Images of the conversation up to there.
    #[serde(default)]
    pub images: u32,
}

/// The call that a sub-run carries out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// The run that made the call.
    pub run: RunId,
    /// The call.
    pub call: CallId,
    /// How many runs stand above the sub-run.
    pub depth: u32,
}

impl Started {
    /// The head of record 1.
    pub fn head(&self) -> Head {
        let mut head = Head {
            status: Status::Running,
            due: Due::Nothing { abandoned: Vec::new() },
            totals: Totals::default(),
            context: self.context(),
            faults: Faults::default(),
            model: 0,
            summarizer: 0,
            // A conversation that begins long may have to be shortened before its first turn.
            turns: if self.history.is_some() || !self.given.is_empty() { 2 } else { 0 },
            workspace: self.workspace,
            taint: BTreeSet::new(),
            parent: self.parent.as_ref().map(|parent| parent.run),
            depth: self.parent.as_ref().map_or(0, |parent| parent.depth),
            raised: Allowance::default(),
        };
        match &self.withdrawn {
            Some(reason) => head.status = Status::Cancelled { reason: reason.clone() },
            None => Run::make_first_due(&self.config, &mut head),
        }
        head
    }

    /// What stands at the beginning of this run's conversation.
    pub fn opening_messages(&self) -> Vec<Message> {
        if self.given.is_empty() { vec![self.opening()] } else { self.given.clone() }
    }

    /// The task as a message: what opens the conversation of this run, and what a summary leaves word for word.
    pub fn opening(&self) -> Message {
        let mut text = self.task.clone();
        if !self.files.is_empty() {
            text.push_str("\n\nFiles in the workspace:");
            for file in &self.files {
                text.push_str(&format!("\n- {} ({} bytes)", file.path, file.bytes));
            }
        }
        Message::User { text, images: self.images.clone() }
    }

    fn context(&self) -> ContextSize {
        let mut context = ContextSize::default();
        self.config.count_fixed(&mut context);
        if let Some(history) = &self.history {
            context.add_many(history.bytes, history.messages);
            context.add_images(history.images);
        }
        for message in self.opening_messages() {
            context.add(message.bytes());
            context.add_images(u32::try_from(message.images().len()).unwrap_or(u32::MAX));
        }
        context
    }
}
