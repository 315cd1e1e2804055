"""Fonts for what is written on pictures: Pillow's own, matplotlib's, and for Chinese one that the machine has."""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path
from typing import cast

from PIL import ImageFont

log = logging.getLogger(__name__)

CHINESE = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "Source Han Sans CN", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei",
    "PingFang SC", "Hiragino Sans GB", "Microsoft YaHei", "SimHei", "Droid Sans Fallback", "Arial Unicode MS",
)  # fmt: skip
"""Families that have Chinese letters, the ones that are looked for first in front."""
_LETTERS = (
    ("\u2e80", "\u9fff"),
    ("\uac00", "\ud7af"),
    ("\uf900", "\ufaff"),
    ("\uff00", "\uffef"),
    ("\U00020000", "\U0003ffff"),
)
"""Between these letters are Chinese, Japanese and Korean, and matplotlib's font has none."""


def font(text: str, size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, which draws ASCII only; for other letters the one that comes with matplotlib; for Chinese one of CHINESE.

    Where the machine has none of those the log says so, once, and boxes are drawn.
    """
    if text.replace("…", "").isascii():
        return cast(ImageFont.FreeTypeFont, ImageFont.load_default(size))
    return ImageFont.truetype((_chinese() if _is_chinese(text) else None) or _dejavu(), size)


def _is_chinese(text: str) -> bool:
    return any(first <= letter <= last for letter in text for first, last in _LETTERS)


def _dejavu() -> str:
    import matplotlib

    return str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"))


@lru_cache(maxsize=1)
def _chinese() -> str | None:
    """The file of the first of CHINESE that is installed."""
    from matplotlib.font_manager import fontManager

    files = {entry.name: entry.fname for entry in reversed(fontManager.ttflist)}
    found = next((files[name] for name in CHINESE if name in files), None)
    if found is None:
        log.warning(
            "this machine has no font with Chinese letters, so boxes stand in their place on pictures; install one, such as "
            "Noto Sans CJK (Debian: fonts-noto-cjk)"
        )
    return found
