//! Watches over folders: inotify, told as a stream or asked for from time to time.

use super::State;
use super::connect::{Code, Failure, enveloped, stream, unary};
use super::files::{UPLOAD_PREFIX, failure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State as Extract;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::StreamExt;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Most watchers at a time, folders that one watches, and events that wait to be asked for.
const WATCHERS_MAX: usize = 64;
const FOLDERS_MAX: usize = 4_096;
const EVENTS_WAITING: usize = 10_000;
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Those that are asked for their events.
#[derive(Default)]
pub(super) struct Watchers(Mutex<BTreeMap<String, Waiting>>);

struct Waiting {
    events: Arc<Mutex<VecDeque<Value>>>,
    task: tokio::task::AbortHandle,
}

#[derive(Deserialize)]
struct Watched {
    #[serde(default)]
    path: String,
    #[serde(default)]
    recursive: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Named {
    #[serde(default)]
    watcher_id: String,
}

pub(super) fn routes() -> Router<Arc<State>> {
    Router::new()
        .route("/filesystem.Filesystem/WatchDir", post(watch))
        .route("/filesystem.Filesystem/CreateWatcher", post(create))
        .route("/filesystem.Filesystem/GetWatcherEvents", post(events))
        .route("/filesystem.Filesystem/RemoveWatcher", post(remove))
}

async fn watch(Extract(state): Extract<Arc<State>>, headers: HeaderMap, body: Bytes) -> Result<Response, Failure> {
    let Watched { path, recursive } = enveloped(&headers, &body)?;
    let watch = Watch::over(&state.resolve(&path), recursive)?;
    let (sender, receiver) = mpsc::channel(EVENTS_WAITING);
    tokio::spawn(watch.tell(move |event| sender.try_send(event).is_ok() || !sender.is_closed()));
    let events = futures::stream::unfold(receiver, |mut receiver| async move {
        match timeout(KEEP_ALIVE, receiver.recv()).await {
            Ok(event) => event.map(|event| (json!({"filesystem": event}), receiver)),
            Err(_) => Some((json!({"keepalive": {}}), receiver)),
        }
    });
    let begun = futures::stream::once(async { json!({"start": {}}) });
    Ok(stream(begun.chain(events).map(Ok)))
}

async fn create(Extract(state): Extract<Arc<State>>, headers: HeaderMap, body: Bytes) -> Result<Response, Failure> {
    let Watched { path, recursive } = unary(&headers, &body)?;
    let watch = Watch::over(&state.resolve(&path), recursive)?;
    let mut all = state.watchers.lock();
    if all.len() >= WATCHERS_MAX {
        return Err(Failure::new(Code::ResourceExhausted, format!("there are {WATCHERS_MAX} watchers: remove some")));
    }
    let mut number = [0; 8];
    getrandom::fill(&mut number).map_err(|error| Failure::new(Code::Internal, error.to_string()))?;
    let id = format!("{:016x}", u64::from_ne_bytes(number));
    let events = Arc::new(Mutex::new(VecDeque::new()));
    let kept = Arc::clone(&events);
    let keep = move |event| {
        let mut kept: std::sync::MutexGuard<'_, VecDeque<Value>> = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == EVENTS_WAITING {
            kept.pop_front();
        }
        kept.push_back(event);
        true
    };
    let task = tokio::spawn(watch.tell(keep)).abort_handle();
    all.insert(id.clone(), Waiting { events, task });
    Ok(axum::Json(json!({"watcherId": id})).into_response())
}

async fn events(Extract(state): Extract<Arc<State>>, headers: HeaderMap, body: Bytes) -> Result<Response, Failure> {
    let Named { watcher_id } = unary(&headers, &body)?;
    let all = state.watchers.lock();
    let waiting = all.get(&watcher_id).ok_or_else(unknown)?;
    let events = std::mem::take(&mut *waiting.events.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(axum::Json(json!({"events": events})).into_response())
}

async fn remove(Extract(state): Extract<Arc<State>>, headers: HeaderMap, body: Bytes) -> Result<Response, Failure> {
    let Named { watcher_id } = unary(&headers, &body)?;
    state.watchers.lock().remove(&watcher_id).ok_or_else(unknown)?.task.abort();
    Ok(axum::Json(json!({})).into_response())
}

fn unknown() -> Failure {
    Failure::new(Code::NotFound, "there is no such watcher")
}

impl Watchers {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Folders under watch, each by the number that the kernel calls it.
struct Watch {
    descriptor: AsyncFd<OwnedFd>,
    root: PathBuf,
    recursive: bool,
    folders: HashMap<i32, PathBuf>,
}

impl Watch {
    fn over(root: &Path, recursive: bool) -> Result<Self, Failure> {
        if !std::fs::metadata(root).map_err(|error| failure(root, &error))?.is_dir() {
            return Err(Failure::new(Code::InvalidArgument, format!("path '{}' is no folder", root.display())));
        }
        let failed = |error: std::io::Error| failure(root, &error);
        let descriptor = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|e| failed(e.into()))?;
        #[expect(deprecated, reason = "its successor is unsafe for types that may lose their descriptor; this one keeps it")]
        let descriptor = AsyncFd::new(descriptor).map_err(failed)?;
        let mut watch = Self { descriptor, root: root.to_owned(), recursive, folders: HashMap::new() };
        watch.add(root).map_err(failed)?;
        Ok(watch)
    }

    /// Takes a folder in, and those below it if all are wanted.
    fn add(&mut self, folder: &Path) -> std::io::Result<()> {
        let mut next = vec![folder.to_owned()];
        while let Some(folder) = next.pop() {
            if self.folders.len() == FOLDERS_MAX {
                return Err(std::io::Error::other(format!("over {FOLDERS_MAX} folders are to be watched")));
            }
            let flags = WatchFlags::CREATE | WatchFlags::CLOSE_WRITE | WatchFlags::MODIFY | WatchFlags::DELETE;
            let flags = flags | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO | WatchFlags::ATTRIB;
            // What was asked for may be a link; links below it are not followed.
            let follow = if folder == self.root { WatchFlags::empty() } else { WatchFlags::DONT_FOLLOW };
            let number = inotify::add_watch(&self.descriptor, &folder, flags | follow | WatchFlags::ONLYDIR);
            let number = match number {
                // A folder below may have gone already.
                Err(_) if !self.folders.is_empty() => continue,
                number => number?,
            };
            if self.recursive {
                let below = std::fs::read_dir(&folder).into_iter().flatten().flatten();
                next.extend(
                    below.filter(|found| found.file_type().is_ok_and(|kind| kind.is_dir())).map(|found| found.path()),
                );
            }
            self.folders.insert(number, folder);
        }
        Ok(())
    }

    /// Tells of each event until nobody listens.
    async fn tell(mut self, listen: impl Fn(Value) -> bool + Send) {
        loop {
            let Ok(mut ready) = self.descriptor.readable().await else { return };
            let happened = read(&self.descriptor);
            ready.clear_ready();
            drop(ready);
            for event in happened {
                let Some(folder) = self.folders.get(&event.folder) else { continue };
                let path = folder.join(&event.name);
                let Some(kind) = event.kind() else { continue };
                let shown = path.strip_prefix(&self.root).unwrap_or(&path).to_string_lossy().into_owned();
                if self.recursive && event.flags.contains(ReadFlags::ISDIR) && kind != "EVENT_TYPE_REMOVE" {
                    // One more than fits is not watched; the others are.
                    let _ = self.add(&path);
                }
                if !listen(json!({"name": shown, "type": kind})) {
                    return;
                }
            }
        }
    }
}

/// Something that happened in a folder.
struct Event {
    folder: i32,
    flags: ReadFlags,
    name: String,
    /// It came to be by an upload that is whole now.
    is_upload: bool,
}

impl Event {
    fn kind(&self) -> Option<&'static str> {
        Some(match self.flags {
            _ if self.name.starts_with(UPLOAD_PREFIX) => return None,
            _ if self.is_upload => "EVENT_TYPE_WRITE",
            flags if flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) => "EVENT_TYPE_CREATE",
            flags if flags.intersects(ReadFlags::MODIFY | ReadFlags::CLOSE_WRITE) => "EVENT_TYPE_WRITE",
            flags if flags.contains(ReadFlags::DELETE) => "EVENT_TYPE_REMOVE",
            flags if flags.contains(ReadFlags::MOVED_FROM) => "EVENT_TYPE_RENAME",
            flags if flags.contains(ReadFlags::ATTRIB) => "EVENT_TYPE_CHMOD",
            _ => return None,
        })
    }
}

/// What has happened so far.
fn read(descriptor: &AsyncFd<OwnedFd>) -> Vec<Event> {
    let mut buffer = [MaybeUninit::uninit(); 16 << 10];
    let mut reader = inotify::Reader::new(descriptor, &mut buffer);
    let mut happened = Vec::new();
    // Both ends of a move follow each other.
    let mut upload = None;
    while let Ok(event) = reader.next() {
        let name = event.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let flags = event.events();
        let is_upload = flags.contains(ReadFlags::MOVED_TO) && upload == Some(event.cookie());
        if flags.contains(ReadFlags::MOVED_FROM) && name.starts_with(UPLOAD_PREFIX) {
            upload = Some(event.cookie());
        }
        happened.push(Event { folder: event.wd(), flags, name, is_upload });
    }
    happened
}
