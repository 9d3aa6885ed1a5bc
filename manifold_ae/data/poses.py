"""Poses of one thing: a function on the sphere, seen after rotations of it."""

import torch
from torch import Tensor

from manifold_ae.groups import SO3

from ._checks import at_least, deviation, one_of
from .base import Dataset, register
from .drawn import drawn
from .torus import TRANSLATIONS
from .worlds.fields import MOST_DEGREES, Fields

_CHUNK = 4096


@register("poses", "rotations of a function on the sphere, 16x32 points of it, drawn")
def load_poses(
    *,
    seed: int = 0,
    order: int = 3,
    size: int = 16,
    translations: str = "fresh",
    num_train: int = 10_000,
    num_test: int = 2_000,
    noise: float = 0.0,
    picture_seed: int = 0,
) -> Dataset:
    """Return one function on the sphere under uniform rotations; labels are rotation vectors.

    The function is that of `worlds.Fields`, with harmonics of degrees 1 … L, on a grid of latitudes
    and longitudes. No rotation but the identity keeps it, so that the data are a copy of SO(3).

    Arguments:
        seed: Which rotations, and which noise.
        order: L, from 2 to 8: of degree 1 alone, a function is kept by rotations about an axis.
        size: The number of latitudes, at least L + 1; there are twice as many longitudes.
        translations: `"fixed"`, `num_train` poses to train on; or `"fresh"`, new ones at every
            step, by the data set's `draw`: then `train` is a sample to look at and to scale by.
        num_train: The number of poses in `train`.
        num_test: The number of poses in `test`.
        noise: The standard deviation of Gaussian noise on each value.
        picture_seed: Which function.

    Raises:
        ValueError: If an argument is out of its range or is no known name.
    """
    one_of("translations", translations, TRANSLATIONS)
    at_least("order", order, 2)
    if order > MOST_DEGREES:
        raise ValueError(f"order={order!r}: expected at most {MOST_DEGREES}")
    deviation("noise", noise)
    world = Fields(degree=order, size=size, seed=picture_seed)

    def draw(
        n: int,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return `n` new poses `(n, size, 2 size)` and their rotation vectors `(n, 3)`.

        Random numbers are drawn where `generator` lives, values made on `device` (by default the
        same).
        """
        source = generator.device if generator is not None else device
        single = {"dtype": torch.float32, "device": source, "generator": generator}
        rotations = SO3().random(n, **single).to(source if device is None else device)
        x = torch.cat([world.render(some) for some in rotations.split(_CHUNK)])
        if noise:
            x = x + noise * torch.randn(x.shape, **single).to(x.device)
        return x, SO3().log(rotations)

    return drawn(
        "poses",
        draw,
        seed=seed,
        num_train=num_train,
        num_test=num_test,
        fresh=translations == "fresh",
        default_likelihood="gaussian",
        default_scaling="none",
    )
