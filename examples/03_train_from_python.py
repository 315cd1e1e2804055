"""The command line is a thin coat: the same run from Python."""

import tempfile
from pathlib import Path

import carrara
from carrara import recipe
from carrara.training.budget import Asked
from carrara.training.run import Run

folder = Path(tempfile.mkdtemp()) / "digits"
small = recipe.read("digits", ["network.width=16", "training.batch=64", "training.previews=1"])
for progress in Run(small, folder, Asked(images=6400)).train():
    if progress.record.images % 1600 == 0:
        print(f"{progress.record.images} of {progress.budget} images, loss {progress.record.loss:.3f}")

model = carrara.load(folder)
pictures = model.sample(10, label=list(range(10)), steps=8)
print(pictures.shape, pictures.dtype, [path.name for path in sorted(folder.iterdir())])
