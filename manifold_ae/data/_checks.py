"""What the modules of this package say when an argument is wrong: one wording for each mistake."""

import difflib
import math
import numbers
from collections.abc import Iterable


def at_least(name: str, value: int, minimum: int = 1) -> int:
    """Return `value`, an integer of at least `minimum`, or raise a `ValueError` that names it."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < minimum:
        raise ValueError(f"{name}={value!r}: expected an integer of at least {minimum}")
    return value


def deviation(name: str, value: float) -> float:
    """Return `value`, a standard deviation, or raise a `ValueError` that names it."""
    if not 0 <= value < math.inf:
        raise ValueError(
            f"{name}={value!r}: expected a standard deviation, finite and not negative"
        )
    return value


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `"; did you mean 'x'?"` for the nearest of the known names, or nothing."""
    by_lower = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""


def one_of(name: str, value: str, known: Iterable[str]) -> str:
    """Return `value`, one of the known names, or raise a `ValueError` that lists them."""
    known = list(known)
    if value not in known:
        hint = did_you_mean(str(value), known)
        raise ValueError(f"{name}={value!r}: expected one of {', '.join(known)}{hint}")
    return value
