"""What `data` and `document` share: how they are asked, how they answer, and which files they open."""

import json
import os
import shutil
import stat
import tempfile

ROOT = "/workspace"
# Beside everything, where files are made before they take their names.
MAKING = "/workspace/.errand/making"


class Problem(Exception):
    """Something that whoever asked can mend: a stable code, and what to do."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code


def main(work):
    """Does what the request asks for; the answer is one JSON object on what was standard output."""
    answer = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")
    # Whatever a library prints is no answer.
    os.dup2(2, 1)
    with open("/run/errand/request.json", encoding="utf-8") as file:
        request = json.load(file)
    os.chdir(ROOT)
    shutil.rmtree(MAKING, ignore_errors=True)
    try:
        reply = {"text": work(request)}
    except Problem as problem:
        reply = {"error": problem.code, "text": str(problem)}
    except MemoryError:
        reply = {"error": "out_of_memory", "text": "the memory of the box was used up: work on the data in parts"}
    except OSError as error:
        reply = {"error": "over_quota" if error.errno in (28, 122) else "office_failed", "text": cut(str(error), 1000)}
    shutil.rmtree(MAKING, ignore_errors=True)
    reply["text"] = cut(reply["text"], request["bytes_max"])
    json.dump(reply, answer)
    answer.flush()


def cut(text, most):
    """The text in no more than so many bytes."""
    raw = text.encode("utf-8", "replace")
    if len(raw) <= most:
        return raw.decode()
    end = "\n[… the rest is left out …]"
    return raw[: max(0, most - len(end.encode()))].decode("utf-8", "ignore") + end


def count(number, noun):
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size(path):
    """How long a file is, for people."""
    length = float(os.stat(path).st_size)
    for unit in ("B", "kB", "MB"):
        if length < 1000:
            return f"{length:.0f} {unit}" if unit == "B" else f"{length:.1f} {unit}"
        length /= 1000
    return f"{length:.1f} GB"


def beneath(path):
    """The path without the workspace before it, if it stays in the workspace and leads over no link."""
    parts = [part for part in path.removeprefix(ROOT + "/").split("/") if part not in ("", ".")]
    if not parts or parts[0] == ".errand" or path.startswith("/") and not path.startswith(ROOT + "/") or ".." in parts or "\0" in path:
        raise Problem("sandbox_path_refused", f"{path!r} is no path of a file in the workspace: give one such as reports/may.csv")
    at = ROOT
    for part in parts:
        at = os.path.join(at, part)
        try:
            if stat.S_ISLNK(os.lstat(at).st_mode):
                raise Problem("sandbox_path_refused", f"{path!r} leads over a link, which is not followed: name the file itself")
        except FileNotFoundError:
            break
        except OSError as error:
            raise Problem("sandbox_path_refused", f"{path!r} cannot be looked at: {error.strerror}") from None
    return "/".join(parts)


def readable(path, most, what="file"):
    """The full path of a plain file that is no longer than `most` bytes."""
    full = os.path.join(ROOT, beneath(path))
    try:
        found = os.lstat(full)
    except FileNotFoundError:
        raise Problem("file_not_found", f"the workspace has no file {path!r}; there are {listing()}") from None
    if stat.S_ISDIR(found.st_mode):
        raise Problem("is_a_folder", f"{path!r} is a folder: name a file in it")
    if not stat.S_ISREG(found.st_mode):
        raise Problem("file_not_plain", f"{path!r} is no plain file")
    if found.st_size > most:
        text = f"{path!r} has {found.st_size:,} bytes, at most {most:,} are read as a {what}: make it smaller first"
        raise Problem("file_too_large", text)
    return full


def listing():
    """Files at the top of the workspace, for whoever has named one that is not there."""
    names = sorted(entry.name for entry in os.scandir(ROOT) if not entry.name.startswith("."))
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return (", ".join(names[:20]) + more) if names else "none at its top"


class Writing:
    """A file that takes its name once it is whole: `with Writing(path) as place:` gives where to write it."""

    def __init__(self, path):
        self.path = beneath(path)
        self.full = os.path.join(ROOT, self.path)
        if os.path.isdir(self.full):
            raise Problem("is_a_folder", f"{path!r} is a folder: name a file in it")

    def __enter__(self):
        folder = os.path.dirname(self.full)
        try:
            os.makedirs(folder, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise Problem("not_a_folder", f"{self.path!r} cannot be written: a part of its path is a file") from None
        os.makedirs(MAKING, exist_ok=True)
        handle, self.place = tempfile.mkstemp(suffix=os.path.splitext(self.full)[1], dir=MAKING)
        os.close(handle)
        return self.place

    def __exit__(self, kind, value, trace):
        if kind is None:
            os.chmod(self.place, 0o644)
            os.replace(self.place, self.full)
        else:
            try:
                os.unlink(self.place)
            except FileNotFoundError:
                pass
        return False
