"""Recipes: what to build and train, as data.

A recipe is a YAML file of sections. `network: {kind: unet, width: 64}` calls `UNet(width=64)`: the constructor's own
annotations are the schema, so there is no second description of any class to keep in step. What the data decides (`channels`,
`size`, `classes`, and from the variance `outputs`; of tokens `vocab` and `length`, and those of a source or a text) is filled in
when a model is built and cannot be set.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from carrara.codecs import CODECS
from carrara.conditions import CONDITIONS
from carrara.data import DATASETS
from carrara.denoisers import DENOISERS
from carrara.errors import RecipeError, nearest
from carrara.networks import NETWORKS
from carrara.plugins import find
from carrara.predictions import PREDICTIONS
from carrara.sampling import Sampling
from carrara.schedules import SCHEDULES, SURVIVALS
from carrara.times import TRAIN_TIMES
from carrara.training import TRAINABLES
from carrara.training.settings import Training
from carrara.variances import VARIANCES
from carrara.weights import WEIGHTS

ROOMS: dict[str, Mapping[str, Any]] = {
    "data": DATASETS,
    "codec": CODECS,
    "condition": CONDITIONS,
    "network": NETWORKS,
    "process": DENOISERS,
    "schedule": SCHEDULES | SURVIVALS,
    "prediction": PREDICTIONS,
    "weight": WEIGHTS,
    "variance": VARIANCES,
    "train_times": TRAIN_TIMES,
    "trainable": TRAINABLES,
}
"""The sections that choose a part by its kind."""

SETTINGS: dict[str, type] = {"training": Training, "sampling": Sampling}
"""The sections that only set numbers."""

PARTS = ("schedule", "prediction", "weight", "variance")
"""The sections of which a process's denoiser is made, each where that takes a parameter of the name."""

FROM_DATA: dict[str, frozenset[str]] = {
    "network": frozenset(
        {
            "channels",
            "size",
            "classes",
            "outputs",
            "vocab",
            "length",
            "levels",
            "grid",
            "source_vocab",
            "source_length",
            "text_width",
            "text_vocab",
            "text_length",
        }
    ),
    "process": frozenset({"network", "vocab", "table", *PARTS}),
    "condition": frozenset({"classes"}),
    "data": frozenset({"progress"}),
    "trainable": frozenset({"model", "times", "recipe", "dataset", "settings", "seed", "world", "examples"}),
}
"""The parameters of each section that are filled in from the data, or by the caller."""

MEASURED = "measured"
"""Written for a `data_std`: the standard deviation of the training data, measured when the run begins."""

DEFAULTS: dict[str, Any] = {
    "codec": {"kind": "pixels"},
    "condition": {"kind": "label"},
    "network": {"kind": "unet"},
    "process": {"kind": "gaussian"},
    "schedule": {"kind": "flow"},
    "prediction": {"kind": "velocity"},
    "weight": {"kind": "flow"},
    "variance": {"kind": "posterior"},
    "train_times": {"kind": "logit_normal"},
    "trainable": {"kind": "diffusion"},
    "training": {},
    "sampling": {},
}


@dataclass(frozen=True)
class Recipe:
    """A checked recipe, every default written out."""

    name: str
    seed: int
    sections: Mapping[str, Mapping[str, Any]]

    def build(self, section: str, **from_data: Any) -> Any:
        """The object a section describes; of `from_data` it gets what it has parameters for.

        Raises RecipeError where it needs more of the data than that.
        """
        options = dict(self.sections[section])
        target = target_of(section, options)
        options.pop("kind", None)
        parameters = inspect.signature(target).parameters
        given = {name: value for name, value in from_data.items() if name in parameters}
        lacking = [
            name
            for name in FROM_DATA.get(section, frozenset()) & parameters.keys() - given.keys()
            if needed(parameters[name])
        ]
        if lacking:
            kind = self.sections[section].get("kind")
            raise RecipeError(
                f"{section}.kind {kind!r} is for other data: it needs to know {', '.join(sorted(lacking))}, and this data has "
                f"{', '.join(sorted(from_data)) or 'nothing of the kind'}; choose another kind of {section}"
            )
        return target(**validated(section, target, options), **given)

    def takes(self, section: str, name: str) -> bool:
        """Whether what a section describes has a parameter of this name."""
        return name in inspect.signature(target_of(section, self.sections[section])).parameters

    def measured(self, data_std: float) -> Recipe:
        """The recipe with its measured values put in."""
        return Recipe(self.name, self.seed, _replaced(self.sections, round(data_std, 4)))

    def as_dict(self) -> dict[str, Any]:
        """Plain data, as it is written."""
        return {"name": self.name, "seed": self.seed, **{key: dict(value) for key, value in self.sections.items()}}

    def to_yaml(self) -> str:
        """The recipe as YAML; reading it gives the same recipe."""
        plain = json.loads(json.dumps(self.as_dict(), default=str))
        text: str = yaml.dump(plain, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
        return text


def needed(parameter: inspect.Parameter) -> bool:
    """Whether a parameter has to be given."""
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_KEYWORD,
        parameter.VAR_POSITIONAL,
    )


def names() -> list[str]:
    """The recipes that come with carrara."""
    folder = resources.files("carrara") / "recipes"
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))


def read(source: str | Path, changes: Sequence[str] = ()) -> Recipe:
    """The recipe of this name, or in this file, with `a.b=c` changes made, checked and with its defaults written out.

    Raises RecipeError naming the key, what was given and what is allowed.
    """
    return check(changed(parse(text_of(source), str(source)), changes))


def text_of(source: str | Path) -> str:
    """The YAML text of a recipe that comes with carrara, or of a file."""
    if str(source) in names():
        return (resources.files("carrara") / "recipes" / f"{source}.yaml").read_text()
    path = Path(source)
    if path.is_file():
        return text_in(path)
    if path.is_dir():
        raise RecipeError(
            f"{path} is a folder, and a recipe is a YAML file. To train on the pictures in it, take a recipe and say where they "
            f"are: carrara train fashion --set data.kind=folder --set data.path={path} --set data.size=32"
        )
    raise RecipeError(
        f"there is no recipe {str(source)!r}: {nearest(str(source), names())}; or give the path of a YAML file"
    )


def text_in(path: Path) -> str:
    """The YAML text of a file. Raises RecipeError where it is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{path} is not UTF-8 text at byte {error.start}, so it is no recipe; a recipe is a YAML file"
        ) from error


def parse(text: str, source: str) -> dict[str, Any]:
    """The mapping in a YAML text."""
    content = value_of(text, f"the recipe {source}")
    if not isinstance(content, dict):
        raise RecipeError(f"the recipe {source} must be a mapping of sections, and is {type(content).__name__}")
    return content


class _Loader(yaml.SafeLoader):
    pass


class _Dumper(yaml.SafeDumper):
    pass


# YAML 1.1, which PyYAML reads, takes 1e-3 for a word; YAML 1.2 takes it for a number, and so does whoever writes it.
for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\.\d+|\d+(\.\d*)?)[eE][-+]?\d+$"), list("-+.0123456789")
    )


def value_of(text: str, what: str) -> Any:
    """The value of a YAML text. Raises RecipeError, which calls it `what`."""
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        raise RecipeError(f"{what} is not valid YAML: {' '.join(str(error).split())}") from error


def changed(content: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """The content with each change `a.b=value` made, the value read as YAML."""
    result: dict[str, Any] = json.loads(json.dumps(content, default=str))
    for change in sorted(changes, key=lambda change: not change.partition("=")[0].endswith(".kind")):
        path, equals, value = change.partition("=")
        if not equals or not path:
            raise RecipeError(f"--set {change!r} is not of the form section.key=value")
        *parents, last = path.split(".")
        at: Any = result
        for parent in parents:
            at = at.setdefault(parent, {})
            if not isinstance(at, dict):
                raise RecipeError(f"--set {change!r}: {parent} is a value, not a section")
        if last == "kind" and isinstance(at.get("kind"), str) and at["kind"] != value:
            at.clear()  # The options of another kind would be refused.
        at[last] = value_of(value, f"--set {change!r}")
    return result


def check(content: Mapping[str, Any]) -> Recipe:
    """A Recipe from plain data; raises RecipeError at the first thing that is wrong."""
    allowed = {"name", "seed", *ROOMS, *SETTINGS}
    for key in content:
        if key not in allowed:
            raise RecipeError(f"the recipe has an unknown section {key!r}: {nearest(str(key), allowed)}")
    if "data" not in content:
        raise RecipeError("the recipe has no section 'data'; it says what to train on, e.g. data: {kind: digits}")
    name, seed = content.get("name", "model"), content.get("seed", 0)
    if not isinstance(name, str) or not name.replace("-", "").replace("_", "").isalnum():
        raise RecipeError(f"name is {name!r}; it must be a word of letters, digits, - and _")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**32:
        raise RecipeError(f"seed is {seed!r}; it must be a whole number from 0 to 2**32 - 1")
    sections = {key: checked(key, content.get(key, DEFAULTS.get(key))) for key in used(content)}
    return Recipe(name, seed, sections)


def used(content: Mapping[str, Any]) -> list[str]:
    """The sections that a recipe's trainable is made from, all unless it says fewer in `sections`; of PARTS those of its process.

    Raises RecipeError for one that is given and would go unused.
    """
    wanted, unwanted = {*ROOMS, *SETTINGS}, dict[str, str]()
    for section in ("trainable", "process"):
        if section not in wanted:
            continue
        options = checked(section, content.get(section, DEFAULTS[section]))
        needed = _needed(section, target_of(section, options))
        unwanted |= dict.fromkeys(wanted - needed, f"{section} of kind {options['kind']!r}")
        wanted &= needed
    for key in content:
        if key in unwanted:
            raise RecipeError(
                f"the recipe has a section {key!r}, of which a {unwanted[key]} makes no use; leave it out"
            )
    return [key for key in (*ROOMS, *SETTINGS) if key in wanted]


def _needed(section: str, target: Callable[..., Any]) -> set[str]:
    """The sections that a trainable, or a process, leaves in use."""
    every = {*ROOMS, *SETTINGS}
    if section == "trainable":
        return set(getattr(target, "sections", every))
    return every - (set(PARTS) - set(inspect.signature(target).parameters))


def checked(section: str, options: Any) -> dict[str, Any]:
    """A section's options with their defaults written out, as plain data."""
    if isinstance(options, dict) and section in ROOMS and "kind" not in options:
        options = {key: value for key, value in DEFAULTS.get(section, {}).items() if key == "kind"} | options
    if not isinstance(options, dict):
        raise RecipeError(f"{section} must be a mapping such as {{kind: …}}, and is {options!r}")
    target = target_of(section, options)
    given = {key: value for key, value in options.items() if key != "kind" or section in SETTINGS}
    shape = schema(section, target)
    values = validated(section, target, given)
    if section in SETTINGS:
        target(**values)  # Its own checks speak before anything is begun.
    filled = shape.model_construct().model_dump() | values | given
    ordered = {key: filled[key] for key in shape.model_fields if key in filled}
    kind = {"kind": options["kind"]} if section in ROOMS else {}
    plain: dict[str, Any] = json.loads(json.dumps(ordered, default=str))
    return kind | plain


def target_of(section: str, options: Mapping[str, Any]) -> Callable[..., Any]:
    """The class or function that a section calls."""
    if section in SETTINGS:
        return SETTINGS[section]
    if not isinstance(options.get("kind"), str):
        raise RecipeError(f"{section} needs a kind: {', '.join(sorted(ROOMS[section]))}")
    try:
        target: Callable[..., Any] = find(f"{section} of kind", options["kind"], ROOMS[section])
    except ValueError as error:
        raise RecipeError(f"{section}.kind: {error}") from error
    return target


def schema(section: str, target: Callable[..., Any]) -> type[BaseModel]:
    """A pydantic model of what a class or function may be given in a recipe."""
    function = target.__init__ if inspect.isclass(target) else target
    hints = get_type_hints(function)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(target).parameters.items():
        if name in FROM_DATA.get(section, ()) or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints.get(name, Any), _plain_default(target, name, default))
    return create_model(target.__name__, __config__=ConfigDict(extra="forbid", strict=True), **fields)


def validated(section: str, target: Callable[..., Any], options: Mapping[str, Any]) -> dict[str, Any]:
    """The options in the types that `target` declares. Raises RecipeError."""
    plain = _replaced(options, 1.0)
    try:
        model = schema(section, target).model_validate_json(json.dumps(plain, default=str), strict=True)
    except ValidationError as error:
        raise RecipeError(_sentence(section, target, error)) from error
    return {name: getattr(model, name) for name in model.model_fields_set}


def _plain_default(target: Callable[..., Any], name: str, default: Any) -> Any:
    """A dataclass gives a marker as the default of a field with a factory: the factory's value instead."""
    field = getattr(target, "__dataclass_fields__", {}).get(name)
    return field.default_factory() if field is not None and callable(field.default_factory) else default


def _replaced(options: Any, data_std: float) -> Any:
    """Nested mappings with every `data_std: measured` given its value."""
    if not isinstance(options, Mapping):
        return options
    return {
        key: data_std if key == "data_std" and value == MEASURED else _replaced(value, data_std)
        for key, value in options.items()
    }


def _sentence(section: str, target: Callable[..., Any], error: ValidationError) -> str:
    """The first thing pydantic found, in one sentence with the key, the value and what is allowed."""
    first = error.errors()[0]
    path = ".".join(str(part) for part in (section, *first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"{path} is an unknown key: {nearest(str(first['loc'][0]), _keys(target, section))}"
    if first["type"] == "missing":
        return f"{path} is missing; {target.__name__} cannot be made without it: give it, as in {path}=…"
    wanted = first["msg"][0].lower() + first["msg"][1:]
    return f"{path} is {first['input']!r}: {wanted}"


def _keys(target: Callable[..., Any], section: str) -> Iterator[str]:
    yield from schema(section, target).model_fields
    if section in ROOMS:
        yield "kind"
