# SPDX-License-Identifier: Apache-2.0
"""Suture carries linear features between language models through affine stitches of their
residual streams (Chen, Merullo, Stolfo, Pavlick, arXiv 2506.06609).

>>> import numpy as np, suture
>>> rng = np.random.default_rng(0)
>>> acts_a = rng.normal(size=(1000, 8)).astype(np.float32)
>>> acts_b = acts_a @ rng.normal(size=(8, 16)) + 0.1 * rng.normal(size=(1000, 16))
>>> stitch = suture.Stitch.fit(acts_a, acts_b)
>>> sae = suture.train(suture.SAE.init(8, 64, k=4), acts_a, batch_size=100).sae
>>> stitch.transfer(sae).evaluate(acts_b)["tokens"]
1000
"""

from __future__ import annotations

from types import ModuleType

from ._core import FormatError, InternalError, NumericalError, SutureError, UnsupportedError
from ._core import version as __version__
from ._inputs import width
from ._train_options import TrainOptions
from .activations import Activations, check_paired
from .alignment import align
from .carrying import CarryReport, ProbeCarryReport, carry
from .codes import SparseCodes
from .correspondence import Fidelity, FidelitySummary, Quartiles, fidelity
from .evaluation import Evaluation
from .features import pool, select_features
from .latents import LatentEvidence
from .library import CPUInfo, cpu_info, set_threads
from .matches import BestMatches, BestMatchesSummary, best_matches
from .moments import Moments
from .norms import CountedRows, RowReport, StreamRows, norm_bound, row_norms
from .pairing import Pairing
from .probe import Probe, ProbeReport
from .refit import RefitReport, refit_decoder
from .reports import FitReport, Objective, SutureWarning
from .rows import Rows
from .runs import TrainingInterrupted, TrainRun, resume, train
from .sae import SAE
from .similarity import SVCCA, svcca, svcca_grid
from .site import Site
from .steering import SteeringVector
from .stitch import Stitch
from .texts import read_records, read_texts
from .training import Trainer

__all__ = [
    "SAE",
    "SVCCA",
    "Activations",
    "BestMatches",
    "BestMatchesSummary",
    "CPUInfo",
    "CarryReport",
    "CountedRows",
    "Evaluation",
    "Fidelity",
    "FidelitySummary",
    "FitReport",
    "FormatError",
    "InternalError",
    "LatentEvidence",
    "Moments",
    "NumericalError",
    "Objective",
    "Pairing",
    "Probe",
    "ProbeCarryReport",
    "ProbeReport",
    "Quartiles",
    "RefitReport",
    "RowReport",
    "Rows",
    "Site",
    "SparseCodes",
    "SteeringVector",
    "Stitch",
    "StreamRows",
    "SutureError",
    "SutureWarning",
    "TrainOptions",
    "TrainRun",
    "Trainer",
    "TrainingInterrupted",
    "UnsupportedError",
    "__version__",
    "align",
    "best_matches",
    "carry",
    "check_paired",
    "cpu_info",
    "fidelity",
    "norm_bound",
    "pool",
    "read_records",
    "read_texts",
    "refit_decoder",
    "resume",
    "row_norms",
    "select_features",
    "set_threads",
    "svcca",
    "svcca_grid",
    "train",
    "width",
]


def __getattr__(name: str) -> ModuleType:
    # Most of them need torch and more, which nothing else here does.
    if name in ("analysis", "models", "paper", "report", "savings", "variants"):
        from importlib import import_module

        return import_module(f"suture.{name}")
    raise AttributeError(f"module 'suture' has no attribute {name!r}")
