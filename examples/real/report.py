# SPDX-License-Identifier: Apache-2.0
"""The report on two pretrained models with different tokenizers: SmolLM2-135M-Instruct and
Gemma-3-270M. ``make real`` runs it.

    python examples/real/report.py out/real

It is the report that ``suture report`` writes of any pair, and what only such a pair can show:
steering an instruction model through its chat template, variants of a text that it writes, and a
control vector that llama.cpp runs. Steps that are done are kept in ``out/real/work``; what was
interrupted goes on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import suture
import suture.report
from suture.activations import as_float32
from suture.paper.drawings import steering as steering_drawings
from suture.paper.experiments import steering
from suture.paper.ground import Ground
from suture.report import page
from suture.report.pipeline import dump
from suture.report.steps import write_whole

import control
import figures
import variants
from models import packaged_smollm2, save

#: What two models of this size can be asked on two cores in 40 minutes. The layers are the middle
#: of SmolLM2, and of Gemma one that it predicts well from there.
SETTINGS = suture.report.Settings(
    context=512,
    layer_a=15,
    layer_b=10,
    layer_step=3,
    svcca_tokens=6_000,
    fit_tokens=20_000,
    held_out_tokens=8_000,
    loss_tokens=1_000,
    d_sae=2048,
    sae_tokens=400_000,
    lr=1e-3,
    scale_inputs=1,
    both_ways=1,
)

STEERING = steering.Settings(
    prompts=24, prompt_tokens=12, new_tokens=16, strengths=(1.0,), vector_tokens=2_000, chat=1
)

#: Language whose vector goes to llama.cpp.
CONTROL_LANGUAGE = "de"
#: What the instruction model is asked with and without it.
QUESTIONS = (
    "What does the command chmod do?",
    "Describe a file system in two sentences.",
    "How can I list all files of a folder?",
)


class Report:
    """One run, each step kept."""

    def __init__(self, folder: Path, settings: suture.report.Settings) -> None:
        self.folder = folder
        self.settings = settings
        self.pair = (
            save("smollm2", folder / "models"),
            save("gemma3", folder / "models"),
            [folder / "text" / "fit.jsonl"],
            [folder / "text" / "heldout.jsonl"],
            folder,
        )

    def run(self) -> dict[str, Any]:
        """Everything, written to ``report.html`` and ``report.json``."""
        start = time.perf_counter()
        results = suture.report.write(*self.pair, settings=self.settings)
        ground = Ground(*self.pair, self.settings)
        results["steering"] = steering.run(ground, STEERING)
        results["variants"] = self._step(
            ground, "variants", "Writing variants", lambda _: variants.measure(ground)
        )
        results["control"] = self._step(
            ground,
            "control",
            "Running a control vector in llama.cpp",
            lambda folder: self._control(ground, folder),
        )
        seen = {step["name"] for step in results["steps"]}
        results["steps"] += [
            {"name": step.name, "seconds": step.seconds, "cached": step.cached}
            for step in ground.steps.done
            if step.name not in seen
        ]
        results["seconds"] = time.perf_counter() - start
        results["verdicts"] |= {
            "steering": [
                f"{finding.here} {finding.why}".strip()
                for finding in steering.findings(results["steering"])
                if finding.figure in ("Fig. 3b", "Tables 5 and 6")
            ],
            "control": figures.control_verdict(results["control"]),
        }
        dump(results, self.folder / "report.json")
        drawn = steering_drawings.draw(results["steering"])
        more = (Path(__file__).parent / "report.html.j2").read_text(encoding="utf-8")
        write_whole(
            self.folder / "report.html",
            page.render(
                results,
                more,
                {
                    "steering": drawn["Tables 5 and 6"],
                    "control": figures.control(results["control"]),
                },
            ),
        )
        return results

    @staticmethod
    def _step(
        ground: Ground, name: str, title: str, compute: Callable[[Path], dict[str, Any]]
    ) -> dict[str, Any]:
        depends = ground.key("models", "layers", "fit", "texts_held_out") | {
            "questions": list(QUESTIONS),
            "tolerance": control.TOLERANCE,
        }
        return ground.steps.run(name, title, depends, compute).result

    def _control(self, ground: Ground, folder: Path) -> dict[str, Any]:
        """SmolLM2 with a vector to a language at the stitched layer."""
        layer = ground.layer("a")
        acts = ground.activations("fit", "a")
        languages = [record["lang"] for record in ground.records("fit")]
        of_row = [languages[text] for text in acts.text]
        rows = as_float32(acts[layer])
        vector = suture.SteeringVector.fit(
            rows[[language == CONTROL_LANGUAGE for language in of_row]],
            rows[[language == STEERING.source_language for language in of_row]],
            metadata={"model_name": self.pair[0].name},
        )
        prompts = steering.in_chat(ground.tokenizer("a"), list(QUESTIONS), asked="{text}")
        found = control.compare(
            ground.model("a"),
            ground.tokenizer("a"),
            packaged_smollm2(folder),
            vector,
            layer,
            prompts,
            folder,
        )
        return found | {"language": CONTROL_LANGUAGE, "questions": list(QUESTIONS)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes FOLDER/report.html and report.json.")
    parser.add_argument("folder", type=Path)
    for name in ("svcca", "fit", "held_out", "loss", "sae"):
        default = getattr(SETTINGS, f"{name}_tokens")
        parser.add_argument(
            f"--{name.replace('_', '-')}-tokens", type=int, default=default, help=f"({default:,})"
        )
    options = vars(parser.parse_args())
    folder = options.pop("folder")
    results = Report(folder, replace(SETTINGS, **options)).run()
    print(f"Report: {folder / 'report.html'} ({results['seconds'] / 60:.0f} minutes)")


if __name__ == "__main__":
    main()
