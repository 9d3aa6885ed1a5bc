"""Colours for classes, for one angle, and for two angles at once.

All of them are built in OKLab (L lightness, a green to red, b blue to yellow), where distances
are those that the eye sees, and converted to sRGB.

- Classes: ten colours whose least distance, also as seen by people without one kind of cone, was
  maximised by a random search.
- One angle: a full turn of hue on which lightness rises from dark plum to light mint,
  ``L = 0.62 + 0.22 cos(h − 150°)``. Two of the three kinds of dichromats see lightness and blue
  to yellow alone; the ring stays a simple loop in that plane, where a ring of equal lightness
  folds up.
- Two angles: a torus embedded in the colour solid. The first angle turns the hue, the second goes
  round the tube: vivid, light, greyish, dark. An embedding, so distinct pairs of angles have
  distinct colours and the seams cannot be seen; no plane holds a torus, so no such scheme serves
  dichromats fully.
- Signed values: from blue over white at zero to orange, which all kinds of dichromats tell apart;
  lightness falls evenly on both sides.

References:
    A perceptual color space for image processing (Björn Ottosson, 2020)
    https://bottosson.github.io/posts/oklab/
"""

import math

import numpy as np
from matplotlib.colors import ListedColormap

from manifold_ae.plots.arrays import Array

__all__ = [
    "CYCLIC",
    "DIVERGING",
    "MARKERS",
    "PALETTE",
    "PLAIN",
    "cyclic_colours",
    "diverging_colours",
    "periodic_colours",
]

#: Ten colours for classes, in an order that keeps the first few furthest apart.
PALETTE = (
    "#446fdd",
    "#f17d08",
    "#95ddf7",
    "#7a004a",
    "#ebd134",
    "#646201",
    "#332d99",
    "#1eb994",
    "#bb94fe",
    "#a65687",
)

#: Class k has colour k mod 10 and, past ten classes, marker ⌊k / 10⌋.
MARKERS = ("o", "^", "s", "D", "v")

#: The colour of points without labels.
PLAIN = "#2f6f9f"

_LAB_TO_CONE_ROOTS = np.array(
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_CONES_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)


def _srgb(lightness: Array, chroma: Array | float, hue: Array) -> Array:
    """sRGB of shape ``(*, 3)`` of OKLab colours in polar coordinates, hue in radians.

    What lies outside the gamut is clipped; none of the schemes here does.
    """
    lab = np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], -1)
    linear = (lab @ _LAB_TO_CONE_ROOTS.T) ** 3 @ _CONES_TO_RGB.T
    linear = np.clip(linear, 0.0, 1.0)
    curved = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, 12.92 * linear, curved)


def cyclic_colours(angles: Array) -> Array:
    """sRGB in [0, 1], of shape ``(*, 3)``, of angles in radians, of shape ``(*)``; 2π-periodic."""
    # The offset puts blue at 0, and the lightest and darkest at about ±π/2.
    hue = np.asarray(angles, dtype=np.float64) + math.radians(250)
    return _srgb(0.62 + 0.22 * np.cos(hue - math.radians(150)), 0.12, hue)


def periodic_colours(angles: Array) -> Array:
    """sRGB in [0, 1], of shape ``(n, 3)``, of pairs of angles in radians, of shape ``(n, 2)``.

    Smooth and 2π-periodic in both angles, and injective on the torus.

    Raises:
        ValueError: if the last axis is not a pair.
    """
    angles = np.asarray(angles, dtype=np.float64)
    if angles.shape[-1:] != (2,):
        raise ValueError(
            f"angles has shape {angles.shape}; expected pairs, (n, 2): cyclic_colours takes one "
            "angle a point"
        )
    hue, tube = angles[..., 0], angles[..., 1]
    # The tilt of the ring, light on the side of yellow-green, follows the shape of the gamut.
    lightness = 0.684 + 0.1 * np.cos(hue - 2.84) + 0.107 * np.sin(tube)
    chroma = 0.087 + 0.008 * np.cos(hue - 0.3) + 0.041 * np.cos(tube)
    return _srgb(lightness, chroma, hue)


def diverging_colours(values: Array) -> Array:
    """sRGB in [0, 1], of shape ``(*, 3)``, of values in [−1, 1], of shape ``(*)``; 0 is white."""
    values = np.asarray(values, dtype=np.float64)
    size = np.abs(values)
    hue = np.where(values < 0, math.radians(262), math.radians(52))
    return _srgb(1 - 0.45 * size, 0.14 * size, hue)


#: The colours of signed values as a colour map, from −1 to 1.
# Rounded, or white would be 254 of 255.
DIVERGING = ListedColormap(
    diverging_colours(np.linspace(-1, 1, 257)).round(9).tolist(), name="manifold_ae_diverging"
)

#: The colours of one angle as a colour map, from −π to π.
CYCLIC = ListedColormap(
    cyclic_colours(np.linspace(-math.pi, math.pi, 256, endpoint=False)).tolist(),
    name="manifold_ae_cyclic",
)
