"""Configurations: what is refused, and the way to TOML and back."""

import pytest

from manifold_ae import training
from manifold_ae.experiments import COURSES, VAE
from manifold_ae.run import delta_vae


def test_toml_round_trip(tmp_path):
    config = VAE(manifold="torus:2", data='odd "name"\\n.npy', encoder_hidden=(7, 8), lr=3e-4)
    path = tmp_path / "config.toml"
    path.write_text(config.to_toml(), encoding="utf-8")
    assert VAE.from_mapping(VAE.read(path)) == config


def test_an_unknown_key_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"unknown key 'epoch' \(did you mean 'epochs'\?\)"):
        VAE.from_mapping({"epoch": 3})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("epochs", "many"),
        ("epochs", 1.5),
        ("epochs", True),
        ("epochs", 0),
        ("lr", "fast"),
        ("lr", float("nan")),
        ("lr", -1e-3),
        ("encoder_hidden", [512, "wide"]),
        ("manifold", 2),
        ("split", "middle"),
        ("test_fraction", 1.0),
        ("kl_warmup", 2.0),
        ("seed", -1),
    ],
)
def test_a_wrong_value_is_refused_by_name(key, value):
    with pytest.raises(ValueError, match=key):
        VAE.from_mapping({key: value})


def test_settings_are_read_as_toml_or_as_words():
    assert VAE.parse_setting("epochs=3") == ("epochs", 3)
    assert VAE.parse_setting("encoder_hidden=[4, 5]") == ("encoder_hidden", [4, 5])
    assert VAE.parse_setting("data=recording.npy") == ("data", "recording.npy")
    assert VAE.parse_setting("lr = 1e-2") == ("lr", 0.01)
    with pytest.raises(ValueError, match="KEY=VALUE"):
        VAE.parse_setting("epochs")


@pytest.mark.parametrize("content", ["epochs = ", "[[[", "\x00", "epohcs = 3"])
def test_a_broken_file_is_refused(tmp_path, content):
    path = tmp_path / "config.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=r"config\.toml|epohcs"):
        VAE.read(path)
    with pytest.raises(ValueError, match="missing"):
        VAE.read(tmp_path / "missing.toml")


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"noise": 0.3}, r"noise = 0.3: data = 'digits' does not have it \(torus, poses alone\)"),
        ({"data": "poses", "picture": "fourier"}, r"picture = 'fourier': data = 'poses' does not"),
        (
            {"data": "torus", "order": 5},
            r"order = 5: picture = 'simple' does not have it, 'fourier' does",
        ),
        (
            {"data": "mine.npz", "translations": "fixed"},
            r"translations = 'fixed': data = 'mine.npz",
        ),
    ],
)
def test_options_of_other_data_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        VAE(**fields).check_heeded()


def test_options_of_the_own_data_are_taken():
    for fields in (
        {"data": "torus", "picture": "fourier", "order": 5, "discount": 0.5, "picture_seed": 1},
        {"data": "torus", "noise": 0.5, "translations": "fixed"},
        {"data": "poses", "order": 2, "picture_seed": 3, "noise": 0.5, "translations": "fixed"},
    ):
        VAE(**fields).check_heeded()


def test_the_course_of_the_learning_rate_is_the_datas():
    def resolved(**fields):
        config = VAE(manifold="torus:2", **fields)
        return delta_vae.resolve(config, delta_vae.load_data(config)).lr_schedule

    assert resolved(data="torus") == "one-cycle"
    assert resolved(data="digits") == "constant"
    assert resolved(data="torus", translations="fixed") == "constant"
    assert resolved(data="torus", lr_schedule="cosine") == "cosine"
    for shape in COURSES:
        training.Schedule(shape=shape)
