//! `errand sandbox image`, and what a session needs before its boxes can show one.

use super::{failed, stoppable, warn};
use crate::args::SandboxImageCommand;
use crate::commands::Context;
use crate::config::Config;
use crate::error::{Error, Exit};
use crate::text;
use crate::view::{Audience, print, print_json};
use errand_sandbox::{CancelToken, Image, ImageLock, ImageProgress, ImageRecord, Images, ImagesConfig, Session};
use serde_json::json;
use std::path::Path;
use std::sync::Arc;

/// The images of this data folder.
pub(super) fn images(config: &Config, pip_arguments: Vec<String>) -> Result<Arc<Images>, Error> {
    let how = ImagesConfig { search_path: config.search_path.clone(), pip_arguments };
    Images::at(config.data.join("images"), how).map(Arc::new).map_err(|error| failed(&error))
}

pub(super) async fn image(context: &Context, config: &Config, command: SandboxImageCommand) -> Result<Exit, Error> {
    match command {
        SandboxImageCommand::Build { name, lock, pip_option } => {
            let images = images(config, pip_option)?;
            let lock = match lock {
                Some(file) => ImageLock::parse(&name, &read(&file)?),
                None => images.lock_of(&name),
            };
            let lock = lock.map_err(|error| failed(&error))?;
            let make =
                move |cancel: &CancelToken, step: &mut dyn FnMut(ImageProgress)| images.build(&lock, Some(cancel), step);
            let image = match made(context, &name, make).await? {
                Ok(image) => image,
                Err(exit) => return Ok(exit),
            };
            match context.audience() {
                Audience::Machines => print_json(&json!({"type": "image", "name": name, "digest": image.digest()})),
                Audience::People => print(&format!("{name} {}", image.digest())),
            }
        }
        SandboxImageCommand::List => {
            for record in images(config, Vec::new())?.list().map_err(|error| failed(&error))? {
                match context.audience() {
                    Audience::Machines => print_json(&with_type(&record)),
                    Audience::People => print(&line(&record)),
                }
            }
        }
        SandboxImageCommand::Rm { name } => {
            images(config, Vec::new())?.remove(&name).map_err(|error| failed(&error))?;
        }
    }
    Ok(Exit::Done)
}

/// The image of that name, built first where that is needed; a signal's exit if one came meanwhile.
pub(super) async fn ensured(context: &Context, images: &Arc<Images>, name: &str) -> Result<Result<Image, Exit>, Error> {
    let (images, wanted) = (Arc::clone(images), name.to_owned());
    let make = move |cancel: &CancelToken, step: &mut dyn FnMut(ImageProgress)| images.ensure(&wanted, Some(cancel), step);
    made(context, name, make).await
}

/// The session with the image it was made with, built again where it is gone.
pub(super) async fn dressed(
    context: &Context,
    images: &Arc<Images>,
    mut session: Session,
) -> Result<Result<Session, Exit>, Error> {
    let Some(name) = session.lacks_image().map(str::to_owned) else { return Ok(Ok(session)) };
    Ok(ensured(context, images, &name).await?.map(|image| {
        session.take_image(image);
        session
    }))
}

/// Makes an image on a thread for that, and tells people how far it is.
async fn made<F>(context: &Context, name: &str, make: F) -> Result<Result<Image, Exit>, Error>
where
    F: FnOnce(&CancelToken, &mut dyn FnMut(ImageProgress)) -> errand_sandbox::Result<Image> + Send + 'static,
{
    let cancel = CancelToken::new().map_err(|error| Error::new("engine_stopped", error.to_string()))?;
    let (token, is_told, name) = (cancel.clone(), context.audience() == Audience::People, name.to_owned());
    let work = move || {
        make(&token, &mut |step| {
            if is_told {
                warn(&format!("image {name}: {step}"));
            }
        })
    };
    match stoppable(work, &cancel).await? {
        (Ok(image), _) => Ok(Ok(image)),
        (Err(_), Some(exit)) => Ok(Err(exit)),
        (Err(error), None) => Err(failed(&error)),
    }
}

fn read(file: &Path) -> Result<String, Error> {
    std::fs::read_to_string(file).map_err(|error| {
        let code = if error.kind() == std::io::ErrorKind::NotFound { "file_missing" } else { "file_unreadable" };
        Error::new(code, format!("{}: {error}", text::path(file)))
    })
}

fn with_type(record: &ImageRecord) -> serde_json::Value {
    let mut value = json!(record);
    if let Some(object) = value.as_object_mut() {
        object.insert("type".to_owned(), "image".into());
    }
    value
}

fn line(record: &ImageRecord) -> String {
    let short = record.digest.get(..12).unwrap_or_default();
    format!("{}  {short}  {}  {}  {}", record.name, text::bytes(record.bytes), record.python, record.packages.join(" "))
}
