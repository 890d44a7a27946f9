//! Images that calls ask for, and the engines that show them. An image is made when it is first needed, on a thread of its own:
//! a call waits for as long as it may, and finds it there when it is made again.

use super::Error;
use errand_sandbox::{CancelToken, Engine, Image, ImageLock, ImageProgress, Images, Isolation, OciEngine, Pool};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often whoever waits looks whether the call is to stop.
const LOOK: Duration = Duration::from_millis(100);

type Tell = dyn Fn(&str, &ImageProgress) + Send + Sync;

/// Told of each step of an image that is made: its name and the step.
#[derive(Clone, Default)]
pub struct OnImage(Option<Arc<Tell>>);

impl OnImage {
    /// Calls `tell`, from the thread that makes the image.
    pub fn new(tell: impl Fn(&str, &ImageProgress) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(tell)))
    }

    fn tell(&self, name: &str, step: &ImageProgress) {
        match &self.0 {
            Some(tell) => tell(name, step),
            None => tracing::info!(image = name, %step, "making an image"),
        }
    }
}

impl fmt::Debug for OnImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "told" } else { "logged" })
    }
}

/// An image that is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look<'a> {
    pub(crate) name: &'a str,
    /// It must hold these; where it does not, the list that comes with Errand is newer than it.
    pub(crate) packages: &'static [&'static str],
}

/// How long a call can wait.
#[derive(Clone, Copy)]
pub(crate) struct Patience<'a> {
    pub(crate) until: Instant,
    pub(crate) cancel: &'a CancelToken,
}

/// Images, and the engines that show them.
pub(super) struct Wardrobe {
    /// Dropped first: what is being made is given up.
    builds: Mutex<HashMap<String, Arc<Build>>>,
    images: Option<Arc<Images>>,
    on_image: OnImage,
    dressed: Mutex<HashMap<String, Arc<Dressed>>>,
}

/// Engines whose boxes show an image.
pub(super) struct Dressed {
    digest: String,
    pub(super) namespaces: Option<Arc<Engine>>,
    pub(super) runtime: Option<Arc<dyn Isolation>>,
    pub(super) pool: Option<Arc<Pool>>,
}

/// What is dressed in an image.
pub(super) struct Bare<'a> {
    pub(super) namespaces: Option<&'a Arc<Engine>>,
    pub(super) runtime: Option<&'a Arc<OciEngine>>,
}

impl Wardrobe {
    pub(super) fn new(images: Option<Arc<Images>>, on_image: OnImage) -> Self {
        Self { images, on_image, builds: Mutex::default(), dressed: Mutex::default() }
    }

    /// The engines that show an image; waits until it is made. `pool` keeps kernels of an engine ready, where that is wanted.
    pub(super) fn dressed(
        &self,
        look: Look<'_>,
        bare: &Bare<'_>,
        patience: Patience<'_>,
        pool: impl FnOnce(&Arc<Engine>) -> Option<Arc<Pool>>,
    ) -> Result<Arc<Dressed>, Error> {
        let image = match self.at_hand(look)? {
            Some(image) => image,
            None => {
                self.make(look, patience)?;
                self.at_hand(look)?.ok_or_else(|| refused(look.name, &missing(look.name, "it was removed again")))?
            }
        };
        Ok(self.dress(image, bare, pool))
    }

    /// The same, where the image is there.
    pub(super) fn dressed_now(
        &self,
        look: Look<'_>,
        bare: &Bare<'_>,
        pool: impl FnOnce(&Arc<Engine>) -> Option<Arc<Pool>>,
    ) -> Option<Arc<Dressed>> {
        self.at_hand(look).ok().flatten().map(|image| self.dress(image, bare, pool))
    }

    fn dress(&self, image: Image, bare: &Bare<'_>, pool: impl FnOnce(&Arc<Engine>) -> Option<Arc<Pool>>) -> Arc<Dressed> {
        let mut all = lock(&self.dressed);
        if let Some(dressed) = all.get(image.name()).filter(|dressed| dressed.digest == image.digest()) {
            return Arc::clone(dressed);
        }
        let (name, digest) = (image.name().to_owned(), image.digest().to_owned());
        let namespaces = bare.namespaces.map(|engine| Arc::new(engine.dressed(image.clone(), preload())));
        let runtime = bare.runtime.map(|engine| Arc::new(engine.dressed(image)) as Arc<dyn Isolation>);
        let pool = namespaces.as_ref().and_then(pool);
        let dressed = Arc::new(Dressed { digest, namespaces, runtime, pool });
        let before = all.insert(name, Arc::clone(&dressed));
        drop(all);
        // Ending its kernels may take a moment.
        drop(before);
        dressed
    }

    /// The image, if it is there as it is wanted.
    fn at_hand(&self, look: Look<'_>) -> Result<Option<Image>, Error> {
        let images = self.images(look.name)?;
        match images.named(look.name) {
            Ok(image) if images.holds(look.name, look.packages) => Ok(Some(image)),
            Ok(_) | Err(errand_sandbox::Error::ImageMissing { .. }) => Ok(None),
            Err(error) => Err(refused(look.name, &error)),
        }
    }

    fn images(&self, name: &str) -> Result<&Arc<Images>, Error> {
        self.images.as_ref().ok_or_else(|| refused(name, &missing(name, "this process has no folder of images")))
    }

    /// Waits for the image to be made; begins with it unless somebody did.
    fn make(&self, look: Look<'_>, patience: Patience<'_>) -> Result<(), Error> {
        let images = self.images(look.name)?;
        let lock_file = match look.packages {
            [] => images.lock_of(look.name),
            _ => ImageLock::built_in(look.name).map_or_else(|| images.lock_of(look.name), Ok),
        };
        let lock_file = lock_file.map_err(|error| refused(look.name, &error))?;
        let build = {
            let mut builds = lock(&self.builds);
            match builds.get(look.name).filter(|build| !build.is_over()) {
                Some(build) => Arc::clone(build),
                None => {
                    let build = Arc::new(Build::start(Arc::clone(images), lock_file, look.name, self.on_image.clone())?);
                    builds.insert(look.name.to_owned(), Arc::clone(&build));
                    build
                }
            }
        };
        build.wait(look.name, patience)
    }
}

/// Modules that zygotes of an image import ahead, where it has them.
fn preload() -> Vec<String> {
    ["numpy", "pandas", "matplotlib.pyplot"].map(str::to_owned).into()
}

/// An image under way.
struct Build {
    stage: Arc<(Mutex<Stage>, Condvar)>,
    cancel: CancelToken,
    maker: Option<JoinHandle<()>>,
}

enum Stage {
    Begun,
    At(ImageProgress),
    /// The stable code and the words of a failure.
    Over(Result<(), (&'static str, String)>),
}

impl Build {
    fn start(images: Arc<Images>, lock_file: ImageLock, name: &str, on_image: OnImage) -> Result<Build, Error> {
        let failed = |error: std::io::Error| Error::Thread { problem: error.to_string() };
        let cancel = CancelToken::new().map_err(failed)?;
        let stage = Arc::new((Mutex::new(Stage::Begun), Condvar::new()));
        let (theirs, token, name) = (Arc::clone(&stage), cancel.clone(), name.to_owned());
        let work = move || {
            let set = |now: Stage| {
                *lock(&theirs.0) = now;
                theirs.1.notify_all();
            };
            let made = images.build(&lock_file, Some(&token), &mut |step| {
                on_image.tell(&name, &step);
                set(Stage::At(step));
            });
            if let Err(error) = &made {
                tracing::warn!(image = name, code = error.code(), %error, "an image could not be made");
            }
            set(Stage::Over(made.map(drop).map_err(|error| (error.code(), Error::Sandbox(error).chain()))));
        };
        let maker = std::thread::Builder::new().name("image".to_owned()).spawn(work).map_err(failed)?;
        Ok(Build { stage, cancel, maker: Some(maker) })
    }

    fn is_over(&self) -> bool {
        matches!(*lock(&self.stage.0), Stage::Over(_))
    }

    fn wait(&self, name: &str, patience: Patience<'_>) -> Result<(), Error> {
        let mut stage = lock(&self.stage.0);
        loop {
            match &*stage {
                Stage::Over(Ok(())) => return Ok(()),
                Stage::Over(Err((code, problem))) => {
                    return Err(Error::Image { name: name.to_owned(), code, problem: problem.clone() });
                }
                _ if patience.cancel.is_cancelled() => return Err(Error::Stopped),
                stage if Instant::now() >= patience.until => {
                    let step = match stage {
                        Stage::At(step) => step.to_string(),
                        _ => "it has just begun".to_owned(),
                    };
                    return Err(Error::ImageBuilding { name: name.to_owned(), step });
                }
                _ => {}
            }
            stage = self.stage.1.wait_timeout(stage, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        self.cancel.cancel();
        if let Some(maker) = self.maker.take() {
            // What failed was logged.
            let _ = maker.join();
        }
    }
}

fn missing(name: &str, reason: &str) -> errand_sandbox::Error {
    errand_sandbox::Error::ImageMissing { name: name.to_owned(), reason: reason.to_owned() }
}

fn refused(name: &str, error: &errand_sandbox::Error) -> Error {
    Error::Image { name: name.to_owned(), code: error.code(), problem: error.to_string() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds a lock of these leaves a change half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
