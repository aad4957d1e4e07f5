"""What to do, in plain words, and how sure that is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from genlabel_plugins.diagnostics.questions.comparison import (
    SCHEME_NAMES,
    Comparison,
    Estimate,
    Score,
    Setting,
    scheme_is,
)
from genlabel_plugins.diagnostics.questions.density_fit import BackendFit
from genlabel_plugins.diagnostics.questions.standings import has_learnt, standings
from genlabel_plugins.diagnostics.reading._class_rows import count
from genlabel_plugins.diagnostics.reading.labeled_table import LabeledTable

LIKELY = 0.9  # probability from which on a scheme takes the place of simpler ones
EVEN, FAIRLY_SURE, NEARLY_SURE = 0.5, 0.8, 0.95
FEW_ROWS = 200
MUCH = 0.05  # of accuracy
SCHEMES = ("none", "mixup", "genlabel")  # the simplest first
NOTHING = "Nothing to learn here"
BY_OTHER_SCORES: tuple[tuple[Score, str], ...] = (("balanced_accuracy", "balanced accuracy"), ("log_loss", "log-loss"))
NEGLIGIBLE = 0.01  # of accuracy, or nats of log-loss
UNEVEN = 5  # times as many rows as in the smallest class
Effect = Literal["helpful", "harmful", "useless", "unclear", "nothing"]
VERDICTS: dict[Effect, str] = {
    "harmful": "Do not mix",
    "useless": "No need to mix",
    "unclear": "Not enough rows to tell",
    "nothing": NOTHING,
}


@dataclass(frozen=True)
class Recommendation:
    """A recommendation with its reasons.

    Attributes:
        verdict: "Nothing to learn here"; "Do not mix", where mixing harms; "No need to mix", where it changes next to
            nothing; "Not enough rows to tell", where it may do either; "Mixup is fine"; or "GenLabel gm, gamma 0.8".
        setting: What it stands for.
        C: Inverse strength of the penalty of the logistic regression that did best under this setting.
        probability: That what is recommended is more accurate than everything simpler; of the simplest, that nothing
            else is more accurate.
        confidence: The probability in words; after a colon, why it is low.
        reasons: Sentences with the numbers.
        cautions: Sentences on what to mind.
        effect: What mixing does here, which is what the verdict says; "nothing" to learn comes before all else.
    """

    verdict: str
    setting: Setting
    C: float
    probability: float
    confidence: str
    reasons: tuple[str, ...]
    cautions: tuple[str, ...]
    effect: Effect = "unclear"


class Decision(NamedTuple):
    """The scheme chosen, by one score.

    Attributes:
        scheme: The simplest, unless another is better than every simpler one with a probability of 0.9.
        better: Probability that each scheme is better than each simpler one.
    """

    scheme: str
    better: Mapping[str, Mapping[str, float]]

    @property
    def simpler(self) -> Mapping[str, float]:
        """Probability that the scheme chosen is better than each simpler one."""
        return self.better[self.scheme]

    @property
    def rivals(self) -> dict[str, float]:
        """Probability that each less simple scheme is better than the one chosen."""
        return {scheme: than[self.scheme] for scheme, than in self.better.items() if self.scheme in than}

    @property
    def probability(self) -> float:
        """That what is chosen is better than everything simpler; of the simplest, that nothing else is better."""
        return min(self.simpler.values()) if self.simpler else 1 - max(self.rivals.values())


def recommend(
    table: LabeledTable,
    comparison: Comparison,
    fits: Mapping[str, BackendFit],
    blocks: Comparison | None = None,
) -> Recommendation:
    """Recommend the simplest scheme, unless another is more accurate than every simpler one with a probability of 0.9.

    The probabilities compare what a user would do: choose the best setting of a scheme on some rows, use it on others.

    Args:
        table: Rows and classes.
        comparison: Cross-validated accuracy of all candidates, of all three schemes.
        fits: Held-out quality of backends, by name.
        blocks: The same in blocks of consecutive rows, where these resemble each other.
    """
    decision = decide(comparison)
    is_learnt = has_learnt(comparison)
    if not is_learnt:
        decision = decision._replace(scheme="none")
    best = comparison.best(scheme_is(decision.scheme))
    setting, probability = comparison.settings[best], decision.probability
    effect = _effect(comparison, decision) if is_learnt else "nothing"
    return Recommendation(
        verdict=_verdict(setting, effect),
        setting=setting,
        C=comparison.Cs[best],
        probability=probability,
        confidence=_confidence(probability, decision.better) if is_learnt else "no model beats the largest class",
        reasons=tuple(_reasons(comparison, decision)),
        cautions=tuple(_cautions(table, comparison, setting, fits, blocks)),
        effect=effect,
    )


def decide(comparison: Comparison, by: Score = "accuracy") -> Decision:
    """Choose a scheme by one score."""
    better = {
        scheme: {s: comparison.probability_better(scheme_is(scheme), scheme_is(s), by) for s in SCHEMES[:place]}
        for place, scheme in enumerate(SCHEMES)
    }
    return Decision([scheme for scheme in SCHEMES if all(p >= LIKELY for p in better[scheme].values())][-1], better)


def _effect(comparison: Comparison, decision: Decision, by: Score = "accuracy") -> Effect:
    """Whether mixing helps, harms or changes nothing, or the rows are too few to tell."""
    if decision.scheme != "none":
        return "helpful"
    clean = comparison.chosen_elsewhere(scheme_is("none"), by)
    gains = [comparison.chosen_elsewhere(scheme_is(scheme), by) - clean for scheme in SCHEMES[1:]]
    within = [
        1 - comparison.probability_positive(gain, NEGLIGIBLE) - comparison.probability_positive(-gain, NEGLIGIBLE)
        for gain in gains
    ]
    if min(within) >= LIKELY:
        return "useless"
    return "harmful" if decision.probability >= LIKELY else "unclear"


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


def _verdict(setting: Setting, effect: Effect) -> str:
    if effect != "helpful":
        return VERDICTS[effect]
    return "Mixup is fine" if setting.scheme == "mixup" else f"GenLabel {setting.backend}, gamma {setting.gamma:g}"


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


def _reasons(comparison: Comparison, decision: Decision) -> list[str]:
    """Sentences with the numbers that decided."""
    chosen, simpler, rivals = decision.scheme, decision.simpler, decision.rivals
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
    for by, name in BY_OTHER_SCORES:
        other = decide(comparison, by)
        best = comparison.settings[comparison.best(scheme_is(other.scheme), by)]
        verdict = _verdict(best, _effect(comparison, other, by))
        reasons.append(f"By {name}: {verdict} (probability {probability_text(other.probability)}).")
    return reasons


def _cautions(
    table: LabeledTable,
    comparison: Comparison,
    setting: Setting,
    fits: Mapping[str, BackendFit],
    blocks: Comparison | None,
) -> list[str]:
    cautions = [] if blocks is None else [_on_blocks(comparison, blocks)]
    largest = float(table.counts.max() / table.counts.sum())
    if table.counts.max() >= UNEVEN * table.counts.min():
        cautions.append(
            f"The largest class holds {100 * largest:.1f} % of the rows: plain accuracy hardly sees the smallest, so "
            "go by balanced accuracy and log-loss where they choose otherwise."
        )
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


def _on_blocks(comparison: Comparison, blocks: Comparison) -> str:
    """What becomes of the best model where whole blocks of rows are held out."""
    best = standings(comparison)[0]
    inside = {each.name: each for each in standings(blocks)}
    first = next(iter(inside))
    return (
        "Neighboring rows resemble each other, as in a table in the order of time, and random folds part them: "
        f"{best.name} has {_percent(best.accuracy)} there, but {_percent(inside[best.name].accuracy)} in blocks of "
        f"consecutive rows, where the best is {first} with {_percent(inside[first].accuracy)}. If new rows come from "
        "elsewhere or later, name the column of groups (--groups) or of times (--time)."
    )


def _percent(estimate: Estimate) -> str:
    return f"{100 * estimate.mean:.1f} ± {100 * estimate.error:.1f} %"
