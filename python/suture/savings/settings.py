# SPDX-License-Identifier: Apache-2.0
"""What the experiment on training costs can be told."""

from __future__ import annotations

from dataclasses import dataclass

from suture.report.settings import PairSettings, at_least, positive
from suture.savings.arms import ARMS


@dataclass(frozen=True)
class Settings(PairSettings):
    """What the experiment can be told; `sae_tokens` goes for SAEs on A and on B alike."""

    fit_tokens: int = 1_900_000
    stitch_tokens: int | None = 100_000
    refit_tokens: int = 100_000
    #: Rounds and tokens of the starts whose encoder is tied to the refitted decoder.
    tied_rounds: int = 4
    tied_tokens: int = 20_000
    #: Pairs that a SAE of A is carried by, rows among them that calibrate, rounds (`suture.carry`),
    #: and tokens that its decoder is refitted on.
    pair_tokens: int = 50_000
    pair_sample: int = 10_000
    pair_rounds: int = 1
    pair_refit_tokens: int = 30_000
    #: Rows, taken evenly from the held-out ones, that judge a SAE while it trains, and pairs that
    #: tell whether its features still are A's: rare latents need many.
    checkpoint_rows: int = 4096
    fidelity_rows: int = 16_384
    #: Starts that are compared, as `ARMS` names them.
    arms: tuple[str, ...] = tuple(ARMS)
    widths: tuple[int, ...] = (4096, 8192, 16384)
    #: Repetitions: SAE on A, random start and order of the tokens.
    seeds: int = 3
    sae_tokens: int = 500_000
    batch_size: int = 1024
    #: Learning rates tried at the first width. Each start is trained at the one that suits it best.
    lrs: tuple[float, ...] = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3)
    #: Learning rate of the SAEs on A.
    lr_a: float = 4e-3

    def __post_init__(self) -> None:
        """Refuses at once what a later step would refuse after minutes of work."""
        super().__post_init__()
        for name in ("checkpoint_rows", "refit_tokens", "tied_rounds", "tied_tokens", "seeds"):
            at_least(name, getattr(self, name), 1)
        for name in ("pair_sample", "pair_refit_tokens"):
            at_least(name, getattr(self, name), 1)
        for name in ("pair_tokens", "fidelity_rows"):
            at_least(name, getattr(self, name), 2)
        if not 0 <= self.pair_rounds <= 100:
            raise ValueError(f"pair_rounds is {self.pair_rounds}, expected 0 to 100")
        self._check_arms()
        for name in ("widths", "lrs"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty, expected at least one number")
        for lr in self.lrs:
            positive("lrs", lr)
        positive("lr_a", self.lr_a)
        for width in self.widths:
            if width < self.k:
                raise ValueError(f"widths holds {width}, expected at least k = {self.k}")

    def _check_arms(self) -> None:
        for arm in self.arms:
            if arm not in ARMS:
                raise ValueError(f"arms holds {arm!r}, expected {', '.join(ARMS)}")
            like = ARMS[arm].like
            if like is not None and like not in self.arms:
                raise ValueError(
                    f"arms holds {arm!r}, expected {like!r} beside it, whose start it has"
                )
        if "random" not in self.arms or len(set(self.arms)) < 2:
            raise ValueError(
                f"arms is {self.arms}, expected 'random', and another to compare with it"
            )
