"""Codecs: media to x0 and back."""

CODECS: dict[str, str] = {
    "bpe": "carrara.codecs.bpe:Bpe",
    "bytes": "carrara.codecs.bytes:Bytes",
    "characters": "carrara.codecs.characters:Characters",
    "pixels": "carrara.codecs.pixels:Pixels",
}
