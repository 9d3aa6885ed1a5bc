"""The topology of runs: of oracle encoders, of trained ones, and from the command line."""

import functools
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from manifold_ae import data, manifolds, metrics, run
from manifold_ae.cli import main
from manifold_ae.experiments import VAE, Diffusion

TINY = VAE(
    epochs=1,
    batch_size=64,
    encoder_hidden=(16, 16),
    decoder_hidden=(16,),
    num_samples=2,
    device="cpu",
)
DRAWN = TINY.replace(steps_per_epoch=3)
TORUS = manifolds.FlatTorus(2)


@pytest.fixture(scope="module")
def translations(tmp_path_factory) -> run.VAERun:
    config = DRAWN.replace(manifold="torus:2", data="torus", likelihood="gaussian")
    trained = run.train(config, tmp_path_factory.mktemp("topology") / "torus")
    trained.save({})
    return trained


def phases(x: Tensor) -> Tensor:
    """Both angles of the simple picture, from its Fourier coefficients."""
    spectrum = torch.fft.fft2(x)
    return -torch.stack([spectrum[:, 1, 0].angle(), spectrum[:, 0, 1].angle()], -1)


def judged(trained: run.VAERun, monkeypatch: pytest.MonkeyPatch, rows: Tensor) -> metrics.Topology:
    """The verdict on an encoder that sees the angles, multiplied by integers."""

    def encode(x: Tensor) -> dict[str, np.ndarray]:
        return {"points": TORUS.from_angles(phases(x) @ rows.to(x).T).numpy()}

    monkeypatch.setattr(trained, "encode", encode)
    return trained.topology(points=256)


def test_oracle_encoders_of_translations(translations, monkeypatch):
    good = judged(translations, monkeypatch, torch.tensor([[1, 0], [0, -1]]))
    assert good.captured is True
    assert good.evidence["winding"] == [[1, 0], [0, -1]]
    assert good.evidence["degree"]["value"] == -1
    assert good.words.startswith("The encoder is a homeomorphism of FlatTorus(2)")
    folded = judged(translations, monkeypatch, torch.tensor([[1, 0], [1, 0]]))
    assert folded.captured is False
    assert "its degree is zero, and loop 2 of the data is not seen" in folded.words
    twice = judged(translations, monkeypatch, torch.tensor([[2, 0], [0, 1]]))
    assert twice.captured is False
    assert "2 times" in twice.words


def poses(f: Tensor) -> Tensor:
    """The frame (a, A a, a × A a) of a function aᵀx + xᵀA x on the sphere, made orthonormal."""
    x, y, z = data.worlds.Fields(degree=2).points.flatten(0, 1).unbind(-1)
    parts = [x, y, z, x * x - z * z, y * y - z * z, 2 * x * y, 2 * x * z, 2 * y * z]
    found = f.double().flatten(1) @ torch.linalg.pinv(torch.stack(parts, -1)).mT
    a, (p, q, xy, xz, yz) = found[:, :3], found[:, 3:].unbind(-1)
    A = torch.stack([p, xy, xz, xy, q, yz, xz, yz, -p - q], -1).unflatten(-1, (3, 3))
    frame, r = torch.linalg.qr(torch.stack([a, (A @ a.unsqueeze(-1)).squeeze(-1)], -1))
    first, second = (frame * r.diagonal(0, -2, -1).sign().unsqueeze(-2)).unbind(-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], -1)


@pytest.mark.parametrize(("change", "good"), [(lambda R: R.mT, True), (lambda R: R @ R, False)])
def test_oracle_encoders_of_poses(change, good, monkeypatch):
    trained = run.train(DRAWN.replace(manifold="so3", data="poses", order=2))
    monkeypatch.setattr(trained, "encode", lambda x: {"points": change(poses(x)).float().numpy()})
    found = trained.topology(points=512)
    assert found.captured is good, found.words
    assert found.evidence["winding"] == [[int(good)]]


def test_a_trained_run_from_the_command_line(translations, monkeypatch):
    folder = str(translations.folder)
    few = functools.partialmethod(run.VAERun.topology, points=256)
    monkeypatch.setattr(run.VAERun, "topology", few)
    result = CliRunner().invoke(main, ["evaluate", folder, "--topology", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    metrics_of = json.loads((translations.folder / "metrics.json").read_text())
    found = metrics_of["topology"]
    assert found["words"] in result.output
    assert found["captured"] in (True, False, None)
    assert set(found) == {"captured", "words", "continuity", "winding", "coverage", "degree"}
    assert "elbo" in metrics_of
    assert translations.topology().record() == found


def test_without_known_factors_samples_are_asked(tmp_path):
    pytest.importorskip("ripser", reason="the extra topology is not installed")
    trained = run.train(TINY, tmp_path / "digits")
    found = trained.topology(landmarks=60)
    assert {"latents", "data", "coverage", "manifold"} <= set(found.evidence)
    assert found.captured in (False, None)
    json.dumps(found.record(), allow_nan=False)


def test_data_with_gaps_are_asked_by_the_values_that_there_are(tmp_path):
    pytest.importorskip("ripser", reason="the extra topology is not installed")
    x = data.simulate("ring", 200, cells=12, seed=0).x
    gone = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.1
    np.save(tmp_path / "gaps.npy", x.masked_fill(gone, torch.nan).numpy())
    changes = {"data": str(tmp_path / "gaps.npy"), "missing": "mask", "likelihood": "poisson"}
    trained = run.train(TINY.replace(manifold="circle", **changes), tmp_path / "run")
    found = trained.topology(landmarks=30)
    assert {"latents", "data", "coverage", "manifold"} <= set(found.evidence)
    json.dumps(found.record(), allow_nan=False)


def test_latents_of_another_shape_than_the_factors(tmp_path):
    config = DRAWN.replace(data="torus", likelihood="gaussian")
    on_sphere = run.train(config).topology(points=256)
    assert on_sphere.captured is False
    assert "FlatTorus(2)" in on_sphere.words
    flat = run.train(config.replace(manifold="euclidean:3")).topology(points=256)
    assert flat.captured is False
    assert "no homeomorphism: FlatTorus(2) has dimension 2, Euclidean(3) has 3" in flat.words
    assert flat.evidence["degree"] is None


def test_models_without_a_latent_manifold_are_refused(tmp_path):
    trained = run.train(Diffusion(data="moons", epochs=1, steps_per_epoch=1, device="cpu"))
    with pytest.raises(ValueError, match="DiffusionRun: topology is that of an encoder"):
        trained.topology()


# ---- maps whose verdict is known ------------------------------------------------------------


def certified(f, M: manifolds.Manifold, points: int = 400) -> metrics.Topology:
    generator = torch.Generator().manual_seed(0)
    return metrics.certify_map(f, M, M, points=points, generator=generator)


def test_verdicts_on_maps():
    assert certified(lambda R: R.mT, manifolds.SO3()).captured is True
    assert certified(lambda R: R @ R, manifolds.SO3()).captured is False  # by loops
    K = manifolds.KleinBottle()
    assert certified(lambda x: x, K).captured is True
    assert certified(lambda x: K.from_angles(0 * K.to_angles(x)), K).captured is False

    def wrinkled(x: Tensor) -> Tensor:
        angles = TORUS.to_angles(x)
        return TORUS.from_angles(angles + 1.6 * torch.sin(angles))

    covered = certified(wrinkled, TORUS)
    assert covered.captured is False
    assert "not one-to-one: it has folds" in covered.words

    def torn(x: Tensor) -> Tensor:
        return TORUS.from_angles(TORUS.to_angles(x) / 2)

    assert certified(torn, TORUS).words.startswith("The encoder is torn")


def test_a_source_without_bounds_is_refused():
    with pytest.raises(ValueError, match="not compact"):
        certified(lambda x: x, manifolds.Euclidean(2))
