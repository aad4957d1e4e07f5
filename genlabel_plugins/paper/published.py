"""Numbers that the paper prints, in per cent: `(set, scheme) -> accuracy`."""

from __future__ import annotations

Cells = dict[tuple[str, str], float]


def _grid(sets: str, **rows: str) -> Cells:
    cells: Cells = {}
    for scheme, values in rows.items():
        pairs = zip(sets.split("|"), values.split(), strict=True)
        cells |= {(name, _NAMES[scheme]): float(value) for name, value in pairs}
    return cells


_NAMES = {
    "vanilla": "vanilla",
    "mixup": "mixup",
    "ada": "AdaMixUp",
    "without": "mixup without intrusion",
    "classifier": "generative classifier (GM)",
    "gm": "GenLabel (GM)",
    "kde": "GenLabel (KDE)",
    "nn": "GenLabel (NN)",
    "cv": "GenLabel (CV)",
    "cutmix": "CutMix",
    "cutmix_genlabel": "CutMix + GenLabel",
    "relabeled": "mixup + GenLabel",
    "manifold": "manifold mixup",
    "manifold_genlabel": "manifold mixup + GenLabel",
}
TABLE_1 = _grid(
    "Moon|Four-circle|3D cube|48|307|818",
    vanilla="98.7 91.3 93.0 39.1 66.8 100.0",
    mixup="97.0 57.7 89.4 30.9 54.4 92.3",
)
TABLE_2 = _grid(
    "18|36|307|468|1413|1499|40984",
    mixup="72.93 88.98 54.41 83.64 88.00 95.56 83.90",
    without="73.70 89.21 56.77 82.73 93.33 96.19 84.88",
)
TABLE_3 = {  # higher / on par / lower of GenLabel (CV) against each, alpha 1 and 82 sets
    "vanilla": (47.56, 7.32, 45.12),
    "AdaMixUp": (45.12, 9.76, 45.12),
    "mixup": (54.88, 7.32, 35.37),
    "mixup without intrusion": (53.66, 6.10, 39.02),
    "generative classifier (GM)": (52.4, 3.66, 41.46),
}
TABLE_4 = _grid(
    "721|777|792|830|855|913|1413",
    classifier="78.33 53.33 74.67 78.67 65.33 71.33 95.56",
    vanilla="79.67 58.67 73.20 77.60 63.33 70.80 95.56",
    ada="80.33 64.00 73.87 78.40 66.67 70.53 92.44",
    mixup="79.33 62.67 73.47 76.27 66.00 69.57 88.00",
    without="79.67 62.67 74.53 78.13 66.40 71.47 93.33",
    gm="81.00 58.67 75.47 86.13 66.40 71.47 96.00",
)
TABLE_5 = {  # the best of GenLabel (NN) and (GM) against each, robust accuracy, 13 sets
    "vanilla": (53.85, 23.08, 23.08),
    "AdaMixUp": (61.54, 7.69, 30.77),
    "mixup": (69.23, 0.0, 30.77),
    "mixup without intrusion": (69.23, 0.0, 30.77),
}
TABLE_6 = {  # clean and robust
    "mnist": _grid(
        "clean|robust",
        vanilla="99.34 48.17",
        mixup="99.27 55.44",
        relabeled="99.36 56.54",
        manifold="99.32 55.56",
        manifold_genlabel="99.37 56.62",
    ),
    "cifar10": _grid(
        "clean|robust",
        vanilla="94.57 16.89",
        mixup="95.68 11.65",
        relabeled="96.09 14.32",
        manifold="94.78 18.14",
        manifold_genlabel="95.10 18.91",
    ),
}
_ROBUST = "446|468|683|755|763|1413"
TABLE_7 = _grid(
    _ROBUST,
    vanilla="29.67 34.55 51.11 41.05 64.27 68.00",
    ada="30.33 37.27 51.11 37.89 63.20 67.11",
    mixup="30.67 37.27 50.00 36.84 65.07 67.56",
    without="31.67 31.82 52.22 38.95 63.20 70.67",
    gm="37.00 42.73 52.22 43.16 61.87 71.11",
    nn="38.00 32.73 46.67 43.16 66.93 77.33",
)
TABLE_7_CLEAN = _grid(
    _ROBUST,
    vanilla="99.33 84.55 81.11 67.37 85.33 92.00",
    ada="100.00 89.09 81.11 71.58 85.87 92.00",
    mixup="100.00 84.55 81.11 70.53 86.13 88.89",
    without="100.00 89.09 83.33 71.58 85.33 92.89",
    gm="100.00 82.73 80.00 73.68 85.33 93.78",
    nn="100.00 81.82 82.22 69.47 85.33 96.44",
)
TABLE_8 = _grid(
    "1413|187|945",
    vanilla="95.56 92.96 62.61",
    mixup="88.00 94.81 65.22",
    cv="96.44 96.67 71.30",
    cutmix="94.67 96.30 63.48",
    cutmix_genlabel="95.11 97.40 69.57",
)
TABLE_9 = _grid(
    "1413|187|1557|1005",
    vanilla="95.56 92.96 63.01 60.00",
    mixup="88.00 94.81 62.42 64.92",
    gm="96.44 96.67 62.39 60.31",
)
TABLE_9_FIT = {"1413": 98.0, "187": 100.0, "1557": 62.0, "1005": 64.0}  # training accuracy of GM
TABLE_9_NAMES = {"1413": "Iris", "187": "Wine", "1557": "Abalone", "1005": "Glass", "945": "Kidney"}
