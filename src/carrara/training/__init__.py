"""Training: one loop for everything that can be trained, its checkpoints and its run folder."""
