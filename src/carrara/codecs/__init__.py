"""Codecs: media to x0 and back."""

# Dotted paths, so that a recipe can name a codec without importing a network.
CODECS: dict[str, str] = {
    "bpe": "carrara.codecs.bpe:Bpe",
    "bytes": "carrara.codecs.bytes:Bytes",
    "characters": "carrara.codecs.characters:Characters",
    "embedding": "carrara.codecs.embedding:Embedding",
    "kl": "carrara.codecs.kl:Kl",
    "pixels": "carrara.codecs.pixels:Pixels",
    "vq": "carrara.codecs.vq:Vq",
}
