"""Digests are those that coreutils prints, so that an assessor can repeat them."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_aifsm.digests import FileDigest, differences, file_digest, manifest, set_digest, sha256_bytes, sha256_file

NAMES = [
    "model.onnx",
    "model.onnx.data",
    "Z.bin",
    "sub/ä 名.bin",
    "sub/deeper/a'b\"c",
    "-dash",
    r"back\slash",
    "two\nlines",
    "cr\rhere",
    " x",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(NAMES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(bytes([number]) * number)
    return tmp_path


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs coreutils")
def test_the_digest_of_a_set_is_that_of_what_sha256sum_prints_for_its_sorted_names(folder: Path) -> None:
    names = sorted(name for name in NAMES)
    listed = subprocess.run(["sha256sum", "--", *names], cwd=folder, check=True, capture_output=True).stdout
    assert listed.count(b"\n") == len(NAMES)
    total = subprocess.run(["sha256sum"], input=listed, check=True, capture_output=True).stdout.split()[0].decode()
    assert set_digest(manifest(folder)) == total


def test_the_digest_of_one_file_is_its_own(folder: Path) -> None:
    content = (folder / "model.onnx.data").read_bytes()
    digest = file_digest(folder / "model.onnx.data")
    assert digest == FileDigest("model.onnx.data", len(content), hashlib.sha256(content).hexdigest())
    assert set_digest([digest]) == digest.sha256 == sha256_file(folder / "model.onnx.data") == sha256_bytes(content)


def test_an_empty_set_has_no_digest() -> None:
    with pytest.raises(ValueError, match="no file"):
        set_digest([])


@given(
    st.lists(st.builds(FileDigest, st.text(min_size=1), st.integers(0), st.just("0" * 64)), min_size=2, unique=True),
    st.randoms(),
)
def test_the_digest_of_a_set_does_not_depend_on_the_order_of_listing(files: list[FileDigest], random: object) -> None:
    shuffled = list(files)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert set_digest(shuffled) == set_digest(files)
    renamed = [FileDigest(files[0].path + "x", files[0].size, files[0].sha256), *files[1:]]
    assert set_digest(renamed) != set_digest(files)


def test_a_name_that_holds_a_line_break_is_not_taken_for_two_files() -> None:
    one, two = "1" * 64, "2" * 64
    honest = [FileDigest("a", 1, one), FileDigest("b", 1, two), FileDigest("c", 1, two)]
    forged = [FileDigest(f"a\n{two}  b", 1, one), FileDigest("c", 1, two)]
    assert set_digest(honest) != set_digest(forged)


def test_a_manifest_lists_every_file_but_what_mlflow_and_python_add(folder: Path) -> None:
    before = manifest(folder)
    assert [file.path for file in before] == sorted(NAMES)
    (folder / "registered_model_meta").write_text("model_name: digits")
    for added in (folder / "__pycache__", folder / "sub" / "__pycache__"):
        added.mkdir()
        (added / "code.pyc").write_bytes(b"x")
    assert manifest(folder) == before
    assert [file.path for file in manifest(folder, ["model.onnx", "sub/ä 名.bin"])] == sorted(
        {*NAMES} - {"model.onnx", "sub/ä 名.bin"}
    )


def test_a_file_is_skipped_by_its_path_and_not_by_its_name(tmp_path: Path) -> None:
    for name in ("record.json", "sub/record.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}")
    assert [file.path for file in manifest(tmp_path, ["record.json"])] == ["sub/record.json"]


def test_differences_name_what_changed_what_is_missing_and_what_was_added() -> None:
    recorded = [FileDigest("a", 1, "1" * 64), FileDigest("b", 1, "2" * 64), FileDigest("c", 1, "3" * 64)]
    found = [FileDigest("a", 1, "1" * 64), FileDigest("b", 1, "4" * 64), FileDigest("d", 1, "3" * 64)]
    assert differences(recorded, found) == (
        "b: sha256 444444444444…, recorded 222222222222…",
        "c: missing",
        "d: not in the record",
    )
    assert differences(recorded, reversed(recorded)) == ()
