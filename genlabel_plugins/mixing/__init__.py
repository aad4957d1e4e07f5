"""Mixing rows: which meet, how much of each is kept, where between them, and what is in the way."""

from genlabel_plugins.mixing.generative import GenerativeMixed, GenerativeMixup, RatioSearch
from genlabel_plugins.mixing.inputs import (
    Inputs,
    clean_first,
    draw_uniform,
    interpolate,
    map_inputs,
    one_hot,
)
from genlabel_plugins.mixing.intrusion import (
    ExcludeIntrusion,
    IntrusionRates,
    TrainingSamples,
    intrudes,
    intrusion_rates,
)
from genlabel_plugins.mixing.mixed import Mixed
from genlabel_plugins.mixing.mixers import (
    MIXERS,
    ColumnCutMix,
    CutMix,
    Mixer,
    Mixup,
    make_mixer,
)
from genlabel_plugins.mixing.pairing import DistanceAlpha, Pairing, PairingName

__all__ = [
    "MIXERS",
    "ColumnCutMix",
    "CutMix",
    "DistanceAlpha",
    "ExcludeIntrusion",
    "GenerativeMixed",
    "GenerativeMixup",
    "Inputs",
    "IntrusionRates",
    "Mixed",
    "Mixer",
    "Mixup",
    "Pairing",
    "PairingName",
    "RatioSearch",
    "TrainingSamples",
    "clean_first",
    "draw_uniform",
    "interpolate",
    "intrudes",
    "intrusion_rates",
    "make_mixer",
    "map_inputs",
    "one_hot",
]
