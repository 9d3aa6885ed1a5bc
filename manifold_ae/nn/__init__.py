"""Networks: what the models are built from."""

from manifold_ae.nn.mlp import MLP

__all__ = ["MLP"]
