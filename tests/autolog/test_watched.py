"""Samples that are watched while a tool reads them."""

from __future__ import annotations

import copy

import numpy as np

from mlflow_aifsm.autologging.watched import HELD_BYTES, Reader, Watched
from mlflow_aifsm.samples import Samples
from tests.autolog.recorded import Reader as Given
from tests.autolog.recorded import fed, images
from tests.operations.quantized_models import small


def watched(*, hold: bool = False) -> Watched:
    return Watched([], ("image",), {"image": 4}, hold=hold)


def test_a_bad_sample_is_noted_and_counted() -> None:
    one = watched()
    bad = [*images(4), np.full((1, 1, 8, 8), np.nan, np.float32)]
    assert len(list(one.watch(fed(image) for image in bad))) == 5
    assert one.notes == ("Calibration read bad values: tensor 'image' is not finite at calibration sample 4.",)
    assert one.seen.consumed == 5


def test_of_several_passes_the_longest_counts() -> None:
    one, items = watched(), [fed(image) for image in images(6)]
    for count in (2, 6, 1):
        list(one.watch(items[:count]))
    assert (one.seen.consumed, one.samples.digest) == (6, Samples.of(small().images[:6]).digest)


def test_batches_are_told_apart_from_samples() -> None:
    one = watched()
    list(one.watch([fed(small().images[:4]), fed(small().images[4:8])]))
    assert (one.batch, one.seen.consumed, one.samples.digest) == (4, 8, Samples.of(small().images[:8]).digest)


def test_what_cannot_be_read_is_told_and_passed_on() -> None:
    one, items = watched(), [{"other": np.zeros(3)}, object()]
    assert list(one.watch(items)) == items
    assert "data do not name the model's inputs" in one.problem


def test_held_samples_can_be_read_again_though_the_reader_used_one_buffer() -> None:
    one, buffer = watched(hold=True), np.zeros((1, 1, 8, 8), np.float32)
    see = one.begin()
    for image in images(3):
        buffer[:] = image
        see(fed(buffer))
    read = [batch["image"] for batch, _ in one.samples.batches(1, ("image",), {"image": 4})]
    assert np.array_equal(np.concatenate(read), small().images[:3])


def test_too_many_samples_are_not_held() -> None:
    one, large = Watched([], ("x",), {"x": 2}, hold=True), np.zeros((1, HELD_BYTES // 4 + 1), np.float32)
    list(one.watch([{"x": large[:, :8]}, {"x": large}]))
    assert one.seen.consumed == 2
    assert not one.held


def test_a_reader_keeps_what_it_can_do_and_can_be_copied() -> None:
    given, one = Given(4), watched()
    reader = Reader(given, one)
    assert sum(1 for _ in reader) == given.read == 4
    assert reader.read == 4
    assert copy.copy(reader).get_next() is None
    assert one.seen.consumed == 4
