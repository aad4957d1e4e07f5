"""What to do, in plain words, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from genlabel_plugins.diagnostics.questions.comparison import SCHEME_NAMES, Comparison, Estimate, Setting, scheme_is
from genlabel_plugins.diagnostics.questions.density_fit import BackendFit
from genlabel_plugins.diagnostics.reading._class_rows import count
from genlabel_plugins.diagnostics.reading.labeled_table import LabeledTable

LIKELY = 0.9  # probability from which on a scheme takes the place of simpler ones
EVEN, FAIRLY_SURE, NEARLY_SURE = 0.5, 0.8, 0.95
FEW_ROWS = 200
MUCH = 0.05  # of accuracy
SCHEMES = ("none", "mixup", "genlabel")  # the simplest first
DO_NOT_MIX, NO_NEED, MIXUP_IS_FINE = "Do not mix", "No need to mix", "Mixup is fine"


@dataclass(frozen=True)
class Recommendation:
    """A recommendation with its reasons.

    Attributes:
        verdict: "Do not mix"; "No need to mix", where something else is likely to be more accurate, but is not shown
            to be; "Mixup is fine"; or such as "GenLabel gm, gamma 0.8".
        setting: What it stands for.
        learning_rate: Of the logistic regression that did best under this setting.
        probability: That what is recommended is more accurate than everything simpler; of the simplest, that nothing
            else is more accurate.
        confidence: The probability in words; after a colon, why it is low.
        reasons: Sentences with the numbers.
        cautions: Sentences on what to mind.
    """

    verdict: str
    setting: Setting
    learning_rate: float
    probability: float
    confidence: str
    reasons: tuple[str, ...]
    cautions: tuple[str, ...]


def recommend(table: LabeledTable, comparison: Comparison, fits: Mapping[str, BackendFit]) -> Recommendation:
    """Recommend the simplest scheme, unless another is more accurate than every simpler one with a probability of 0.9.

    The probabilities compare what a user would do: choose the best setting of a scheme on some rows, use it on others.

    Args:
        table: Rows and classes.
        comparison: Cross-validated accuracy of all candidates, of all three schemes.
        fits: Held-out quality of backends, by name.
    """
    better = {
        scheme: {s: comparison.probability_better(scheme_is(scheme), scheme_is(s)) for s in SCHEMES[:place]}
        for place, scheme in enumerate(SCHEMES)
    }
    chosen = [scheme for scheme in SCHEMES if all(p >= LIKELY for p in better[scheme].values())][-1]
    simpler = better[chosen]
    rivals = {scheme: than[chosen] for scheme, than in better.items() if chosen in than}
    probability = min(simpler.values()) if simpler else 1 - max(rivals.values())
    best = comparison.best(scheme_is(chosen))
    setting = comparison.settings[best]
    return Recommendation(
        verdict=_verdict(setting, probability),
        setting=setting,
        learning_rate=comparison.learning_rates[best],
        probability=probability,
        confidence=_confidence(probability, better),
        reasons=tuple(_reasons(comparison, chosen, simpler, rivals)),
        cautions=tuple(_cautions(table, comparison, setting, fits)),
    )


def probability_text(probability: float) -> str:
    """Two decimals, never certain, and on the same side of each bound as the probability itself.

    Example:
        >>> probability_text(1.0), probability_text(0.897), probability_text(0.9)
        ('0.99', '0.89', '0.90')
        >>> probability_text(0.4999), probability_text(0.5), probability_text(0.5001)
        ('0.49', '0.50', '0.51')
    """
    shown = round(min(max(probability, 0.01), 0.99), 2)
    if any(probability < bound <= shown for bound in (EVEN, FAIRLY_SURE, LIKELY, NEARLY_SURE)):
        shown -= 0.01
    elif shown <= EVEN < probability:  # more likely than not
        shown += 0.01
    return f"{shown:.2f}"


def _verdict(setting: Setting, probability: float) -> str:
    if setting.scheme == "genlabel":
        return f"GenLabel {setting.backend}, gamma {setting.gamma:g}"
    if setting.scheme == "mixup":
        return MIXUP_IS_FINE
    return DO_NOT_MIX if probability >= EVEN else NO_NEED


def _confidence(probability: float, better: Mapping[str, Mapping[str, float]]) -> str:
    """The probability in words; low only of the simplest scheme, since others must reach 0.9."""
    if probability >= NEARLY_SURE:
        return "high confidence"
    if probability >= FAIRLY_SURE:
        return "moderate confidence"
    if probability >= EVEN:
        return "low confidence: the simplest wins a close race"
    rival = max(SCHEMES[1:], key=lambda scheme: better[scheme]["none"])
    than = {scheme: probability_text(p) for scheme, p in better[rival].items()}
    short = f"short of the {LIKELY} asked for"
    if better[rival]["none"] < LIKELY:
        return f"low confidence: {SCHEME_NAMES[rival]} is more accurate with probability {than['none']}, {short}"
    return (
        f"low confidence: GenLabel is more accurate than no mixing with probability {than['none']}, but more "
        f"accurate than mixup with {than['mixup']} only, {short}"
    )


def _reasons(
    comparison: Comparison, chosen: str, simpler: Mapping[str, float], rivals: Mapping[str, float]
) -> list[str]:
    """Sentences with the numbers that decided."""
    scored = [f"{SCHEME_NAMES[s]} {_percent(comparison.honest_estimate(scheme_is(s)))}" for s in SCHEMES]
    reasons = [
        "Held-out accuracy of logistic regression, each setting chosen on other rows than it is scored on: "
        f"{', '.join(scored)}."
    ]
    if simpler:
        named = [f"than {SCHEME_NAMES[s]}, {probability_text(p)}" for s, p in simpler.items()]
        reasons.append(f"Probability that {SCHEME_NAMES[chosen]} is more accurate: {'; '.join(named)}.")
    if rivals:
        named = [f"{SCHEME_NAMES[s]}, {probability_text(p)}" for s, p in rivals.items()]
        reasons.append(f"Probability of being more accurate than {SCHEME_NAMES[chosen]}: {'; '.join(named)}.")
    reasons.append(
        "The simplest scheme wins unless another is more accurate than every simpler one with a probability of "
        f"{LIKELY}."
    )
    return reasons


def _cautions(
    table: LabeledTable, comparison: Comparison, setting: Setting, fits: Mapping[str, BackendFit]
) -> list[str]:
    cautions = []
    linear = max(comparison.honest_estimate(scheme_is(scheme)).mean for scheme in SCHEMES)
    compared = {other.backend for other in comparison.settings}
    if comparison.n_rows < FEW_ROWS:
        cautions.append(
            f"With {count(comparison.n_rows, 'row')}, one row more or less held out correctly is "
            f"{100 / comparison.n_rows:.1f} points of accuracy: take small differences for chance."
        )
    smallest = int(table.counts.min())
    if smallest < 20:
        name = table.class_names[int(table.counts.argmin())]
        cautions.append(f"Class {name!r} has {count(smallest, 'row')}: too few for a density to be trusted.")
    fit = fits.get(setting.backend or "")
    judged = {name: other for name, other in fits.items() if other.is_judged}
    if fit and not fit.is_judged:
        cautions.append(
            f"The paper's rule of thumb says nothing about {fit.backend}: {count(fit.n_held_out, 'held-out row')} are "
            "too few."
        )
    elif fit:
        held = f"the generative classifier of {fit.backend} is right on {100 * fit.accuracy:.1f} % of held-out rows"
        if fit.is_trusted:
            cautions.append(f"Rule of thumb of the paper kept: {held}, 95 % or more.")
        else:
            cautions.append(
                f"Against the paper's rule of thumb: {held}, below 95 %, where GenLabel did not help in the paper."
            )
    elif judged and not any(other.is_trusted for other in judged.values()):
        cautions.append("No backend reaches the 95 % from which on the paper trusts GenLabel's labels.")
    better = [
        f"{name} ({100 * other.accuracy:.1f} %)"
        for name, other in fits.items()
        if other.is_trusted and name not in compared and other.accuracy > linear
    ]
    if better and not any(other.is_trusted for name, other in fits.items() if name in compared):
        cautions.append(f"Not compared here, and worth a try since they reach 95 %: {', '.join(better)}.")
    above = [name for name, other in judged.items() if other.accuracy - 2 * other.accuracy_error > linear + MUCH]
    if above:
        best = max(above, key=lambda name: fits[name].accuracy)
        cautions.append(
            f"The densities of {best} alone are right on {100 * fits[best].accuracy:.1f} %, far above logistic "
            "regression: its lines are too straight for this table, and a network may profit where they do not."
        )
    cautions.append(
        "Measured with logistic regression. A larger network may answer otherwise: compare the schemes there too."
    )
    return cautions


def _percent(estimate: Estimate) -> str:
    return f"{100 * estimate.mean:.1f} ± {100 * estimate.error:.1f} %"
