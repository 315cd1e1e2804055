"""carrara: diffusion models in one vocabulary."""

__version__ = "0.1.0"
