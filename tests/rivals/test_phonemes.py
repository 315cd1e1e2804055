"""Words in IPA fall apart into the dictionary's sounds."""

import pytest
from benchmarks.phonemes import sounds, unstressed

from carrara.data.words import _IPA, _ipa


def test_every_sound_of_the_dictionary_is_one() -> None:
    arpabet = [f"{sound}{stress}" for sound in _IPA if not sound[-1].isdigit() for stress in ("", "0", "1", "2")]
    ipa = [_ipa(sound) for sound in arpabet]
    assert sounds("".join(ipa)) == ipa


@pytest.mark.parametrize(
    ("text", "found"),
    [("tʃˈaɪm", ["tʃ", "ˈaɪ", "m"]), ("həlˈoʊ", ["h", "ə", "l", "ˈoʊ"]), ("", []), ("�ˈ", ["�", "ˈ"])],
)
def test_stress_belongs_to_the_sound_after_it(text: str, found: list[str]) -> None:
    assert sounds(text) == found
    assert "".join(sounds(text, unstressed)) == unstressed(text)
