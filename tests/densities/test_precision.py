"""TF32 does not reach a log-density, whatever name it was allowed by, and is allowed again afterwards."""

import threading

import pytest
import torch
from torch._dynamo.backends.debugging import aot_eager
from torch.backends import cuda, mkldnn

from genlabel_plugins import GenLabel, list_backends, make_backend
from genlabel_plugins import _tf32 as tf32
from genlabel_plugins._precision import full_precision

NEWER = pytest.mark.skipif(not tf32.HAS_NEWER_NAME, reason="a name of torch 2.9")


@pytest.fixture(autouse=True)
def _as_it_was():
    _reset()
    yield
    _reset()


def _reset():
    torch.set_float32_matmul_precision("highest")
    if tf32.HAS_NEWER_NAME:
        torch.backends.fp32_precision = cuda.matmul.fp32_precision = mkldnn.matmul.fp32_precision = "none"


def allow(name):
    if name == "allow_tf32":
        cuda.matmul.allow_tf32 = True
    elif name == "fp32_precision":
        cuda.matmul.fp32_precision = "tf32"
    elif name == "of all":
        torch.backends.fp32_precision = "tf32"
    elif name != "highest":
        torch.set_float32_matmul_precision(name)


def state():
    """What can be read: torch refuses to read an older name after a newer one was set."""
    found = []
    for read in (
        lambda: cuda.matmul.allow_tf32,
        torch.get_float32_matmul_precision,
        lambda: cuda.matmul.fp32_precision,
        lambda: mkldnn.matmul.fp32_precision,
    ):
        try:
            found.append(read())
        except (RuntimeError, AttributeError) as error:
            found.append(type(error))
    return found


NAMES = ["allow_tf32", "high", "medium", *(pytest.param(name, marks=NEWER) for name in ("fp32_precision", "of all"))]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_off_inside_and_as_it_was_outside(name):
    assert not tf32._rounds_products()
    allow(name)
    before = state()
    assert tf32._rounds_products()
    for _ in range(2):
        with tf32.off():
            assert not tf32._rounds_products()
            with tf32.off():
                assert not tf32._rounds_products()
            assert not tf32._rounds_products()
            assert before[1] not in ("high", "medium") or torch.get_float32_matmul_precision() == "highest"
        assert state() == before
    with pytest.raises(ZeroDivisionError), tf32.off():
        raise ZeroDivisionError
    assert state() == before


@NEWER
def test_what_was_inherited_is_inherited_again_and_the_cpu_keeps_its_own():
    allow("of all")
    with tf32.off():
        pass
    torch.backends.fp32_precision = "ieee"
    assert not tf32._rounds_products()
    _reset()
    allow("medium")
    mkldnn.matmul.fp32_precision = "ieee"
    with tf32.off():
        pass
    assert mkldnn.matmul.fp32_precision == "ieee"


def test_no_thread_takes_the_switch_of_another_for_its_own(monkeypatch):
    """Between its two questions another turns TF32 off; told no, it would compute on when that one leaves."""
    allow("high")
    asked, threads = tf32._rounds_products, []

    def other():
        with tf32.off():
            pass

    def slow():
        threads.append(threading.Thread(target=other))
        threads[-1].start()
        threads[-1].join(0.2)  # it waits for the lock
        return asked()

    monkeypatch.setattr(tf32, "_rounds_products", slow)
    assert tf32.is_allowed()
    threads[0].join(10)


def test_it_is_off_until_the_last_thread_has_left():
    allow("high")
    inside, leave, seen = threading.Event(), threading.Event(), []

    def other():
        with tf32.off():
            inside.set()
            leave.wait(10)
            seen.append(tf32._rounds_products())

    thread = threading.Thread(target=other)
    with tf32.off():
        thread.start()
        assert inside.wait(10)
    assert not tf32._rounds_products()
    leave.set()
    thread.join()
    assert seen == [False]
    assert tf32._rounds_products()
    assert torch.get_float32_matmul_precision() == "high"


def test_a_cpu_is_left_alone():
    allow("high")
    x = torch.randn(20, 3)
    with full_precision(x):
        assert tf32._rounds_products()


@pytest.mark.parametrize("name", NAMES)
def test_torch_compile_leaves_the_switch_outside_its_graphs(name):
    allow(name)
    before, graphs, inside = state(), [], []

    @torch.compiler.disable
    def look():
        inside.append(tf32._rounds_products())

    def square(x):
        return x @ x

    def step(x):
        with torch.no_grad(), tf32.off():
            y = square(x)
            look()
        return y + 1

    def backend(graph, inputs):
        graphs.extend(str(node.target) for node in graph.graph.nodes)
        return aot_eager(graph, inputs)  # it drops from a graph what is no operation, as inductor does

    compiled, x = torch.compile(step, backend=backend), torch.randn(3, 3)
    for _ in range(3):
        torch.testing.assert_close(compiled(x), x @ x + 1)
        assert state() == before
    assert inside == [False] * 3
    assert graphs
    assert not any("tf32" in target or "precision" in target for target in graphs), graphs
    torch._dynamo.reset()
    with pytest.raises(Exception, match="off"):
        torch.compile(step, backend=backend, fullgraph=True)(x)


@pytest.mark.parametrize("name", NAMES)
def test_torch_compile_asks_anew_where_it_is_allowed(name):
    def step(x):
        from genlabel_plugins import _tf32

        return x + 1 if _tf32.is_allowed() else x - 1

    compiled = torch.compile(step, backend="eager", fullgraph=True)
    assert compiled(torch.zeros(1)) == -1
    allow(name)
    assert compiled(torch.zeros(1)) == 1


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("backend", list_backends())
def test_log_densities_on_a_gpu_lose_nothing(backend, name):
    options = {"flow": {"max_epochs": 2}, "vae": {"max_epochs": 2}, "gan": {"max_epochs": 2}}.get(backend, {})
    generator = torch.Generator().manual_seed(0)
    target = torch.arange(3).repeat_interleave(60)
    x = torch.randn(180, 64, generator=generator).add(target[:, None]).cuda()
    density = make_backend(backend, **options).fit(x, target.cuda())
    far = 3 * x
    expected = density.log_prob(far)
    allow(name)
    assert torch.equal(density.log_prob(far), expected)
    genlabel = GenLabel(density)
    y_mix = torch.full((180, 3), 1 / 3, device="cuda")
    labels = genlabel.relabel(far, y_mix)
    _reset()
    torch.testing.assert_close(labels, genlabel.relabel(far, y_mix), atol=1e-6, rtol=0)
    if (backend, name) == ("gm", "high"):
        allow(name)
        torch.testing.assert_close(torch.compile(genlabel.relabel)(far, y_mix), labels, atol=1e-5, rtol=0)
