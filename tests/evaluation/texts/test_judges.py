"""Judges: the trigram model asked directly, and a model of our own against its own likelihood."""

import math
from pathlib import Path

import pytest
from small_texts import causal, model

from carrara.errors import InputError, MissingExtra
from carrara.evaluation.texts import judges
from carrara.evaluation.texts.figures import Looked
from carrara.evaluation.texts.judges import Reader, Trigrams, Verdict, judge_of
from carrara.token_likelihood import token_log_likelihood, token_nats


@pytest.fixture(scope="module")
def trigrams() -> Trigrams:
    pytest.importorskip("pocketsphinx", reason="needs the extra `text`")
    return Trigrams()


def nats(judge: Trigrams, *words: str) -> float:
    """−log p of the first word after the others, the nearest first."""
    return -judge._model.prob(list(words)) * math.log(1.0001)


def test_each_word_is_read_after_the_two_before_it(trigrams: Trigrams) -> None:
    by_hand = nats(trigrams, "the") + nats(trigrams, "king", "the") + nats(trigrams, "said", "king", "the")
    found = trigrams.read(["The king said"])
    assert found.nats == pytest.approx(by_hand) and (found.known, found.unknown) == (3, 0)
    assert found.perplexity == pytest.approx(math.exp(by_hand / 3))
    # Texts are read each by itself.
    apart = trigrams.read(["the king", "said"])
    assert apart.nats == pytest.approx(nats(trigrams, "the") + nats(trigrams, "king", "the") + nats(trigrams, "said"))


def test_a_sentence_begins_after_a_full_stop(trigrams: Trigrams) -> None:
    found = trigrams.read(["The king. He said"])
    by_hand = nats(trigrams, "the") + nats(trigrams, "king", "the")
    by_hand += nats(trigrams, "he", "<s>") + nats(trigrams, "said", "he", "<s>")
    assert found.nats == pytest.approx(by_hand)


def test_words_it_does_not_know_are_counted_apart(trigrams: Trigrams) -> None:
    found = trigrams.read(["the qzzx king"])
    assert (found.known, found.unknown) == (2, 1) and found.unknown_share == pytest.approx(1 / 3)
    assert found.nats == pytest.approx(nats(trigrams, "the") + nats(trigrams, "king", "qzzx", "the"))
    nothing = trigrams.read(["qzzx", ""])
    assert math.isnan(nothing.perplexity) and nothing.unknown_share == 1
    assert math.isnan(Verdict(0.0, 0, 0).unknown_share)


def test_english_is_likelier_than_its_words_in_disorder(trigrams: Trigrams) -> None:
    ordered = trigrams.read(["and they came to the house of the king"]).perplexity
    assert ordered < trigrams.read(["the came house they king of to and the"]).perplexity / 3


def test_perplexity_alone_would_choose_the_text_that_says_least(trigrams: Trigrams) -> None:
    """What docs/measure.md tells."""
    said = "and the king said to the people of the city, go to the house of the man who came with the light"
    real, loop = Looked([said], trigrams), Looked(["one of the " * 40] * 3, trigrams)
    real_, loop_ = (side.figures(["perplexity", "entropy", "repeated"]) for side in (real, loop))
    assert round(loop_["perplexity"] or 0) == 29 and loop_["entropy"] == pytest.approx(1.585, abs=1e-3)
    assert (real_["perplexity"] or 0) > 29 and (real_["entropy"] or 0) > 3
    assert loop_["repeated"] == pytest.approx(114 / 117) and real_["repeated"] == 0


def test_a_judge_that_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judges, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"carrara\[text\]"):
        judge_of("pocketsphinx")


def test_a_model_of_our_own_reads_tokens() -> None:
    mine = causal(length=8)
    ids = mine.codec.encode(["eight by", "and"])
    exact = -float(token_log_likelihood(mine.denoiser, ids[:1]).sum())
    first = token_nats(mine.denoiser, ids)[1, :3].sum()
    found = Reader(mine, "mine").read(["eight byand"])
    assert (found.known, found.unknown) == (11, 0)
    assert found.nats == pytest.approx(exact + float(first), rel=1e-5)
    # Two texts are not one: each begins a window.
    assert Reader(mine, "mine").read(["eight by", "and"]).nats == pytest.approx(found.nats, rel=1e-5)
    assert Reader(mine, "mine").read([]).known == 0


def test_tokens_for_what_a_model_does_not_know_are_not_counted() -> None:
    from carrara.codecs.characters import Characters

    mine = causal(length=8)
    mine.codec = Characters(8).fit(["abab"])
    assert judges._unknown(mine.codec).tolist() == [2]
    windows = judges._windows(mine.codec, ["abx"])
    assert windows.tolist() == [[0, 1, 2, 3, 3, 3, 3, 3]]


def test_what_is_no_judge_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no judge"):
        Reader(model(), "runs/verse")
    with pytest.raises(InputError, match="pocketsphinx, or the folder"):
        judge_of("nowhere")
    causal().save(tmp_path / "mine")
    assert judge_of(tmp_path / "mine").unit == "token"
