"""Training: one loop for everything that can be trained, its checkpoints and its run folder."""

# Dotted paths, so that a recipe can name a trainable without importing the models it trains.
TRAINABLES: dict[str, str] = {
    "diffusion": "carrara.training.trainable:Diffusion",
    "distill": "carrara.training.distill:Distillation",
    "clip": "carrara.training.clip:Contrastive",
    "kl": "carrara.training.kl:Variational",
    "vq": "carrara.training.vq:Autoencoding",
}
