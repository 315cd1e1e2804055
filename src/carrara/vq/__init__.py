"""Pictures as words: a grid of ids from a vocabulary that was learnt, and back.

What comes of the training (carrara.training.vq) is a `carrara.vq.model.VqModel`, one folder as every model is. The codec `vq` lets
other models work on its ids.

>>> from carrara.vq.model import load                # doctest: +SKIP
>>> vq = load("runs/vq-fashion")                     # doctest: +SKIP
>>> ids = vq.encode(pictures)                        # doctest: +SKIP
>>> again = vq.decode(ids)                           # doctest: +SKIP
"""
