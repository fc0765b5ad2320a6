# SPDX-License-Identifier: Apache-2.0
"""The SAE on A, moved to B by the paper's method and by others, and how each is to be judged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from suture.paper.ground import Ground
    from suture.sae import SAE

Method = Literal["stitch", "refit", "pairs"]

#: What moves the SAE, and what it is called: the paper's eq. 4 to 6; the same with the decoder
#: fitted anew (`suture.refit_decoder`); a regression on paired rows (`suture.carry`).
METHODS: dict[Method, str] = {
    "stitch": "stitch",
    "refit": "stitch, decoder refitted",
    "pairs": "pairs",
}


def moved(ground: Ground, method: Method) -> tuple[SAE, dict[str, Any]]:
    """The SAE on A by one of :data:`METHODS`, and what it depends on."""
    import suture

    if method == "stitch":
        return ground.sae("transferred"), dict(ground.key("a", "stitch"))

    def compute(folder: Path) -> dict[str, Any]:
        sae, rows = ground.sae("a"), ground.rows("fit", "b")
        if method == "refit":
            made = ground.stitch().transfer(sae, refit=rows, progress=ground.progress)
        else:
            made, _ = suture.carry(sae, ground.rows("fit", "a"), rows, progress=ground.progress)
        made.save(folder / "sae")
        return {}

    of = ("a", "fit", "stitch") if method == "refit" else ("a", "fit")
    step = ground.steps.run(
        f"moved-{method}", f"Moving the sparse autoencoder by {METHODS[method]}",
        dict(ground.key(*of)), compute,
    )  # fmt: skip
    return suture.SAE.load(step.folder / "sae"), {"sae": step.key}


def judged(ground: Ground) -> list[dict[str, Any]]:
    """A row for each of :data:`METHODS`, from held-out rows and text: what it explains of B, the
    loss it adds, and whether its latents still are A's (`suture.fidelity`)."""
    return [_judged(ground, method) for method in METHODS]


def _judged(ground: Ground, method: Method) -> dict[str, Any]:
    import suture

    sae, depends = moved(ground, method)
    settings = ground.settings

    def compute(_: Path) -> dict[str, Any]:
        held = ground.rows("held_out", "b")
        metrics = sae.evaluate(held, progress=ground.progress)
        spliced = suture.models.spliced_loss(
            ground.model("b"),
            sae,
            ground.layer("b"),
            suture.read_texts(*ground.texts["held_out"]),
            tokenizer=ground.tokenizer("b"),
            context=settings.context,
            max_tokens=settings.loss_tokens,
            progress=ground.progress,
        )
        found = suture.fidelity(
            ground.sae("a"), ground.rows("held_out", "a"), sae, held, progress=ground.progress
        ).summary()
        spread = found.correlation
        return {
            "method": method,
            "fvu": metrics["fvu"],
            "explained_variance": metrics["explained_variance"],
            "explained_variance_ordinary": metrics["explained_variance_ordinary"],
            "dead_fraction": metrics["dead_fraction"],
            "delta_loss": spliced.delta_loss,
            "correlation": [spread.lower, spread.median, spread.upper],
            "control": found.control.median,
            "f1": found.f1.median,
            "share_active": found.share_active,
            "judged": found.judged,
            "silent": found.silent,
        }

    depends |= ground.key("a", "held_out", "texts_held_out") | {"tokens": settings.loss_tokens}
    title = f"Judging the one moved by {METHODS[method]}"
    return ground.steps.run(f"judged-{method}", title, depends, compute).result
