"""SHA-256 of what a log speaks about: bytes, files, sets of files, samples.

A set of files is digested as the text that ``sha256sum`` prints for it, names sorted, so that an assessor can repeat it with
nothing but coreutils (``sha256sum a b | sha256sum``). A set of one file has that file's own digest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

IGNORED = frozenset({"registered_model_meta", "__pycache__"})
"""Names that MLflow or Python add to a downloaded model folder; they are not part of the model."""


@dataclass(frozen=True, slots=True, order=True)
class FileDigest:
    """One file of a set: POSIX path relative to the set's folder, size in bytes, SHA-256 in hex."""

    path: str
    size: int
    sha256: str


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of ``data`` in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """SHA-256 of a file in lower-case hex, read as a stream.

    Raises:
        OSError: If the file cannot be read.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def file_digest(path: Path, name: str = "") -> FileDigest:
    """Digest of one file, listed under ``name`` (its own name if none is given)."""
    return FileDigest(name or path.name, path.stat().st_size, sha256_file(path))


def manifest(folder: Path, skip: Iterable[str] = ()) -> tuple[FileDigest, ...]:
    """Digests of all files below ``folder``, sorted by path.

    Args:
        folder: The folder to walk; symbolic links to files are followed, as MLflow follows them.
        skip: Relative POSIX paths to leave out; one that ends in ``/`` leaves out a whole folder.
    """
    left_out = set(skip)
    folders = tuple(name for name in left_out if name.endswith("/"))
    names = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    listed = (name for name in names if name.as_posix() not in left_out and not name.as_posix().startswith(folders))
    kept = (name for name in listed if not IGNORED.intersection(name.parts))
    return tuple(sorted(file_digest(folder / name, name.as_posix()) for name in kept))


def set_digest(files: Iterable[FileDigest]) -> str:
    """One SHA-256 for a set of files: that of the file itself, or of the set's ``sha256sum`` listing.

    Raises:
        ValueError: If the set is empty, because nothing was digested then.
    """
    listing = sorted(files)
    if not listing:
        raise ValueError("no file to digest")
    if len(listing) == 1:
        return listing[0].sha256
    return sha256_bytes("".join(map(_line, listing)).encode("utf-8", "backslashreplace"))


def _line(file: FileDigest) -> str:
    """A line of ``sha256sum``, which escapes a name that would break its line, and says so in front."""
    name = file.path.replace("\\", r"\\").replace("\n", r"\n").replace("\r", r"\r")
    return f"{'' if name == file.path else chr(92)}{file.sha256}  {name}\n"


def differences(recorded: Iterable[FileDigest], found: Iterable[FileDigest]) -> tuple[str, ...]:
    """What changed between two listings, one line a file; empty if nothing did."""
    before, after = ({file.path: file for file in files} for files in (recorded, found))
    changed = [
        f"{path}: sha256 {after[path].sha256[:12]}…, recorded {before[path].sha256[:12]}…"
        for path in sorted(before.keys() & after.keys())
        if before[path].sha256 != after[path].sha256
    ]
    missing = [f"{path}: missing" for path in sorted(before.keys() - after.keys())]
    added = [f"{path}: not in the record" for path in sorted(after.keys() - before.keys())]
    return tuple(changed + missing + added)
