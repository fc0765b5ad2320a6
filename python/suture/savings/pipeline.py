# SPDX-License-Identifier: Apache-2.0
"""The experiment on training costs: SAEs on B from several starts, each run kept."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import suture
from suture.models._residual import find_blocks
from suture.report.pair import Pair
from suture.report.steps import Step
from suture.savings import analysis, costs, results
from suture.savings.arms import ARMS, of_a, swept
from suture.savings.settings import Settings

#: Evaluated after these steps, and then at this ratio.
FIRST_STEPS, RATIO = 4, 1.25
#: Rates below the lowest that are tried where it does not keep features.
MOST_HALVES = 3


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

    def _forward_a(self, tokens: int) -> float:
        """Operations of running A up to its layer."""
        blocks = find_blocks(self._model("a"))[: self.svcca.result["layer_a"]]
        parameters = sum(p.numel() for block in blocks for p in block.parameters())
        width = self._width("a")
        return costs.forward(parameters, width, len(blocks), self.settings.context, tokens)

    def stitch_costs(self) -> dict[str, float]:
        """Operations that the stitch takes, and what the paper's would take on the same tokens."""
        d_a, d_b = self._width("a"), self._width("b")
        tokens = int(self.stitch.result["after"]["tokens"])
        return {
            "forward_a": self._forward_a(tokens),
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
        source, mending = ARMS[arm].source, ARMS[arm].mending
        d_b = self._width("b")
        spent: dict[str, float] = {}
        if source == "random":
            # Not the seed of the SAE on A: nothing is to be shared.
            sae = suture.SAE.init(d_b, d_sae, k=self.settings.k, seed=1000 + seed)
        elif source == "stitch":
            stitch = suture.Stitch.load(self.stitch.folder / "stitch.safetensors")
            sae = stitch.transfer(self._sae_a(d_sae, seed))
            stitched = self.stitch_costs()
            spent["stitch"] = stitched["forward_a"] + stitched["moments"] + stitched["solver"]
            spent["transfer"] = costs.transfer(self._width("a"), d_b, d_sae)
        else:
            sae, spent = self._carried(self._sae_a(d_sae, seed))
        if mending != "none":
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

    def _carried(self, original: suture.SAE) -> tuple[suture.SAE, dict[str, float]]:
        """A SAE of A carried by pairs, and the operations of each part of it; the decoder is
        refitted apart, on as many tokens as that wants."""
        settings = self.settings
        a, b = (self._matrix(self.train_rows, name) for name in "ab")
        picks = even_rows(len(a), settings.pair_tokens, settings.context)
        carried, report = suture.carry(
            original,
            a[picks],
            b[picks],
            rounds=settings.pair_rounds,
            sample=settings.pair_sample,
            refit=False,
            progress=self.progress,
        )
        spent = costs.carry(
            self._width("a"),
            self._width("b"),
            original.d_sae,
            settings.k,
            fitted=report.rows,
            held_out=report.held_out_rows,
            sample=min(settings.pair_sample, report.rows),
            rounds=settings.pair_rounds,
        )
        return carried, {"forward_a": self._forward_a(len(picks))} | spent

    def _sae_a(self, d_sae: int, seed: int) -> suture.SAE:
        return suture.SAE.load(self.train_a(d_sae, seed).folder / "sae")

    def _refit(self, arm: str) -> tuple[int, int]:
        """Rounds in which the encoder is tied, and tokens of each solution."""
        if ARMS[arm].mending == "tied":
            return self.settings.tied_rounds, self.settings.tied_tokens
        if ARMS[arm].source == "pairs":
            return 0, self.settings.pair_refit_tokens
        return 0, self.settings.refit_tokens

    def train_b(self, arm: str, d_sae: int, seed: int, lr: float) -> Step:
        """A SAE on B from one of the starts: its curve, whether its features still are A's, and how
        far its decoder turned."""
        settings = self.settings
        arm = ARMS[arm].like or arm
        training: suture.TrainOptions = {
            **ARMS[arm].options,
            "batch_size": settings.batch_size,
            "lr": lr,
            "seed": seed,
        }

        def compute(folder: Path) -> dict[str, Any]:
            rows = self._matrix(self.train_rows, "b")
            held = self._matrix(self.held_rows, "b")
            few = np.ascontiguousarray(held[:: max(1, len(held) // settings.checkpoint_rows)])
            likeness = self._likeness(d_sae, seed) if of_a(arm) else None
            sae, spent = self._start(arm, d_sae, seed)
            trainer = suture.Trainer(sae, **training)
            start = np.array(trainer.sae.W_dec)
            points: list[dict[str, Any]] = []

            def look(tokens: int, flops: float, training: float | None) -> None:
                now = trainer.sae
                level = now.evaluate(few, progress=False)["explained_variance"]
                point = {"tokens": tokens, "flops": flops, "held_out": level, "training": training}
                points.append(point | ({} if likeness is None else likeness.curve(now)))

            # As it comes; training begins from the same function.
            zero_shot = sae.evaluate(few, progress=False)["explained_variance"]
            look(0, 0.0, None)
            done, total = 0, max(1, settings.sae_tokens // settings.batch_size)
            for steps in checkpoints(total):
                last = trainer.run(
                    rows, (steps - done) * settings.batch_size, log_every=steps, progress=False
                )[-1]
                done = steps
                look(last["tokens"], last["flops"], last["explained_variance_average"])
            evaluation = suture.Evaluation(trainer.sae).update(held, progress=False)
            alive = evaluation.feature_frequency > 0
            turned = analysis.cosines(np.asarray(trainer.sae.W_dec), start, alive)
            return {
                "spent": spent,
                "zero_shot": zero_shot,
                "curve": {name: [point[name] for point in points] for name in points[0]},
                "held_out": evaluation.metrics,
                "fidelity": None if likeness is None else likeness.summary(trainer.sae),
                "cosine": {
                    "median": float(np.median(turned)),
                    "counts": np.histogram(turned, 40, (-1, 1))[0].tolist(),
                },
            }

        depends: dict[str, Any] = {
            "train": self.train_rows.key,
            "held": [self.held_rows.key, settings.checkpoint_rows],
            "sae": [arm, d_sae, settings.k, seed],
            "training": [settings.sae_tokens, settings.batch_size, lr, ARMS[arm].options],
        }
        if of_a(arm):
            depends["start"] = [self.train_a(d_sae, seed).key]
            depends["fidelity"] = settings.fidelity_rows
        if ARMS[arm].source == "stitch":
            depends["start"].append(self.stitch.key)
        elif ARMS[arm].source == "pairs":
            depends["start"] += [settings.pair_tokens, settings.pair_sample, settings.pair_rounds]
        if ARMS[arm].mending != "none":
            depends["refit"] = self._refit(arm)
        title = f"SAE on B, {d_sae} latents, {ARMS[arm].label} start, seed {seed}, rate {lr:g}"
        return self.steps.run(f"run-{arm}-{d_sae}-{seed}-{lr:g}", title, depends, compute)

    def _likeness(self, d_sae: int, seed: int) -> Likeness:
        """What compares a SAE on B with the one of A that it came from."""
        a, b = (self._matrix(self.held_rows, name) for name in "ab")
        picks = even_rows(len(a), self.settings.fidelity_rows, 1)
        return Likeness(self._sae_a(d_sae, seed), a[picks], b[picks])

    # -- all of it -------------------------------------------------------------------------------

    def sweep(self) -> list[dict[str, Any]]:
        """Learning rates from each start, at the first width with the first seed.

        While the highest rate suits the random start best, it gets a higher one: it shall not lose
        for want of a good rate. Once a rate ends lower than the one before, other starts get none
        above. Where features are to be kept and the lowest rate does not, halves of it are tried.
        """
        width, lrs = self.settings.widths[0], sorted(self.settings.lrs)
        found = [self._try("random", width, lr) for lr in lrs]
        while found[-1]["lr"] == results.best_lr(found, "random"):
            found.append(self._try("random", width, 2 * found[-1]["lr"]))
        for arm in swept(self.settings.arms):
            last = -math.inf
            for lr in [] if arm == "random" else lrs:
                found.append(self._try(arm, width, lr))
                end = found[-1]["curve"]["held_out"][-1]
                if end < last:
                    break
                last = end
        for arm in self.settings.arms:
            like = ARMS[arm].like
            if like is None or ARMS[arm].goal != "kept":
                continue
            lowest = next(run for run in found if run["arm"] == like)
            for _ in range(MOST_HALVES):
                if results.keeps(found, lowest):
                    break
                lowest = self._try(like, width, lowest["lr"] / 2)
                found.append(lowest)
        return found

    def check_widest(self, lr: float) -> list[dict[str, Any]]:
        """The random start at the last width, at its rate and half of it."""
        return [self._try("random", self.settings.widths[-1], rate) for rate in (lr / 2, lr)]

    def _try(self, arm: str, d_sae: int, lr: float) -> dict[str, Any]:
        return {"arm": arm, "lr": lr} | self.train_b(arm, d_sae, 0, lr).result

    def runs(self, lrs: dict[str, float]) -> list[dict[str, Any]]:
        """All widths, seeds and starts, each start at its rate; controls at the first width."""
        found = []
        for d_sae in self.settings.widths:
            for seed in range(self.settings.seeds):
                for arm in self.settings.arms:
                    if ARMS[arm].control and d_sae != self.settings.widths[0]:
                        continue
                    lr = lrs[arm]
                    result = self.train_b(arm, d_sae, seed, lr).result
                    if of_a(arm):
                        result = result | {"sae_on_a": self.train_a(d_sae, seed).result}
                    found.append({"arm": arm, "d_sae": d_sae, "seed": seed, "lr": lr} | result)
        return found


class Likeness:
    """Compares SAEs on B with one of A, latent by latent, on held-out pairs whose codes in A are
    kept."""

    def __init__(self, original: suture.SAE, rows_a: Any, rows_b: Any) -> None:
        self._codes = original.encode(rows_a, progress=False)
        self._rows, self._d_sae = rows_b, original.d_sae

    def summary(self, sae: suture.SAE) -> dict[str, Any]:
        """All of `suture.FidelitySummary`."""
        codes = sae.encode(self._rows, progress=False)
        return asdict(suture.Fidelity(self._d_sae).update(self._codes, codes).summary())

    def curve(self, sae: suture.SAE) -> dict[str, float]:
        """What a run's curve keeps of it."""
        found = self.summary(sae)
        quartiles = found["correlation"]
        return {
            "correlation": quartiles["median"],
            "correlation_lower": quartiles["lower"],
            "correlation_upper": quartiles["upper"],
            "share_active": found["share_active"],
        }


def even_rows(total: int, wanted: int, block: int) -> npt.NDArray[np.int64]:
    """At most so many of `total` rows, taken evenly in blocks of neighbours.

    >>> even_rows(10, 4, 2).tolist(), even_rows(3, 5, 2).tolist()
    ([0, 1, 8, 9], [0, 1, 2])
    """
    if wanted >= total:
        return np.arange(total)
    block = min(block, wanted)
    first = np.linspace(0, total - block, wanted // block).round().astype(np.int64)
    rows: npt.NDArray[np.int64] = (first[:, None] + np.arange(block)).ravel()
    return rows


def checkpoints(total: int) -> list[int]:
    """Steps after which a run is evaluated: the first few, then in a geometric row, and the last.

    >>> checkpoints(20)
    [1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 19, 20]
    """
    steps = list(range(1, min(FIRST_STEPS, total) + 1))
    while steps[-1] < total:
        steps.append(min(total, max(steps[-1] + 1, round(steps[-1] * RATIO))))
    return steps
