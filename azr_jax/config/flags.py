"""From a recipe file and `--config.x.y=z` flags to a config that is known to be good, or a list of what is wrong.

All problems are found before any device is touched and reported together. What depends on the model's shape and the
devices is checked in run/build.py, which knows them.
"""

from __future__ import annotations

import importlib.util
import json
from difflib import get_close_matches
from typing import Any

from ml_collections import ConfigDict  # pyright: ignore[reportMissingTypeStubs]

from azr_jax.config import cross_checks, recipes
from azr_jax.config.presets import PRESETS
from azr_jax.config.schema import RULES, Config, ConfigError


def load(path: str, overrides: dict[str, str]) -> tuple[Config, list[str]]:
    """The recipe with the overrides applied, its preset filled in, and everything that is wrong with it."""
    config = read_recipe(path)
    problems = _apply(config, overrides)
    problems += check(config)
    if config.get("preset") in PRESETS:
        fill_preset(config)
        problems += cross_checks.problems(config) if not problems else []
    return config, problems


def read_recipe(path: str) -> Config:
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


def flatten(config: Config) -> dict[str, Any]:
    """{"learner.lr": 1e-6, ...}, in the order of the recipe."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            flat.update({f"{key}.{inner}": leaf for inner, leaf in flatten(value).items()})
        else:
            flat[key] = value
    return flat


def put(config: Config, field: str, value: object) -> None:
    *path, name = field.split(".")
    for part in path:
        config = config[part]
    with config.ignore_type():
        config[name] = value


def _apply(config: Config, overrides: dict[str, str]) -> list[str]:
    problems: list[str] = []
    for field, given in overrides.items():
        rule = RULES.get(field)
        if rule is None:
            near = get_close_matches(field, RULES, n=1)
            inside = [name for name in RULES if name.startswith(field + ".")]
            hint = f"did you mean {near[0]}?" if near else "fields are listed in configs/base.py"
            problems.append(
                f"--config.{field}={given}: no such field; {('its fields: ' + ', '.join(inside)) if inside else hint}"
            )
            continue
        try:
            put(config, field, rule.parse(given))
        except (ValueError, KeyError, SyntaxError):
            problems.append(f"--config.{field}={given}: should be {rule.wanted}")
    return problems


def check(config: Config) -> list[str]:
    """Each field by itself: known, of the right type, in range. None is left to the preset."""
    problems: list[str] = []
    flat = flatten(config)
    for field, value in flat.items():
        rule = RULES.get(field)
        if rule is None:
            near = get_close_matches(field, RULES, n=1)
            problems.append(f"{field}={value!r}: no such field" + (f"; did you mean {near[0]}?" if near else ""))
        elif not rule.good(value) and not (value is None and field in PRESETS["paper"]):
            problems.append(f"{field}={value!r}: should be {rule.wanted}")
    problems += [
        f"{field}: the recipe does not have this field; start from configs/base.py"
        for field in RULES
        if field not in flat
    ]
    return problems


def fill_preset(config: Config) -> None:
    flat = flatten(config)
    for field, value in PRESETS[config.preset].items():
        if field in flat and flat[field] is None:
            put(config, field, value)


def diff(config: Config, base: Config) -> list[tuple[str, Any, Any]]:
    """(field, value of base, value here) where they differ. Both with their preset filled in."""
    old = flatten(base)
    return [(field, old.get(field), value) for field, value in flatten(config).items() if old.get(field) != value]


def to_json(config: Config) -> str:
    return json.dumps(config.to_dict(), indent=2) + "\n"


def from_json(written: str) -> Config:
    def with_tuples(value: Config) -> Config:  # JSON has no tuples
        if isinstance(value, dict):
            return {key: with_tuples(inner) for key, inner in value.items()}  # pyright: ignore[reportUnknownVariableType]
        return tuple(value) if isinstance(value, list) else value  # pyright: ignore

    return ConfigDict(with_tuples(json.loads(written)))
