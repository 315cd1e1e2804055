"""Codecs: media to x0 and back."""

CODECS: dict[str, str] = {"pixels": "carrara.codecs.pixels:Pixels"}
