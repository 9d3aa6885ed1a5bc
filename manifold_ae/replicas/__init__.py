r"""Several models of one kind, trained as one computation.

The parameters θ₁, …, θ_K of K models are stacked along a new first axis, and one call maps the
loss over it (``torch.func.vmap``). The loss of the whole is Σ_k L(θ_k; x_k, ε_k), so that the
gradient of each θ_k is that of its own loss, and Adam, which looks at every number on its own, does
to each what it would do alone.

Random numbers are not drawn inside of ``vmap``, where all replicas would share one stream. A first
call on one replica notes what the model draws; in every step each replica draws just that from a
generator of its own, seeded as its single run is, and the draws go in as arguments (``draws``). So
replica k is the run with its seed, but for rounding.
"""

from manifold_ae.replicas.together import Replicas

__all__ = ["Replicas"]
