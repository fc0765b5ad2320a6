# SPDX-License-Identifier: Apache-2.0
"""What `fidelity_scale.py` measures on: the pair of models, rows, three SAEs, each step kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import suture
from suture.report.pipeline import Experiment
from suture.report.settings import Settings
from suture.report.steps import Step

PAIR = Path(__file__).parents[2] / "examples" / "models" / "pair"


def experiment(out: Path, tokens: int, fit_tokens: int) -> Experiment:
    """The demo's, at the learning rate of the guide's tables."""
    return Experiment(
        PAIR / "small",
        PAIR / "large",
        [PAIR / "text" / "train.jsonl.gz"],
        [PAIR / "text" / "heldout.jsonl.gz"],
        out,
        Settings(lr=1e-3, sae_tokens=tokens, fit_tokens=fit_tokens, held_out_tokens=100_000),
    )


def trained(of: Experiment, rows: Step, name: str, seed: int) -> suture.SAE:
    """A TopK SAE on one of the models, from this seed."""
    settings = of.settings

    def compute(folder: Path) -> dict[str, Any]:
        acts: Any = of._rows(rows, name)
        d_in = of._model(name).config.hidden_size
        start = suture.SAE.init(d_in=d_in, d_sae=settings.d_sae, k=settings.k, seed=seed)
        suture.train(
            start,
            acts,
            tokens=settings.sae_tokens,
            batch_size=settings.batch_size,
            lr=settings.lr,
            seed=seed,
        ).sae.save(folder / "sae")
        return {}

    depends = {
        "rows": rows.key,
        "sae": [settings.d_sae, settings.k, seed],
        "training": [settings.sae_tokens, settings.batch_size, settings.lr],
    }
    title = f"Training a SAE on {name.upper()}, seed {seed}"
    step = of.steps.run(f"sae-{name}-{seed}", title, depends, compute)
    return suture.SAE.load(step.folder / "sae")
