//! Files: up, down, and the calls on folders.

use super::State;
use super::connect::{Code, Failure, unary};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Query, Request, State as Extract};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures::StreamExt;
use rustix::process::Resource;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Bytes of a file in one piece of an answer.
const PIECE_BYTES: usize = 64 << 10;
/// How files are named until they are whole; nobody is told of them.
pub(super) const UPLOAD_PREFIX: &str = ".errand-upload-";
/// So many packed bytes are unpacked at a time: at most about a thousand times as many come of them.
const PACKED_BYTES: usize = 4 << 10;
/// Most entries that one listing tells.
const ENTRIES_MAX: usize = 50_000;

#[derive(Deserialize)]
struct Named {
    path: Option<String>,
}

#[derive(Deserialize)]
struct OnPath {
    #[serde(default)]
    path: String,
    #[serde(default)]
    depth: usize,
}

#[derive(Deserialize)]
struct Moved {
    #[serde(default)]
    source: String,
    #[serde(default)]
    destination: String,
}

pub(super) fn routes() -> Router<Arc<State>> {
    let bounded = || DefaultBodyLimit::max(super::MESSAGE_BYTES_MAX);
    Router::new()
        .route("/filesystem.Filesystem/Stat", post(stat))
        .route("/filesystem.Filesystem/ListDir", post(list))
        .route("/filesystem.Filesystem/MakeDir", post(make))
        .route("/filesystem.Filesystem/Move", post(rename))
        .route("/filesystem.Filesystem/Remove", post(remove))
        .layer(bounded())
        .route("/files", get(read).post(write))
}

/// A failure of `/files`, which is no call of the Connect protocol.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = json!({"code": self.0.as_u16(), "message": self.1});
        (self.0, axum::Json(body)).into_response()
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        let status =
            if failure.code == Code::ResourceExhausted { StatusCode::INSUFFICIENT_STORAGE } else { failure.code.status() };
        Refused(status, failure.message)
    }
}

async fn read(Extract(state): Extract<Arc<State>>, Query(named): Query<Named>) -> Result<Response, Refused> {
    let path = state.resolve(named.path.as_deref().unwrap_or_default());
    let failed = |error| Refused::from(failure(&path, &error));
    let file = tokio::fs::File::open(&path).await.map_err(failed)?;
    let meta = file.metadata().await.map_err(failed)?;
    if !meta.is_file() {
        let what = if meta.is_dir() { "a folder" } else { "no plain file" };
        return Err(Refused(StatusCode::BAD_REQUEST, format!("path '{}' is {what}", path.display())));
    }
    // As long as it was said to be, however it grows.
    let pieces = futures::stream::unfold(Some(file.take(meta.len())), |file| async move {
        let mut file = file?;
        let mut piece = vec![0; PIECE_BYTES];
        match file.read(&mut piece).await {
            Ok(0) => None,
            Ok(count) => {
                piece.truncate(count);
                Some((Ok(Bytes::from(piece)), Some(file)))
            }
            Err(error) => Some((Err(error), None)),
        }
    });
    let head =
        [(header::CONTENT_TYPE, "application/octet-stream".to_owned()), (header::CONTENT_LENGTH, meta.len().to_string())];
    Ok((head, Body::from_stream(pieces)).into_response())
}

/// One file as the body, or many as the parts of a form, each named by its path.
async fn write(
    Extract(state): Extract<Arc<State>>,
    Query(named): Query<Named>,
    headers: HeaderMap,
    request: Request,
) -> Result<Response, Refused> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !kind.starts_with("multipart/") {
        let path = named.path.filter(|path| !path.is_empty()).ok_or_else(|| bad("the query names no path"))?;
        let path = state.resolve(&path);
        let gzip = headers.get(header::CONTENT_ENCODING).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"gzip"));
        let limited = axum::RequestExt::with_limited_body(request).into_body().into_data_stream();
        store(&path, limited.map(|piece| piece.map_err(std::io::Error::other)), gzip).await?;
        return Ok(axum::Json(json!([written(&path)])).into_response());
    }
    let mut form = Multipart::from_request(request, &()).await.map_err(|error| bad(&error.body_text()))?;
    let mut all = Vec::new();
    while let Some(field) = form.next_field().await.map_err(|error| bad(&error.body_text()))? {
        // With one file the query may name it; a part's own name is a path, too.
        let own = field.file_name().map(str::to_owned);
        let path = named.path.clone().filter(|path| !path.is_empty()).or(own).ok_or_else(|| bad("a part names no file"))?;
        let path = state.resolve(&path);
        store(&path, field.map(|piece| piece.map_err(std::io::Error::other)), false).await?;
        all.push(written(&path));
    }
    if all.is_empty() {
        return Err(bad("the form holds no file"));
    }
    Ok(axum::Json(Value::Array(all)).into_response())
}

fn bad(why: &str) -> Refused {
    Refused(StatusCode::BAD_REQUEST, why.to_owned())
}

fn written(path: &Path) -> Value {
    json!({"name": file_name(path), "type": "file", "path": path})
}

/// Writes a file beside its place and puts it there when it is whole.
async fn store(
    path: &Path,
    pieces: impl futures::Stream<Item = std::io::Result<Bytes>> + Send,
    gzip: bool,
) -> Result<(), Refused> {
    let failed = |error: std::io::Error| Refused::from(failure(path, &error));
    let folder = path.parent().ok_or_else(|| bad("the path is no file's"))?;
    tokio::fs::create_dir_all(folder).await.map_err(failed)?;
    if tokio::fs::metadata(path).await.is_ok_and(|meta| meta.is_dir()) {
        return Err(bad(&format!("path '{}' is a folder", path.display())));
    }
    let mut number = [0; 8];
    getrandom::fill(&mut number).map_err(|error| Refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let beside = Unfinished(folder.join(format!("{UPLOAD_PREFIX}{:016x}", u64::from_ne_bytes(number))));
    // The kernel would end this process for a byte more.
    let most = rustix::process::getrlimit(Resource::Fsize).current.unwrap_or(u64::MAX);
    fill(&beside.0, pieces, gzip, most).await.map_err(failed)?;
    // A link stays a link, and a file keeps its rights.
    let target = tokio::fs::canonicalize(path).await.unwrap_or_else(|_| path.to_owned());
    if let Ok(old) = tokio::fs::metadata(&target).await {
        tokio::fs::set_permissions(&beside.0, old.permissions()).await.map_err(failed)?;
    }
    tokio::fs::rename(&beside.0, &target).await.map_err(failed)
}

/// A file that goes when it is not put in place, also when its sender goes away.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        // One that was put in place has this name no longer.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Writes a new file of at most `most` bytes.
async fn fill(
    path: &Path,
    pieces: impl futures::Stream<Item = std::io::Result<Bytes>> + Send,
    gzip: bool,
    most: u64,
) -> std::io::Result<()> {
    let file = tokio::fs::OpenOptions::new().write(true).create_new(true).open(path).await?;
    let mut file = Bounded { file, left: most };
    let mut pieces = std::pin::pin!(pieces);
    if !gzip {
        while let Some(piece) = pieces.next().await {
            file.write(&piece?).await?;
        }
        return file.file.flush().await;
    }
    let mut unpacked = flate2::write::GzDecoder::new(Vec::new());
    while let Some(piece) = pieces.next().await {
        // Packed bytes say little of how many they are: they are unpacked some at a time.
        for some in piece?.chunks(PACKED_BYTES) {
            unpacked.write_all(some)?;
            file.write(&std::mem::take(unpacked.get_mut())).await?;
        }
    }
    file.write(&unpacked.finish()?).await?;
    file.file.flush().await
}

/// A file that refuses what is more than it may hold, in bytes.
struct Bounded {
    file: tokio::fs::File,
    left: u64,
}

impl Bounded {
    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or(ErrorKind::FileTooLarge)?;
        self.file.write_all(bytes).await
    }
}

async fn stat(Extract(state): Extract<Arc<State>>, headers: HeaderMap, body: Bytes) -> Result<Response, Failure> {
    let OnPath { path, .. } = unary(&headers, &body)?;
    let path = state.resolve(&path);
    Ok(axum::Json(json!({"entry": entry(&path)?})).into_response())
}

async fn list(Extract(state): Extract<Arc<State>>, headers: HeaderMap, body: Bytes) -> Result<Response, Failure> {
    let OnPath { path, depth } = unary(&headers, &body)?;
    let root = state.resolve(&path);
    let entries = tokio::task::spawn_blocking(move || listed(&root, depth.max(1))).await;
    let entries = entries.map_err(|error| Failure::new(Code::Internal, error.to_string()))??;
    Ok(axum::Json(json!({"entries": entries})).into_response())
}

fn listed(root: &Path, depth: usize) -> Result<Vec<Value>, Failure> {
    if !std::fs::metadata(root).map_err(|error| failure(root, &error))?.is_dir() {
        return Err(Failure::new(Code::InvalidArgument, format!("path '{}' is no folder", root.display())));
    }
    let mut entries = Vec::new();
    let mut folders = VecDeque::from([(root.to_owned(), 1)]);
    while let Some((folder, level)) = folders.pop_front() {
        let found = match std::fs::read_dir(&folder) {
            Ok(found) => found,
            Err(error) if level == 1 => return Err(failure(&folder, &error)),
            Err(_) => continue,
        };
        let mut paths: Vec<PathBuf> = found.flatten().map(|found| found.path()).collect();
        paths.retain(|path| !file_name(path).starts_with(UPLOAD_PREFIX));
        paths.sort();
        for path in paths {
            if entries.len() == ENTRIES_MAX {
                let message = format!("'{}' holds over {ENTRIES_MAX} entries: list its folders one by one", root.display());
                return Err(Failure::new(Code::ResourceExhausted, message));
            }
            // It may have gone meanwhile.
            let Ok(entry) = entry(&path) else { continue };
            if level < depth && std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
                folders.push_back((path, level + 1));
            }
            entries.push(entry);
        }
    }
    Ok(entries)
}

async fn make(Extract(state): Extract<Arc<State>>, headers: HeaderMap, body: Bytes) -> Result<Response, Failure> {
    let OnPath { path, .. } = unary(&headers, &body)?;
    let path = state.resolve(&path);
    match std::fs::metadata(&path) {
        Ok(meta) if meta.is_dir() => {
            return Err(Failure::new(Code::AlreadyExists, format!("directory already exists: {}", path.display())));
        }
        Ok(_) => return Err(Failure::new(Code::InvalidArgument, format!("path '{}' is a file", path.display()))),
        Err(_) => {}
    }
    std::fs::create_dir_all(&path).map_err(|error| failure(&path, &error))?;
    Ok(axum::Json(json!({"entry": entry(&path)?})).into_response())
}

async fn rename(Extract(state): Extract<Arc<State>>, headers: HeaderMap, body: Bytes) -> Result<Response, Failure> {
    let Moved { source, destination } = unary(&headers, &body)?;
    let (from, to) = (state.resolve(&source), state.resolve(&destination));
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder).map_err(|error| failure(folder, &error))?;
    }
    std::fs::rename(&from, &to).map_err(|error| failure(&from, &error))?;
    Ok(axum::Json(json!({"entry": entry(&to)?})).into_response())
}

async fn remove(Extract(state): Extract<Arc<State>>, headers: HeaderMap, body: Bytes) -> Result<Response, Failure> {
    let OnPath { path, .. } = unary(&headers, &body)?;
    let path = state.resolve(&path);
    let removed = tokio::task::spawn_blocking(move || {
        let is_folder = std::fs::symlink_metadata(&path).map_err(|error| failure(&path, &error))?.is_dir();
        let removed = if is_folder { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(|error| failure(&path, &error))
    });
    removed.await.map_err(|error| Failure::new(Code::Internal, error.to_string()))??;
    Ok(axum::Json(json!({})).into_response())
}

/// What there is at a path.
pub(super) fn entry(path: &Path) -> Result<Value, Failure> {
    let own = std::fs::symlink_metadata(path).map_err(|error| failure(path, &error))?;
    let is_link = own.is_symlink();
    // A link is told as what it leads to, if it leads anywhere.
    let meta = if is_link { std::fs::metadata(path).unwrap_or(own) } else { own };
    let kind = match meta.file_type() {
        kind if kind.is_dir() => "FILE_TYPE_DIRECTORY",
        kind if kind.is_file() => "FILE_TYPE_FILE",
        kind if kind.is_symlink() => "FILE_TYPE_SYMLINK",
        _ => "FILE_TYPE_UNSPECIFIED",
    };
    let user = |id: u32| if id == 1000 { "user".to_owned() } else { id.to_string() };
    let modified = jiff::Timestamp::new(meta.mtime(), i32::try_from(meta.mtime_nsec()).unwrap_or(0)).unwrap_or_default();
    let mut entry = json!({
        "name": file_name(path),
        "type": kind,
        "path": path,
        "size": meta.len().to_string(),
        "mode": meta.permissions().mode() & 0o7777,
        "permissions": permissions(&meta),
        "owner": user(meta.uid()),
        "group": user(meta.gid()),
        "modifiedTime": modified.to_string(),
    });
    if is_link && let Ok(target) = std::fs::read_link(path) {
        entry["symlinkTarget"] = json!(target);
        entry["isSymlink"] = json!(true);
    }
    Ok(entry)
}

/// As `ls -l` shows them.
fn permissions(meta: &std::fs::Metadata) -> String {
    let kind = match meta.file_type() {
        kind if kind.is_dir() => 'd',
        kind if kind.is_symlink() => 'l',
        kind if kind.is_fifo() => 'p',
        kind if kind.is_socket() => 's',
        _ => '-',
    };
    let mode = meta.permissions().mode();
    let bits = (0..9).rev().map(|bit| if mode >> bit & 1 == 1 { ['x', 'w', 'r'][bit % 3] } else { '-' });
    std::iter::once(kind).chain(bits).collect()
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_else(|| "/".to_owned())
}

pub(super) fn failure(path: &Path, error: &std::io::Error) -> Failure {
    let code = match error.kind() {
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Code::PermissionDenied,
        ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty => Code::AlreadyExists,
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => Code::ResourceExhausted,
        ErrorKind::NotADirectory | ErrorKind::IsADirectory | ErrorKind::InvalidInput | ErrorKind::InvalidFilename => {
            Code::InvalidArgument
        }
        _ => Code::Internal,
    };
    Failure::new(code, format!("path '{}': {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_holds_what_it_may_and_no_byte_more_packed_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let zeros = vec![0u8; 8 << 20];
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        packed.write_all(&zeros).unwrap();
        let packed = packed.finish().unwrap();
        assert!(packed.len() < 10_000);
        for (number, (bytes, gzip)) in [(&zeros, false), (&packed, true)].into_iter().enumerate() {
            let write = |most: u64| {
                let pieces = futures::stream::iter(
                    bytes.chunks(1 << 20).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect::<Vec<_>>(),
                );
                let path = folder.path().join(format!("{number}-{most}"));
                async move { fill(&path, pieces, gzip, most).await.map(|()| std::fs::metadata(&path).unwrap().len()) }
            };
            assert_eq!(write(8 << 20).await.unwrap(), 8 << 20);
            let refused = write((8 << 20) - 1).await.unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::FileTooLarge);
        }
    }
}
