"""Pictures: latent points, decoded grids, reconstructions, samples, training curves; and those of
homomorphism autoencoders: planes, representations along paths, predictions and their errors.

Every function returns a ``matplotlib.figure.Figure``, made without pyplot or any global setting;
``save`` writes it to a file. A new manifold's picture is a file that registers itself with
``draw_points`` and ``chart_grid``, and is imported here.
"""

from manifold_ae.plots import (
    colours,
    embedded_torus,
    euclidean,
    klein_bottle,
    projective,
    quotient,
    revolution,
    rotation,
    sphere,
    torus,
)
from manifold_ae.plots.charts import Chart, Ticks, chart_grid
from manifold_ae.plots.clouds import clouds
from manifold_ae.plots.grids import decoded_grid
from manifold_ae.plots.history import curves
from manifold_ae.plots.images import reconstructions, samples
from manifold_ae.plots.panels import panels
from manifold_ae.plots.planes import planes
from manifold_ae.plots.points import draw_pairs, draw_points, latents
from manifold_ae.plots.product import medoid
from manifold_ae.plots.representation import representation_path
from manifold_ae.plots.rollout import rollout_errors
from manifold_ae.plots.selection import selection
from manifold_ae.plots.strips import strips, traversals
from manifold_ae.plots.style import save
from manifold_ae.plots.success import success_maps

__all__ = [
    "Chart",
    "Ticks",
    "chart_grid",
    "clouds",
    "colours",
    "curves",
    "decoded_grid",
    "draw_pairs",
    "draw_points",
    "embedded_torus",
    "euclidean",
    "klein_bottle",
    "latents",
    "medoid",
    "panels",
    "planes",
    "projective",
    "quotient",
    "reconstructions",
    "representation_path",
    "revolution",
    "rollout_errors",
    "rotation",
    "samples",
    "save",
    "selection",
    "sphere",
    "strips",
    "success_maps",
    "torus",
    "traversals",
]
