"""Pictures and sentences in one space, in which a picture lies near the words that describe it.

What a picture or a sentence is made of is told by encoders that are not trained; two heads over them are, by the one training
loop (carrara.training.clip). What comes of it is a `carrara.clip.model.ClipModel`, one folder as every model is.

>>> from carrara.clip.model import load                     # doctest: +SKIP
>>> clip = load("runs/clip-emoji")                          # doctest: +SKIP
>>> clip.images(pictures) @ clip.texts(["a red apple"]).T   # doctest: +SKIP
"""

PICTURES: dict[str, str] = {
    "efficientnet": "carrara.clip.pictures:efficientnet",
    "efficientnet+inception": "carrara.clip.pictures:both",
    "pixels": "carrara.clip.pictures:Pixels",
}
"""kind -> dotted path of what makes an encoder of pictures, `carrara.clip.encoders.Encoder`."""

TEXTS: dict[str, str] = {
    "minilm": "carrara.clip.texts:minilm",
    "minilm+classes": "carrara.clip.classes:imagined",
    "words": "carrara.clip.texts:Words",
}
"""The same for texts."""
