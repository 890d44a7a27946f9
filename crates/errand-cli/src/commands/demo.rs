use super::Context;
use crate::args::Demo;
use crate::error::{Error, Exit};
pub(super) async fn demo(_: &Context, _: Demo) -> Result<Exit, Error> {
    Ok(Exit::Done)
}
