"""A Model: condition + denoiser + codec, with how it is sampled. One folder: what is saved, loaded, moved and served."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carrara import __version__, files, tensors
from carrara.agreement import check_bounded, learnt_with, network_of
from carrara.backends import BACKENDS, TORCH, Running, running
from carrara.between import Between
from carrara.codecs.base import Codec, Kept, begun, learnt_of
from carrara.conditions.base import Condition
from carrara.denoisers import GaussianDenoiser
from carrara.editing import Edit
from carrara.errors import DamagedFile, InputError
from carrara.filling import pays
from carrara.grids import Grids
from carrara.guidance import parted
from carrara.kinds import DIFFUSION, FORMAT, check_kind
from carrara.recipe import PARTS, Recipe, check
from carrara.rng import Streams
from carrara.samplers import Step
from carrara.sampling import Sampling, part

WEIGHTS = "network.safetensors"
DESCRIPTION = "model.json"
CODEC, CONDITION = "codec", "condition"
"""The folders inside, with what a codec and a condition were made of, where they were made of something."""
STRENGTH = 0.6
"""How much a start without a mask is changed, unless it is said."""


@dataclass
class Model:
    """The three modules, each trained or made apart, and what is known of them."""

    recipe: Recipe
    condition: Condition
    denoiser: GaussianDenoiser
    codec: Codec
    sampling: Sampling
    shape: tuple[int, ...]
    """Of one picture: (C, H, W); () where it makes texts."""
    classes: tuple[str, ...]
    facts: dict[str, Any] = field(default_factory=dict)
    """What the card tells: the data, its licence and fingerprint, versions, figures."""
    grids: Grids = field(default_factory=Grids)
    """The grids of times that were tuned for it."""

    @property
    def parameters(self) -> int:
        """The number of the network's parameters."""
        return sum(p.numel() for p in self.denoiser.network.parameters())

    def weights(self) -> dict[str, Tensor]:
        """All that was trained, by name: the network's tensors, and those of the codec that are trained with it."""
        learnt = learnt_of(self.codec)
        own = {f"{name}.{key}": v for name, module in learnt.items() for key, v in module.state_dict().items()}
        return {**self.denoiser.network.state_dict(), **own}

    @property
    def backend(self) -> Running | None:
        """What computes in the network's place while it is sampled; None where the network itself does."""
        found = self.denoiser.backend
        return found if isinstance(found, Running) else None

    def use(self, backend: str) -> None:
        """From now on this backend samples in the network's place: a name in `carrara.backends.BACKENDS`, or "module:name".

        It takes the weights as they are now. "torch" is the network itself. Raises InputError for a backend that is not
        installed (MissingExtra), or does not compute what the network does.
        """
        shape = self.codec.shape(self.shape)
        with evaluating(self.denoiser):
            self.denoiser.backend = (
                None if backend == TORCH else running(backend, BACKENDS, self.denoiser, shape, self.condition)
            )

    def sample(
        self,
        n: int | None = None,
        *,
        seed: int = 0,
        seeds: Sequence[int] | None = None,
        batch: int = 32,
        progress: Callable[[int, int], None] | None = None,
        start: Any = None,
        strength: float | None = None,
        mask: Tensor | None = None,
        exact: bool | None = None,
        **wishes: Any,
    ) -> Any:
        """n pictures, uint8 (n, C, H, W), or a list of n texts.

        Sample i has the seed `seed` + i, or seeds[i], and its own random stream. `label=` (a number or name, or one for each),
        `source=` or `prompt=` (a text, or one for each) says what is asked for, `negative_prompt=` what guidance goes away from;
        every field of `Sampling` can be given by name (steps=50, sampler="ddim", guidance_scale=2.0, …).
        `start`, `strength` and `mask` change what is given instead of making all anew, see `edit`; where n is not given, there is
        a sample for each of several starts, sources or prompts.
        `exact`: whether each picture is, to the bit, the one that its seed gives in any other batch, for which the network is given
        whole blocks of 8; None: where that costs little, of 4 samples or more.
        Raises InputError for what cannot be done.
        """
        several = one_each(wishes.get("source", wishes.get("prompt")) if start is None else start)
        seeds = seeds_of(several if n is None and seeds is None else n, seed, seeds)
        sampling, cond = self.plan(len(seeds), wishes)
        edit = self.edit(len(seeds), start, strength, mask)
        return self.drawn(seeds, cond, sampling, edit, batch, progress, exact)

    def drawn(
        self,
        seeds: Sequence[int],
        cond: Any,
        sampling: Sampling,
        edit: Edit | Between | None = None,
        batch: int = 32,
        progress: Callable[[int, int], None] | None = None,
        exact: bool | None = None,
    ) -> Any:
        """What `sample` gives, once it is planned: a batch at a time."""
        if batch < 1:
            raise InputError(f"a batch of {batch} samples is not possible; use 1 or more")
        made, exact = [], pays(len(seeds)) if exact is None else exact
        for first in range(0, len(seeds), batch):
            rows = slice(first, first + batch)
            for step in self.walk(seeds[rows], part(cond, rows), sampling, edit and edit.rows(rows), exact):
                last = step
            made.append(self.codec.decode(last.x.cpu()))
            if progress is not None:
                progress(min(first + batch, len(seeds)), len(seeds))
        return self.codec.together(made)

    def film(
        self,
        seeds: Sequence[int],
        *,
        start: Any = None,
        strength: float | None = None,
        mask: Tensor | None = None,
        exact: bool | None = None,
        **wishes: Any,
    ) -> Iterator[tuple[float, Any, Any]]:
        """(t, x_t, the x0 believed at t) for each step, both decoded to pictures or texts; last (0, x_0, x_0).

        x_0 is what `sample` gives, `exact` as there.
        """
        sampling, cond = self.plan(len(seeds), wishes)
        edit = self.edit(len(seeds), start, strength, mask)
        process, decode = self.denoiser.process, self.codec.decode
        x = sampling.begin(process, self.codec.shape(self.shape), Streams(seeds), edit)
        for step in self.walk(seeds, cond, sampling, edit, pays(len(seeds)) if exact is None else exact):
            yield float(step.t), decode(process.shown(x.cpu(), step.t)), decode(step.belief.preview.cpu())
            x = step.x
        yield 0.0, decode(x.cpu()), decode(x.cpu())

    def plan(self, count: int, wishes: Mapping[str, Any]) -> tuple[Sampling, Any]:
        """The sampling settings and the condition that these wishes come to. Raises InputError for what cannot be done.

        Tuned times are found here, where they are not known yet.
        """
        sampling, cond = self.wished(count, wishes)
        return self.grids.resolved(self, sampling), cond

    def wished(self, count: int, wishes: Mapping[str, Any]) -> tuple[Sampling, Any]:
        """What `plan` gives, before times are tuned. Raises InputError for what cannot be done."""
        known = set(Sampling.__dataclass_fields__)
        sampling = self.sampling.changed(**{k: v for k, v in wishes.items() if k in known})
        sampling.check(self.denoiser, self.condition)
        check_bounded(sampling, self.codec)
        cond = self.condition.ask(count, **{k: v for k, v in wishes.items() if k not in known})
        if sampling.guidance_scale == 1 and parted(cond)[1] is not None:
            raise InputError("a negative prompt does nothing without guidance; give guidance_scale too, such as 3")
        return sampling, cond

    def edit(
        self,
        count: int,
        start: Any = None,
        strength: float | None = None,
        mask: Tensor | None = None,
    ) -> Edit | None:
        """What `count` samples change, None where they are made from noise alone.

        start: a picture, uint8 (C, H, W), or a text, or one for each sample. Of a text what follows it is made, and each ▁ in
        it, which is one token. mask: where a picture is to be made and not kept, True in bool or above 0 in uint8 (H, W),
        (1, H, W) or one for each. strength in (0, 1]: the share of the steps that are walked, 1 where something is kept, and
        0.6 where nothing is. Raises InputError for anything else.
        """
        if start is None:
            for name, given in (("strength", strength), ("mask", mask)):
                if given is not None:
                    raise InputError(
                        f"{name} says how a start is changed, and there is none: give start, or no {name}"
                    )
            return None
        x0, made = self.codec.start(start, mask, self.shape, count)
        if not self.shape and strength not in (None, 1):
            raise InputError(f"strength {strength} is of pictures; what is given of a text is kept: leave it out")
        usual = STRENGTH if made is None else 1.0
        return Edit(x0, made, usual if strength is None else strength)

    def walk(
        self,
        seeds: Sequence[int],
        cond: Any,
        sampling: Sampling | None = None,
        edit: Edit | Between | None = None,
        exact: bool = True,
    ) -> Iterator[Step]:
        """The Steps of one batch, on the network's device, without gradients and with the network in evaluation mode.

        exact: each sample is, to the bit, what it is in any other batch; see `carrara.filling`.

        Between two steps gradients and the network's mode are the caller's, so walks may be iterated in turn.
        """
        shape = self.codec.shape(self.shape)
        settings = self.grids.resolved(self, sampling or self.sampling)
        steps = settings.walk(self.denoiser, self.condition, shape, cond, seeds, edit, exact)
        while True:
            with torch.no_grad(), evaluating(self.denoiser):
                step = next(steps, None)
            if step is None:
                return
            yield step

    def save(self, folder: str | Path) -> None:
        """Writes the model folder, whole or not at all: weights, description, card, and a manifest of their hashes."""
        self.grids.gather()
        files.write_folder(Path(folder), self._fill)
        self.grids.settle(Path(folder))

    def _fill(self, folder: Path) -> None:
        tensors.save(self.denoiser.network.state_dict(), folder / WEIGHTS)
        for name, made in ((CODEC, self.codec), (CONDITION, self.condition)):
            if isinstance(made, Kept):
                (folder / name).mkdir()
                made.save(folder / name)
        files.write_json(
            folder / DESCRIPTION,
            {
                "format": FORMAT,
                "carrara": __version__,
                "recipe": self.recipe.as_dict(),
                "shape": list(self.shape),
                "classes": list(self.classes),
                "facts": self.facts,
            },
        )
        files.write(folder / "README.md", card(self))


def build(
    recipe: Recipe,
    shape: Sequence[int],
    classes: Sequence[str],
    codec: Codec | None = None,
    condition: Condition | None = None,
) -> Model:
    """The untrained Model of a recipe, for pictures of this shape (C, H, W), or texts, and these classes.

    The network's parameters are drawn from the recipe's seed. `codec`, `condition`: the recipe's, where they have been made or
    restored already.
    """
    condition = condition or recipe.build("condition", classes=tuple(classes))
    made: Codec = codec or recipe.build("codec")
    parts = {section: recipe.build(section) for section in PARTS if section in recipe.sections}
    told: dict[str, Any] = made.told(tuple(shape))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = network_of(recipe, told | condition.told(), **parts)
        made = begun(made)
    learnt = learnt_with(recipe, made)
    denoiser = recipe.build("process", network=network, vocab=told.get("vocab"), **learnt, **parts)
    model = Model(recipe, condition, denoiser, made, recipe.build("sampling"), tuple(shape), tuple(classes))
    model.wished(1, {})  # What could not be sampled is refused before it is trained.
    return model


def load(path: str | Path, device: str | torch.device = "cpu", backend: str = TORCH) -> Model:
    """The Model in a model folder, or in the folder of a finished run, in evaluation mode; `backend` see `Model.use`.

    Nothing is ever fetched: what is not on the disk raises InputError; what is damaged raises DamagedFile, by name.
    """
    folder = model_folder(path)
    _check_whole(folder)
    about = files.read_json(folder / DESCRIPTION)
    check_kind(about, folder, DIFFUSION)
    recipe = check(about["recipe"])
    codec = _restored(recipe.build("codec"), folder / CODEC)
    condition = _restored(recipe.build("condition", classes=tuple(about["classes"])), folder / CONDITION)
    model = build(recipe, about["shape"], about["classes"], codec, condition)
    network = model.denoiser.network
    network.load_state_dict(tensors.fitting(folder / WEIGHTS, network.state_dict()))
    model.denoiser.to(device).eval()
    model.facts, model.grids = about["facts"], Grids(folder)
    model.use(backend)
    return model


def _check_whole(folder: Path) -> None:
    """Raises DamagedFile, by name, and says what to do where the run that wrote the folder still has its checkpoints."""
    try:
        files.check_folder(folder)
    except DamagedFile as error:
        if not (folder.parent / "checkpoints").is_dir():
            raise
        raise DamagedFile(
            f"{error}. Its run has checkpoints: remove {folder}, and the carrara train command that made it writes it again"
        ) from error


def _restored(part: Any, folder: Path) -> Any:
    """A codec or a condition with what it was made of, where it was made of something."""
    return part.restore(folder) if isinstance(part, Kept) else part


def kind_of(path: str | Path) -> str:
    """The kind of model in a model folder, or in the folder of a finished run. Raises InputError where there is none."""
    kind: str = files.read_json(model_folder(path) / DESCRIPTION).get("kind", DIFFUSION)
    return kind


def model_folder(path: str | Path) -> Path:
    """The model folder that `path` is, or that the run in it has finished. Raises InputError where there is none."""
    folder = files.present(Path(path))
    if (files.present(folder / "model") / DESCRIPTION).is_file():
        folder = files.present(folder / "model")
    if not (folder / DESCRIPTION).is_file():
        if (folder / "run.json").is_file():
            raise InputError(
                f"{path} is a run that is not finished, and has no model yet; the carrara train command that began it goes on"
            )
        raise InputError(
            f"{path} is neither a model folder (no {DESCRIPTION}) nor a run folder with a finished model; "
            "give the folder that `carrara train` wrote"
        )
    return folder


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Within, the module and all in it are in evaluation mode (no dropout); after it each is in the mode it was in."""
    # Looked for first: it is done for every step, and mostly there are none, while setting a mode takes as long as a small step.
    training = [each for each in module.modules() if each.training]
    for each in training:
        each.training = False
    try:
        yield
    finally:
        for each in training:
            each.training = True


def seeds_of(n: int | None, seed: int, seeds: Sequence[int] | None) -> list[int]:
    """The seed of each sample. Raises InputError for no sample at all, or two answers to how many."""
    if seeds is not None:
        if n is not None and n != len(seeds):
            raise InputError(f"{n} samples were asked for and {len(seeds)} seeds given; give one of the two")
        n = len(seeds)
    n = 1 if n is None else n
    for name, given in (("n", n), ("seed", seed)):
        if isinstance(given, bool) or not isinstance(given, int | np.integer):
            raise InputError(f"{name} is {given!r}; it is a whole number")
    if n < 1:
        raise InputError(f"{n} samples were asked for; ask for 1 or more")
    return list(seeds) if seeds is not None else list(range(seed, seed + n))


def one_each(start: Any) -> int | None:
    """How many samples there are where there is one for each start, source or prompt; None where they do not decide it."""
    several = start.ndim == 4 if isinstance(start, Tensor) else isinstance(start, list | tuple)
    return len(start) if several else None


def card(model: Model) -> str:
    """The model card, in Markdown: what it is, what it was trained on, its figures, how to use it."""
    facts = "\n".join(f"- {key.replace('_', ' ')}: {value}" for key, value in model.facts.items())
    what = f"pictures {'×'.join(map(str, model.shape))} (C×H×W)" if model.shape else "texts"
    return (
        f"# {model.recipe.name}\n\nA diffusion model of {what}, "
        f"{model.parameters:,} parameters, made with carrara {__version__}.\n\n{facts}\n\n"
        f'```python\nimport carrara\n\nmodel = carrara.load("path/of/this/folder")\nsamples = model.sample(16)\n```\n'
    )
