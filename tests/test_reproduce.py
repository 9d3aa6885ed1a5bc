"""The tables of the paper: what was published, which runs repeat it, what is gathered."""

import json
import math

import pytest
from click.testing import CliRunner
from matplotlib.image import imread

from manifold_ae import run
from manifold_ae.cli import main
from manifold_ae.experiments import paper

SMALL = {
    "epochs": 1,
    "steps_per_epoch": 2,
    "batch_size": 16,
    "num_samples": 2,
    "encoder_hidden": (8,),
    "decoder_hidden": (8,),
}


@pytest.fixture
def small(monkeypatch):
    """Table 2 with next to no training, on two latent spaces."""
    spaces = {name: paper.SPACES[name] for name in ("torus:2", "euclidean:2")}
    table = paper.TABLES["table2"]
    common = {**table.common, **SMALL}
    extra = {"several-waves": table.extra["several-waves"]}
    tiny = paper.Table("table2", table.title, table.published, common, {"quick": (1, {})}, extra)
    figures = {"figure6": paper.FIGURES["table2"]["figure6"]}
    monkeypatch.setattr("manifold_ae.experiments.paper.SPACES", spaces)
    monkeypatch.setattr("manifold_ae.run.paper.SPACES", spaces)
    monkeypatch.setitem(paper.TABLES, "table2", tiny)
    monkeypatch.setitem(paper.FIGURES, "table2", figures)
    return tiny


def test_the_published_constants_put_right():
    table = paper.TABLES["table2"].published
    # At the clamp, log t = -3.75, the short-time formula of the flat torus has this value.
    at_clamp = 3.75 - math.log(2 * math.pi) - 1 + math.log(4 * math.pi**2)
    right = table["torus:2"].put_right("torus:2")
    assert right.kl[0] == pytest.approx(at_clamp, abs=0.01)
    # What the KL loses the ELBO gains.
    printed = table["torus:2"]
    assert right.elbo[0] + right.kl[0] == pytest.approx(printed.elbo[0] + printed.kl[0])
    assert table["sphere:2"].put_right("sphere:2") == table["sphere:2"]


@pytest.mark.parametrize("name", ["table1", "table2"])
@pytest.mark.parametrize("preset", paper.PRESETS)
def test_every_space_in_both_settings_where_they_differ(name, preset):
    table = paper.TABLES[name]
    jobs = table.jobs(preset, seeds=3, data_dir="here", device="cpu")
    assert len({job.folder for job in jobs}) == len(jobs) == 3 * (10 + 8) + len(table.extra)
    assert set(table.published) <= set(paper.SPACES)
    walks = [job for job in jobs if job.folder.startswith("paper/")]
    assert {job.config.posterior for job in walks} == {"random-walk"}
    assert {job.config.restarts for job in walks} == {1}
    assert {(job.config.lr_schedule, job.config.kl_warmup) for job in walks} == {("constant", 0.0)}
    assert {job.config.data_dir for job in jobs} == {"here"}


def test_seeds_together_are_the_same_runs():
    table = paper.TABLES["table2"]
    apart = table.jobs(seeds=3)
    together = table.jobs(seeds=3, together=True)
    expected = {
        (f"{job.folder}/seed-{seed}", job.config.replace(seed=seed, seeds=1))
        for job in together
        if job.config.seeds > 1
        for seed in range(3)
    }
    assert expected == {(job.folder, job.config) for job in apart if "extra" not in job.folder}
    assert table.jobs(seeds=1, together=True) == table.jobs(seeds=1)


def test_a_part_of_a_table_is_the_same_runs():
    table = paper.TABLES["table2"]
    whole = table.jobs("paper", seeds=2)
    some = table.jobs("paper", seeds=2, manifolds=["sphere:2", "euclidean:2"])
    names = ("paper/sphere2", "exact/sphere2", "exact/euclidean2")
    assert some == [job for job in whole if job.folder.startswith(names)]
    assert len(some) == 6
    exact = table.jobs("paper", seeds=1, manifolds=["sphere:2"], settings=["exact"])
    assert [job.folder for job in exact] == ["exact/sphere2/seed-0"]
    with pytest.raises(ValueError, match="manifolds has 'sphere:4': expected of sphere:2, "):
        table.jobs(manifolds=["sphere:4"])
    with pytest.raises(ValueError, match="no run of table2 is of euclidean:2 in paper"):
        table.jobs(manifolds=["euclidean:2"], settings=["paper"])
    with pytest.raises(ValueError, match="settings has 'ours': expected of paper, exact"):
        table.jobs(settings=["ours"])


def test_presets_and_counts_that_cannot_be():
    table = paper.TABLES["table1"]
    with pytest.raises(ValueError, match="preset = 'long'"):
        table.jobs("long")
    with pytest.raises(ValueError, match="seeds = 0"):
        table.jobs(seeds=0)
    with pytest.raises(ValueError, match="no such table"):
        run.reproduce("table3", "nowhere")


def test_fewer_epochs_than_a_trial_has():
    jobs = paper.TABLES["table2"].jobs("paper", epochs=2)
    assert {job.config.restart_epochs for job in jobs if job.config.restarts > 1} == {2}


def test_a_table_is_made_once_and_gathered(small, tmp_path):
    arguments = ["reproduce", "table2", "--out", str(tmp_path), "--workers", "1", "--quiet"]
    first = CliRunner().invoke(main, arguments)
    assert first.exit_code == 0, first.output
    assert "published, KL put right" in first.output
    content = json.loads((tmp_path / "table.json").read_text())
    assert set(content["elbo"]) == {"flat torus", "ℝ²"}
    row = content["elbo"]["flat torus"]
    assert row["published, KL put right"]["mean"] == pytest.approx(-3813.00 + math.log(2 * math.pi))
    assert row["paper's setting"]["mean"] < -3700
    assert "paper's setting" not in content["elbo"]["ℝ²"]
    assert len(content["winding_determinants_of_the_flat_torus"]["exact"]) == 1
    assert imread(tmp_path / "figures" / "figure6.png").ndim == 3
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*/*/checkpoint.pt")}
    assert len(stamps) == 2 + 1
    again = CliRunner().invoke(main, [*arguments, "--collect"])
    assert again.exit_code == 0 and again.output == first.output
    assert CliRunner().invoke(main, arguments).output == first.output
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    other = CliRunner().invoke(main, [*arguments, "--epochs", "2"])
    assert other.exit_code != 0
    assert "epochs = 2 (there: 1)" in other.output and "another --out" in other.output
    path = next(tmp_path.glob("exact/*/*/config.toml"))
    path.write_text(path.read_text().replace("epochs = 1\n", "epochs = 3\n"))
    mixed = CliRunner().invoke(main, [*arguments, "--collect"])
    assert mixed.exit_code != 0 and "runs of several kinds" in mixed.output


def test_processes_started_together_share_the_runs(small, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    parts = []
    for rank in range(4):
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setattr("manifold_ae.run.paper._carry_out", lambda *_: iter(()))
        parts.append(run.reproduce("table2", tmp_path, device="cpu"))
    paths = [path for part in parts for path in part]
    assert len(set(paths)) == len(paths) == 3 + 1
    told = CliRunner().invoke(main, ["reproduce", "table2", "--out", str(tmp_path), "--quiet"])
    assert f"manifold-ae reproduce table2 --out {tmp_path} --collect" in told.output


def test_nothing_to_gather(tmp_path):
    with pytest.raises(ValueError, match="no finished run of table1"):
        run.collect("table1", tmp_path)
