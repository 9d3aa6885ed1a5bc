r"""Error of predictions far ahead, beside that of copying and that of autoencoding.

From the first observation o₁ and actions g₁ … g_T a model predicts ô_{t+1} = d(ρ(g_t)…ρ(g₁) h(o₁)).
At horizon t the error is E (ô_{t+1} − o_{t+1})², a mean over traces and values of an observation.
Two errors give it a scale:

- copying, E (o₁ − o_{t+1})²: a model that predicts that nothing moves. A ratio to it below 1 means
  that something was predicted.
- autoencoding, E (d(h(o_{t+1})) − o_{t+1})²: a model that may see what it predicts. A ratio to it
  of 1 means that nothing was lost on the way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from manifold_ae.metrics._checks import finite, same, traces

__all__ = ["HORIZONS", "RolloutErrors", "evaluate_rollout", "rollout_errors"]

HORIZONS = (1, 2, 4, 8, 16, 32, 64, 128)


class _Model(Protocol):
    def encode(self, x: Tensor, /) -> Tensor: ...
    def decode(self, z: Tensor, /) -> Tensor: ...
    def rollout(self, o: Tensor, actions: Tensor, /) -> Tensor: ...


@dataclass(frozen=True)
class RolloutErrors:
    """Mean squared errors per value of an observation, one for every horizon."""

    horizons: tuple[int, ...]
    prediction: tuple[float, ...]
    copying: tuple[float, ...]
    autoencoding: tuple[float, ...]

    @property
    def relative_to_copying(self) -> tuple[float | None, ...]:
        """Prediction over copying; None, undefined, where copying makes no error."""
        return _ratios(self.prediction, self.copying)

    @property
    def relative_to_autoencoding(self) -> tuple[float | None, ...]:
        """Prediction over autoencoding; None, undefined, where autoencoding makes no error."""
        return _ratios(self.prediction, self.autoencoding)

    def as_dict(self) -> dict[str, tuple[int, ...] | tuple[float | None, ...]]:
        """All columns by their names, as JSON takes them."""
        return {
            "horizons": self.horizons,
            "prediction": self.prediction,
            "copying": self.copying,
            "autoencoding": self.autoencoding,
            "relative_to_copying": self.relative_to_copying,
            "relative_to_autoencoding": self.relative_to_autoencoding,
        }

    def __str__(self) -> str:
        names = ("horizon", "prediction", "/ copying", "/ autoencoding")
        lines = ["".join(f"{name:>16}" for name in names)]
        columns = (self.prediction, self.relative_to_copying, self.relative_to_autoencoding)
        for horizon, *row in zip(self.horizons, *columns, strict=True):
            cells = ("–" if value is None else f"{value:.4g}" for value in row)
            lines.append(f"{horizon:>16}" + "".join(f"{cell:>16}" for cell in cells))
        return "\n".join(lines)


def _ratios(errors: Sequence[float], scales: Sequence[float]) -> tuple[float | None, ...]:
    return tuple(e / s if s > 0 else None for e, s in zip(errors, scales, strict=True))


def rollout_errors(
    predicted: Tensor,
    observations: Tensor,
    autoencoded: Tensor,
    *,
    horizons: Sequence[int] = HORIZONS,
) -> RolloutErrors:
    """Errors at those of the horizons that the traces reach.

    Arguments:
        predicted: ô₂ … ô_{T+1}, of shape ``(n, T, *shape)``.
        observations: o₁ … o_{T+1}, of shape ``(n, T + 1, *shape)``.
        autoencoded: d(h(o₁)) … d(h(o_{T+1})), of the shape of the observations.
        horizons: numbers of steps; those above T are left out.

    Raises:
        ValueError: if shapes do not fit, values are not finite, or no horizon is reached.

    Example:
        >>> o = torch.arange(6.0).view(2, 3, 1)
        >>> str(rollout_errors(o[:, 1:] + 0.5, o, o + 0.25, horizons=(1, 2))).split()[-4:]
        ['2', '0.25', '0.0625', '4']
    """
    if predicted.ndim < 2:
        raise ValueError(f"predicted has shape {tuple(predicted.shape)}: expected (n, T, *shape)")
    n, steps, *shape = predicted.shape
    same("observations", observations, (n, steps + 1, *shape), "one more than is predicted")
    same("autoencoded", autoencoded, observations.shape, "that of the observations")
    chosen = _reached(horizons, steps)
    at = torch.tensor(chosen, device=predicted.device)
    predicted = finite("predicted", predicted[:, at - 1])
    autoencoded = finite("autoencoded", autoencoded[:, at])
    first, true = finite("observations", observations[:, :1]), observations[:, at]
    true = finite("observations", true)

    def error(guess: Tensor) -> tuple[float, ...]:
        return tuple((guess - true).square().transpose(0, 1).flatten(1).mean(1).tolist())

    return RolloutErrors(chosen, error(predicted), error(first), error(autoencoded))


def _reached(horizons: Sequence[int], steps: int) -> tuple[int, ...]:
    horizons = tuple(horizons)
    if any(isinstance(h, bool) or not isinstance(h, int) or h < 1 for h in horizons):
        raise ValueError(f"horizons={horizons!r}: expected integers of at least 1")
    chosen = tuple(h for h in horizons if h <= steps)
    if not chosen:
        raise ValueError(f"horizons={horizons!r}: none is reached by traces of {steps} steps")
    return chosen


@torch.no_grad()
def evaluate_rollout(
    model: _Model,
    observations: Tensor,
    actions: Tensor,
    *,
    horizons: Sequence[int] = HORIZONS,
    batch_size: int = 100,
) -> RolloutErrors:
    """The errors of a model with ``encode``, ``decode`` and ``rollout``.

    Only as many steps are rolled out as the largest horizon needs, ``batch_size`` traces at a time.

    Arguments:
        observations: traces of shape ``(n, T + 1, *shape)``.
        actions: of shape ``(n, T, *)``.

    Raises:
        ValueError: as ``rollout_errors``, or if there is not one more observation than actions.
    """
    traces(observations, actions)
    chosen = _reached(horizons, actions.shape[1])
    steps = max(chosen)
    total: dict[str, list[float]] = {}
    for o, a in zip(observations.split(batch_size), actions.split(batch_size), strict=True):
        o, a = o[:, : steps + 1], a[:, :steps]
        predicted = model.rollout(o[:, 0], a)
        autoencoded = model.decode(model.encode(o.flatten(0, 1))).unflatten(0, o.shape[:2])
        part = rollout_errors(predicted, o, autoencoded, horizons=chosen)
        for name in ("prediction", "copying", "autoencoding"):
            sums = total.setdefault(name, [0.0] * len(chosen))
            for k, value in enumerate(getattr(part, name)):
                sums[k] += value * len(o) / len(observations)
    return RolloutErrors(chosen, **{name: tuple(sums) for name, sums in total.items()})
