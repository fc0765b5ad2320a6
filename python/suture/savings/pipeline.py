# SPDX-License-Identifier: Apache-2.0
"""The experiment on training costs: SAEs on B from several starts, each run kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import suture
from suture.models._residual import find_blocks
from suture.report.pair import Pair
from suture.report.steps import Step
from suture.savings import analysis, costs, results
from suture.savings.settings import Settings

#: Where a SAE on B can begin, by what is said of it. Those refitted or tied without a transfer are
#: controls: what the mending is worth by itself.
ARMS = {
    "random": "random",
    "transferred": "transferred",
    "refitted": "transferred, refitted",
    "random_refitted": "random, refitted",
    "tied": "transferred, tied",
    "random_tied": "random, tied",
}
#: Evaluated after these steps, and then at this ratio.
FIRST_STEPS, RATIO = 4, 1.25


class Savings(Pair):
    """One pair of models, from their texts to the curves of every run."""

    settings: Settings

    def prepare(self, done: tuple[Step, Step, Step, Step] | None = None) -> None:
        """The steps that the demo has too: models, layers, activations, stitch.

        Args:
            done: the first four, models, layers and activations to fit on and to judge by, of
                another experiment on the pair.
        """
        if done is None:
            models = self.describe()
            svcca = self.pick_layers(models)
            train_rows = self.extract(svcca, "fit", self.settings.fit_tokens)
            held_rows = self.extract(svcca, "held_out", self.settings.held_out_tokens)
            done = models, svcca, train_rows, held_rows
        self.models, self.svcca, self.train_rows, self.held_rows = done
        self.stitch = self.fit(self.svcca, self.models, self.train_rows, self.held_rows)

        self._memory: dict[tuple[str, str], Any] = {}

    def _width(self, name: str) -> int:
        return int(self.models.result[name]["d_model"])

    def _matrix(self, step: Step, name: str) -> Any:
        """Activations as one array, read once and kept: drawing rows from it needs no disk."""
        key = (step.key, name)
        if key not in self._memory:
            self._memory[key] = np.concatenate(list(self._rows(step, name)))
        return self._memory[key]

    # -- costs before training -------------------------------------------------------------------

    def stitch_costs(self) -> dict[str, float]:
        """Operations that the stitch takes, and what the paper's would take on the same tokens."""
        d_a, d_b = self._width("a"), self._width("b")
        tokens = int(self.stitch.result["after"]["tokens"])
        blocks = find_blocks(self._model("a"))[: self.svcca.result["layer_a"]]
        parameters = sum(p.numel() for block in blocks for p in block.parameters())
        return {
            "forward_a": costs.forward(parameters, d_a, len(blocks), self.settings.context, tokens),
            "moments": costs.moments(d_a, d_b, tokens),
            "solver": costs.solver(d_a, d_b, int(self.stitch.result["iterations"])),
            "paper": costs.paper_stitch(d_a, d_b, tokens),
        }

    # -- SAEs ------------------------------------------------------------------------------------

    def train_a(self, d_sae: int, seed: int) -> Step:
        """A SAE on A, to be transferred."""
        settings = self.settings

        def compute(folder: Path) -> dict[str, Any]:
            sae = suture.SAE.init(self._width("a"), d_sae, k=settings.k, seed=seed)
            run = suture.train(
                sae,
                self._matrix(self.train_rows, "a"),
                tokens=settings.sae_tokens,
                batch_size=settings.batch_size,
                lr=settings.lr_a,
                seed=seed,
                progress=self.progress,
            )
            site = suture.Site(self.models.result["a"]["name"], self.svcca.result["layer_a"])
            run.sae.metadata |= site.metadata
            run.sae.save(folder / "sae")
            held_out = run.sae.evaluate(self._matrix(self.held_rows, "a"), progress=False)
            return {"held_out": held_out, "flops": run.history[-1]["flops"]}

        depends = {
            "train": self.train_rows.key,
            "held": self.held_rows.key,
            "sae": [d_sae, settings.k, seed],
            "training": [settings.sae_tokens, settings.batch_size, settings.lr_a],
        }
        name = f"sae-a-{d_sae}-{seed}"
        return self.steps.run(name, f"SAE on A, {d_sae} latents, seed {seed}", depends, compute)

    def _start(self, arm: str, d_sae: int, seed: int) -> tuple[suture.SAE, dict[str, float]]:
        """Where an arm begins, and the operations of each part of what that took."""
        d_b = self._width("b")
        spent: dict[str, float] = {}
        if arm.startswith("random"):
            # Not the seed of the SAE on A: nothing is to be shared.
            sae = suture.SAE.init(d_b, d_sae, k=self.settings.k, seed=1000 + seed)
        else:
            original = suture.SAE.load(self.train_a(d_sae, seed).folder / "sae")
            stitch = suture.Stitch.load(self.stitch.folder / "stitch.safetensors")
            sae = stitch.transfer(original)
            stitched = self.stitch_costs()
            spent["stitch"] = stitched["forward_a"] + stitched["moments"] + stitched["solver"]
            spent["transfer"] = costs.transfer(self._width("a"), d_b, d_sae)
        if arm.endswith(("refitted", "tied")):
            rounds, tokens = self._refit(arm)
            sae, report = suture.refit_decoder(
                sae,
                self._matrix(self.train_rows, "b"),
                tokens=tokens,
                tied_rounds=rounds,
                progress=self.progress,
            )
            spent["refit"] = report.flops_executed
        return sae, spent

    def _refit(self, arm: str) -> tuple[int, int]:
        """Rounds in which the encoder is tied, and tokens of each solution."""
        if arm.endswith("tied"):
            return self.settings.tied_rounds, self.settings.tied_tokens
        return 0, self.settings.refit_tokens

    def train_b(self, arm: str, d_sae: int, seed: int, lr: float) -> Step:
        """A SAE on B from one of the starts: its curve, and how far its decoder turned."""
        settings = self.settings

        def compute(folder: Path) -> dict[str, Any]:
            rows = self._matrix(self.train_rows, "b")
            held = self._matrix(self.held_rows, "b")
            few = np.ascontiguousarray(held[:: max(1, len(held) // settings.checkpoint_rows)])
            sae, spent = self._start(arm, d_sae, seed)
            trainer = suture.Trainer(sae, batch_size=settings.batch_size, lr=lr, seed=seed)
            start = np.array(trainer.sae.W_dec)
            # As it comes, and as training takes it, with decoder rows of norm 1.
            zero_shot = sae.evaluate(few, progress=False)["explained_variance"]
            done, total = 0, max(1, settings.sae_tokens // settings.batch_size)
            points = [
                [0, 0.0, trainer.sae.evaluate(few, progress=False)["explained_variance"], None]
            ]
            for steps in checkpoints(total):
                last = trainer.run(
                    rows, (steps - done) * settings.batch_size, log_every=steps, progress=False
                )[-1]
                done = steps
                level = trainer.sae.evaluate(few, progress=False)["explained_variance"]
                points.append(
                    [last["tokens"], last["flops"], level, last["explained_variance_average"]]
                )
            evaluation = suture.Evaluation(trainer.sae).update(held, progress=False)
            alive = evaluation.feature_frequency > 0
            turned = analysis.cosines(np.asarray(trainer.sae.W_dec), start, alive)
            columns = ("tokens", "flops", "held_out", "training")
            return {
                "spent": spent,
                "zero_shot": zero_shot,
                "curve": dict(zip(columns, map(list, zip(*points, strict=True)), strict=True)),
                "held_out": evaluation.metrics,
                "cosine": {
                    "median": float(np.median(turned)),
                    "counts": np.histogram(turned, 40, (-1, 1))[0].tolist(),
                },
            }

        depends: dict[str, Any] = {
            "train": self.train_rows.key,
            "held": [self.held_rows.key, settings.checkpoint_rows],
            "sae": [arm, d_sae, settings.k, seed],
            "training": [settings.sae_tokens, settings.batch_size, lr],
        }
        if not arm.startswith("random"):
            depends["start"] = [self.train_a(d_sae, seed).key, self.stitch.key]
        if arm.endswith("refitted"):
            depends["refit"] = settings.refit_tokens
        if arm.endswith("tied"):
            depends["refit"] = self._refit(arm)
        title = f"SAE on B, {d_sae} latents, {ARMS[arm]} start, seed {seed}, rate {lr:g}"
        return self.steps.run(f"run-{arm}-{d_sae}-{seed}-{lr:g}", title, depends, compute)

    # -- all of it -------------------------------------------------------------------------------

    def sweep(self) -> list[dict[str, Any]]:
        """Every learning rate on every start, at the first width with the first seed.

        While the highest rate suits the random start best, it gets a higher one: it shall not lose
        for want of a good rate.
        """
        found = [
            self._try(arm, self.settings.widths[0], lr)
            for lr in sorted(self.settings.lrs)
            for arm in ("random", "transferred", "refitted")
        ]
        while (highest := max(run["lr"] for run in found)) == results.best_lr(found, "random"):
            found.append(self._try("random", self.settings.widths[0], 2 * highest))
        return found

    def check_widest(self, lr: float) -> list[dict[str, Any]]:
        """The random start at the last width, at its rate and half of it."""
        return [self._try("random", self.settings.widths[-1], rate) for rate in (lr / 2, lr)]

    def _try(self, arm: str, d_sae: int, lr: float) -> dict[str, Any]:
        return {"arm": arm, "lr": lr} | self.train_b(arm, d_sae, 0, lr).result

    def runs(self, lrs: dict[str, float]) -> list[dict[str, Any]]:
        """All widths, seeds and starts, each start at its rate; the control at the first width."""
        found = []
        for d_sae in self.settings.widths:
            for seed in range(self.settings.seeds):
                for arm, lr in lrs.items():
                    if arm in results.AT_FIRST_WIDTH and d_sae != self.settings.widths[0]:
                        continue
                    result = self.train_b(arm, d_sae, seed, lr).result
                    if "stitch" in result["spent"]:
                        result["sae_on_a"] = self.train_a(d_sae, seed).result
                    found.append({"arm": arm, "d_sae": d_sae, "seed": seed, "lr": lr} | result)
        return found


def checkpoints(total: int) -> list[int]:
    """Steps after which a run is evaluated: the first few, then in a geometric row, and the last.

    >>> checkpoints(20)
    [1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 19, 20]
    """
    steps = list(range(1, min(FIRST_STEPS, total) + 1))
    while steps[-1] < total:
        steps.append(min(total, max(steps[-1] + 1, round(steps[-1] * RATIO))))
    return steps
