"""What is refused of traces before they are trained on, and runs of traces in memory."""

from pathlib import Path

import pytest
import torch

from manifold_ae import data, run
from manifold_ae.experiments import HAE
from manifold_ae.groups import Torus
from manifold_ae.run.files import save_arrays

SMALL = HAE(epochs=1, restarts=1, encoder_hidden=(8,), decoder_hidden=(8,))


def traces(n: int = 20, scale: float = 1.0) -> data.Traces:
    generator = torch.Generator().manual_seed(0)
    observations = scale * torch.rand(n, 3, 4, generator=generator)
    return data.Traces(observations, torch.rand(n, 2, 1, generator=generator), Torus(1))


def test_equal_observations_are_refused() -> None:
    part = traces(scale=0.0)
    with pytest.raises(ValueError, match="all observations are the same"):
        run.train(SMALL, traces=run.TraceData(part, part))


def test_one_trace_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="at least two traces"):
        data.split_random(traces(1))


@pytest.mark.parametrize(("name", "value"), [("hold_out", "actions"), ("largest", 1.5)])
def test_of_a_file_nothing_is_drawn(name: str, value: object, tmp_path: Path) -> None:
    traces().save(tmp_path / "t.npz")
    config = SMALL.replace(data=str(tmp_path / "t.npz"), group="torus:1", **{name: value})
    with pytest.raises(ValueError, match=f"{name} = {value!r}: only of a world"):
        run.train(config)


def test_steps_are_those_of_the_traces(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    observations = torch.rand(20, 6, 4, generator=generator)
    longer = data.Traces(observations, torch.rand(20, 5, 1, generator=generator), Torus(1))
    longer.save(tmp_path / "t.npz")
    config = SMALL.replace(data=str(tmp_path / "t.npz"), group="torus:1")
    trained = run.train(config, tmp_path / "run")
    assert trained.config.steps == 5
    weight = trained.model.reconstruction_weight
    assert weight == pytest.approx(1 / (6 * trained.traces().signal))
    again = run.train(config, tmp_path / "run", resume=True)
    assert again.config == trained.config
    with pytest.raises(ValueError, match="steps = 3: the traces given have 5 actions each"):
        run.train(config.replace(steps=3))


def test_size_of_actions_is_described(tmp_path: Path) -> None:
    traces().save(tmp_path / "t.npz")
    config = SMALL.replace(data=str(tmp_path / "t.npz"), group="torus:1")
    assert "actions up to 0.9" in run.describe(config)


def test_run_of_traces_in_memory_does_not_take_others(tmp_path: Path) -> None:
    given = run.TraceData(*data.split_random(traces()))
    run.train(SMALL, tmp_path / "run", traces=given)
    loaded = run.load(tmp_path / "run")
    with pytest.raises(ValueError, match="given in memory"):
        loaded.evaluate()
    loaded.source = given
    assert loaded.evaluate()["mse"] > 0


def test_arrays_make_their_folder(tmp_path: Path) -> None:
    save_arrays(tmp_path / "new" / "a.npz", {"a": torch.zeros(2).numpy()})
    assert (tmp_path / "new" / "a.npz").exists()
