"""Networks for periodic pictures: what is shifted, shifts with it."""

import math

import pytest
import torch

from manifold_ae.experiments import VAE
from manifold_ae.manifolds import FlatTorus, Sphere
from manifold_ae.models import DeltaVAE
from manifold_ae.nn import MLP, CircularConv, CircularDecoder, CircularEncoder
from manifold_ae.run import delta_vae

SIZE = (12, 9)


def turned(z, shift):
    """Points of the torus turned by a shift in pixels."""
    angles = torch.tensor([2 * math.pi * s / n for s, n in zip(shift, SIZE, strict=True)])
    return FlatTorus(2).rotate(z, angles.to(z))


def test_correlation_is_the_sum_that_it_stands_for(dtype, device):
    conv = CircularConv(2, 3, SIZE).to(device, dtype)
    torch.nn.init.normal_(conv.bias)
    x = torch.randn(4, 2, *SIZE, dtype=dtype, device=device)
    expected = conv.bias[:, None, None].expand(4, 3, *SIZE).clone()
    for i in range(SIZE[0]):
        for j in range(SIZE[1]):
            shifted = x.roll((-i, -j), (-2, -1))
            expected += torch.einsum("bchw,oc->bohw", shifted, conv.weight[:, :, i, j])
    torch.testing.assert_close(conv(x), expected)


@pytest.mark.parametrize("shift", [(3, 0), (0, 4), (7, 8)])
def test_an_encoder_turns_with_the_picture(shift, dtype, device):
    encoder = CircularEncoder(SIZE, maps=3).to(device, dtype)
    x = torch.randn(5, *SIZE, dtype=dtype, device=device)
    here, there = encoder(x), encoder(x.roll(shift, (-2, -1)))
    assert here.shape == (5, encoder.out_features)
    close = {"rtol": 1e-4, "atol": 1e-6} if dtype == torch.float32 else {}
    torch.testing.assert_close(there[:, 4:], here[:, 4:], **close)
    torch.testing.assert_close(there[:, :4], turned(here[:, :4], shift), **close)


@pytest.mark.parametrize("shift", [(3, 0), (0, 4), (7, 8)])
def test_a_decoder_shifts_with_the_angles(shift, dtype, device):
    decoder = CircularDecoder(SIZE, maps=3).to(device, dtype)
    z = FlatTorus(2).random_uniform(2, 5, dtype=dtype, device=device)
    here, there = decoder(z), decoder(turned(z, shift))
    assert here.shape == (2, 5, *decoder.out_maps)
    torch.testing.assert_close(there, here.roll(shift, (-2, -1)), rtol=1e-4, atol=1e-5)


def test_correlation_with_the_picture_finds_it(device):
    picture = torch.randn(SIZE, device=device)
    encoder = CircularEncoder(SIZE, maps=1).to(device)
    with torch.no_grad():
        encoder.respond.weight.copy_(picture)
        encoder.mix.weight.fill_(1.0)
        encoder.judge.weight.fill_(5.0)
    noise = 0.1 * torch.randn(3, *SIZE, device=device)
    shifts = [(0, 0), (5, 2), (11, 8)]
    x = torch.stack([picture.roll(shift, (0, 1)) for shift in shifts]) + noise
    angles = FlatTorus(2).to_angles(encoder(x)[:, :4])
    turns = torch.tensor(shifts, device=device) / torch.tensor(SIZE, device=device)
    difference = angles - (2 * math.pi * turns - math.pi)
    assert (difference.sin().abs() < 1e-2).all() and (difference.cos() > 0).all()


@pytest.mark.parametrize("shape", [(12,), (1, 12, 9), (1, 12)])
def test_what_is_no_picture_is_refused(shape):
    with pytest.raises(ValueError, match="height, width"):
        CircularEncoder(shape)
    with pytest.raises(ValueError, match="height, width"):
        CircularDecoder(shape)


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"expected \(\*, 1, 12, 9\)"):
        CircularEncoder(SIZE)(torch.zeros(3, 12, 12))
    with pytest.raises(ValueError, match=r"expected \(\*, 4\)"):
        CircularDecoder(SIZE)(torch.zeros(3, 2))
    with pytest.raises(ValueError, match="positive sizes"):
        CircularConv(0, 1, SIZE)


def test_a_model_takes_the_place_from_the_encoder(device):
    config = VAE(
        manifold="torus:2",
        data="torus",
        network="circular",
        likelihood="gaussian",
        posterior="heat-kernel",
    )
    vae = delta_vae.build_model(config, SIZE).to(device)
    x = torch.randn(3, *SIZE, device=device)
    shift = (5, 2)
    here, there = vae.posterior(x), vae.posterior(x.roll(shift, (-2, -1)))
    torch.testing.assert_close(there.loc, turned(here.loc, shift), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(there.time, here.time, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(
        vae.decode(turned(here.loc, shift)), vae.decode(here.loc).roll(shift, (-2, -1))
    )
    vae.loss(x)["loss"].backward()
    for name, value in vae.named_parameters():
        assert value.grad is not None and value.grad.isfinite().all(), name


def test_a_place_on_another_manifold_is_refused():
    with pytest.raises(ValueError, match="network = 'conv'"):
        VAE(manifold="sphere:2", network="circular")
    with pytest.raises(ValueError, match="takes 3"):
        DeltaVAE(Sphere(2), CircularEncoder(SIZE), MLP(3, (4,)))
