"""Statistics of latents, and geomstats as far as it has our manifolds."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from catalogue import MANIFOLDS, over, points
from sklearn.decomposition import PCA

from manifold_ae import interop
from manifold_ae.interop.spaces import _geomstats
from manifold_ae.manifolds import (
    SO3,
    EmbeddedTorus,
    Euclidean,
    FlatTorus,
    KleinBottle,
    Product,
    Quotient,
    RealProjective,
    Revolution,
    Sphere,
)

THEIRS = (
    Euclidean(3),
    Sphere(1),
    Sphere(2),
    Sphere(5),
    FlatTorus(1),
    FlatTorus(2),
    SO3(),
    RealProjective(1),
    RealProjective(2),
    RealProjective(3),
    Product(Sphere(2), FlatTorus(2)),
    Product(SO3(), Euclidean(2), RealProjective(2)),
)
QUICK = tuple(M for M in MANIFOLDS if not isinstance(M, Revolution))


def near(M, centre, n, size, generator):
    """Points about a centre: exp of tangent vectors of normal coordinates."""
    noise = torch.randn(n, *M.ambient_shape, generator=generator, dtype=torch.float64)
    return M.expmap(centre.expand_as(noise), size * M.proju(centre.expand_as(noise), noise))


# ---- geomstats ----------------------------------------------------------------------------------


@over(THEIRS)
def test_distances_and_maps_are_theirs(manifold, generator):
    x, y = (points(manifold, 12, generator=generator, dtype=torch.float64) for _ in range(2))
    # Short of the cut locus, where neither logarithm is the only one.
    y = manifold.expmap(x, 0.8 * manifold.logmap(x, y))
    metric = interop.space(manifold).metric
    a, b = interop.to_geomstats(manifold, x), interop.to_geomstats(manifold, y)
    assert metric.dist(a, b) == pytest.approx(manifold.dist(x, y).numpy(), abs=1e-7)
    half = interop.from_geomstats(manifold, metric.exp(0.5 * metric.log(b, a), a))
    ours = manifold.expmap(x, 0.5 * manifold.logmap(x, y))
    assert manifold.dist(half, ours).max() < 1e-7
    back = interop.from_geomstats(manifold, a)
    assert back.shape == x.shape
    assert manifold.dist(back, x).max() < 1e-7
    assert interop.space(manifold).belongs(a).all()


@pytest.mark.parametrize(
    "manifold", [KleinBottle(), EmbeddedTorus(), Quotient(Sphere(3), [-np.eye(4)])], ids=repr
)
def test_spaces_that_they_lack_are_refused_and_another_way_is_named(manifold, generator):
    x = points(manifold, 10, generator=generator)
    for call in (
        lambda: interop.space(manifold),
        lambda: interop.to_geomstats(manifold, x),
        lambda: interop.space(Product(Sphere(2), manifold) if manifold.is_cover else manifold),
    ):
        with pytest.raises(
            NotImplementedError, match=r"geomstats has no .* of this module need none"
        ):
            call()


IMPORT = """
import logging, random, sys, warnings
import numpy, torch
import manifold_ae as mae
mae.interop.frechet_mean(mae.manifolds.Sphere(2), torch.eye(3))
before = set(vars(numpy)), torch.get_default_dtype(), torch.get_rng_state().tolist()
filters, handlers = list(warnings.filters), list(logging.getLogger().handlers)
errors, state = numpy.geterr(), random.getstate()
drawn = numpy.random.get_state()[1].tolist()
assert not any(name.split(".")[0] == "geomstats" for name in sys.modules), "imported too early"
M = mae.manifolds.parse("sphere:2*so3*projective:2*torus:2*euclidean:1")
mae.interop.space(M)
# numpy loads submodules of its own when they are first asked for.
new = {name for name in set(vars(numpy)) ^ before[0] if not name in sys.modules and
       f"numpy.{name}" not in sys.modules}
assert not new, new
assert torch.get_default_dtype() == before[1] and torch.get_rng_state().tolist() == before[2]
assert list(warnings.filters) == filters and logging.getLogger().handlers == handlers
assert numpy.geterr() == errors and random.getstate() == state
assert numpy.random.get_state()[1].tolist() == drawn
"""


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        check=False,
    )


def test_what_numpy_lends_is_given_back():
    had = hasattr(np, "trapz")
    interop.space(Sphere(2))
    assert hasattr(np, "trapz") is had
    with pytest.raises(ZeroDivisionError), _geomstats():
        1 / 0  # noqa: B018
    assert hasattr(np, "trapz") is had


@pytest.mark.slow
def test_importing_geomstats_changes_nothing_global_and_waits_until_it_is_needed():
    result = run_python(IMPORT)
    assert result.returncode == 0, result.stderr


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setenv("GEOMSTATS_BACKEND", "pytorch")
    with pytest.raises(ImportError, match="GEOMSTATS_BACKEND = 'pytorch'"):
        interop.space(Sphere(2))
    assert not hasattr(np, "trapz")


# ---- means --------------------------------------------------------------------------------------


@over(QUICK)
def test_at_the_mean_the_logarithms_cancel(manifold, generator):
    centre = points(manifold, generator=generator, dtype=torch.float64)
    x = near(manifold, centre, 40, 0.25, generator)
    mean = interop.frechet_mean(manifold, x)
    logs = manifold.logmap(mean.expand_as(x), x)
    assert manifold.inner(mean, logs.mean(0)).sqrt() < 1e-8
    # The least of all that there are near it.
    costs = torch.stack([manifold.dist(z.expand_as(x), x).square().mean() for z in [mean, *x]])
    assert costs.argmin() == 0
    assert manifold.dist(mean, centre) < 0.5
    assert manifold.dist(interop.frechet_mean(manifold, x.float()).double(), mean) < 1e-3
    weights = torch.zeros(40)
    weights[7] = 3.0
    assert manifold.dist(interop.frechet_mean(manifold, x, weights), x[7]) < 1e-6


@over((Sphere(2), SO3(), FlatTorus(1), Product(Sphere(2), FlatTorus(2))))
def test_the_mean_is_geomstats(manifold, generator):
    space = interop.space(manifold)
    from geomstats.learning.frechet_mean import FrechetMean

    centre = points(manifold, generator=generator, dtype=torch.float64)
    x = near(manifold, centre, 12, 0.3, generator)
    theirs = FrechetMean(space)
    if hasattr(theirs, "set"):  # the circle's is a formula
        theirs.set(epsilon=1e-10, max_iter=500)
    found = interop.from_geomstats(
        manifold, theirs.fit(interop.to_geomstats(manifold, x)).estimate_
    )
    assert manifold.dist(interop.frechet_mean(manifold, x), found) < 1e-4


def test_on_a_circle_the_best_of_several_minima_is_found():
    """Angles 0 and, fewer, about 2.5: descents from the latter end elsewhere."""
    M = FlatTorus(1)
    angles = torch.tensor([0.0] * 6 + [2.4, 2.6, -2.5, -2.3]).double()
    x = M.from_angles(angles[:, None])
    grid = torch.linspace(-math.pi, math.pi, 20001, dtype=torch.float64)[:-1]
    gaps = torch.remainder(grid[:, None] - angles + math.pi, 2 * math.pi) - math.pi
    best = grid[gaps.square().mean(1).argmin()]
    assert (M.to_angles(interop.frechet_mean(M, x)) - best).abs() < 1e-3


def test_euclidean_means_and_axes_are_the_usual_ones(generator):
    x = torch.randn(30, 3, generator=generator, dtype=torch.float64) * torch.tensor([3.0, 1.0, 0.3])
    M = Euclidean(3)
    found, usual = interop.principal_geodesics(M, x, 2), PCA(2).fit(x.numpy())
    assert torch.allclose(found.mean, x.mean(0), atol=1e-8)
    assert found.variances.numpy() == pytest.approx(usual.explained_variance_ * 29 / 30)
    assert found.ratios.numpy() == pytest.approx(usual.explained_variance_ratio_)
    cosines = (found.directions.numpy() * usual.components_).sum(1)
    assert np.abs(cosines) == pytest.approx(1)


# ---- axes ---------------------------------------------------------------------------------------


@over(QUICK)
def test_all_axes_give_the_points_back(manifold, generator):
    centre = points(manifold, generator=generator, dtype=torch.float64)
    x = near(manifold, centre, 30, 0.2, generator)
    found = interop.principal_geodesics(manifold, x)
    assert manifold.dist(found.at(found.coordinates), x).max() < 1e-6
    u = found.directions
    gram = manifold.inner(found.mean, u[:, None], u[None])
    assert torch.allclose(gram, torch.eye(manifold.dim).double(), atol=1e-8)
    assert (found.variances.diff() <= 1e-12).all()
    assert found.ratios.sum().item() == pytest.approx(1)
    whole = manifold.dist(found.mean.expand_as(x), x).square().mean().item()
    assert found.variances.sum().item() == pytest.approx(whole)
    # In float32, and of fewer points than dimensions.
    few = interop.principal_geodesics(manifold, x[:2].float())
    assert few.directions.dtype == torch.float32
    assert torch.allclose(
        manifold.proju(few.mean.expand_as(few.directions), few.directions),
        few.directions,
        atol=1e-4,
    )


@over((Sphere(2), SO3(), FlatTorus(2)))
def test_axes_are_geomstats_in_our_unit(manifold, generator):
    space = interop.space(manifold)
    from geomstats.learning.pca import TangentPCA

    centre = points(manifold, generator=generator, dtype=torch.float64)
    x = near(manifold, centre, 30, 0.3, generator)
    found = interop.principal_geodesics(manifold, x)
    there = interop.to_geomstats(manifold, x)
    base = interop.to_geomstats(manifold, found.mean)
    theirs = TangentPCA(space, n_components=manifold.dim).fit(there, base_point=base)
    # Theirs is by the ambient coordinates: on SO(3) |dR|² = 2 dθ².
    unit = 2.0 if isinstance(manifold, SO3) else 1.0
    assert theirs.explained_variance_ / unit * 29 / 30 == pytest.approx(found.variances.numpy())


def test_points_along_a_geodesic_have_one_axis(generator):
    M = SO3()
    start = M.random_uniform(generator=generator, dtype=torch.float64)
    omega = torch.tensor([0.6, 0.0, 0.8], dtype=torch.float64)
    s = torch.linspace(-1, 1, 21, dtype=torch.float64)
    x = M.expmap(start.expand(21, 3, 3), M.along(start, s[:, None] * omega))
    found = interop.principal_geodesics(M, x, 2)
    assert found.ratios[0].item() == pytest.approx(1)
    assert torch.allclose(found.coordinates[:, 0].abs(), s.abs(), atol=1e-6)


# ---- clusters -----------------------------------------------------------------------------------


def three_groups(manifold, generator):
    """Fifteen points about each of three centres that lie apart."""
    centres = points(manifold, 400, generator=generator, dtype=torch.float64)
    apart = [centres[0]]
    for new in centres:
        if len(apart) < 3 and min(manifold.dist(new, old) for old in apart) > 1.0:
            apart.append(new)
    return torch.cat([near(manifold, centre, 15, 0.08, generator) for centre in apart])


@over((Sphere(2), FlatTorus(2), SO3(), RealProjective(2), KleinBottle(), Product(SO3(), Sphere(1))))
def test_clusters_that_lie_apart_are_found(manifold, generator):
    x = three_groups(manifold, generator)
    found = interop.cluster(manifold, x, 3, restarts=4)
    groups = found.labels.reshape(3, 15)
    assert (groups == groups[:, :1]).all()
    assert len(groups[:, 0].unique()) == 3
    for k in range(3):
        mean = interop.frechet_mean(manifold, x[found.labels == k])
        assert manifold.dist(found.centres[k], mean) < 1e-7
    squares = manifold.dist(found.centres[found.labels], x).square().sum().item()
    assert found.inertia == pytest.approx(squares)
    again = interop.cluster(manifold, x, 3, restarts=4)
    assert torch.equal(again.labels, found.labels)


@over((Sphere(2), FlatTorus(2)))
def test_clusters_are_no_worse_than_geomstats(manifold, generator):
    """On points that lie in no groups, where the best of several starts is needed."""
    space = interop.space(manifold)
    from geomstats.learning.kmeans import RiemannianKMeans

    x = points(manifold, 40, generator=generator, dtype=torch.float64)
    there = interop.to_geomstats(manifold, x)
    found = interop.cluster(manifold, x, 3)
    # From where ours ended, theirs stays.
    start = interop.to_geomstats(manifold, found.centres)
    theirs = RiemannianKMeans(space, 3, init=start.copy(), tol=1e-6).fit(there)
    assert np.array_equal(theirs.labels_, found.labels.numpy())
    assert theirs.inertia_ == pytest.approx(found.inertia, rel=1e-4)
    theirs = RiemannianKMeans(space, 3, init=there[:3].copy(), tol=1e-6).fit(there)
    assert found.inertia <= theirs.inertia_ * (1 + 1e-4)


def test_clusters_on_a_line_are_scikit_learns(generator):
    from sklearn.cluster import KMeans

    x = torch.randn(50, 2, generator=generator, dtype=torch.float64)
    theirs = KMeans(3, n_init=20, random_state=0).fit(x.numpy())
    assert interop.cluster(Euclidean(2), x, 3, restarts=20).inertia == pytest.approx(
        theirs.inertia_
    )


def test_a_cluster_for_every_point_leaves_no_distance(generator):
    x = points(Sphere(2), 4, generator=generator, dtype=torch.float32)
    found = interop.cluster(Sphere(2), x.numpy(), 4)
    assert found.inertia < 1e-5
    assert found.centres.dtype == torch.float32


# ---- what is refused ----------------------------------------------------------------------------


def test_points_that_are_none_are_named():
    M = Sphere(2)
    good = torch.eye(3)
    for wrong, message in (
        (torch.zeros(3), r"points has shape \(3,\): expected \(n, \*\(3,\)\)"),
        (torch.zeros(0, 3), "n at least 1"),
        (torch.zeros(4, 2), "trailing shape"),
        (torch.eye(3, dtype=torch.int64), "dtype torch.int64"),
        (good.index_fill(0, torch.tensor(1), math.nan), "not finite in row 1"),
        (2 * good, r"row 0 lies .* away from Sphere\(2\)"),
    ):
        for call in (interop.frechet_mean, interop.principal_geodesics):
            with pytest.raises(ValueError, match=message):
                call(M, wrong)
        with pytest.raises(ValueError, match=message):
            interop.cluster(M, wrong, 1)
    for weights in (torch.ones(2), torch.tensor([1.0, -1.0, 1.0]), torch.zeros(3)):
        with pytest.raises(ValueError, match="weights has shape"):
            interop.frechet_mean(M, good, weights)
    for count in (0, 3):
        with pytest.raises(ValueError, match=f"count = {count}: expected 1 to 2"):
            interop.principal_geodesics(M, good, count)
    with pytest.raises(ValueError, match="count = 4: expected 1 to 3"):
        interop.cluster(M, good, 4)
    with pytest.raises(ValueError, match=r"points has shape \(3, 2\): geomstats'"):
        interop.from_geomstats(M, np.zeros((3, 2)))


def test_a_mean_that_is_not_reached_is_said(generator):
    x = points(Sphere(2), 50, generator=generator, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"no clear Fréchet mean .* after 1 steps"):
        interop.frechet_mean(Sphere(2), x, max_iterations=1)
