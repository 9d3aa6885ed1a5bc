"""Convolutional networks: shapes, what weights shared over positions give, and what is refused."""

import math
from typing import Any

import pytest
import torch

from manifold_ae import experiments, nn, run
from manifold_ae.experiments import HAE, VAE
from manifold_ae.manifolds import parse
from manifold_ae.models import DeltaVAE, likelihoods
from manifold_ae.nn import MLP, ConvDecoder, ConvEncoder
from manifold_ae.run.networks import build_networks

SHAPES = [(7, 7), (16, 16), (3, 9, 12), (1, 5, 8)]


def test_the_configuration_knows_the_paddings_of_the_networks():
    assert experiments.PADDINGS == nn.PADDINGS


@pytest.mark.parametrize("padding", nn.PADDINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_pictures_of_any_size_with_any_batch_axes(shape, padding, dtype, device):
    like: dict[str, Any] = {"dtype": dtype, "device": device}
    encoder = ConvEncoder(shape, (4, 6), padding=padding).to(**like)
    decoder = ConvDecoder((2, 3), shape, (5, 7), maps=2, rank=3, padding=padding).to(**like)
    for profiles in (decoder.rows, decoder.columns):
        torch.nn.init.normal_(profiles.of_latent)
    x, z = torch.rand(4, 5, *shape, **like), torch.randn(4, 5, 2, 3, **like)
    features, maps = encoder(x), decoder(z)
    assert features.shape == (4, 5, encoder.out_features)
    assert maps.shape == (4, 5, *decoder.out_maps) == (4, 5, 2, *shape[-2:])
    assert features.dtype == maps.dtype == dtype
    assert maps.std((0, 1)).amax() > 1e-3
    # Batch axes are no more than that.
    torch.testing.assert_close(encoder(x[1, 2]), features[1, 2])
    torch.testing.assert_close(decoder(z[1, 2]), maps[1, 2])


@pytest.mark.parametrize("kind", likelihoods.names())
@pytest.mark.parametrize("shape", [(7, 6), (3, 7, 6)])
def test_the_output_layer_of_maps_is_the_same_at_every_pixel(kind, shape, dtype):
    likelihood = likelihoods.named(kind, shape)
    output = likelihood.output_layer((4, 7, 6)).to(dtype)
    maps = torch.randn(2, 5, 4, 7, 6, dtype=dtype)
    found = output(maps)
    several = () if likelihood.numbers == 1 else (likelihood.numbers,)
    assert found.shape == (2, 5, *several, *shape)
    shifted = output(maps.roll((2, 3), (-2, -1)))
    torch.testing.assert_close(shifted, found.roll((2, 3), (-2, -1)))


def following(size: int, dtype: torch.dtype) -> ConvDecoder:
    """A decoder whose tables are (cos, sin) of positions, along each axis of its own angle."""
    decoder = ConvDecoder(4, (size, size), (2,), padding="circular").to(dtype)
    angle = torch.arange(size, dtype=dtype) * (2 * math.pi / size)
    wave = torch.stack([angle.cos(), angle.sin()])  # (2, positions)
    quarter = torch.stack([angle.sin(), -angle.cos()])
    tables = torch.stack([wave, quarter], -1).flatten(1)  # cos(i − θ) and sin(i − θ)
    with torch.no_grad():
        for start, profiles in ((0, decoder.rows), (2, decoder.columns)):
            profiles.of_position.zero_()
            profiles.of_latent.zero_()
            profiles.of_latent[start : start + 2] = tables
    return decoder


def test_a_turned_latent_is_a_shifted_picture(dtype):
    """With tables of a kind that can be learned, for any weights: the claim of the module."""
    size = 12
    decoder = following(size, dtype)
    at = torch.tensor([0.3, 1.1], dtype=dtype)

    def drawn(rows: int, columns: int) -> torch.Tensor:
        theta = at + torch.tensor([rows, columns], dtype=dtype) * (2 * math.pi / size)
        return decoder(torch.stack([theta.cos(), theta.sin()], -1).flatten())

    first = drawn(0, 0)
    assert first.std() > 1e-3
    for shift in ((1, 0), (0, 5), (7, 3)):
        torch.testing.assert_close(drawn(*shift), first.roll(shift, (-2, -1)))


def test_circular_encoders_follow_shifts_of_their_stride(dtype):
    encoder = ConvEncoder((16, 12), (4, 3), padding="circular").to(dtype)
    x = torch.rand(16, 12, dtype=dtype)
    maps = encoder(x).unflatten(-1, (3, 4, 3))
    moved = encoder(x.roll((4, 8), (0, 1))).unflatten(-1, (3, 4, 3))
    torch.testing.assert_close(moved, maps.roll((1, 2), (1, 2)))


@pytest.mark.parametrize("manifold", ["sphere:2", "torus:2"])
def test_a_delta_vae_learns_with_them(manifold):
    torch.manual_seed(0)
    M = parse(manifold)
    vae = DeltaVAE(M, ConvEncoder((3, 7, 8)), ConvDecoder(M.embedding_size, (3, 7, 8)))
    x = torch.rand(16, 3, 7, 8)
    optimiser = torch.optim.Adam(vae.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        optimiser.zero_grad()
        loss = vae.loss(x)["loss"]
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in vae.parameters())
    assert losses[-1] < losses[0] - 2
    assert vae.sample(5).shape == (5, 3, 7, 8)


TINY: dict[str, Any] = {
    "world": ("size=8", "radius=1.0"), "traces": 60, "epochs": 1, "restarts": 1,
    "num_rollouts": 3, "horizon": 3, "device": "cpu",
}  # fmt: skip


def test_a_run_is_read_back(tmp_path):
    config = HAE(network="conv", padding="circular", **TINY)
    trained = run.train(config, tmp_path / "run")
    loaded = run.load(tmp_path / "run", device="cpu")
    assert loaded.config == config
    observations = trained.traces().test.observations[:, 0]
    assert torch.equal(loaded.encode(observations), trained.encode(observations))
    found = loaded.evaluate()
    assert found["mse"] == trained.evaluate()["mse"] > 0


@pytest.mark.parametrize("kind", [HAE, VAE])
def test_networks_by_their_names(kind):
    encoder, decoder = build_networks(kind(), (8, 8), 4)
    assert isinstance(encoder, MLP) and isinstance(decoder, MLP)
    encoder, decoder = build_networks(kind(network="conv", padding="reflect"), (8, 8), 4)
    assert isinstance(encoder, ConvEncoder) and isinstance(decoder, ConvDecoder)
    modes = {m.padding_mode for m in (*encoder.modules(), *decoder.modules())
             if isinstance(m, torch.nn.Conv2d)}  # fmt: skip
    assert modes == {"reflect"}


@pytest.mark.parametrize("kind", [HAE, VAE])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "rnn"}, r"network = 'rnn': expected mlp, conv"),
        ({"network": "conv", "padding": "same"}, r"padding = 'same': expected zeros, circular"),
        ({"padding": "circular"}, r"padding = 'circular': network = 'mlp' does not have it"),
        (
            {"network": "conv", "decoder_hidden": (8,)},
            r"decoder_hidden = \(8,\): network = 'conv' does not have it",
        ),
    ],
)
def test_a_configuration_says_what_does_not_fit(kind, changes, message):
    with pytest.raises(ValueError, match=message):
        kind(**changes).check_heeded()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConvEncoder((12,)), r"event_shape = \(12,\): expected that of a picture"),
        (lambda: ConvDecoder(4, (3, 0, 8)), r"event_shape = \(3, 0, 8\): expected that of a"),
        (lambda: ConvEncoder((8, 8), ()), r"channels = \(\): expected one positive"),
        (lambda: ConvDecoder(0, (8, 8)), r"in_features = \(0,\): expected one positive"),
        (lambda: ConvDecoder(4, (8, 8), (8, 0)), r"hidden = \(8, 0\): expected one positive"),
        (lambda: ConvDecoder(4, (8, 8), maps=0), r"maps and rank = \(0, 8\)"),
        (lambda: ConvEncoder((8, 8), padding="same"), r"padding = 'same': expected one of zeros"),
        (
            lambda: ConvEncoder((4, 8), (2, 2, 2), padding="reflect"),
            r"padding = 'reflect' at a layer of 1×2 pixels",
        ),
        (
            lambda: likelihoods.Gaussian((8, 9)).output_layer((4, 8, 8)),
            r"maps of shape \(4, 8, 8\): observations of shape \(8, 9\) are no pictures",
        ),
    ],
)
def test_what_networks_refuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_no_start_is_a_dead_end():
    """Whatever the weights, a gradient reaches what latents draw with, from a single map too."""
    for seed in range(100):
        torch.manual_seed(seed)
        decoder = ConvDecoder(3, (5, 6), (4,), maps=1, rank=2)
        output = likelihoods.Gaussian((5, 6)).output_layer(decoder.out_maps)
        (output(decoder(torch.randn(8, 3))) * torch.randn(8, 5, 6)).sum().backward()
        for profiles in (decoder.rows, decoder.columns):
            assert profiles.of_latent.grad is not None
            assert profiles.of_latent.grad.abs().max() > 0
