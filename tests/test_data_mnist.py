"""MNIST: the bits of the idx format, the files' hashes, and downloads from a loopback server."""

import gzip
import hashlib
import http.server
import re
import struct
import threading
from pathlib import Path

import pytest
import torch

from manifold_ae.data import DownloadError, load, mnist, read_idx
from manifold_ae.data.download import cache_folder, fetch

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "mnist"


def idx(shape, elements):
    """The bytes of an idx file of unsigned bytes."""
    return b"\0\0\x08" + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + elements


IMAGES = idx((2, 2, 3), bytes(range(12)))


def write(path, content):
    path.write_bytes(content)
    return path


# the format


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_elements_shape_and_hash_are_those_of_the_decoded_bytes(tmp_path, pack):
    x, md5 = read_idx(write(tmp_path / "images", pack(IMAGES)), 3)
    assert x.dtype == torch.uint8
    assert x.tolist() == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    assert md5 == hashlib.md5(IMAGES).hexdigest()


def test_every_byte_is_read_as_it_stands(tmp_path):
    x, _ = read_idx(write(tmp_path / "labels", idx((256,), bytes(range(256)))), 1)
    assert torch.equal(x, torch.arange(256, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts with nothing"),
        (b"<html>", "starts with 3c 68 74 6d, .*expected 00 00 08"),
        (b"\0\0\x0d" + IMAGES[3:], "starts with 00 00 0d 03"),
        (b"\0\0\x08\0", "starts with 00 00 08 00"),
        (idx((12,), bytes(12)), "has 1 axes, expected 3; are images and labels exchanged"),
        (IMAGES[:9], "ends within its header"),
        (IMAGES[:-1], "makes 12 bytes, and 11 follow it"),
        (IMAGES + b"\0", "makes 12 bytes, and more follow it"),
        (idx((2, 0, 3), b""), r"shape \(2, 0, 3\), 0 bytes"),
        (idx((2**32 - 1,) * 3, b"\1"), r"\d{28} bytes: expected 1 to 1073741824"),
        (idx((2**10,) * 3, b"\1"), "makes 1073741824 bytes, and 1 follow it"),
        (gzip.compress(IMAGES, mtime=0)[:-9], "the gzip stream ends early"),
        (gzip.compress(IMAGES, mtime=0)[:-8] + bytes(8), "the gzip stream is damaged"),
        (b"\x1f\x8b\x08" + bytes(20), "the gzip stream"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path, content, message):
    path = write(tmp_path / "some-images", content)
    with pytest.raises(ValueError, match=f"some-images: .*{message}"):
        read_idx(path, 3)


# downloads


class Mirror(http.server.ThreadingHTTPServer):
    """A server of a dictionary of files on the loopback address, that keeps what was asked."""

    def __init__(self, files, missing_bytes=0):
        self.files, self.missing_bytes, self.asked = files, missing_bytes, []
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/mnist/"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self):
        name = self.path.removeprefix("/mnist/")
        self.server.asked.append(name)
        if name not in self.server.files:
            self.send_error(404)
            return
        content = self.server.files[name]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) - self.server.missing_bytes])

    def log_message(self, format, *args):
        pass


@pytest.fixture
def serve(monkeypatch):
    """Start mirrors, and stop them after the test."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = []

    def start(files, missing_bytes=0):
        server = Mirror(files, missing_bytes)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return server

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


def must_be_images(path):
    read_idx(path, 3)


GOOD = gzip.compress(IMAGES)
BAD = gzip.compress(IMAGES[:-1])


def test_a_good_file_is_fetched_once(tmp_path, serve):
    mirror = serve({"a.gz": GOOD})
    for _ in range(2):
        path = fetch("a.gz", tmp_path / "new", [mirror.url], must_be_images, progress=False)
    assert path.read_bytes() == GOOD
    assert mirror.asked == ["a.gz"]
    assert [p.name for p in path.parent.iterdir()] == ["a.gz"]


def test_the_progress_bar_goes_to_stderr(tmp_path, serve, capsys):
    fetch("a.gz", tmp_path, [serve({"a.gz": GOOD}).url], must_be_images)
    printed = capsys.readouterr()
    assert "100%" in printed.err
    assert printed.out == ""


@pytest.mark.parametrize(
    ("files", "missing_bytes", "reason"),
    [
        ({"a.gz": BAD}, 0, "not the expected file"),
        ({"a.gz": GOOD[:-4]}, 0, "the gzip stream ends early"),
        ({"a.gz": GOOD}, 5, "IncompleteRead|broken|5 more expected"),
        ({}, 0, "404"),
    ],
    ids=["corrupted", "cut", "broken off", "not found"],
)
def test_a_mirror_that_fails_is_left_for_the_next(tmp_path, serve, files, missing_bytes, reason):
    failing, working = serve(files, missing_bytes), serve({"a.gz": GOOD})
    with pytest.raises(DownloadError, match=reason) as caught:
        fetch("a.gz", tmp_path, [failing.url], must_be_images, progress=False, otherwise="Do X.")
    assert f"{failing.url}a.gz: " in str(caught.value)
    assert str(caught.value).endswith("Do X.")
    assert list(tmp_path.iterdir()) == []

    mirrors = [failing.url, working.url]
    path = fetch("a.gz", tmp_path, mirrors, must_be_images, progress=False)
    assert path.read_bytes() == GOOD
    assert len(failing.asked) == 2
    assert working.asked == ["a.gz"]


def test_the_cache_folder_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv("MANIFOLD_AE_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("MANIFOLD_AE_CACHE")
    assert "manifold_ae" in str(cache_folder())


# the data set


SMALL = {
    "train": idx((3, 2, 2), bytes(range(0, 120, 10))),
    "train_labels": idx((3,), bytes([5, 0, 4])),
    "test": idx((2, 2, 2), bytes(range(8))),
    "test_labels": idx((2,), bytes([7, 2])),
}


@pytest.fixture
def small(monkeypatch):
    """Stand-ins for the four files, with their own hashes: name to content."""
    files = {
        part: mnist.IdxFile(file.name, file.ndim, hashlib.md5(SMALL[part]).hexdigest())
        for part, file in mnist.FILES.items()
    }
    monkeypatch.setattr(mnist, "FILES", files)
    return {files[part].name: content for part, content in SMALL.items()}


def classes(data):
    assert data.test_labels is not None
    return data.test_labels.tolist()


def test_downloaded_verified_kept_and_mended(tmp_path, monkeypatch, serve, small):
    monkeypatch.setenv("MANIFOLD_AE_CACHE", str(tmp_path))
    mirror = serve({f"{name}.gz": gzip.compress(content) for name, content in small.items()})
    options = {"mirrors": [mirror.url], "progress": False}
    data = load("mnist", **options)
    assert data.train.dtype == torch.float32
    assert data.train[1].tolist() == [[40.0, 50.0], [60.0, 70.0]]
    assert data.train_labels is not None
    assert data.train_labels.tolist() == [5, 0, 4]
    assert data.test_rows.tolist() == [0, 1]
    assert data.value_range == (0.0, 255.0)
    assert data.default_likelihood == "gaussian"

    assert len(mirror.asked) == 4
    load("mnist", **options)
    assert len(mirror.asked) == 4
    write(tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz", b"what a crash left")
    assert torch.equal(load("mnist", **options).test, data.test)
    assert mirror.asked[4:] == ["t10k-labels-idx1-ubyte.gz"]


def test_offline_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("MANIFOLD_AE_CACHE", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(DownloadError) as caught:
        # port 9 discards, where anything listens at all
        load("mnist", mirrors=["http://127.0.0.1:9/"], progress=False)
    for words in ("127.0.0.1:9/train-images", "--data-dir", "--data digits", str(tmp_path)):
        assert words in str(caught.value)
    for file in mnist.FILES.values():
        assert f"{file.name}.gz" in str(caught.value)
    assert list((tmp_path / "mnist").iterdir()) == []


def test_files_of_the_users_gzipped_or_not(tmp_path, small):
    for i, (name, content) in enumerate(small.items()):
        if i % 2:
            write(tmp_path / name, content)
        else:
            write(tmp_path / f"{name}.gz", gzip.compress(content))
    assert classes(load("mnist", data_dir=tmp_path)) == [7, 2]


def test_another_data_set_of_the_same_format_passes_unverified_alone(tmp_path, small):
    for name, content in small.items():
        write(tmp_path / name, content)
    other = write(tmp_path / "t10k-labels-idx1-ubyte", idx((2,), bytes([9, 9])))
    with pytest.raises(ValueError, match=f"{re.escape(str(other))}: .*MD5.*verify=False"):
        load("mnist", data_dir=tmp_path)
    assert classes(load("mnist", data_dir=tmp_path, verify=False)) == [9, 9]
    write(other, idx((3,), bytes(3)))
    with pytest.raises(ValueError, match=r"2 images and t10k-labels-idx1-ubyte 3 labels"):
        load("mnist", data_dir=tmp_path, verify=False)


def test_a_missing_file_or_folder_is_named(tmp_path, small):
    write(tmp_path / "train-images-idx3-ubyte", SMALL["train"])
    with pytest.raises(FileNotFoundError, match=r"lacks train-labels-idx1-ubyte or .*\.gz"):
        load("mnist", data_dir=tmp_path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load("mnist", data_dir=tmp_path / "nowhere")


@pytest.mark.skipif(not REAL.is_dir(), reason="MNIST files not available")
def test_the_real_files_have_the_hashes_expected():
    data = load("mnist", data_dir=REAL)
    assert data.train.shape == (60_000, 28, 28)
    assert data.test.shape == (10_000, 28, 28)
    assert data.train_labels is not None
    assert data.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert torch.bincount(data.train_labels)[[0, 9]].tolist() == [5923, 5949]
    assert data.train[:1000].max() == 255
