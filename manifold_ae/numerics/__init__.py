r"""Numerically sound elementary functions: the only home of epsilons and of limits.

Every function here is finite, with finite first and second derivatives, at the points where its
textbook formula is not; each has a test of that limit.
"""

from manifold_ae.numerics.bounds import exceeds, soft_clamp, soft_root
from manifold_ae.numerics.derivatives import (
    LAWS,
    Fused,
    differentiable_once,
    hidden_by_vmap,
    refuse_second_derivatives,
    with_slopes,
)
from manifold_ae.numerics.gamma import (
    digamma_difference,
    log1m_exp,
    log_gamma_ratio,
    trigamma_difference,
)
from manifold_ae.numerics.kept import built_once, constant
from manifold_ae.numerics.rows import in_parts
from manifold_ae.numerics.series import (
    cos_sqrt,
    cosh_sqrt,
    expm1_defect,
    expm1_ratio,
    half_cotangent_defect_sqrt,
    power_sum,
    sinc_defect_sqrt,
    sinc_sqrt,
    sinhc_slope,
    sinhc_sqrt,
)
from manifold_ae.numerics.vectors import arc_over_sine, axial_norm, chord_angle, normalise

__all__ = [
    "LAWS",
    "Fused",
    "arc_over_sine",
    "axial_norm",
    "built_once",
    "chord_angle",
    "constant",
    "cos_sqrt",
    "cosh_sqrt",
    "differentiable_once",
    "digamma_difference",
    "exceeds",
    "expm1_defect",
    "expm1_ratio",
    "half_cotangent_defect_sqrt",
    "hidden_by_vmap",
    "in_parts",
    "log1m_exp",
    "log_gamma_ratio",
    "normalise",
    "power_sum",
    "refuse_second_derivatives",
    "sinc_defect_sqrt",
    "sinc_sqrt",
    "sinhc_slope",
    "sinhc_sqrt",
    "soft_clamp",
    "soft_root",
    "trigamma_difference",
    "with_slopes",
]
