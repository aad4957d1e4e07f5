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
