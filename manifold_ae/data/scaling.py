"""Affine scalings `y = (x - shift) / scale`, fitted on the training part alone.

They are kept in double precision and rounded when applied. Fitting on the test part too would leak
it into what the model is compared by.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ._checks import one_of
from .columns import MISSING

_CHUNK = 4096
#: Columns that are sorted at once.
_COLUMNS = 64
#: Between the median and a quartile of a normal law of standard deviation 1.
_NORMAL_QUARTILE = 0.6744897501960817

ValueRange = tuple[float, float] | None
_Fit = Callable[[Tensor, ValueRange], tuple[Tensor, Tensor]]


def _number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def _filled(x: Tensor, value: float) -> Tensor:
    """x with a number in place of every NaN."""
    absent = x.isnan()
    return torch.where(absent, value, x) if absent.any() else x


def _none(x: Tensor, value_range: ValueRange) -> tuple[Tensor, Tensor]:
    return _number(0.0), _number(1.0)


def _range(x: Tensor, value_range: ValueRange) -> tuple[Tensor, Tensor]:
    if value_range is None:
        value_range = _filled(x, math.inf).min().item(), _filled(x, -math.inf).max().item()
    low, high = value_range
    return _number(low), _number(high - low)


def _max(x: Tensor, value_range: ValueRange) -> tuple[Tensor, Tensor]:
    return _number(0.0), _number(_filled(x, 0.0).abs().max().item())


def _standard(x: Tensor, value_range: ValueRange) -> tuple[Tensor, Tensor]:
    # two passes in double precision, a chunk of rows at a time: the usual formula in float32
    # loses a small spread on a large mean
    count = total = squares = torch.zeros(x.shape[1:], dtype=torch.float64)
    for chunk in x.split(_CHUNK):
        total = total + chunk.cpu().double().nansum(0)
        count = count + (~chunk.isnan()).sum(0).cpu()
    mean = total / count
    for chunk in x.split(_CHUNK):
        squares = squares + (chunk.cpu().double() - mean).square().nansum(0)
    # told from the values: a mean that is off by rounding leaves a constant feature some spread
    constant = (_filled(x, -math.inf).amax(0) == _filled(x, math.inf).amin(0)).cpu()
    return mean, torch.where(constant, 0.0, (squares / count).sqrt())


def _robust(x: Tensor, value_range: ValueRange) -> tuple[Tensor, Tensor]:
    flat = x.reshape(len(x), -1)
    parts = [_middle_and_spread(part.cpu().double()) for part in flat.split(_COLUMNS, 1)]
    middle, spread = torch.cat(parts, 1).reshape(2, *x.shape[1:])
    return middle, spread


def _middle_and_spread(x: Tensor) -> Tensor:
    low, middle, high = _quartiles(x)
    spread = (high - low) / (2 * _NORMAL_QUARTILE)
    alike = spread == 0
    if alike.any():
        # where half of all values are one, by those that are not
        away = (x[:, alike] - middle[alike]).abs()
        typical = _quartiles(away.masked_fill(away == 0, math.nan))[1]
        spread[alike] = typical.nan_to_num(0.0) / _NORMAL_QUARTILE
    return torch.stack([middle, spread])


def _quartiles(x: Tensor) -> Tensor:
    """Quartiles of every column of x `(n, k)`, without its NaN, linear between values: `(3, k)`."""
    # torch.nanquantile takes no more than 2^24 values; NaN are sorted last
    ordered, count = x.sort(0).values, (~x.isnan()).sum(0).clamp_min(1)
    places = torch.tensor([[0.25], [0.5], [0.75]], dtype=torch.float64) * (count - 1)
    below = places.floor().long()
    above = torch.minimum(below + 1, count - 1)
    return ordered.gather(0, below).lerp(ordered.gather(0, above), places - below)


def _overall(x: Tensor, value_range: ValueRange) -> tuple[Tensor, Tensor]:
    # what features have in common: the mean of their means, and of their variances about it
    mean, spread = _standard(x, value_range)
    whole = mean.mean()
    return whole, (spread.square() + (mean - whole).square()).mean().sqrt()


KINDS: dict[str, _Fit] = {
    "none": _none,
    "range": _range,
    "standard": _standard,
    "robust": _robust,
    "max": _max,
    "overall": _overall,
}


@dataclass(frozen=True, eq=False, repr=False)
class Scaling:
    """An invertible scaling of raw values.

    Arguments:
        kind: `"none"`; `"range"`, to [0, 1]; `"standard"`, each feature to mean 0 and standard
            deviation 1; `"robust"`, each feature to median 0 and as far between its quartiles as
            a normal law of standard deviation 1 is, whatever outliers there are (where half of the
            values are one, by the distances of the others from it); `"max"`, to a
            greatest magnitude of 1; `"overall"`, all values together to mean 0 and standard
            deviation 1, so that a pixel that hardly varies is not blown up.
        shift: Subtracted first, with shape `()` or the shape of one value, float64.
        scale: Divided by then, with shape `()` or the shape of one value, float64.

    Example:
        >>> x = torch.tensor([[0.0, 5.0], [2.0, 5.0]])
        >>> scaling = Scaling.fit("standard", x)
        >>> scaling.apply(x)
        tensor([[-1.,  0.],
                [ 1.,  0.]])
    """

    kind: str
    shift: Tensor
    scale: Tensor

    @classmethod
    def fit(
        cls,
        kind: str,
        train: Tensor,
        value_range: ValueRange = None,
        *,
        missing: str = "refuse",
    ) -> "Scaling":
        """Return the scaling of a kind that suits the training part.

        What has no spread (a constant feature, data that are all zero) keeps its unit: scale 1.

        Arguments:
            kind: One of `KINDS`: `"none"`, `"range"`, `"standard"`, `"robust"`, `"max"`,
                `"overall"`.
            train: The training part, with shape `(n, *shape)`.
            value_range: The least and greatest value possible. `"range"` maps these to 0 and 1, and
                takes the least and the greatest of `train` if they are not known.
            missing: `"mask"` if NaN stands for a value that is missing: it is fitted to the others.

        Raises:
            ValueError: If the kind is unknown, `train` is empty or not finite, a feature has no
                value, the range is reversed, or a spread is too small or too large for float32.
        """
        one_of("kind", kind, KINDS)
        masked = one_of("missing", missing, MISSING) == "mask"
        usable = ~train.isinf() if masked else train.isfinite()
        if train.numel() == 0 or not usable.all() or (masked and train.isnan().all(0).any()):
            raise ValueError(
                f"train has shape {tuple(train.shape)} and must have values, all of them finite"
                + (", and some of every feature" if masked else "")
            )
        if value_range is not None and not value_range[0] < value_range[1]:
            raise ValueError(f"value_range={value_range}: expected the least value, the greatest")
        shift, scale = KINDS[kind](train, value_range)
        scale = torch.where(scale == 0, 1.0, scale)
        limits = torch.finfo(torch.float32)
        if not ((scale >= limits.tiny) & (scale <= limits.max)).all():
            raise ValueError(
                f"train has a spread between {scale.min().item():g} and {scale.max().item():g}: "
                f"expected {limits.tiny:g} to {limits.max:g}; change the unit of the data"
            )
        return cls(kind, shift, scale)

    def apply(self, x: Tensor) -> Tensor:
        """Return `(x - shift) / scale`, with shape `(*, *shape)`, dtype and device those of `x`.

        Raises:
            ValueError: If the scaling was fitted to values of another shape.
        """
        if self.kind == "none":
            return x
        return (x - self._like(self.shift, x)) / self._like(self.scale, x)

    def invert(self, y: Tensor) -> Tensor:
        """Return `y · scale + shift`, with shape `(*, *shape)`, dtype and device those of `y`.

        Raises:
            ValueError: If the scaling was fitted to values of another shape.
        """
        if self.kind == "none":
            return y
        return y * self._like(self.scale, y) + self._like(self.shift, y)

    def state_dict(self) -> dict[str, Tensor | str]:
        """Return what `torch.save` keeps, and `torch.load` reads with `weights_only=True`."""
        return {"kind": self.kind, "shift": self.shift, "scale": self.scale}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor | str]) -> "Scaling":
        """Return the scaling that `state_dict` was taken from.

        Raises:
            ValueError: If an entry is missing, or is not what `state_dict` puts there.
        """
        kind, shift, scale = state.get("kind"), state.get("shift"), state.get("scale")
        if not (isinstance(kind, str) and isinstance(shift, Tensor) and isinstance(scale, Tensor)):
            raise ValueError(
                f"state has the entries {sorted(state)}: expected kind, a string, "
                f"and shift and scale, tensors"
            )
        return cls(one_of("kind", kind, KINDS), shift.cpu().double(), scale.cpu().double())

    @staticmethod
    def _like(value: Tensor, x: Tensor) -> Tensor:
        if x.ndim < value.ndim or x.shape[x.ndim - value.ndim :] != value.shape:
            fitted = ", ".join(str(length) for length in value.shape)
            raise ValueError(
                f"got values of shape {tuple(x.shape)}: expected (*, {fitted}), "
                f"as the scaling was fitted to"
            )
        # first the dtype: some devices have no float64
        return value.to(x.dtype).to(x.device)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Scaling)
            and self.kind == other.kind
            and torch.equal(self.shift, other.shift)
            and torch.equal(self.scale, other.scale)
        )

    def __hash__(self) -> int:
        return hash((self.kind, tuple(self.shift.shape)))

    def __repr__(self) -> str:
        if self.shift.ndim:
            return f"Scaling({self.kind!r}, shape={tuple(self.shift.shape)})"
        return f"Scaling({self.kind!r}, shift={self.shift:g}, scale={self.scale:g})"
