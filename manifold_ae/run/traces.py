"""Traces for a run: of a world or in a file, and what of them training is not to see."""

import difflib
import tomllib
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from manifold_ae import data, groups
from manifold_ae.data import Traces, worlds
from manifold_ae.data.seeding import generator_for
from manifold_ae.experiments import HAE
from manifold_ae.groups import Group, LieGroup
from manifold_ae.run.fingerprint import fingerprint

__all__ = [
    "TraceData",
    "draw_traces",
    "held_out",
    "load_traces",
    "takes_largest",
    "with_their_steps",
    "world_options",
]


@dataclass(frozen=True)
class TraceData:
    """Traces to train on and to test on, and the world that they come from, if there is one.

    Raises:
        ValueError: if the two parts differ in their group or the shape of observations.
    """

    train: Traces
    test: Traces
    world: worlds.World | None = None

    def __post_init__(self) -> None:
        for name in ("group", "shape"):
            train, test = (getattr(part, name) for part in (self.train, self.test))
            if train != test:
                raise ValueError(f"test has {name} {test!r}: expected {train!r}, as train has")

    @property
    def group(self) -> Group:
        """That of the actions."""
        return self.train.group

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one observation."""
        return self.train.shape

    @property
    def signal(self) -> float:
        """Half the squared distance of an observation from the mean one, on average.

        Raises:
            ValueError: if all observations are the same.
        """
        o = self.train.observations[:1000].flatten(0, 1)
        parts = o.split(64)  # in float64, all of them would be twice as large as the data
        mean = torch.stack([part.double().sum(0) for part in parts]).sum(0) / len(o)
        distance = sum((part.double() - mean).square().sum().item() for part in parts) / len(o)
        if distance <= torch.finfo(o.dtype).eps ** 2 * mean.square().sum().item():
            raise ValueError(
                f"{self.train.name}: all observations are the same, and there is nothing to learn "
                "from them; hand over traces in which something is seen to move"
            )
        return distance / 2

    @property
    def kept(self) -> dict[str, Any] | None:
        """What a run keeps of these traces; None of a world's, which a configuration makes."""
        return None if self.world is not None else self.fingerprint()

    def fingerprint(self) -> dict[str, Any]:
        """By what these traces are known again."""
        parts = {"actions": self.train.actions, "test_actions": self.test.actions}
        test = {"test_observations": self.test.observations}
        return fingerprint(self.train.observations, **parts, **test)

    def labels(self, states: Tensor | None) -> Tensor | None:
        """The hidden angles of states, where they are known."""
        if self.world is None or states is None:
            return None
        circular = [k for k, factor in enumerate(self.world.factors) if factor.circular]
        return self.world.labels(states)[..., circular] if circular else None


def world_options(config: HAE) -> dict[str, Any]:
    """The options of a world that a configuration names, KEY=VALUE each, as values."""
    found = {}
    known = worlds.options(config.data)
    for setting in config.world:
        key, separator, text = setting.partition("=")
        key = key.strip()
        if not separator or key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(
                f"world = {setting!r}: expected KEY=VALUE{hint}; {config.data} has "
                f"{', '.join(known)}"
            )
        found[key] = _option(setting, text.strip(), known[key])
    return found


def _option(setting: str, text: str, default: Any) -> Any:
    """The text of an option as a value of its default's type."""
    if isinstance(default, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    if isinstance(default, str):
        return text
    try:
        value = tomllib.loads(f"value = {text.lower()}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    if isinstance(default, float) and type(value) is int:
        return float(value)
    if type(value) is not type(default):
        raise ValueError(
            f"world = {setting!r}: expected a value like {default!r}, of type "
            f"{type(default).__name__}"
        )
    return value


def load_traces(config: HAE) -> TraceData:
    """The traces that a configuration names: of a world, or in a file."""
    if config.data not in worlds.names():
        if config.data.endswith(".npz"):
            if config.group is None:
                raise ValueError(
                    f"data = {config.data!r}: traces in a file need the group of their actions, as "
                    f"in --group torus:2; there are {', '.join(groups.names())}"
                )
            whole = data.load_traces(config.data, groups.parse(config.group))
            train, test = data.split_random(whole, config.test_fraction, config.data_seed)
            return TraceData(train, test)
        near = difflib.get_close_matches(config.data, worlds.names(), n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(
            f"data = {config.data!r}{hint}: expected a world ({', '.join(worlds.names())}) or "
            "PATH.npz with observations and actions"
        )
    if config.group is not None:
        raise ValueError(f"group = {config.group!r}: {config.data} has a group of its own")
    world = worlds.load(config.data, **world_options(config))
    parts = {}
    test = max(1, round(config.traces * config.test_fraction))
    for part, count in (("train", config.traces), ("test", test)):
        generator = generator_for("traces", part, config.data_seed)
        parts[part] = draw_traces(config, world, count, config.steps, generator)
    if config.hold_out != "none":
        never = held_out(config, world, parts["train"]).any(1)
        unseen = held_out(config, world, parts["test"])[:, 1:]
        if never.all() or unseen.all() or not unseen.any():
            raise ValueError(
                f"hold_out = {config.hold_out!r}: leaves {int((~never).sum())} of {len(never)} "
                f"traces to train on, and {int(unseen.sum())} of {unseen.numel()} test "
                "observations are held out; raise traces, or take fewer steps"
            )
        parts["train"] = parts["train"][~never]
    return TraceData(parts["train"], parts["test"], world)


def with_their_steps(config: HAE, traces: TraceData, before: HAE | None = None) -> HAE:
    """The configuration with as many steps as the traces have, where they are a user's own.

    Arguments:
        before: of a run that goes on, which keeps the number that it was begun with.

    Raises:
        ValueError: if another number was asked for.
    """
    if traces.world is not None:
        return config
    steps = traces.train.steps
    if before is not None:
        return config.replace(steps=before.steps)
    if config.steps not in (HAE.steps, steps):
        raise ValueError(
            f"steps = {config.steps!r}: the traces given have {steps} actions each; leave it out, "
            "or cut them before"
        )
    return config.replace(steps=steps)


def takes_largest(world: worlds.World) -> bool:
    """Whether the actions of a world have a largest angle: of compact Lie groups."""
    return isinstance(world.group, LieGroup) and world.group.is_compact


def draw_traces(
    config: HAE, world: worlds.World, count: int, steps: int, generator: torch.Generator
) -> Traces:
    """Traces of a world, with the largest angle of the configuration where there is one."""
    largest = config.largest if takes_largest(world) else None
    return world.traces(count, steps, generator=generator, largest=largest)


def held_out(config: HAE, world: worlds.World, traces: Traces) -> Tensor:
    """Which observations of traces ``(n, steps + 1)`` training has not seen the like of.

    Those in a combination of factors that is held out; those after an action that is.
    """
    never = torch.zeros(len(traces), traces.steps + 1, dtype=torch.bool)
    if config.hold_out == "actions":
        if traces.is_finite:
            raise ValueError(f"hold_out = 'actions': {world.group!r} is finite; hold out states")
        first = traces.actions[..., 0]
        inside = (first >= config.largest / 2) & (first < 0.75 * config.largest)
        return torch.cat([never[:, :1], inside.cumsum(1) > 0], 1)
    assert traces.states is not None
    values = world.labels(traces.states)
    k = values.shape[-1]
    if k < 2:
        raise ValueError(f"hold_out = 'combinations': {world!r} has one factor")
    cell = (0, 0, *(None,) * (k - 2))
    return data.in_cells(values, [cell], (config.hold_out_bins,) * k, world.ranges)
