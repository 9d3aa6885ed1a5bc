"""Decoders on quotients do not depend on the representative, whatever their weights."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from manifold_ae.groups import finite
from manifold_ae.manifolds import SO3, KleinBottle, Quotient, RealProjective, Sphere
from manifold_ae.models import DeltaVAE
from manifold_ae.nn import MLP


def spin(p: int, q: int) -> np.ndarray:
    """The generator of the group of the lens space L(p, q)."""
    matrix = np.zeros((4, 4))
    for k, angle in enumerate((2 * math.pi / p, 2 * math.pi * q / p)):
        c, s = math.cos(angle), math.sin(angle)
        matrix[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = [[c, -s], [s, c]]
    return matrix


class Counted(nn.Module):
    """A decoder that tells how many latents of a batch it has been given."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.inner, self.seen = MLP(size, (16,)), 0

    @property
    def out_features(self) -> int:
        return self.inner.out_features

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        self.seen += z.shape[:-1].numel()
        return self.inner(z)


@pytest.mark.parametrize(
    ("manifold", "passes"),
    [
        (RealProjective(2), 1),
        (RealProjective(3), 1),
        (KleinBottle(), 1),
        (Quotient(SO3(), finite.dihedral(2)), None),
        (Quotient(Sphere(3), [spin(5, 2)]), 5),
    ],
    ids=str,
)
def test_every_representative_is_decoded_to_the_same(manifold, passes, dtype, generator):
    decoder = Counted(manifold.embedding_size)
    vae = DeltaVAE(manifold, MLP(6, (16,)), decoder).to(dtype)
    z = manifold.random_uniform(7, generator=generator, dtype=dtype)
    decoder.seen = 0
    expected = vae.decode(z)
    if passes is not None:
        assert decoder.seen == 7 * passes
    slack = 100 * torch.finfo(dtype).eps
    for image in manifold.images(z):
        assert (vae.decode(image) - expected).abs().max().item() <= slack
    assert expected.std(0).max() > 1e-3  # and it does depend on the point
