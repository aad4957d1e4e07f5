"""Canaries: private names of hosts that we call or override. Each says what breaks once the host renames it."""

import inspect

import numpy as np
import pytest
import torch


@pytest.mark.parametrize("name", ["_mix_batch", "_mix_pair", "_mix_elem"])
def test_timm_mixes_where_we_listen(name):
    data = pytest.importorskip("timm.data")
    method = getattr(data.Mixup, name, None)
    assert method, f"timm's Mixup has no {name} any more: GenLabelMixup cannot learn the lam of that mode"
    assert list(inspect.signature(method).parameters) == ["self", "x"], f"timm's {name} takes other arguments"
    source = inspect.getsource(data.Mixup.__call__)
    assert f"self.{name}(" in source, f"timm's Mixup does not call {name} any more: GenLabelMixup would not see lam"


@pytest.mark.parametrize("name", ["_mix_elem_collate", "_mix_pair_collate", "_mix_batch_collate"])
def test_timm_collates_where_we_listen(name):
    data = pytest.importorskip("timm.data")
    assert hasattr(data.FastCollateMixup, name), f"timm's FastCollateMixup has no {name}: see genlabel_timm/collate.py"


def test_torch_draws_dirichlet_with_a_generator():
    concentration = torch.full((5, 2), 0.5)
    drawn = [torch._sample_dirichlet(concentration, torch.Generator().manual_seed(0)) for _ in range(2)]
    why = "torch._sample_dirichlet changed: lam of our mixers (mixing/pairing.py) is drawn by it, from an own generator"
    assert torch.equal(*drawn), why
    torch.testing.assert_close(drawn[0].sum(1), torch.ones(5), msg=why)


def test_scikit_learn_checks_weights_and_names_for_us():
    from sklearn.utils import validation

    for name, user in (
        ("_check_sample_weight", "GenLabelClassifier"),
        ("_check_feature_names", "GenerativeMixSampler"),
        ("_check_n_features", "GenerativeMixSampler"),
    ):
        assert hasattr(validation, name), f"sklearn.utils.validation has no {name} any more: {user} checks by it"
    weight = validation._check_sample_weight(2, np.ones((3, 1)), dtype=np.float64)
    assert weight.tolist() == [2, 2, 2], "_check_sample_weight does not broadcast a number any more: see base.py"


def test_lightning_has_a_precision_plugin():
    lightning = pytest.importorskip("pytorch_lightning")
    plugin = lightning.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False).precision_plugin
    for name in ("forward_context", "convert_input"):
        assert callable(getattr(plugin, name, None)), f"precision_plugin.{name} is gone: see training_rows.py"


def test_keras_says_when_it_asks_for_shapes_alone():
    keras = pytest.importorskip("keras")
    from keras.src.backend.common.symbolic_scope import in_symbolic_scope

    asked = []

    class Listener(keras.layers.Layer):
        def call(self, x):
            asked.append(in_symbolic_scope())
            return x

    Listener()(keras.Input((2,)))
    assert asked, "Keras does not trace a layer any more"
    assert all(asked), "in_symbolic_scope does not tell tracing: GenLabelMixUp would learn from made-up values"


def test_torch_says_which_module_joins_uneven_inputs():
    from torch.distributed.algorithms.join import Joinable
    from torch.nn.parallel import DistributedDataParallel

    why = "see loops/feature_tap.py: features would be kept of the forwards that shadow a rank without rows"
    source = inspect.getsource(DistributedDataParallel.forward) + inspect.getsource(Joinable)
    assert "_active_ddp_module" in vars(DistributedDataParallel), (
        f"DistributedDataParallel._active_ddp_module is gone, {why}"
    )
    assert "self._join_config = " in source, f"DistributedDataParallel._join_config is gone, {why}"


def test_torch_compile_wraps_a_module_as_we_unwrap_it():
    model = torch.nn.Linear(2, 2)
    compiled = torch.compile(model, backend="eager")
    assert compiled._orig_mod is model, "torch.compile has no _orig_mod any more: see loops/head_features.py"


def test_torch_checks_without_waiting_for_the_device():
    with pytest.raises(RuntimeError, match="labels must lie in"):
        torch._assert_async(torch.tensor(False), "labels must lie in 0..2")


def test_torch_dispatches_to_modes():
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Listens(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(function)
            return function(*args, **kwargs or {})

    with Listens():
        torch.zeros(2) + 1
    assert seen, "torch.utils._python_dispatch.TorchDispatchMode hears nothing: see persistence.py"


@pytest.mark.parametrize("package", ["lightning_fabric", "lightning.fabric"])
def test_lightning_wraps_a_sampler_as_we_unwrap_it(package):
    fabric = pytest.importorskip(f"{package}.utilities.distributed")
    sampler = torch.utils.data.SubsetRandomSampler([1, 2])
    wrapped = fabric.DistributedSamplerWrapper(sampler, num_replicas=1, rank=0)
    why = "Lightning's wrapper of a sampler hides it elsewhere: see _visited in training_rows.py"
    assert wrapped.dataset._sampler is sampler, why


def test_imbalanced_learn_asks_for_fit_resample():
    base = pytest.importorskip("imblearn.over_sampling.base")
    names = base.BaseOverSampler.__abstractmethods__
    assert names == {"_fit_resample"}, (
        f"BaseOverSampler asks for {sorted(names)}: see genlabel_imblearn/over_sampling.py"
    )


def test_keras_draws_where_we_listen():
    keras = pytest.importorskip("keras")
    if keras.backend.backend() != "torch":
        pytest.skip(f"Keras runs on {keras.backend.backend()}, GenLabelMixUp on torch")
    rows = {"images": torch.zeros(4, 2, 2, 3), "labels": torch.eye(4)}
    layer = keras.layers.MixUp(alpha=0.2, seed=0)
    drawn = layer.get_random_transformation(rows, training=True)
    why = "Keras' MixUp draws under other names: GenLabelMixUp (mix_up.py) would not know which rows are mixed"
    assert {"mix_weight", "permutation_order"} <= set(drawn), why
    source = inspect.getsource(type(layer).call) + inspect.getsource(type(layer).__mro__[1].call)
    assert "self.get_random_transformation(" in source, f"Keras' MixUp.call does not draw by its method any more. {why}"
