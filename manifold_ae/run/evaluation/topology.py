"""The topology of a run: of data with known factors by these, of others by samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from manifold_ae.data.given import SEEN
from manifold_ae.data.seeding import generator_for
from manifold_ae.data.torus import PICTURES
from manifold_ae.data.worlds import Fields
from manifold_ae.experiments import VAE
from manifold_ae.manifolds import SO3, FlatTorus, Manifold
from manifold_ae.metrics import Topology, certify_map, certify_samples

if TYPE_CHECKING:
    from manifold_ae.run.delta_vae import VAERun

__all__ = ["FACTORS", "topology"]

#: Rows whose homology is computed.
ROWS = 2000
#: Observations that are encoded at once.
CHUNK = 4096

Render = Callable[[Tensor], Tensor]


def _translations(config: VAE) -> tuple[Manifold, Render]:
    """The two angles by which a periodic picture is translated."""
    picture = PICTURES[config.picture](
        order=config.order, discount=config.discount, seed=config.picture_seed, size=64
    )
    torus = FlatTorus(2)
    return torus, lambda x: picture.translate(torus.to_angles(x))


def _poses(config: VAE) -> tuple[Manifold, Render]:
    """The rotation of a function on the sphere."""
    return SO3(), Fields(degree=config.order, seed=config.picture_seed).render


#: Data whose factors are known → the manifold where they live, and observations at its points.
FACTORS: dict[str, Callable[[VAE], tuple[Manifold, Render]]] = {
    "torus": _translations,
    "poses": _poses,
}


def topology(run: VAERun, *, points: int, landmarks: int) -> Topology:
    """See ``VAERun.topology``."""
    run.model.eval()
    generator = generator_for("topology", run.config.seed)
    known = FACTORS.get(run.dataset_name) if run.config.data == run.dataset_name else None
    if known is None:
        dataset = run.data()
        x = torch.cat([dataset.test, dataset.train])[:ROWS]
        given: dict[str, Any] = {
            name: torch.cat([dataset.test_given[name], value])[:ROWS]
            for name, value in dataset.train_given.items()
            if name in SEEN
        }
        z = torch.from_numpy(run.encode(x, **given)["points"])
        scaled = run.scaled(x).cpu()
        return certify_samples(
            run.model.manifold,
            z,
            scaled,
            landmarks=landmarks,
            missing="mask" if run.model.likelihood.masks else "refuse",
            generator=generator,
        )
    source, render = known(run.config)

    def encode(factors: Tensor) -> Tensor:
        parts = [run.encode(render(part))["points"] for part in factors.split(CHUNK)]
        return torch.cat([torch.from_numpy(part) for part in parts])

    return certify_map(
        encode,
        source,
        run.model.manifold,
        points=points,
        generator=generator,
        dtype=torch.float32,
    )
