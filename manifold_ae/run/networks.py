"""Encoders and decoders as a configuration names them."""

from collections.abc import Callable
from typing import Any

from torch import nn

from manifold_ae.experiments import HAE, VAE
from manifold_ae.nn import MLP, CircularDecoder, CircularEncoder, ConvDecoder, ConvEncoder

__all__ = ["build_networks"]


def build_networks(
    config: HAE | VAE,
    event_shape: tuple[int, ...],
    latents: int,
    *,
    seen: tuple[int, ...] | None = None,
) -> tuple[nn.Module, nn.Module]:
    """An encoder of observations and a decoder of latents ``(*, latents)``, by ``network``.

    Arguments:
        seen: the shape of what the encoder sees of an observation; its own by default.

    Raises:
        ValueError: if the observations are none that the networks take.
    """
    return _BUILT[config.network](config, event_shape, latents, seen or event_shape)


def _perceptrons(
    config: Any, event_shape: tuple[int, ...], latents: int, seen: tuple[int, ...]
) -> tuple[Any, Any]:
    return MLP(seen, config.encoder_hidden), MLP(latents, config.decoder_hidden)


def _convolutions(
    config: Any, event_shape: tuple[int, ...], latents: int, seen: tuple[int, ...]
) -> tuple[Any, Any]:
    return (
        ConvEncoder(seen, padding=config.padding),
        ConvDecoder(latents, event_shape, padding=config.padding),
    )


def _circular(
    config: Any, event_shape: tuple[int, ...], latents: int, seen: tuple[int, ...]
) -> tuple[Any, Any]:
    if seen != event_shape:
        raise ValueError(
            f"network = 'circular' sees pictures of shape {event_shape} alone, and this encoder is "
            f"to see {seen}: covariates, exposures, masks and angles need network = 'mlp' or 'conv'"
        )
    return CircularEncoder(event_shape), CircularDecoder(event_shape)


_BUILT: dict[str, Callable[..., tuple[nn.Module, nn.Module]]] = {
    "mlp": _perceptrons,
    "conv": _convolutions,
    "circular": _circular,
}
