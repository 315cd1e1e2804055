"""Pictures as latents: a small grid of numbers each, as a diffusion model likes them, and back.

What comes of the training (carrara.training.kl) is a `carrara.kl.model.KlModel`, one folder as every model is. The codec `kl` lets
other models work on its latents.

>>> from carrara.kl.model import load                # doctest: +SKIP
>>> kl = load("runs/kl-emoji")                       # doctest: +SKIP
>>> latents = kl.encode(pictures)                    # doctest: +SKIP
>>> again = kl.decode(latents)                       # doctest: +SKIP
"""
