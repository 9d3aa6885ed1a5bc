"""Where sequences of exponentials take vectors: one node, and the same by nodes of their own."""

import pytest
import torch
from torch import Tensor

from manifold_ae.groups import SO3, LearnedRepresentation, Torus, paths
from manifold_ae.groups.exponentials import entries_of, exp_block, matrix_of

KINDS: list[tuple[int, bool]] = [(2, True), (3, True), (2, False), (1, False), (4, True)]
NODES: dict[str, tuple[int, bool]] = {
    "planes": (2, True),
    "space": (3, True),
    "general": (2, False),
}


def drawn(kind: tuple[int, bool], batch: tuple[int, ...], steps: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shape = (entries_of(*kind), *batch, steps)
    entries = torch.randn(shape, dtype=torch.float64, generator=generator)
    return entries, torch.randn(kind[0], *batch, dtype=torch.float64, generator=generator)


def by_matrices(entries: Tensor, z: Tensor, size: int, antisymmetric: bool) -> Tensor:
    """The same by torch's exponential, step by step."""
    R = torch.linalg.matrix_exp(matrix_of(entries.movedim(0, -1), size, antisymmetric))
    z, path = z.movedim(0, -1), []
    for t in range(R.shape[-3]):
        z = torch.einsum("...ij,...j->...i", R[..., t, :, :], z)
        path.append(z)
    return torch.stack(path, -2)


@pytest.mark.parametrize("batch", [(), (5,), (2, 3)])
@pytest.mark.parametrize("steps", [1, 2, 7, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_against_the_generic_exponential(kind, steps, batch, dtype, tolerance):
    entries, z = drawn(kind, batch, steps)
    entries /= steps**0.5
    exact = [x.clone().requires_grad_() for x in (entries, z)]
    found = [x.to(dtype, copy=True).requires_grad_() for x in (entries, z)]
    size, antisymmetric = kind
    expected = by_matrices(exact[0], exact[1], size, antisymmetric)
    path = paths.along(found[0], found[1], size, antisymmetric)
    assert path.dtype == dtype
    assert path.shape == (*batch, steps, kind[0])
    assert (path - expected).abs().max() <= 30 * tolerance * expected.abs().max()
    weights = torch.linspace(1, 2, path.numel(), dtype=torch.float64).view_as(path)
    (weights * expected).sum().backward()
    (weights.to(dtype) * path).sum().backward()
    for mine, theirs in zip(found, exact, strict=True):
        assert mine.grad is not None
        assert theirs.grad is not None
        gap = (mine.grad - theirs.grad).abs().max()
        assert gap <= 100 * tolerance * theirs.grad.abs().max()


@pytest.mark.parametrize("scale", [0.0, 1e-12, 1.0])
@pytest.mark.parametrize("name", NODES)
def test_derivatives_are_right_twice(name, scale):
    kind = NODES[name]
    entries, z = drawn(kind, (2,), 3)
    leaves = (scale * entries).requires_grad_(), z.requires_grad_()

    def path(entries, z):
        return paths.along(entries, z, *kind)

    assert torch.autograd.gradcheck(path, leaves)
    assert torch.autograd.gradgradcheck(path, leaves)


@pytest.mark.parametrize("name", NODES)
def test_what_needs_no_derivative_has_none(name):
    kind = NODES[name]
    entries, z = drawn(kind, (4,), 2)
    (alone,) = torch.autograd.grad(paths.along(entries.requires_grad_(), z, *kind).sum(), entries)
    loss = paths.along(entries, z.requires_grad_(), *kind).sum()
    both, by_z = torch.autograd.grad(loss, (entries, z))
    assert torch.equal(alone, both)
    (of_z,) = torch.autograd.grad(paths.along(entries.detach(), z, *kind).sum(), z)
    assert torch.allclose(of_z, by_z, atol=1e-14)


@pytest.mark.parametrize("name", NODES)
def test_torch_func_takes_the_same_path(name):
    kind = NODES[name]
    entries, z = drawn(kind, (3,), 2)

    def loss(entries):
        return paths.along(entries, z, *kind).square().mul(z[0, 0]).sum()

    (slope,) = torch.autograd.grad(loss(entries.requires_grad_()), entries)
    assert torch.allclose(torch.func.grad(loss)(entries.detach()), slope, atol=1e-13)
    many = torch.stack([entries.detach(), -entries.detach()])
    by_vmap = torch.func.vmap(torch.func.grad(loss))(many)
    assert torch.allclose(by_vmap[0], slope, atol=1e-13)
    path = paths.along(entries, z, *kind)
    rows = torch.eye(path.numel(), dtype=torch.float64).view(-1, *path.shape)
    (batched,) = torch.autograd.grad(path, entries, rows, is_grads_batched=True, retain_graph=True)
    for row, gradient in zip(rows, batched, strict=True):
        (single,) = torch.autograd.grad(path, entries, row, retain_graph=True)
        assert torch.allclose(gradient, single, atol=1e-14)


def test_many_gradients_at_once_of_a_block():
    entries = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    value = exp_block(entries, 2, False)
    rows = torch.eye(12, dtype=torch.float64).view(12, 3, 2, 2)
    (batched,) = torch.autograd.grad(value, entries, rows, is_grads_batched=True, retain_graph=True)
    for row, gradient in zip(rows, batched, strict=True):
        (single,) = torch.autograd.grad(value, entries, row, retain_graph=True)
        assert torch.allclose(gradient, single, atol=1e-14)


@pytest.mark.parametrize("name", NODES)
def test_batches_broadcast(name):
    kind = NODES[name]
    entries, z = drawn(kind, (3,), 2)
    many = torch.randn(kind[0], 5, 3, dtype=torch.float64)
    found = paths.along(entries, many, *kind)
    for n in range(5):
        assert torch.allclose(found[n], paths.along(entries, many[:, n], *kind), atol=1e-14)
    one = paths.along(entries, z[:, :1], *kind)
    assert torch.allclose(one[1], paths.along(entries[:, 1], z[:, 0], *kind), atol=1e-14)


def test_large_entries_are_no_nan(dtype):
    entries = torch.tensor([[-5.0, 0.0, 0.0, -300.0], [0.0, -1e4, 1e4, 0.0]], dtype=dtype)
    leaf = entries.mT.unsqueeze(-1).contiguous().requires_grad_()
    path = paths.along(leaf, torch.ones(2, 2, dtype=dtype), 2, False)
    path.sum().backward()
    far = torch.full((3, 1, 1), 1e30, dtype=torch.float32, requires_grad=True)
    turned = paths.along(far, torch.ones(3, 1), 3, True)
    turned.sum().backward()
    for value in (path, leaf.grad, turned, far.grad):
        assert value is not None
        assert torch.isfinite(value).all()


@pytest.mark.parametrize(
    "arguments",
    [
        (Torus(2), {"blocks": [2, 2]}),
        (SO3(), {"blocks": [3]}),
        (Torus(1), {"blocks": [2], "orthogonal": False}),
        (SO3(), {"blocks": [3, 2, 3, 1], "orthogonal": False, "free": 2}),
        (Torus(2), {"blocks": [2, 1, 2, 3]}),
        (Torus(2), {"blocks": "soft", "size": 4, "phi": "mlp", "skip": True}),
    ],
)
def test_rollouts_of_representations_are_products_of_their_matrices(arguments):
    group, options = arguments
    torch.manual_seed(0)
    rho = LearnedRepresentation(group, **options).double()
    X, z = torch.randn(6, 3, group.dim).double(), torch.randn(6, rho.size).double()
    found, moved = rho.rollout(X, z), z
    for t in range(3):
        moved = torch.einsum("nij,nj->ni", rho(X[:, t]), moved)
        assert torch.allclose(found[:, t], moved, atol=1e-13)


def test_an_output_may_be_changed_in_place():
    entries, z = drawn((2, True), (3,), 2)
    path = paths.along(entries.requires_grad_(), z, 2, True)
    expected = torch.autograd.grad(path.mul(2).sum(), entries, retain_graph=True)[0]
    path.mul_(2)
    assert torch.allclose(torch.autograd.grad(path.sum(), entries)[0], expected)
