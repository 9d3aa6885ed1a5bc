"""Jacobi's method for several matrices: an orthogonal basis of least off-block energy."""

from collections.abc import Sequence

import numpy as np

_PHASES = 2 * np.pi * np.arange(5) / 5
_GRID = 2 * np.pi * np.arange(256) / 256
_HARMONICS = np.arange(3)
_WAVES = np.exp(1j * np.outer(_GRID, _HARMONICS)) * (1, 2, 2)


def inside(sizes: Sequence[int]) -> np.ndarray:
    """True inside diagonal blocks of the given sizes, of shape ``(n, n)``."""
    owner = np.repeat(np.arange(len(sizes)), sizes)
    return owner[:, None] == owner


def block_rotation(m: np.ndarray, basis: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Turned by plane rotations, as Jacobi's method does, until the off-block energy stands still.

    Arguments:
        m: matrices of shape ``(k, n, n)``.
        basis: orthogonal, of shape ``(n, n)``, to start from.
        sizes: of the blocks, in the order of the basis.
    """
    outside = ~inside(sizes)
    pairs = np.argwhere(np.triu(outside))
    m, basis = basis.T @ m @ basis, basis.copy()
    total, before = np.square(m).sum(), np.inf
    for _ in range(50):
        energy = np.square(m[:, outside]).sum()
        if energy <= 1e-28 * total or energy > before * (1 - 1e-6):
            break
        before = energy
        for a, b in pairs:
            angle = _best_angle(m, outside, a, b)
            _turn(m.transpose(1, 0, 2), a, b, angle)
            _turn(m.transpose(2, 0, 1), a, b, angle)
            _turn(basis.T, a, b, angle)
    return basis


def _turn(rows: np.ndarray, a: int, b: int, angle: float) -> None:
    """Row a becomes cos row a + sin row b, and row b what is orthogonal to it, in place."""
    cosine, sine = np.cos(angle), np.sin(angle)
    rows[a], rows[b] = cosine * rows[a] + sine * rows[b], cosine * rows[b] - sine * rows[a]


def _best_angle(m: np.ndarray, outside: np.ndarray, a: int, b: int) -> float:
    """The angle θ in the plane (a, b), of different blocks, of least off-block energy.

    The energy is Σ_{h ≤ 2} of cos 2hθ and sin 2hθ: five values determine it.
    """
    others = np.ones(len(outside))
    others[[a, b]] = 0
    at_a, at_b = others * outside[a], others * outside[b]
    # Σ over rows and columns of what is turned into each other: cos² A + sin² C + 2 cos sin B.
    A = B = C = 0.0
    for part in (m.transpose(1, 0, 2), m.transpose(2, 0, 1)):
        aa, bb = np.square(part[a]).sum(0), np.square(part[b]).sum(0)
        A += at_a @ aa + at_b @ bb
        C += at_a @ bb + at_b @ aa
        B += (at_a - at_b) @ (part[a] * part[b]).sum(0)
    c, s = np.cos(_PHASES / 2)[:, None], np.sin(_PHASES / 2)[:, None]
    mixed = c * s * (m[:, b, b] - m[:, a, a])
    upper = mixed + c * c * m[:, a, b] - s * s * m[:, b, a]
    lower = mixed + c * c * m[:, b, a] - s * s * m[:, a, b]
    values = (c * c * A + s * s * C + 2 * c * s * B)[:, 0]
    values = values + (np.square(upper) + np.square(lower)).sum(1)
    amplitudes = np.fft.fft(values)[:3] / 5
    phase = _GRID[(_WAVES @ amplitudes).real.argmin()]
    for _ in range(3):  # Newton's method, from the best of the grid
        wave = np.exp(1j * _HARMONICS * phase) * (1, 2, 2) * amplitudes
        slope, bend = (1j * _HARMONICS * wave).sum().real, -(_HARMONICS**2 * wave).sum().real
        phase -= slope / bend if bend > 0 else 0.0
    return phase / 2
