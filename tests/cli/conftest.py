"""Tables of scikit-learn as files."""

import numpy as np
import pytest
from sklearn.datasets import load_iris, load_wine, make_moons


@pytest.fixture(scope="session")
def pd():
    """pandas, of the extra `cli`: where it is absent, what needs these tables is skipped."""
    import pandas

    return pandas


@pytest.fixture(scope="session")
def wine(pd):
    frame = load_wine(as_frame=True).frame
    return frame.assign(target=frame["target"].map({0: "barolo", 1: "grignolino", 2: "barbera"}))


@pytest.fixture(scope="session")
def iris(pd):
    data = load_iris(as_frame=True)
    return data.frame.assign(target=data.target_names[data.target])


@pytest.fixture(scope="session")
def moons(pd):
    """Two columns, and names that HTML and matplotlib could take for markup."""
    x, target = make_moons(200, noise=0.15, random_state=0)
    names = np.array(["<b>upper</b> & co", "lower $x_1$"])
    return pd.DataFrame(x, columns=["<i>across</i>", "up $\\frac"]).assign(moon=names[target])
