"""The three doors of the registry, the third with real installed packages."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from genlabel_plugins import Density, list_backends, make_backend, register_backend, unregister_backend
from genlabel_plugins.densities.registry import backend_name

PLUGIN = """
from genlabel_plugins.densities.backends.gaussian import GaussianMixture

class Mine(GaussianMixture):
    pass
"""


@pytest.fixture
def install(tmp_path):
    """Install packages with entry points, each a module and its dist-info, and run code that sees them."""

    def add(name, entries, source=PLUGIN):
        (tmp_path / f"{name}.py").write_text(source)
        info = tmp_path / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[genlabel_plugins.backends]\n{entries}\n")

    def run(code, **environment):
        paths = [str(tmp_path), *sys.path]
        return subprocess.run(
            [sys.executable, "-c", "import genlabel_plugins as g, sys\n" + textwrap.dedent(code)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    add.run = run
    return add


@pytest.mark.slow
def test_an_installed_package_adds_a_backend_without_being_imported(install):
    install("plugin_mine", "mine = plugin_mine:Mine")
    run = install.run("""
        print("mine" in g.list_backends(), "plugin_mine" in sys.modules)
        import torch
        torch.manual_seed(0)
        density = g.make_backend("mine", covariance_type="tied").fit(torch.randn(9, 2), torch.arange(9) % 3)
        print(type(density).__name__, g.GenLabel("mine").density.covariance_type)
        g.save(density, sys.path[1] + "/mine.safetensors")
        print(type(g.load(sys.path[1] + "/mine.safetensors", g.Density)).__module__)
    """)
    assert run.stdout.split() == ["True", "False", "Mine", "full", "plugin_mine"], run.stderr
    assert not run.stderr


@pytest.mark.slow
def test_plugins_can_be_turned_off(install):
    install("plugin_mine", "mine = plugin_mine:Mine")
    run = install.run("print(g.list_backends())", GENLABEL_DISABLE_PLUGINS="1")
    assert "gm" in run.stdout
    assert "mine" not in run.stdout


@pytest.mark.slow
def test_a_taken_name_is_ignored_with_a_warning(install):
    install("plugin_shadow", "gm = plugin_shadow:Mine")
    install("plugin_one", "mine = plugin_one:Mine")
    install("plugin_two", "mine = plugin_two:Mine")
    run = install.run("print(*(type(g.make_backend(name)).__module__ for name in ('mine', 'gm')))")
    mine, built_in = run.stdout.split()
    ignored = {"plugin_one", "plugin_two"} - {mine}
    assert built_in == "genlabel_plugins.densities.backends.gaussian"
    assert "the plug-in 'plugin_shadow:Mine' is ignored: backend 'gm' is built in" in run.stderr
    assert f"the plug-in '{ignored.pop()}:Mine' is ignored: '{mine}:Mine' is backend 'mine'" in run.stderr


@pytest.mark.slow
def test_a_broken_package_fails_by_name_only_and_in_one_sentence(install):
    install("broken_import", "one = broken_import:Mine", "import a_module_that_is_not_there")
    install("broken_code", "two = broken_code:Mine", "raise RuntimeError('out of order')")
    install(
        "broken_name", "three = broken_name:Missing\nfour = not_there:Mine\nfive = broken_name:number", "number = 3"
    )
    run = install.run("""
        print({"one", "two", "three", "four", "five"} <= set(g.list_backends()), type(g.make_backend("gm")).__name__)
        for name in ("one", "two", "three", "four", "five"):
            try:
                g.make_backend(name)
            except ImportError as error:
                print(error)
    """)
    listed, *errors = run.stdout.splitlines()
    assert listed == "True GaussianMixture", run.stderr
    assert len(errors) == 5, run.stderr
    for error, message in zip(
        errors,
        [
            "backend 'one' of broken_import cannot be loaded from 'broken_import:Mine': ModuleNotFoundError",
            "backend 'two' of broken_code cannot be loaded from 'broken_code:Mine': RuntimeError('out of order')",
            "backend 'three' of broken_name cannot be loaded from 'broken_name:Missing': AttributeError",
            "backend 'four' of broken_name cannot be loaded from 'not_there:Mine': ModuleNotFoundError",
            "backend 'five' of broken_name must be callable, got 3",
        ],
        strict=True,
    ):
        assert error.startswith(message)


def test_the_decorator_registers_and_refuses_a_taken_name():
    @register_backend("mine")
    class Mine(Density):
        pass

    try:
        assert "mine" in list_backends()
        assert isinstance(make_backend("mine"), Mine)
        assert backend_name(Mine) == "mine"
        with pytest.raises(ValueError, match="backend 'mine' is taken, choose a name other than"):
            register_backend("mine")(dict)
        with pytest.raises(ValueError, match="backend 'gm' is taken"):
            register_backend("gm")(Mine)
        assert register_backend("mine")(Mine) is Mine  # a notebook cell that ran again
    finally:
        unregister_backend("mine")
    assert "mine" not in list_backends()
    with pytest.raises(ValueError, match="'mine' was not registered"):
        unregister_backend("mine")


def test_an_unknown_name_lists_the_known():
    with pytest.raises(ValueError, match=r"backend must be one of \['flow', 'gan', 'gm', .*got 'gmm'"):
        make_backend("gmm")


def test_an_object_passes_through_and_anything_else_is_refused():
    density = make_backend("gm")
    assert make_backend(density) is density
    with pytest.raises(TypeError, match="parameters go with a backend's name, got"):
        make_backend(density, reg_covar=0.1)
    for wrong in (3, None, torch.zeros(2), Density):
        with pytest.raises(TypeError, match="name or an object with fit and log_prob"):
            make_backend(wrong)


def test_the_name_of_a_class_that_is_not_registered():
    with pytest.raises(ValueError, match=r"Density is not registered: put register_backend\(name\) above it"):
        backend_name(Density)


@pytest.mark.parametrize("name", list_backends())
def test_an_unknown_parameter_is_refused_by_name_with_the_choices(name):
    with pytest.raises(TypeError, match=rf"backend '{name}' must be given options out of \[.*'\], got \['shrinks'\]"):
        make_backend(name, shrinks=1)


def test_forgetting_what_was_never_registered_lists_what_was():
    register_backend("mine")(Density)
    with pytest.raises(ValueError, match=r"'nothing' was not registered by register_backend: only \['mine'\] were"):
        unregister_backend("nothing")
    unregister_backend("mine")
    with pytest.raises(ValueError, match="'mine' was not registered by register_backend: no backend was"):
        unregister_backend("mine")


@pytest.mark.slow
def test_the_example_package_is_built_installed_and_found_by_name(tmp_path):
    package = tmp_path / "package"
    shutil.copytree(Path(__file__).parents[2] / "examples" / "custom_backend_package", package)
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    pip = [sys.executable, "-m", "pip", "install", *offline, "--target", str(tmp_path / "site"), str(package)]
    subprocess.run(pip, check=True, cwd=tmp_path)
    code = """
        import sys, torch, genlabel_plugins as g
        from scipy.stats import t
        print("student" in g.list_backends(), "student_density" in sys.modules)
        x, target = torch.randn(90, 2, dtype=torch.float64), torch.arange(90) % 3
        density = g.make_backend("student", freedom=3.0).fit(x, target)
        rows = x[target == 1]
        loc = rows.median(0).values
        scale = 1.4826 * (rows - loc).abs().median(0).values
        expected = torch.as_tensor(t(3.0, loc, scale).logpdf(x)).sum(1)
        print(torch.allclose(density.log_prob(x)[:, 1], expected))
        g.save(g.GenLabel(density, gamma=0.5), "student.safetensors")
        print(torch.equal(g.load("student.safetensors").density.log_prob(x), density.log_prob(x)))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), *filter(None, sys.path)])},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert run.stdout.split() == ["True", "False", "True", "True"], run.stderr
