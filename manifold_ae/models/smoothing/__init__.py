"""Where each row of a recording lies given all rows."""

from manifold_ae.models.smoothing.chain import forward_backward
from manifold_ae.models.smoothing.posterior import Smoothed, moments, smooth
from manifold_ae.models.smoothing.rate import likeliest_rate

__all__ = ["Smoothed", "forward_backward", "likeliest_rate", "moments", "smooth"]
