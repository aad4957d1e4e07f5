"""Code to copy: what is recommended, in plain torch, scikit-learn and pytorch-tabular."""

from __future__ import annotations

from typing import NamedTuple

from genlabel_plugins.diagnostics.questions._held_out import FOREST, LOGISTIC, SEARCH
from genlabel_plugins.diagnostics.questions._repeated_folds import GAMMAS
from genlabel_plugins.diagnostics.questions.comparison import Setting
from genlabel_plugins.diagnostics.questions.recommendation import Recommendation
from genlabel_plugins.diagnostics.questions.standings import Standing
from genlabel_plugins.diagnostics.reading.labeled_table import LabeledTable

LEARNING_RATE = 0.05  # of Adam in plain torch, for a layer that is solved elsewhere


class Snippet(NamedTuple):
    """A script and what it is for."""

    title: str
    code: str


def snippets(table: LabeledTable, recommendation: Recommendation | None, best: Standing | None = None) -> list[Snippet]:
    """Complete scripts that read the file, treat it as it was treated here, and train as recommended.

    The best model found comes first, unless it is what is recommended on mixing; it is all where nothing is.

    Example:
        >>> import torch
        >>> from genlabel_plugins.diagnostics import diagnose
        >>> table = LabeledTable(torch.cat([torch.randn(30, 2), torch.randn(30, 2) + 9]), torch.arange(60) // 30)
        >>> diagnosis = diagnose(table, backends=["gm"], time_limit=0)
        >>> [snippet.title for snippet in snippets(table, diagnosis.recommendation)]
        ['scikit-learn', 'pytorch-tabular', 'plain torch']
    """
    first = []
    advised = recommendation and (recommendation.setting, recommendation.C)
    if best is not None and (best.setting, best.C) != advised:
        made = _best(best)
        first = [Snippet(f"The best model found: {best.name}", _cross_validated(table, *made))] if made else []
    if recommendation is None:
        return first
    return [
        *first,
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


def _best(best: Standing) -> tuple[str, str] | None:
    """How the best model is imported, and how it is made; None of the largest class."""
    if best.setting is not None:
        return "from genlabel_sklearn import GenLabelClassifier", _classifier(best.setting, best.C)
    return {
        LOGISTIC: (
            "from sklearn.linear_model import LogisticRegression\n"
            "from sklearn.pipeline import make_pipeline\n"
            "from sklearn.preprocessing import StandardScaler",
            "make_pipeline(StandardScaler(), LogisticRegression())",
        ),
        FOREST: ("from sklearn.ensemble import RandomForestClassifier", "RandomForestClassifier(random_state=0)"),
        SEARCH: (
            "from genlabel_sklearn import GenLabelClassifierCV",
            f"GenLabelClassifierCV(gammas={GAMMAS}, random_state=0)",
        ),
    }.get(best.name)


def _classifier(setting: Setting, C: float | None) -> str:
    scheme, backend, gamma, keep_clean = setting
    options = {
        "none": f'scheme="none", C={C}',
        "mixup": f'scheme="mixup", keep_clean={keep_clean}, C={C}',
        "genlabel": f"{backend!r}, gamma={gamma}, keep_clean={keep_clean}, C={C}",
        "density": f'{backend!r}, scheme="density"',
    }[scheme]
    return f"GenLabelClassifier({options}, random_state=0)"


def _sklearn(table: LabeledTable, recommendation: Recommendation) -> str:
    made = _classifier(recommendation.setting, recommendation.C)
    return _cross_validated(table, "from genlabel_sklearn import GenLabelClassifier", made)


def _cross_validated(table: LabeledTable, imports: str, made: str) -> str:
    lines = "\n".join(sorted([*imports.splitlines(), "from sklearn.model_selection import cross_val_score"]))
    return f"""import pandas as pd
{lines}

{_reading(table)}
classifier = {made}
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
optimizer = torch.optim.Adam(model.parameters(), lr={LEARNING_RATE}, weight_decay=1 / ({recommendation.C} * len(x)))
for epoch in range(100):
    for rows in torch.randperm(len(x)).split(128):
{step}        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
"""
