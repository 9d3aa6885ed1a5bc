"""What a homomorphism autoencoder refuses: traces, observations, actions and networks."""

import torch
from torch import Tensor, nn

from manifold_ae.groups import FiniteGroup, Group

__all__ = ["check_actions", "check_observations", "check_takes", "check_traces"]


def check_traces(
    observations: Tensor,
    actions: Tensor,
    group: Group,
    event_shape: tuple[int, ...],
    dtype: torch.dtype,
) -> None:
    """Refuse what is not ``(n, T + 1, *event_shape)`` and n times T actions."""
    check_actions(actions, tuple(observations.shape[:1]), group, dtype)
    n, steps = actions.shape[:2]
    wanted = (n, steps + 1, *event_shape)
    if tuple(observations.shape) != wanted or n == 0:
        raise ValueError(
            f"observations of shape {tuple(observations.shape)}: expected {wanted}, one more "
            f"than the {steps} action(s) of each of {n} trace(s), at least one trace"
        )


def check_observations(o: Tensor, event_shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Refuse observations that are not ``(*, *event_shape)``."""
    if o.dim() < len(event_shape) or tuple(o.shape[o.dim() - len(event_shape) :]) != event_shape:
        raise ValueError(
            f"observations of shape {tuple(o.shape)}: expected (*{_list(event_shape)})"
        )
    _check_dtype("observations", o, dtype)


def check_actions(
    actions: Tensor, batch: tuple[int, ...], group: Group, dtype: torch.dtype
) -> None:
    """Refuse actions that are not ``(*batch, T, group.dim)``, or ``(*batch, T)`` integers."""
    finite = isinstance(group, FiniteGroup)
    own = () if finite else (group.dim,)
    steps = actions.shape[len(batch)] if actions.dim() > len(batch) else 0
    if tuple(actions.shape) != (*batch, steps, *own) or steps < 1:
        wanted = f"({''.join(f'{n}, ' for n in batch)}T{_list(own)})"
        raise ValueError(
            f"actions of shape {tuple(actions.shape)}: expected {wanted}, T at least 1, for "
            f"{group!r}"
        )
    if not finite:
        _check_dtype("actions", actions, dtype)
    elif actions.dtype != torch.int64:
        raise ValueError(f"actions have dtype {actions.dtype}: elements of {group!r} are int64")


def check_takes(role: str, network: nn.Module, shape: tuple[int, ...], what: str) -> None:
    """Refuse a network that says it takes something else."""
    own = getattr(network, "event_shape", shape)
    if tuple(own) != shape:
        raise ValueError(f"the {role} takes inputs of shape {own}: {what} have shape {shape}")


def _check_dtype(name: str, x: Tensor, dtype: torch.dtype) -> None:
    if x.dtype != dtype:
        raise ValueError(
            f"{name} have dtype {x.dtype}, the model {dtype}: convert one with .to({dtype})"
        )


def _list(shape: tuple[int, ...]) -> str:
    return "".join(f", {n}" for n in shape)
