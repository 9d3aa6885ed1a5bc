"""Jacobi's method for several matrices: an orthogonal basis of least off-block energy."""

from collections.abc import Sequence

import numpy as np


def inside(sizes: Sequence[int]) -> np.ndarray:
    """True inside diagonal blocks of the given sizes, of shape ``(n, n)``."""
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return owner[:, None] == owner


def block_rotation(m: np.ndarray, basis: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """Turned by plane rotations, as Jacobi's method does, until the off-block energy stands still.

    As a function of the angle θ in one plane the energy is Σ_{h ≤ 2} of cos 2hθ, sin 2hθ: five
    values determine it.
    """
    outside = ~inside(sizes)
    pairs = np.argwhere(np.triu(outside))
    m = basis.T @ m @ basis
    total = np.square(m).sum()
    phases = 2 * np.pi * np.arange(5) / 5
    grid = 2 * np.pi * np.arange(256) / 256
    waves = np.exp(1j * np.outer(grid, (0, 1, 2))) * (1, 2, 2)
    before = np.inf
    for _ in range(50):
        energy = np.square(m[:, outside]).sum()
        if energy <= 1e-28 * total or energy > before * (1 - 1e-6):
            break
        before = energy
        for a, b in pairs:
            values = [np.square(_turned(m, a, b, phase / 2)[:, outside]).sum() for phase in phases]
            amplitudes = np.fft.fft(values)[:3] / 5
            curve = (waves @ amplitudes).real
            phase = grid[curve.argmin()]
            for _ in range(3):  # Newton's method, from the best of the grid
                h = np.arange(3)
                wave = np.exp(1j * h * phase) * (1, 2, 2) * amplitudes
                slope, bend = (1j * h * wave).sum().real, -(h * h * wave).sum().real
                phase -= slope / bend if bend > 0 else 0.0
            m = _turned(m, a, b, phase / 2)
            basis = basis @ _plane(len(outside), a, b, phase / 2)
    return basis


def _plane(n: int, a: int, b: int, angle: float) -> np.ndarray:
    turn = np.eye(n)
    turn[a, a] = turn[b, b] = np.cos(angle)
    turn[b, a] = np.sin(angle)
    turn[a, b] = -turn[b, a]
    return turn


def _turned(m: np.ndarray, a: int, b: int, angle: float) -> np.ndarray:
    turn = _plane(m.shape[-1], a, b, angle)
    return turn.T @ m @ turn
