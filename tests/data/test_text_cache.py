from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from carrara.data import text_cache
from carrara.data.cache import About
from carrara.data.text_cache import TextStaging, cached_texts
from carrara.errors import DataError

ABOUT = About("toy", {"kind": "toy"}, ("a", "b"), "CC0", "here")
FILES = [
    f"{side}{part}.npy"
    for side in ("train", "heldout")
    for part in ("", "-ends", "-labels", "-sources", "-source-ends")
]


def build(staging: TextStaging) -> None:
    staging.add(False, "one ☕", 0, "1")
    staging.add(True, "two", 1, "2")
    staging.add(False, "three", 1, "")
    staging.finish(ABOUT, ["a note"])


def never(staging: TextStaging) -> None:
    raise AssertionError("a whole dataset was built again")


def test_what_was_added_comes_back_memory_mapped() -> None:
    found = cached_texts("toy", build, paired=True)
    assert isinstance(found.train.texts.data, np.memmap)
    assert list(found.train.texts) == ["one ☕", "three"] and list(found.heldout.texts) == ["two"]
    assert found.train.sources is not None and list(found.train.sources) == ["1", ""]
    assert found.train.labels.tolist() == [0, 1] and found.notes == ("a note",)
    assert cached_texts("toy", never, paired=True).summary() == found.summary()


def test_texts_without_sources_have_none() -> None:
    found = cached_texts("toy", build)
    assert found.train.sources is None and not found.paired


def test_texts_go_to_the_disk_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_cache, "_FLUSH_BYTES", 7)
    assert list(cached_texts("toy", build).train.texts) == ["one ☕", "three"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([*FILES, "meta.json"]), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_any_damaged_byte_is_found_or_harmless(cache: Path, name: str, where: float, change: int) -> None:
    before = cached_texts("toy", build, paired=True).summary()
    file = cache / "datasets" / "toy" / name
    raw = bytearray(file.read_bytes())
    raw[int(where * len(raw))] ^= change
    file.write_bytes(raw)
    after = cached_texts("toy", build, paired=True)
    assert after.summary() == before and list(after.train.texts) == ["one ☕", "three"]


def test_a_build_that_fails_leaves_nothing(cache: Path) -> None:
    def fail(staging: TextStaging) -> None:
        staging.add(False, "one")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_texts("toy", fail)
    assert list((cache / "datasets").iterdir()) == []


def test_an_empty_split_is_refused() -> None:
    def lopsided(staging: TextStaging) -> None:
        staging.add(False, "one")
        staging.finish(ABOUT)

    with pytest.raises(DataError, match="no heldout text is left in the dataset toy: give more texts"):
        cached_texts("toy", lopsided)
