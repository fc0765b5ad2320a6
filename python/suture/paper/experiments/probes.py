# SPDX-License-Identifier: Apache-2.0
"""Section 4: probes on features of B's own SAE and on transferred ones."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from suture.paper.finding import Finding, verdict
from suture.paper.probe_curves import CURVES

if TYPE_CHECKING:
    from suture.paper.ground import Ground

TITLE = "Probes"
SECTION = "4"

#: What counts as close, in accuracy.
CLOSE = 0.05


@dataclass(frozen=True)
class Settings:
    """What the experiment can be told."""

    #: Numbers of features of the sparse probes.
    ks: tuple[int, ...] = (1, 2, 5, 10, 20, 50)
    #: Most samples of a task to train and to test on, of both classes together.
    train_samples: int = 4000
    test_samples: int = 1000
    #: Random sets of features that are averaged.
    draws: int = 5
    #: Weight of the losses beside the penalty, as scikit-learn has it.
    C: float = 1.0
    task_seed: int = 0

    def __post_init__(self) -> None:
        if not self.ks or min(self.ks) < 1:
            raise ValueError(f"ks is {self.ks}, expected numbers of at least 1")
        for name in ("train_samples", "test_samples", "draws"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")


def run(ground: Ground, settings: Settings) -> dict[str, Any]:
    """The curves for each task that the documents allow (Fig. 3a, 9).

    Raises:
        ValueError: the documents allow none: they must say their language or manual page.
    """

    def compute(_: Path) -> dict[str, Any]:
        from suture.paper import probe_curves, tasks

        samples = tasks.cut(ground.records("fit") + ground.records("held_out"))
        made, left_out = tasks.tasks(
            samples, settings.train_samples, settings.test_samples, settings.task_seed
        )
        if not made:
            raise ValueError(
                f"texts allow no task: {left_out}; expected JSON lines that say their language "
                '("lang") or manual page ("page", such as "printf.3")'
            )
        used = np.unique(np.concatenate([np.r_[task.train, task.test] for task in made]))
        place = np.full(len(samples), -1)
        place[used] = np.arange(len(used))
        texts = [samples[i].text for i in used]
        dense, codes = {}, {}
        for name, saes in (("a", ["a"]), ("b", ["transferred", "b"])):
            dense[name], codes[name] = probe_curves.pooled(
                ground.model(name),  # type: ignore[arg-type]
                ground.tokenizer(name),  # type: ignore[arg-type]
                ground.layer(name),  # type: ignore[arg-type]
                texts,
                [ground.sae(which) for which in saes],
                context=ground.settings.context,
                progress=ground.progress,
            )
        moved, own = codes["b"]
        features = probe_curves.Pooled(codes["a"][0], moved, own, dense["a"], dense["b"])
        ks = [k for k in settings.ks if k <= ground.settings.d_sae]
        if not ks:
            raise ValueError(
                f"ks is {settings.ks}, expected some of at most d_sae = {ground.settings.d_sae}"
            )
        found = []
        for task in made:
            placed = tasks.Task(
                task.name, place[task.train], task.y_train, place[task.test], task.y_test
            )
            curves = probe_curves.curves(
                features, placed, ground.stitch(), ks, C=settings.C, draws=settings.draws
            )
            sizes = {"train": len(task.train), "test": len(task.test)}
            found.append({"name": task.name} | sizes | {"curves": curves})
        return {"ks": ks, "samples": len(used), "tasks": found, "left_out": left_out}

    depends = ground.key("texts_fit", "texts_held_out", "a", "transferred", "b") | {
        "settings": asdict(settings),
        "curves": list(CURVES),
    }
    return ground.steps.run("probes", "Fitting probes", depends, compute).result


def average(result: dict[str, Any], curve: str) -> Any:
    """A curve's mean over tasks: a list over `ks`, or a number."""
    values = [task["curves"][curve] for task in result["tasks"]]
    known = [value for value in values if value is not None]
    return np.mean(known, axis=0).tolist() if known else None


def findings(result: dict[str, Any]) -> list[Finding]:
    """Fig. 3a and 9."""
    mean = {curve: average(result, curve) for curve in result["tasks"][0]["curves"]}
    return [_averages(result, mean), _tasks(result)]


def _averages(result: dict[str, Any], mean: dict[str, Any]) -> Finding:
    ks = result["ks"]
    truth, refitted, kept = (
        np.array(mean[name])
        for name in ("ground truth", "transferred, refitted", "transferred, as it is")
    )
    random = mean["random features"]
    # Without random ones there is nothing to be above of.
    above = random is not None and all(
        bool((curve > np.array(random)).mean() > 0.5) for curve in (truth, kept)
    )
    gap, gap_kept = float((truth - refitted).mean()), float((truth - kept).mean())
    dense_gap = mean["dense on B"] - mean["dense, transferred"]
    close = gap <= CLOSE and dense_gap <= CLOSE
    middle = len(ks) // 2

    def at(values: Any, place: int) -> str:
        return "-" if values is None else f"{values[place]:.3f}"

    said = "; ".join(
        f"k = {ks[place]}: ground truth {at(truth, place)}, transferred and refitted "
        f"{at(refitted, place)}, as it is {at(kept, place)}, random {at(random, place)}"
        for place in dict.fromkeys((0, middle, len(ks) - 1))
    )
    return Finding(
        "Fig. 3a",
        "Accuracy of probes, mean of all tasks",
        "Six curves over k = 1 to 50 features, mean of the 8 SAEBench data sets. Expected where "
        "features cross: transferred ones near the ground truth and above random ones, and a "
        "dense probe carried across near one of the model itself.",
        f"{len(result['tasks'])} tasks. {said}. Dense: on B {mean['dense on B']:.3f}, carried "
        f"from A {mean['dense, transferred']:.3f} by the stitch and "
        f"{mean['dense, carried by pairs']:.3f} by pairs (suture.carry). "
        f"Mean gap to ground truth: {gap:+.3f} refitted, {gap_kept:+.3f} as it is.",
        verdict(reproduced=close and above, partly=above),
        " ".join(
            why
            for why, holds in (
                (f"Close would be {CLOSE} in accuracy.", close),
                ("Random features are no worse, or too few fire to draw from.", above),
            )
            if not holds
        ),
    )


def _tasks(result: dict[str, Any]) -> Finding:
    good, said = [], []
    for task in result["tasks"]:
        curves = task["curves"]
        gap = float(np.mean(curves["ground truth"]) - np.mean(curves["transferred, refitted"]))
        good.append(gap <= CLOSE)
        said.append(f"{task['name']} {gap:+.3f}")
    share = sum(good) / len(good)
    return Finding(
        "Fig. 9",
        "The same, task by task",
        "The same curves for each of the 8 data sets. Expected where features cross: transferred "
        "and refitted ones near the ground truth on most.",
        "Mean over k of ground truth minus transferred and refitted: " + "; ".join(said) + ". "
        f"{sum(good)} of {len(good)} tasks are within {CLOSE}.",
        verdict(reproduced=share >= 0.75, partly=share >= 0.5),
    )
