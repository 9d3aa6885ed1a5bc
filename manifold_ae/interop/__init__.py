"""Statistics of latents on their manifold, and the way to geomstats, which has more of them.

    mean = frechet_mean(M, points)               # of points on M, a row each
    tangent = principal_geodesics(M, points, 2)
    found = cluster(M, points, 5)
    theirs = FrechetMean(space(M)).fit(to_geomstats(M, points))   # any estimator of geomstats

The first three are by our own maps, on any manifold, and the tests hold them against geomstats'.
geomstats is imported when ``space`` first asks for it. Its space has our metric: distances,
exponentials and logarithms agree. Coordinates are ours but on ℝPᵈ, where they are projectors xxᵀ,
whose distance is √2 of ours by itself. A flat torus is a product of circles. It has no Klein bottle
of our shape, no other quotients and no surfaces of revolution.
"""

from manifold_ae.interop.spaces import from_geomstats, space, to_geomstats
from manifold_ae.interop.statistics import (
    Clusters,
    PrincipalGeodesics,
    cluster,
    frechet_mean,
    principal_geodesics,
)

__all__ = [
    "Clusters",
    "PrincipalGeodesics",
    "cluster",
    "frechet_mean",
    "from_geomstats",
    "principal_geodesics",
    "space",
    "to_geomstats",
]
