"""What every codec of texts keeps: texts come back, whatever ids decode, and counts are exact."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from carrara.codecs.bpe import Bpe
from carrara.codecs.bytes import Bytes
from carrara.codecs.characters import UNKNOWN, Characters
from carrara.codecs.layouts import Layout
from carrara.codecs.pixels import Pixels
from carrara.codecs.texts import PLACEHOLDER, Sizes, TextCodec
from carrara.errors import DamagedFile, InputError, MissingExtra
from carrara.recipe import check

LENGTH = 400
TRAINING = [
    "the quick brown fox, the lazy dog",
    "der schnelle braune Fuchs; größer als groß",
    "敏捷的棕色狐狸 🦊",
] * 3


def codecs(length: int = LENGTH, layout: Layout = "packed") -> Iterator[TextCodec]:
    yield Bytes(length, layout)
    yield Bpe(length, layout, vocab=300).fit(TRAINING)
    yield Characters(length, layout).fit(TRAINING)


PACKED = {codec.kind: codec for codec in codecs()}
ROWS = {codec.kind: codec for codec in codecs(layout="rows")}
every = pytest.mark.parametrize("codec", [*PACKED.values(), *ROWS.values()], ids=lambda c: f"{c.kind}-{c.layout}")
known = "".join(sorted(set("".join(TRAINING))))


@every
@settings(max_examples=100, deadline=None)
@given(texts=st.lists(st.text(max_size=100), max_size=4), seen=st.lists(st.text(known, max_size=99), max_size=4))
def test_texts_come_back(codec: TextCodec, texts: list[str], seen: list[str]) -> None:
    given = seen if codec.kind == "characters" else texts
    ids = codec.encode(given)
    assert ids.dtype == torch.int64 and ids.shape == (len(given), *codec.shape(()))
    assert codec.decode(ids) == given
    assert codec.sizes(ids.numpy()) == Sizes(sum(map(len, given)), sum(len(text.encode()) for text in given))


@every
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_ids_decode(codec: TextCodec, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.lists(st.integers(-2, codec.vocab + 2), min_size=7, max_size=7), min_size=1))
    ids = torch.tensor(rows)
    said = codec.decode(ids)
    assert len(said) == len(rows) and all(text.encode() for text in said if text)
    # What cannot be said is counted as it is shown, but for masks and broken bytes, which stand for nothing.
    whole = ids.clamp(0, codec.end - 1)
    if codec.kind == "characters":
        assert codec.sizes(whole.numpy()).characters == sum(map(len, codec.decode(whole)))


@every
def test_a_mask_is_shown_and_an_end_ends(codec: TextCodec) -> None:
    ids = codec.encode(["the fox", "the"])
    ids[0, 1] = codec.vocab
    assert codec.decode(ids) == [f"{codec.pieces[ids[0, 0]].decode()}{PLACEHOLDER}{tail(codec, ids)}", "the"]
    ids = codec.encode(["the"])
    after = len(codec.tokens("the")) + 1
    ids[0, after : 2 * after - 1] = ids[0, : after - 1].clone()
    assert codec.decode(ids) == ["the\nthe" if codec.layout == "packed" else "the"]


def tail(codec: TextCodec, ids: torch.Tensor) -> str:
    rest = codec.encode(["the fox"])
    return b"".join(codec.pieces[token] for token in rest[0].tolist()[2:] if token < codec.end).decode()


@every
def test_what_is_no_token_is_shown_as_a_mask(codec: TextCodec) -> None:
    for token in (-1, codec.vocab, 10**9):
        assert codec.decode(torch.tensor([[token, token]])) == [PLACEHOLDER * 2]


def test_broken_utf8_is_replaced() -> None:
    ids = torch.tensor([[0xE4, 0xB8, ord("a"), 0xE4, 257, 256, 256]])
    assert Bytes(7).decode(ids) == ["�a�▁"]


def named(value: object) -> str:
    """A test's id: what kind of codec it is of, and anything else as it is; equal in every process."""
    return type(value).__name__.lower() if hasattr(value, "encode") and not isinstance(value, str) else str(value)


@pytest.mark.parametrize("codec", PACKED.values(), ids=named)
@pytest.mark.parametrize("length", [1, 3, 8])
def test_packed_windows_are_one_run_of_texts_and_ends(codec: TextCodec, length: int) -> None:
    codec = next(c for c in codecs(length) if c.kind == codec.kind)
    windows = np.concatenate(list(codec.windows(TRAINING)))
    run = np.concatenate([[*codec.tokens(text), codec.end] for text in TRAINING])
    whole = len(run) - len(run) % length
    assert windows.shape == (whole // length, length) and np.array_equal(windows.ravel(), run[:whole])
    said = b"".join(codec.pieces[token] for token in run[:whole] if token < codec.end)
    assert codec.sizes(windows) == Sizes(sum((byte & 0xC0) != 0x80 for byte in said), len(said))
    if length == 1:
        assert codec.sizes(windows).characters == sum(map(len, TRAINING))


def test_windows_are_the_same_however_many_are_cut_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    layouts = [Bytes(5), Bytes(50, "rows")]
    whole = [np.concatenate(list(codec.windows(TRAINING))) for codec in layouts]
    monkeypatch.setattr("carrara.codecs.layouts._WINDOWS_AT_ONCE", 2)
    for codec, windows in zip(layouts, whole, strict=True):
        assert len(parts := list(codec.windows(TRAINING))) > 2
        assert np.array_equal(np.concatenate(parts), windows)


def test_rows_are_a_text_each_and_long_ones_are_cut_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    codec = Bytes(4, "rows")
    windows = np.concatenate(list(codec.windows(["abcdef", "", "ab"])))
    assert codec.decode(torch.from_numpy(windows)) == ["abcd", "", "ab"]
    assert "1 of 3 texts are longer than a window of 4 tokens" in caplog.text


@pytest.mark.parametrize("codec", PACKED.values(), ids=named)
def test_what_is_no_list_of_short_texts_is_refused(codec: TextCodec) -> None:
    with pytest.raises(InputError, match=f"codec {codec.kind} encodes a list of texts, and was given one text"):
        codec.encode("text")
    with pytest.raises(InputError, match=r"was given a tensor of shape \(2, 1, 3, 3\); give texts, or choose"):
        codec.encode(torch.zeros(2, 1, 3, 3))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"text number 1 comes to \d+ tokens, and a window holds 400"):
        codec.encode(["the", "xq " * 401 if codec.kind == "bpe" else "the " * 101])
    with pytest.raises(InputError, match=r"half a surrogate pair, U\+D800 at position 1"):
        codec.encode(["x\ud800"])


def test_pixels_refuse_texts() -> None:
    with pytest.raises(InputError, match="the codec pixels encodes pictures, and was given texts"):
        Pixels().encode(["text"])  # type: ignore[arg-type]


def test_an_unknown_character_is_refused_in_a_prompt_and_replaced_in_data() -> None:
    codec = Characters(8).fit(["abc", "bcd"])
    assert codec.known == "bc" and codec.vocab == 4
    with pytest.raises(InputError, match=r"the character 'é' \(U\+00E9\) at position 1 of the text was not among"):
        codec.encode(["bé"])
    (tokens,) = codec.tokens_of(["bécé"])
    assert codec.decode(torch.from_numpy(tokens)[None]) == [f"b{UNKNOWN}c{UNKNOWN}"]
    assert codec.sizes(tokens) == Sizes(4, 8)
    assert Characters(8, least=1).fit(["abc", "bcd"]).known == "abcd"


def test_the_characters_codec_needs_characters() -> None:
    with pytest.raises(InputError, match="no character is seen 2 times"):
        Characters().fit(["abc"])
    with pytest.raises(InputError, match=r"codec\.least is 0"):
        Characters(least=0)


@pytest.mark.parametrize("codec", [Bpe(), Characters()], ids=named)
def test_a_codec_that_has_met_no_texts_says_so(codec: TextCodec) -> None:
    for use in (lambda: codec.vocab, lambda: codec.encode(["a"]), lambda: list(codec.windows(["a"]))):
        with pytest.raises(InputError, match=f"the codec {codec.kind} is made from texts, and has none yet: fit it"):
            use()


def test_frequent_pairs_become_tokens_and_the_vocabulary_stops_where_asked() -> None:
    codec = PACKED["bpe"]
    assert codec.vocab == 300 and len(codec.tokens("the quick")) < 5
    assert Bpe(vocab=10_000).fit(["aa"] * 3).vocab == 258
    with pytest.raises(InputError, match=r"codec\.vocab is 256; the bytes and the end alone are 257"):
        Bpe(vocab=256)


def test_what_looks_like_a_special_token_is_text() -> None:
    text = "<end> <|endoftext|> [MASK] ▁ <s>"
    assert PACKED["bpe"].decode(PACKED["bpe"].encode([text])) == [text]


def test_byte_pairs_are_made_alike_twice() -> None:
    one, two = (Bpe(vocab=400).fit(iter(TRAINING * 5)) for _ in range(2))
    assert one.state() == two.state() and one.identity() == two.identity()


@every
def test_a_codec_comes_back_from_a_folder(codec: TextCodec, tmp_path: Path) -> None:
    codec.save(tmp_path)
    fresh = {"bytes": Bytes(LENGTH, codec.layout), "bpe": Bpe(LENGTH, codec.layout, 300)}
    back = fresh.get(codec.kind, Characters(LENGTH, codec.layout)).restore(tmp_path)
    assert back.identity() == codec.identity() and back.pieces == codec.pieces
    assert torch.equal(back.encode(TRAINING), codec.encode(TRAINING))


@pytest.mark.parametrize("codec", [PACKED["bpe"], PACKED["characters"]], ids=named)
@pytest.mark.parametrize("content", [None, "", "{}", '{"characters": 3}', "3"])
def test_a_damaged_state_is_named(codec: TextCodec, tmp_path: Path, content: str | None) -> None:
    codec.save(tmp_path)
    (file,) = tmp_path.iterdir()
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    with pytest.raises(DamagedFile, match=f"{file.name}"):
        codec.restore(tmp_path)


def test_identities_differ_with_options_and_state() -> None:
    same = [Bytes(), Bytes(256, "packed")]
    others = [
        Bytes(255),
        Bytes(256, "rows"),
        *PACKED.values(),
        *ROWS.values(),
        Characters(LENGTH, least=1).fit(TRAINING),
    ]
    assert len({codec.identity() for codec in same}) == 1
    assert len({codec.identity() for codec in (same[0], *others)}) == len(others) + 1


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", None)
    with pytest.raises(MissingExtra, match=r"the codec bpe needs the package tokenizers.*'carrara\[text\]'"):
        Bpe().fit(TRAINING)


def test_recipes_know_the_codecs() -> None:
    recipe = check({"data": {"kind": "verse"}, "codec": {"kind": "bpe", "vocab": 512, "layout": "rows"}})
    assert recipe.sections["codec"] == {"kind": "bpe", "length": 128, "layout": "rows", "vocab": 512}
    assert recipe.build("codec").asked == 512
    with pytest.raises(InputError, match=r"codec\.layout is 'lines'"):
        check({"data": {"kind": "verse"}, "codec": {"kind": "bytes", "layout": "lines"}})
    with pytest.raises(InputError, match="a window of 0 tokens holds nothing"):
        Bytes(0)
    with pytest.raises(InputError, match=r"codec\.layout is 'lines'; it is packed or rows"):
        Bytes(layout="lines")  # type: ignore[arg-type]


def test_parts_come_together() -> None:
    assert Bytes().together([["a"], ["b", "c"]]) == ["a", "b", "c"]
    halves = torch.arange(8, dtype=torch.uint8).reshape(2, 1, 2, 2).split(1)
    assert torch.equal(Pixels().together(halves), torch.cat(halves))
