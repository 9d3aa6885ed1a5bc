"""What cannot be divided, or by what: refused at once, in words that name the way out."""

import math

import numpy as np
import pytest
import torch

from manifold_ae.manifolds import FlatTorus, Product, Quotient, Sphere, Submanifold
from manifold_ae.numerics import normalise


def turn(n: int) -> np.ndarray:
    """A rotation of both planes of ℝ⁴ by the n-th part of a turn: free on S³."""
    c, s = math.cos(2 * math.pi / n), math.sin(2 * math.pi / n)
    return np.kron(np.eye(2), np.array([[c, -s], [s, c]]))


def test_what_has_no_distance_cannot_be_divided():
    sphere = Submanifold((3,), normalise, name="mine", volume=4 * math.pi)
    for cover in (sphere, Product(FlatTorus(1), sphere)):
        with pytest.raises(ValueError, match=r"cover = .*'mine'.* has no geodesic distance"):
            Quotient(cover, [-np.eye(math.prod(cover.ambient_shape))])


def test_rounded_matrices_are_called_so():
    with pytest.raises(ValueError, match=r"leads off the manifold.*needed to 1e-08, so in float64"):
        Quotient(Sphere(3), [turn(5).astype(np.float32)])
    with pytest.raises(ValueError, match=r"leads off the manifold, by \S+ at the point [^;]*$"):
        Quotient(Sphere(3), [2 * turn(5)])


def test_complex_matrices_are_refused():
    with pytest.raises(ValueError, match="dtype complex128: linear actions are real"):
        Quotient(Sphere(2), [-np.eye(3) * (1 + 1j)])


def test_actions_come_in_any_iterable_but_not_alone():
    M = Quotient(Sphere(2), (matrix for matrix in [-np.eye(3)]))  # type: ignore[arg-type]
    assert Quotient(Sphere(2), -torch.eye(3).unsqueeze(0)) == M
    with pytest.raises(ValueError, match="must be a list"):
        Quotient(Sphere(2), lambda x: -x)  # type: ignore[arg-type]
