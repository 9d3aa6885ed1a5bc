r"""Random streams named by what they are for.

A stream is the generator seeded with a hash of a tuple such as `("shuffle", seed, epoch)`. Whatever
is drawn from it is then a function of that tuple alone: a run that is resumed at an epoch sees what
an uninterrupted run sees. The hash keeps neighbouring tuples apart, where a sum would not
(seed 0 of epoch 1 is not seed 1 of epoch 0).
"""

import hashlib
import operator

import torch


def mix(*parts: int | str) -> int:
    """Return a 64-bit seed that is a hash of a tuple of integers and strings.

    Arguments:
        parts: What the random numbers are for and depend on, such as `("shuffle", seed, epoch)`.

    Example:
        >>> mix("shuffle", 0, 1) == mix("shuffle", 1, 0)
        False
    """
    # NumPy's integers print differently from Python's, and must not hash differently
    plain = tuple(part if isinstance(part, str) else operator.index(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(repr(plain).encode(), digest_size=8).digest(), "big")


def generator_for(*parts: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator on `device`, seeded with the hash of `parts`."""
    return torch.Generator(device=device).manual_seed(mix(*parts))
