"""Encoders and decoders as a configuration names them."""

from collections.abc import Callable
from typing import Any

from torch import nn

from manifold_ae.experiments import HAE, VAE
from manifold_ae.nn import MLP, CircularDecoder, CircularEncoder, ConvDecoder, ConvEncoder

__all__ = ["build_networks"]


def build_networks(
    config: HAE | VAE, event_shape: tuple[int, ...], latents: int
) -> tuple[nn.Module, nn.Module]:
    """An encoder of observations and a decoder of latents ``(*, latents)``, by ``network``.

    Raises:
        ValueError: if the observations are none that the networks take.
    """
    return _BUILT[config.network](config, event_shape, latents)


def _perceptrons(config: Any, event_shape: tuple[int, ...], latents: int) -> tuple[Any, Any]:
    return MLP(event_shape, config.encoder_hidden), MLP(latents, config.decoder_hidden)


def _convolutions(config: Any, event_shape: tuple[int, ...], latents: int) -> tuple[Any, Any]:
    return (
        ConvEncoder(event_shape, padding=config.padding),
        ConvDecoder(latents, event_shape, padding=config.padding),
    )


def _circular(config: Any, event_shape: tuple[int, ...], latents: int) -> tuple[Any, Any]:
    return CircularEncoder(event_shape), CircularDecoder(event_shape)


_BUILT: dict[str, Callable[..., tuple[nn.Module, nn.Module]]] = {
    "mlp": _perceptrons,
    "conv": _convolutions,
    "circular": _circular,
}
