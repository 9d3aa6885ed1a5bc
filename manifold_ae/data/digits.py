"""Handwritten digits that come with scikit-learn: 1,797 pictures of 8×8 pixels with values 0 to 16.

They need no download, hence serve as the default. Each value counts the inked pixels among the 4×4
that were merged in one.

References:
    E. Alpaydin and C. Kaynak, *Optical Recognition of Handwritten Digits*, 1998.
    https://archive.ics.uci.edu/dataset/80
"""

import numpy as np
import torch

from .base import Dataset, register
from .splits import split_rows


@register("digits", "1,797 handwritten digits, 8x8 pixels, bundled with scikit-learn")
def load_digits(*, split: str = "random", test_fraction: float = 0.2, seed: int = 0) -> Dataset:
    """Return the digits, raw values 0 to 16, with their classes 0 to 9 as labels.

    Arguments:
        split: `"random"` or `"blocks"`, as in `split_rows`.
        test_fraction: The part to test on.
        seed: Which split.
    """
    # imported here: scikit-learn costs a second that other data sets need not pay
    from sklearn.datasets import load_digits as bundled

    pictures, classes = bundled(return_X_y=True)
    x = torch.from_numpy(pictures.astype(np.float32)).unflatten(-1, (8, 8))
    labels = torch.from_numpy(classes.astype(np.int64))
    train, test = split_rows(len(x), split, test_fraction, seed)
    return Dataset(
        name="digits",
        train=x[train],
        test=x[test],
        train_rows=train,
        test_rows=test,
        train_labels=labels[train],
        test_labels=labels[test],
        default_likelihood="gaussian-learned",
        default_scaling="range",
        value_range=(0.0, 16.0),
    )
