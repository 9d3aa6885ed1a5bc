"""Frozen dataclasses to TOML and back, refusing what they do not know.

No torch here: the command line reads a configuration, and its help, without importing it.
"""

import dataclasses
import difflib
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

__all__ = ["COURSES", "NETWORKS", "PADDINGS", "Configuration"]

#: Kinds of encoders and decoders; "circular" for periodic pictures on a flat torus alone.
NETWORKS = ("mlp", "conv", "circular")
#: What lies beyond the border of a picture, as in ``nn.PADDINGS``.
PADDINGS = ("zeros", "circular", "reflect", "replicate")
#: Of the learning rate, as in ``training.Schedule``.
COURSES = ("constant", "cosine", "one-cycle")


class Configuration:
    """Base of the frozen dataclasses that say what is to be run."""

    def _require(
        self,
        *,
        choices: Mapping[str, tuple[str, ...]],
        positive: tuple[str, ...],
        least_zero: tuple[str, ...],
    ) -> None:
        """Refuse fields that are none of their choices, or out of the range of their kind."""
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} = {getattr(self, name)!r}: expected {', '.join(allowed)}")
        for name in positive:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} = {getattr(self, name)!r}: expected a positive number")
        for name in least_zero:
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} = {getattr(self, name)!r}: expected at least 0")
        if getattr(self, "seeds", 1) > 1 and getattr(self, "compile", False):
            raise ValueError(
                f"compile with seeds = {self.seeds}: several runs at once are not compiled; leave "  # type: ignore[attr-defined]
                "one of the two out"
            )
        if getattr(self, "seeds", 1) > 1 and getattr(self, "precision", None) == "16-mixed":
            raise ValueError(
                f"precision = '16-mixed' with seeds = {self.seeds}: gradients are scaled in common "  # type: ignore[attr-defined]
                "there, and one that overflows would stop all; take bf16-mixed or 32-true"
            )

    def _check_network(self, chosen: str) -> None:
        """Refuse what the chosen kind of networks would not look at."""
        own = {"mlp": ("encoder_hidden", "decoder_hidden"), "conv": ("padding",)}
        for kind, names in own.items():
            if kind != chosen:
                self.refuse(names, f"network = {chosen!r} does not have it")

    def check_heeded(self) -> None:
        """Refuse values that nothing would look at, as far as the configuration alone tells.

        For where training begins: a run that was begun is read, and goes on, whatever it has.

        Raises:
            ValueError: which names the field, and says why.
        """

    def refuse(self, names: Iterable[str], why: str) -> None:
        """Raise where one of these fields, which nothing looks at, is not left at its default.

        Raises:
            ValueError: which names the field, and says why.
        """
        for name in names:
            value, default = getattr(self, name), getattr(type(self), name)
            if value != default:
                raise ValueError(
                    f"{name} = {value!r}: {why}; leave it out, or at its default, {default!r}"
                )

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> Self:
        """An instance with the given values in place of the defaults.

        Raises:
            ValueError: for a name that is no field (the nearest is offered), or a value of the
                wrong type.
        """
        hints = typing.get_type_hints(cls)
        fields = {field.name: hints[field.name] for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        checked = {}
        for name, value in values.items():
            if name not in fields:
                near = difflib.get_close_matches(name, fields, n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise ValueError(f"unknown key {name!r}{hint}; there are {', '.join(fields)}")
            checked[name] = _coerce(name, value, fields[name])
        return cls(**checked)

    @classmethod
    def read(cls, path: Path) -> dict[str, Any]:
        """The mapping in a TOML file, checked against the fields."""
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"cannot read configuration {path}: {error}") from error
        cls.from_mapping(values)
        return values

    @classmethod
    def parse_setting(cls, setting: str) -> tuple[str, Any]:
        """``KEY=VALUE`` as a pair, the value read as TOML, or as a string where it is none."""
        key, separator, text = setting.partition("=")
        if not separator or not key.strip():
            raise ValueError(f"expected KEY=VALUE, got {setting!r}")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        return key.strip(), value

    def to_mapping(self) -> dict[str, Any]:
        """Field values; tuples as lists, and no entry for what is None."""
        pairs = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))  # type: ignore[arg-type]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in pairs if v is not None}

    def to_toml(self) -> str:
        """The configuration as a TOML document that ``read`` reads back."""
        return "".join(f"{key} = {_literal(value)}\n" for key, value in self.to_mapping().items())

    def replace(self, **changes: Any) -> Self:
        """A copy with some values changed, checked like ``from_mapping``."""
        return type(self).from_mapping({**self.to_mapping(), **changes})


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ("nan" if value != value else f"{value}")
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        escaped = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in escaped)
        return f'"{escaped}"'
    return "[" + ", ".join(map(_literal, value)) + "]"


def _coerce(name: str, value: Any, hint: Any) -> Any:
    """The value as the field's type, integers passing for floats; a ValueError otherwise."""
    accepted = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    for kind in accepted:
        if kind is type(None) and value is None:
            return None
        if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if kind is int and isinstance(value, int) and not isinstance(value, bool):
            return value
        if kind in (str, bool) and isinstance(value, kind):
            return value
        if typing.get_origin(kind) is tuple and isinstance(value, list | tuple):
            inner = typing.get_args(kind)[0]
            return tuple(_coerce(name, item, inner) for item in value)
    expected = " or ".join(getattr(kind, "__name__", str(kind)) for kind in accepted)
    raise ValueError(f"{name} = {value!r}: expected {expected}")
