//! Which parameters a manifest uses, and where.

use super::problem::Problems;
use super::template::Template;
use serde_json::Value;

/// The parameters, and which of them the manifest uses.
pub(crate) struct Used<'a> {
    names: Vec<(&'a str, bool)>,
}

impl<'a> Used<'a> {
    pub(crate) fn new(parameters: &'a Value) -> Self {
        let names = parameters["properties"].as_object().into_iter().flatten();
        Self { names: names.map(|(name, _)| (name.as_str(), false)).collect() }
    }

    /// Reads a template, and sees that there is a parameter for each of its placeholders.
    pub(crate) fn template(&mut self, text: &str, at: &str, problems: &mut Problems) -> Option<Template> {
        match Template::read(text) {
            Ok(template) => {
                template.parameters().for_each(|name| self.take(name, at, problems));
                Some(template)
            }
            Err(problem) => {
                problems.add(at, problem);
                None
            }
        }
    }

    /// A placeholder was met.
    pub(crate) fn take(&mut self, name: &str, at: &str, problems: &mut Problems) {
        match self.names.iter_mut().find(|(known, _)| *known == name) {
            Some((_, used)) => *used = true,
            None => {
                problems.add(at, format!("{{{name}}} is no parameter: add it to parameters.properties, or correct the name"))
            }
        }
    }

    /// A parameter that goes nowhere would be asked of the model for nothing.
    pub(crate) fn finish(self, problems: &mut Problems) {
        for (name, _) in self.names.iter().filter(|(_, used)| !used) {
            problems.add(
                &format!("parameters.properties.{name}"),
                format!("it is used nowhere: put {{{name}}} where it belongs"),
            );
        }
    }
}
