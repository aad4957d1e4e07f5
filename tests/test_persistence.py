"""Save and load without pickle: what comes back, and what is refused."""

import json
import os
import pickle
import resource
import signal
import stat
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from sklearn.exceptions import NotFittedError
from sklearn.mixture import GaussianMixture as SklearnMixture

from genlabel_plugins import Density, GenLabel, PerClass, RunningGaussian, list_backends, load, make_backend, save
from genlabel_plugins.densities.backends.gaussian import GaussianMixture
from genlabel_plugins.testing._assertions import blobs


@pytest.mark.parametrize("name", list_backends())
def test_every_backend_comes_back_as_it_was(name, tmp_path, cheap):
    x, target = blobs()
    density = make_backend(name, **cheap(name)).fit(x.float(), target, n_classes=4)
    save(density, tmp_path / "density.safetensors")
    loaded = load(tmp_path / "density.safetensors", Density)
    assert type(loaded) is type(density)
    assert torch.equal(loaded.log_prob(x), density.log_prob(x))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gamma": 0.25, "priors": "empirical", "top_k": 2, "temperature": 3.0},
        {"priors": torch.tensor([1.0, 2.0, 3.0]), "gamma": np.float64(0.5)},
        {"priors": (1, 2, 3), "top_k": np.int64(2), "gamma": torch.tensor(0.5)},
    ],
)
def test_a_relabeler_comes_back_as_it_was(options, tmp_path):
    x, target = blobs()
    genlabel = GenLabel(make_backend("gm", covariance_type="tied", reg_covar=1e-3), **options).fit(x, target)
    save(genlabel, tmp_path / "genlabel.safetensors")
    loaded = load(tmp_path / "genlabel.safetensors", GenLabel)
    y_mix = torch.full((len(x), 3), 1 / 3, dtype=torch.float64)
    assert torch.allclose(loaded.relabel(x * 2, y_mix), genlabel.relabel(x * 2, y_mix), rtol=0, atol=1e-15)
    assert loaded.density.covariance_type == "tied"
    assert loaded.density.reg_covar == 1e-3


def test_a_calibrated_temperature_is_saved(tmp_path):
    x, target = blobs()
    genlabel = GenLabel("gm").fit(x, target).calibrate(x, target)
    save(genlabel, tmp_path / "file")
    assert load(tmp_path / "file", GenLabel).temperature == genlabel.temperature


def test_load_says_what_the_file_holds(tmp_path):
    save(make_backend("gm").fit(*blobs()), tmp_path / "file")
    assert isinstance(load(tmp_path / "file", GaussianMixture), GaussianMixture)
    with pytest.raises(ValueError, match="holds a GaussianMixture, not a GenLabel"):
        load(tmp_path / "file", GenLabel)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (PerClass(SklearnMixture()), "PerClass is not registered"),
        (GenLabel("gm", gamma=torch.rand(120)), "GenLabel cannot be saved: gamma must be a JSON value, got Tensor"),
        (GenLabel(RunningGaussian(3)), "only a Density can be saved, got RunningGaussian"),
    ],
)
def test_what_cannot_be_saved_is_refused(model, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        save(model.fit(*blobs()), tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_an_unfitted_density_is_refused(tmp_path):
    with pytest.raises(NotFittedError):
        save(GenLabel("gm"), tmp_path / "file")


@pytest.fixture
def saved(tmp_path):
    save(GenLabel("gm").fit(*blobs()), tmp_path / "file")
    return tmp_path / "file"


def _rewrite(path, edit_header=None, edit_tensors=None, digest=False):
    """Write the file again with other content; with `digest`, as an attacker would who knows the format."""
    from genlabel_plugins import persistence

    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["genlabel_plugins"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if edit_header:
        edit_header(header)
    if edit_tensors:
        edit_tensors(tensors)
    if digest:
        header.pop("sha256")
        header["sha256"] = persistence._digest(header, tensors)
    save_file(tensors, path, {"genlabel_plugins": json.dumps(header)})


class Exploit:
    """A pickle that would run code."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def _truncate(path, n_bytes):
    path.write_bytes(path.read_bytes()[:n_bytes])


FOREIGN = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated header": partial(_truncate, n_bytes=20),
    "truncated tensors": partial(_truncate, n_bytes=-9),
    "text": lambda path: path.write_text("hello " * 100),
    "pickle": lambda path: path.write_bytes(pickle.dumps(Exploit())),
    "torch.save": lambda path: torch.save(Exploit(), path),
    "huge header": lambda path: path.write_bytes((2**62).to_bytes(8, "little") + b"{" * 100),
    "other safetensors": lambda path: save_file({"a": torch.zeros(2)}, path),
    "metadata no JSON": lambda path: save_file({"a": torch.zeros(2)}, path, {"genlabel_plugins": "{"}),
    "metadata a list": lambda path: save_file({"a": torch.zeros(2)}, path, {"genlabel_plugins": "[1]"}),
    "metadata deep": lambda path: save_file({"a": torch.zeros(2)}, path, {"genlabel_plugins": "[" * 200_000}),
}


@pytest.mark.parametrize("spoil", FOREIGN.values(), ids=FOREIGN)
def test_foreign_and_damaged_files_are_refused(spoil, saved):
    spoil(saved)
    with pytest.raises(ValueError, match="is no file of genlabel_plugins") as error:
        load(saved, GenLabel)
    assert "\n" not in str(error.value)


def test_another_version_is_refused(saved):
    _rewrite(saved, lambda header: header.update(version=2))
    with pytest.raises(ValueError, match="must have format version 1, got 2"):
        load(saved, GenLabel)


def _set_gamma(header):
    header["relabeler"]["gamma"] = 0.1


def _move(tensors):
    tensors["offset_"] += 1


def _add(tensors):
    tensors["more"] = torch.zeros(1)


@pytest.mark.parametrize("edits", [{"edit_header": _set_gamma}, {"edit_tensors": _move}, {"edit_tensors": _add}])
def test_altered_content_is_refused(edits, saved):
    _rewrite(saved, **edits)
    with pytest.raises(ValueError, match="was altered after it was saved"):
        load(saved, GenLabel)


HEADERS = {
    "unknown backend": lambda header: header.update(backend="os:system"),
    "no backend": lambda header: header.update(backend=None),
    "unknown argument": lambda header: header["arguments"].update(command="rm"),
    "argument out of range": lambda header: header["arguments"].update(reg_covar=-1),
    "no arguments": lambda header: header.pop("arguments"),
    "another covariance": lambda header: header["arguments"].update(covariance_type="diag"),
    "relabeler option": lambda header: header["relabeler"].update(gamma=7),
    "relabeler no mapping": lambda header: header.update(relabeler=[1]),
}
TENSORS = {
    "another tensor": _add,
    "missing tensor": lambda tensors: tensors.pop("whiten_"),
    "another shape": lambda tensors: tensors.update(offset_=torch.zeros(7)),
    "another dtype": lambda tensors: tensors.update(whiten_=torch.zeros(3, dtype=torch.uint8)),
}


@pytest.mark.parametrize("edit", HEADERS.values(), ids=HEADERS)
def test_a_malicious_header_is_refused_in_one_sentence(edit, saved):
    _rewrite(saved, edit_header=edit, digest=True)
    with pytest.raises(ValueError, match="file") as error:
        load(saved, GenLabel)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("edit", TENSORS.values(), ids=TENSORS)
def test_malicious_tensors_are_refused_in_one_sentence(edit, saved):
    _rewrite(saved, edit_tensors=edit, digest=True)
    with pytest.raises(ValueError, match="file") as error:
        load(saved, GenLabel)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "nowhere", GenLabel)


def test_a_folder_is_called_one(tmp_path):
    with pytest.raises(IsADirectoryError, match="is a folder: name a file in it"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere' to write 'file' to"):
        save(make_backend("gm").fit(*blobs()), tmp_path / "nowhere" / "file")


OVERSIZED = {
    "a wide network": ("vae", {"hidden_features": 200_000}),
    "a square network": ("gan", {"hidden_features": [200_000, 200_000]}),
    "a long code": ("gan", {"latent_dim": 10**9}),
    "a deep flow": ("flow", {"n_layers": 10**9}),
    "a wide flow": ("flow", {"hidden_features": 200_000}),
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arguments"), OVERSIZED.values(), ids=OVERSIZED)
def test_arguments_that_describe_another_size_are_refused_before_memory_is_taken(name, arguments, tmp_path, cheap):
    save(make_backend(name, **cheap(name)).fit(*blobs()), tmp_path / "file")
    _rewrite(tmp_path / "file", lambda header: header["arguments"].update(arguments), digest=True)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="its arguments ask for a") as error:
        load(tmp_path / "file")
    assert "\n" not in str(error.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB; the first asked for gigabytes


def test_a_new_file_has_the_mode_of_the_umask_and_an_old_one_keeps_its_own(tmp_path):
    density = make_backend("gm").fit(*blobs())
    earlier = os.umask(0o027)
    try:
        save(density, tmp_path / "new")
        (tmp_path / "private").touch(0o600)
        save(density, tmp_path / "private")
    finally:
        os.umask(earlier)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "private").stat().st_mode) == 0o600


def test_a_link_is_followed_and_stays(tmp_path):
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link"
    link.symlink_to("folder/target")
    for _ in range(2):  # to a file that is yet to be made, and to one that is there
        save(make_backend("gm").fit(*blobs()), link)
        assert link.is_symlink()
        assert isinstance(load(tmp_path / "folder" / "target"), Density)
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["target"]


WRITER = """
import resource, sys, torch
from genlabel_plugins import make_backend, save
torch.set_num_threads(1)
x = torch.randn(400, 40, generator=torch.Generator().manual_seed(0))
target = torch.arange(400) % 2
models = [make_backend("kde").fit(rows, target) for rows in (x, x[:200].repeat(2, 1) + 1)]
"""
FILLS_THE_DISK = (
    WRITER
    + """
save(models[0], sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # as a full disk: the system takes no more bytes
try:
    save(models[1], sys.argv[1])
except OSError as error:
    print(type(error).__name__)
"""
)
WRITES_ON = (
    WRITER
    + """
for i in range(10**6):
    save(models[i % 2], sys.argv[1])
    if i == 1:
        print("ready", flush=True)
"""
)


@pytest.mark.slow
def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path):
    command = [sys.executable, "-c", FILLS_THE_DISK, tmp_path / "file"]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["OSError"], run.stderr
    assert (tmp_path / "file").stat().st_size > 20_000
    assert isinstance(load(tmp_path / "file"), Density)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.slow
def test_a_reader_beside_a_writer_sees_whole_files_and_so_does_one_after_a_kill(tmp_path):
    writer = subprocess.Popen([sys.executable, "-c", WRITES_ON, tmp_path / "file"], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout.readline() == "ready\n"
        offsets = {float(load(tmp_path / "file").offset_.mean()) for _ in range(150)}
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    assert len(offsets) == 2, "both models must have been read"
    assert float(load(tmp_path / "file").offset_.mean()) in offsets


@given(place=st.integers(0, 10**6), byte=st.integers(0, 255), cut=st.booleans())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_with_a_byte_changed_or_its_tail_cut_is_refused_in_one_sentence(place, byte, cut, saved):
    content = bytearray(saved.read_bytes())
    place %= len(content)
    if not cut and (content[place] == byte or bytes([content[place], byte]).isspace()):  # JSON's spaces are alike
        return
    content[place : None if cut else place + 1] = b"" if cut else bytes([byte])
    spoilt = saved.with_name("spoilt")
    spoilt.write_bytes(content)
    with pytest.raises(ValueError, match="spoilt") as error:
        load(spoilt)
    assert "\n" not in str(error.value)


def test_files_of_builds_before_the_first_release_stay_readable(tmp_path):
    x, target = blobs()
    gm = make_backend("gm", shrinkage=0.0).fit(x, target)
    save(gm, tmp_path / "gm")
    _rewrite(tmp_path / "gm", lambda header: header["arguments"].update(shrinkage=None), digest=True)
    assert torch.equal(load(tmp_path / "gm").log_prob(x), gm.log_prob(x))

    nn = make_backend("nn").fit(x, target)
    save(nn, tmp_path / "nn")

    def without_units(tensors):
        rows = x - nn.offset_  # as these builds laid out rows, here in one tile a class
        count = torch.bincount(target)
        score = x.new_full((len(count), int(count.max()), 1 + x.shape[1]), 0.0)
        score[..., 0] = -torch.inf
        for c in range(len(count)):
            own = rows[target == c]
            score[c, : len(own)] = torch.cat([-own.square().sum(1, keepdim=True), 2 * own], 1)
        for name in ("unit_", "origin_", "column_", "wide_row_"):
            del tensors[name]
        tensors["row_score_"] = score
        tensors["first_tile_"] = torch.arange(len(count))
        tensors["tile_class_"] = torch.arange(len(count))
        unit = nn.unit_
        tensors["least_square_"] = nn.least_square_ * unit.square()
        tensors["log_norm_"] = nn.log_norm_ + x.shape[1] * unit.log()

    _rewrite(tmp_path / "nn", edit_tensors=without_units, digest=True)
    torch.testing.assert_close(load(tmp_path / "nn").log_prob(x + 0.1), nn.log_prob(x + 0.1))
