"""Worlds that a group moves, with their ground truth: what traces to learn from are made of.

    world = load("sprites", factors=("x", "y", "hue"))     # or "grid-world", "solids", ...
    traces = world.traces(10_000, steps=2)
    world.group, world.truth                               # the group, a representation of it

A new world is a file beside this one, with a class under `register`, and its line below.
"""

from .base import HiddenFactor, World
from .diffusion import Diffusion
from .fields import Fields
from .gaussian_diffusion import GaussianDiffusion
from .grid_world import GridWorld
from .pictures import Pictures
from .registry import load, names, options, register
from .solids import Solids
from .sprites import BorderedSprites, Sprites

__all__ = [
    "BorderedSprites",
    "Diffusion",
    "Fields",
    "GaussianDiffusion",
    "GridWorld",
    "HiddenFactor",
    "Pictures",
    "Solids",
    "Sprites",
    "World",
    "load",
    "names",
    "options",
    "register",
]
