//! The conversation, made from the log: what the model is sent.

use crate::event::{Event, ModelReplied};
use crate::{CallId, Due, Message, ModelRequest, RequestedCall, RunLog, Verdict};

/// What the model is told in front of the result of a call whose arguments a person changed.
pub(crate) const EDITED_NOTE: &str = "[errand] A person changed the arguments of this call to:";

impl RunLog {
    /// The request that is due, if a model call is. `history` is the conversation of the thread before this run.
    pub fn request(&self, history: &[Message]) -> Option<ModelRequest> {
        let Due::Model { max_output_tokens, .. } = self.run.head.due else { return None };
        let config = &self.run.config;
        let mut messages = vec![Message::System { text: config.instructions.clone() }];
        messages.extend_from_slice(history);
        messages.extend(self.conversation());
        Some(ModelRequest {
            model: config.model.name.clone(),
            messages,
            tools: config.tools.iter().map(|tool| tool.definition.clone()).collect(),
            max_output_tokens,
        })
    }

    /// What was said in this run, from the task on. Later conversations of a run have earlier ones as their prefix.
    pub fn conversation(&self) -> Vec<Message> {
        let mut messages = Vec::new();
        for sealed in &self.records {
            match &sealed.record.event {
                Event::Started(started) => messages.push(started.opening()),
                Event::ModelReplied(replied) => self.say_reply(sealed.record.number, replied, &mut messages),
                Event::Messaged(messaged) => {
                    messages.extend(messaged.messages.iter().map(|message| Message::User { text: message.text.clone() }));
                }
                Event::Forked(forked) => {
                    messages.extend(forked.message.iter().map(|text| Message::User { text: text.clone() }));
                }
                _ => {}
            }
        }
        messages
    }

    fn say_reply(&self, number: u64, replied: &ModelReplied, messages: &mut Vec<Message>) {
        let calls: Vec<RequestedCall> = (0u32..)
            .zip(&replied.reply.calls)
            .map(|(index, call)| RequestedCall { id: call_name(CallId { record: number, index }), ..call.clone() })
            .collect();
        if !replied.reply.text.is_empty() || !calls.is_empty() {
            messages.push(Message::Assistant { text: replied.reply.text.clone(), calls });
        }
        for (index, (call, verdict)) in (0u32..).zip(replied.reply.calls.iter().zip(&replied.verdicts)) {
            let id = CallId { record: number, index };
            let (text, is_error) = match verdict {
                Verdict::Refused { code, error } => (format!("error {code}: {error}"), true),
                Verdict::Accepted { .. } => match self.observation(id) {
                    Some(observation) => observation.outcome.shown(),
                    // Every call needs an answer before the conversation can go on in a later run of the thread.
                    None if self.run.head.status.is_ended() => ("the run ended before this call did".to_owned(), true),
                    None => continue,
                },
            };
            let text = match self.edited_arguments(id) {
                Some(arguments) => format!("{EDITED_NOTE} {arguments}\n{text}"),
                None => text,
            };
            messages.push(Message::Tool { call_id: call_name(id), name: call.name.clone(), text, is_error });
        }
        if let Some(note) = replied.fault().and_then(crate::Fault::note) {
            messages.push(Message::User { text: note.to_owned() });
        }
    }
}

/// The id of a call as providers see it: theirs need not be unique within a run, ours are.
fn call_name(id: CallId) -> String {
    format!("call_{}_{}", id.record, id.index)
}
