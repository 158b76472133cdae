"""From a recipe file and `--config.x.y=z` flags to a config that is known to be good, or a list of what is wrong.

All problems are found before any device is touched and reported together. What depends on the model's shape and the
devices is checked in run/build.py, which knows them.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, is_dataclass, replace
from difflib import get_close_matches
from typing import Any, TypeAlias, TypeVar, cast

from ml_collections import ConfigDict  # pyright: ignore[reportMissingTypeStubs]

from azr_jax.config import cross_checks, recipes
from azr_jax.config.schema import OVERLAPPED, PRESETS, RULES, Config, ConfigError

RecipeDict: TypeAlias = Any  # an ml_collections.ConfigDict: what is in it is known only when it has become a Config
T = TypeVar("T")
LEFT_OPEN = (*PRESETS["paper"], *OVERLAPPED)


def load(path: str, overrides: dict[str, str]) -> tuple[Config, list[str]]:
    """What the recipe with the overrides resolves into, its preset filled in, and everything that is wrong with it."""
    recipe = read_recipe(path)
    problems = _apply(recipe, overrides)
    problems += check(recipe)
    filled = flatten(recipe)
    stale = filled.get("pipeline.mode") == "overlapped" and filled.get("pipeline.staleness") != 0
    stale &= filled.get("learner.old_logprobs") != "sampler"  # there one ratio stands for clip and weight
    by_mode = {field: values[stale] for field, values in OVERLAPPED.items()}
    for field, value in (PRESETS.get(filled.get("preset", ""), {}) | by_mode).items():
        if field in filled and filled[field] is None:
            put(recipe, field, value)
    config = resolve(recipe.to_dict())
    return config, problems or cross_checks.problems(config)


def as_config_dict(config: Config) -> RecipeDict:
    """For recipes: what a preset or the pipeline's mode fills in is None there."""
    recipe = ConfigDict(asdict(config))
    for field in LEFT_OPEN:
        put(recipe, field, None)
    return recipe


def resolve(given: Mapping[str, Any]) -> Config:
    """What is not given has the paper's value; what no section has is left out: `check` names both."""
    return _resolve(Config, given)


def _resolve(section: type[T], given: Mapping[str, Any]) -> T:
    values: dict[str, Any] = {}
    for field in fields(cast("Any", section)):
        value, default = given.get(field.name, field.default), cast("object", field.default)
        if is_dataclass(default):
            value = _resolve(type(default), cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else default
        values[field.name] = tuple(cast("list[Any]", value)) if isinstance(value, list) else value
    return section(**values)


def replaced(config: Config, field: str, value: object) -> Config:
    """The config with another value of `learner.lr`, say."""
    *path, name = field.split(".")
    sections: list[Any] = [config]
    for part in path:
        sections.append(getattr(sections[-1], part))
    for section, part in zip(reversed(sections), reversed([*path, name]), strict=True):
        value = replace(section, **{part: value})
    return cast("Config", value)


def read_recipe(path: str) -> RecipeDict:
    """Runs the recipe file and returns its get_config()."""
    file = recipes.find(path)
    if file is None:
        raise ConfigError(
            [f"--config={path}: no such file here, nor among the recipes of azr_jax: {', '.join(recipes.known())}"]
        )
    recipes.make_importable(file)
    spec = importlib.util.spec_from_file_location(f"recipe_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return module.get_config()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError([f"--config={path}: the recipe does not load: {type(error).__name__}: {error}"]) from error


def flatten(config: Config | RecipeDict) -> dict[str, Any]:
    """{"learner.lr": 1e-6, ...}, in the order of the names. Of a recipe also what is no field."""
    return dict(_leaves(asdict(config) if isinstance(config, Config) else config))


def _leaves(section: RecipeDict, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in sorted(section.items()):
        if isinstance(value, (dict, ConfigDict)):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield path + name, value


def put(config: RecipeDict, field: str, value: object) -> None:
    *path, name = field.split(".")
    for part in path:
        config = config[part]
    with config.ignore_type():
        config[name] = value


def _apply(config: RecipeDict, overrides: dict[str, str]) -> list[str]:
    problems: list[str] = []
    for field, given in overrides.items():
        rule = RULES.get(field)
        if rule is None:
            near = get_close_matches(field, RULES, n=1)
            inside = [name for name in RULES if name.startswith(field + ".")]
            hint = f"did you mean {near[0]}?" if near else "fields are listed in azr_jax/config/schema.py"
            problems.append(
                f"--config.{field}={given}: no such field; {('its fields: ' + ', '.join(inside)) if inside else hint}"
            )
            continue
        try:
            put(config, field, rule.parse(given))
        except (ValueError, KeyError, SyntaxError):
            problems.append(f"--config.{field}={given}: should be {rule.wanted}")
    return problems


def check(config: RecipeDict) -> list[str]:
    """Each field by itself: known, of the right type, in range. None is left to the preset."""
    problems: list[str] = []
    flat = flatten(config)
    for field, value in flat.items():
        rule = RULES.get(field)
        if rule is None:
            near = get_close_matches(field, RULES, n=1)
            problems.append(f"{field}={value!r}: no such field" + (f"; did you mean {near[0]}?" if near else ""))
        elif not rule.good(value) and not (value is None and field in LEFT_OPEN):
            problems.append(f"{field}={value!r}: should be {rule.wanted}")
    problems += [
        f"{field}: the recipe does not have this field; start from configs/base.py"
        for field in RULES
        if field not in flat
    ]
    return problems


def diff(config: Config, base: Config | RecipeDict) -> list[tuple[str, Any, Any]]:
    """(field, value of base, value here) where they differ. Both with their preset filled in."""
    old = flatten(base)
    return [(field, old.get(field), value) for field, value in flatten(config).items() if old.get(field) != value]


def to_json(config: Config) -> str:
    return json.dumps(asdict(config), indent=2, sort_keys=True) + "\n"


def from_json(written: str) -> dict[str, Any]:
    """As it was written, by whatever version: to be flattened, or resolved."""

    def with_tuples(value: object) -> object:  # JSON has no tuples
        if isinstance(value, dict):
            return {key: with_tuples(inner) for key, inner in cast("dict[str, Any]", value).items()}
        return tuple(cast("list[Any]", value)) if isinstance(value, list) else value

    return cast("dict[str, Any]", with_tuples(json.loads(written)))
