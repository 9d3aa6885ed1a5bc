"""Groups of a hundred elements and more: what is decided stays, what it takes does not grow."""

import math

import numpy as np
import pytest
import torch

from manifold_ae.groups import finite
from manifold_ae.manifolds import SO3, FlatTorus, Product, Quotient, Sphere, group_action


def turns(*angles: float) -> np.ndarray:
    """A rotation of the planes of consecutive pairs of coordinates."""
    planes = [np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]]) for a in angles]
    matrix = np.zeros((2 * len(planes), 2 * len(planes)))
    for k, plane in enumerate(planes):
        matrix[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] = plane
    return matrix


def test_one_element_of_a_class_is_looked_at():
    first = group_action.conjugates(finite.icosahedral())
    # The identity; turns by a half, by a third, by one and by two fifths.
    assert sorted(np.unique(first, return_counts=True)[1].tolist()) == [1, 12, 12, 15, 20]
    cyclic = group_action.conjugates(finite.cyclic(7))
    assert len(np.unique(cyclic)) == 4


def test_a_large_lens_space_takes_one_decomposition(monkeypatch):
    calls = []
    svd = torch.linalg.svd
    monkeypatch.setattr(torch.linalg, "svd", lambda a: calls.append(a.shape) or svd(a))
    p = 500
    M = Quotient(Sphere(3), [turns(2 * math.pi / p, 2 * math.pi / p)])
    assert (M.order, len(calls)) == (p, 1)
    assert calls[0][0] == p // 2
    assert M.shortest_loop == pytest.approx(2 * math.pi / p)
    # Inverses, of which parallel transport makes use.
    assert M.matrices is not None
    products = M.matrices @ M.matrices[M._inverses.numpy()]
    assert np.abs(products - np.eye(4)).max() < 1e-9


def test_displacements_are_those_of_the_angles():
    M = Quotient(Sphere(3), [turns(2 * math.pi / 9, 8 * math.pi / 9)])
    # Least over the elements and both planes.
    angles = [min(k % 9, -k % 9) for k in range(1, 9)]
    assert M.least_displacement == pytest.approx(2 * math.sin(math.pi * min(angles) / 9), rel=1e-6)


@pytest.mark.parametrize(
    ("cover", "generator"),
    [
        # The 50th power turns one plane alone by half a turn, and fixes the other.
        (Sphere(3), turns(2 * math.pi / 100, 2 * math.pi / 50)),
        (Product(Sphere(2), FlatTorus(1)), np.diag([-1.0, -1, 1, 1, 1]) @ np.eye(5)),
        (FlatTorus(2), np.kron(np.array([[0.0, 1.0], [1.0, 0.0]]), np.eye(2))),
    ],
    ids=["lens", "product", "exchange"],
)
def test_a_fixed_point_is_found_in_a_power(cover, generator):
    with pytest.raises(ValueError, match="the action is not free"):
        Quotient(cover, [generator])


@pytest.mark.slow
def test_a_large_dihedral_group_of_rotations():
    assert Quotient(SO3(), finite.dihedral(60)).order == 120
