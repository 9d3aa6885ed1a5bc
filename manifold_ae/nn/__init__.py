"""Networks: what the models are built from."""

from manifold_ae.nn.circular import CircularConv, CircularDecoder, CircularEncoder
from manifold_ae.nn.conv import PADDINGS, ConvDecoder, ConvEncoder
from manifold_ae.nn.denoiser import MLPDenoiser
from manifold_ae.nn.mlp import MLP
from manifold_ae.nn.time_embedding import TimeEmbedding

__all__ = [
    "MLP",
    "PADDINGS",
    "CircularConv",
    "CircularDecoder",
    "CircularEncoder",
    "ConvDecoder",
    "ConvEncoder",
    "MLPDenoiser",
    "TimeEmbedding",
]
