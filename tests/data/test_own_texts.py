"""A user's own texts."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from carrara.data import Dataset, load
from carrara.errors import DataError, InputError

POEM = "\n\n".join(f"the {number}. stanza\nhas two lines" for number in range(400))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    (tmp_path / "mine" / "sub").mkdir(parents=True)
    (tmp_path / "mine" / "a.txt").write_text(POEM)
    (tmp_path / "mine" / "sub" / "b.TXT").write_text(POEM.replace("stanza", "verse"))
    (tmp_path / "mine" / "notes.md").write_text("not read")
    return tmp_path / "mine"


def everything(dataset: Dataset) -> set[str]:
    return {*dataset.train.texts, *dataset.heldout.texts}


def test_paragraphs_lines_and_files(mine: Path) -> None:
    found = load("texts", path=mine)
    assert found.name == "mine" and len(found.train) + len(found.heldout) == 800
    assert "the 7. verse\nhas two lines" in everything(found)
    assert "has two lines" in everything(load("texts", path=mine / "a.txt", unit="line"))
    assert everything(load("texts", path=mine, unit="file")) == {POEM, POEM.replace("stanza", "verse")}


def test_neighbours_lie_on_one_side_and_stay_there_when_files_are_added(mine: Path) -> None:
    before = load("texts", path=mine, heldout=0.3)
    numbers = sorted(int(text.split()[1][:-1]) for text in before.heldout.texts if "stanza" in text)
    gaps = sum(two - one > 1 for one, two in itertools.pairwise(numbers))
    assert gaps < len(numbers) / 20
    (mine / "0.txt").write_text(POEM.replace("stanza", "line"))
    after = load("texts", path=mine, heldout=0.3)
    assert set(before.heldout.texts) <= set(after.heldout.texts)
    assert before.fingerprint != after.fingerprint


def test_a_short_text_is_taken_apart_so_that_something_is_held_out(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("one\n\n \n\ntwo\r\n\r\n\ufeffthree\n")
    found = load("texts", path=tmp_path / "short.txt")
    assert everything(found) == {"one", "two", "\ufeffthree"} and len(found.heldout) == 1


def test_objects_with_a_key_and_a_source(tmp_path: Path) -> None:
    rows = [{"said": f"word {k}", "asked": f"{k}?", "other": k} for k in range(50)]
    file = tmp_path / "pairs.jsonl"
    file.write_text("\ufeff" + "\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    found = load("texts", path=file, key="said", source="asked", heldout=0.2)
    for split in (found.train, found.heldout):
        assert split.sources is not None
        assert [f"word {s[:-1]}" for s in split.sources] == list(split.texts)
    assert len(everything(found)) == 50 and len(found.heldout) > 2
    assert not load("texts", path=file, key="said").paired


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"good\ngood \xe4 bad\n", r"a\.txt is not UTF-8 at line 2, byte 10 of the file \(0xe4"),
        ("a.txt", "\ufeffgoöd\n".encode() + b"\xff", r"line 2, byte 9 of the file \(0xff"),
        ("a.txt", b" \n\n", "holds too little text"),
        ("a.txt", b"one paragraph", "holds too little text: two texts are the least"),
        ("a.jsonl", b'{"text": "a"}\n{"text": 3}\n', r"a\.jsonl line 2 has no text under 'text'; its keys are text"),
        ("a.jsonl", b'{"text": "a"}\n{"body": "b"}\n', r"line 2 has no text under 'text'; its keys are body"),
        ("a.jsonl", b'{"text": "a"}\n{"text"\n', r"a\.jsonl line 2 is no JSON"),
        ("a.jsonl", b"[1]\n", r"line 1 is no JSON object"),
        ("a.jsonl", b'{"text": "\\ud800"}\n', r"line 1 holds half a surrogate pair"),
        ("a.pdf", b"", r"a\.pdf ends in \.pdf; files of texts end in \.txt or \.jsonl"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        load("texts", path=tmp_path / name)


def test_an_unreadable_file_and_absent_ones_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="holds no text: no file in it ends in"):
        load("texts", path=tmp_path)
    with pytest.raises(DataError, match="nowhere does not exist"):
        load("texts", path=tmp_path / "nowhere")
    (tmp_path / "a.txt").write_text("x")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataError, match=r"a\.txt cannot be read: Permission denied"):
        load("texts", path=tmp_path)


def test_options_out_of_range_are_refused(mine: Path) -> None:
    with pytest.raises(InputError, match="unit: 'word' is not allowed: give paragraph, line or file"):
        load("texts", path=mine, unit="word")
    with pytest.raises(InputError, match="heldout: 1 is no share of the texts"):
        load("texts", path=mine, heldout=1)
    with pytest.raises(InputError, match=r"source: 'q' is a key of \.jsonl files"):
        load("texts", path=mine, source="q")
