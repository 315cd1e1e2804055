"""Names that help and completion show without importing what they name; a test keeps them equal to the registries."""

from __future__ import annotations

from pathlib import Path

SAMPLERS = (
    "adams",
    "adaptive",
    "ancestral",
    "cached",
    "churn",
    "confidence",
    "consistency",
    "ddim",
    "deis",
    "dpmpp_2m",
    "dpmpp_2m_sde",
    "dpmpp_2s",
    "dpmpp_3m",
    "euler",
    "euler_ancestral",
    "euler_maruyama",
    "first_hitting",
    "heun",
    "langevin",
    "left_to_right",
    "lms",
    "planned",
    "restart",
    "unipc",
)
TIMES = ("karras", "logistic", "logsnr", "shifted", "trailing", "tuned", "uniform")
FEATURES = ("efficientnet", "inception", "inception_spatial", "inception_tensorflow")
BACKENDS = ("openvino", "openvino-f32", "torch", "torch-bf16")
METRICS = ("classes", "clip_score", "frechet", "inception_score", "kid", "neighbours", "nll", "precision")
TEXT_METRICS = ("bits", "distinct", "entropy", "judge", "repetition")
ASKED = ("clip_score", "inception_score", "nll")
STUDIES = ("guidance", "noise", "size", "steps")
DATASETS = ("chinese", "digits", "emoji", "fashion", "folder", "gloss", "texts", "verse", "words")


def recipes() -> list[str]:
    """The recipes that come with carrara."""
    return sorted(path.stem for path in (Path(__file__).parents[1] / "recipes").glob("*.yaml"))


def complete_recipe(incomplete: str) -> list[str]:
    """Recipes and YAML files that begin so."""
    return [*_beginning(recipes(), incomplete), *_yaml_files(incomplete)]


def complete_data(incomplete: str) -> list[str]:
    """Recipes, kinds of datasets and YAML files that begin so."""
    return [*_beginning(sorted({*recipes(), *DATASETS}), incomplete), *_yaml_files(incomplete)]


def complete_sampler(incomplete: str) -> list[str]:
    """Samplers that begin so."""
    return _beginning(SAMPLERS, incomplete)


def complete_times(incomplete: str) -> list[str]:
    """Grids of times that begin so."""
    return _beginning(TIMES, incomplete)


def complete_backend(incomplete: str) -> list[str]:
    """Backends that begin so."""
    return _beginning(BACKENDS, incomplete)


def complete_features(incomplete: str) -> list[str]:
    """Features that begin so."""
    return _beginning(FEATURES, incomplete)


def complete_metrics(incomplete: str) -> list[str]:
    """Metrics that begin as the last of a comma list does."""
    done, comma, last = incomplete.rpartition(",")
    return [f"{done}{comma}{name}" for name in _beginning(METRICS + TEXT_METRICS, last)]


def complete_study(incomplete: str) -> list[str]:
    """Studies that begin so."""
    return _beginning(STUDIES, incomplete)


def _beginning(words: list[str] | tuple[str, ...], incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def _yaml_files(incomplete: str) -> list[str]:
    folder = Path(incomplete).parent if not incomplete.endswith("/") else Path(incomplete)
    found = folder.iterdir() if folder.is_dir() else ()
    paths = [str(path) + "/" * path.is_dir() for path in found if path.is_dir() or path.suffix in (".yaml", ".yml")]
    return sorted(path for path in paths if path.startswith(incomplete))
