"""Code to copy: what is recommended, in plain torch, scikit-learn and pytorch-tabular."""

from __future__ import annotations

from typing import NamedTuple

from genlabel_plugins.diagnostics.questions.recommendation import Recommendation
from genlabel_plugins.diagnostics.reading.labeled_table import LabeledTable


class Snippet(NamedTuple):
    """A script and what it is for."""

    title: str
    code: str


def snippets(table: LabeledTable, recommendation: Recommendation) -> list[Snippet]:
    """Complete scripts that read the file, treat it as it was treated here, and train as recommended.

    Example:
        >>> import torch
        >>> from genlabel_plugins.diagnostics import diagnose
        >>> table = LabeledTable(torch.cat([torch.randn(30, 2), torch.randn(30, 2) + 9]), torch.arange(60) // 30)
        >>> diagnosis = diagnose(table, backends=["gm"], time_limit=0)
        >>> [snippet.title for snippet in snippets(table, diagnosis.recommendation)]
        ['scikit-learn', 'pytorch-tabular', 'plain torch']
    """
    return [
        Snippet("scikit-learn", _sklearn(table, recommendation)),
        Snippet("pytorch-tabular", _tabular(table, recommendation)),
        Snippet("plain torch", _torch(table, recommendation)),
    ]


def _reading(table: LabeledTable) -> str:
    """Lines that read the file, and treat it as the diagnosis did."""
    if table.code.startswith("load_table"):
        return f"""from genlabel_plugins.diagnostics import load_table

table = {table.code}  # treated as in the diagnosis
classes = pd.Series(table.class_names)[table.target.numpy()].to_numpy()
features = pd.DataFrame(table.x.numpy(), columns=table.column_names)
"""
    return f"""table = {table.code}
classes = table[{table.target_name!r}].astype(str)
features = table.drop(columns={table.target_name!r})
"""


def _sklearn(table: LabeledTable, recommendation: Recommendation) -> str:
    scheme, backend, gamma, keep_clean = recommendation.setting
    options = {
        "none": 'scheme="none"',
        "mixup": f'scheme="mixup", keep_clean={keep_clean}',
        "genlabel": f"{backend!r}, gamma={gamma}, keep_clean={keep_clean}",
    }[scheme]
    return f"""import pandas as pd
from genlabel_sklearn import GenLabelClassifier
from sklearn.model_selection import cross_val_score

{_reading(table)}
classifier = GenLabelClassifier({options}, learning_rate={recommendation.learning_rate}, random_state=0)
print(cross_val_score(classifier, features, classes, cv=5).mean())
classifier.fit(features, classes)
"""


def _tabular(table: LabeledTable, recommendation: Recommendation) -> str:
    scheme, backend, gamma, keep_clean = recommendation.setting
    options = "genlabel=False"
    if scheme != "none":
        chosen = f"genlabel_backend={backend!r}, genlabel_gamma={gamma}" if backend else "genlabel_gamma=0.0"
        options = f"genlabel=True, {chosen}, genlabel_keep_clean={keep_clean}"
    return f"""import pandas as pd
from genlabel_pytorch_tabular import GenLabelTrainerConfig
from pytorch_tabular import TabularModel
from pytorch_tabular.config import DataConfig, OptimizerConfig
from pytorch_tabular.models import CategoryEmbeddingModelConfig

{_reading(table)}
numbers = list(features.select_dtypes("number"))
words = [name for name in features if name not in numbers]
model = TabularModel(
    data_config=DataConfig(target=[{table.target_name!r}], continuous_cols=numbers, categorical_cols=words),
    model_config=CategoryEmbeddingModelConfig(task="classification", layers="64-32"),
    optimizer_config=OptimizerConfig(),
    trainer_config=GenLabelTrainerConfig({options}, max_epochs=50),
)
model.fit(features.assign(**{{{table.target_name!r}: classes}}))
"""


def _torch(table: LabeledTable, recommendation: Recommendation) -> str:
    scheme, backend, gamma, keep_clean = recommendation.setting
    imports = {
        "none": "",
        "mixup": "from genlabel_plugins import LabeledMix, Mixup\n",
        "genlabel": "from genlabel_plugins import GenLabel, GenLabelMix\n",
    }[scheme]
    mixer = {
        "none": "",
        "mixup": "mix = LabeledMix(Mixup(n_classes, alpha=1.0))\n",
        "genlabel": f"mix = GenLabelMix(GenLabel({backend!r}, gamma={gamma}).fit(x, target), alpha=1.0)\n",
    }[scheme]
    clean = "        loss = cross_entropy(model(x[rows]), target[rows])\n"
    mixed = "        x_mix, y = mix(x[rows], target[rows])\n        loss = cross_entropy(model(x_mix), y)\n"
    both = "        loss = (loss + cross_entropy(model(x[rows]), target[rows])) / 2  # the clean batch too\n"
    step = clean if scheme == "none" else mixed + both * keep_clean
    return f"""import pandas as pd
import torch
{imports}from torch.nn.functional import cross_entropy

torch.manual_seed(0)
{_reading(table)}
target = torch.tensor(pd.Categorical(classes).codes.astype("int64"))
x = torch.tensor(features.to_numpy("float32"))
x = (x - x.mean(0)) / x.std(0).clamp(min=1e-6)
n_classes = int(target.max()) + 1
{mixer}
model = torch.nn.Linear(x.shape[1], n_classes)  # or any network
optimizer = torch.optim.Adam(model.parameters(), lr={recommendation.learning_rate}, weight_decay=1e-4)
for epoch in range(100):
    for rows in torch.randperm(len(x)).split(128):
{step}        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
