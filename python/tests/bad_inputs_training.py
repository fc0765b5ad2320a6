# SPDX-License-Identifier: Apache-2.0
"""Rows for training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from bad_input_table import (
    D_A,
    D_SAE,
    A,
    bad_activations,
    bad_numbers,
    row,
    sae,
    trainer,
    with_value,
)

import suture
from suture import Trainer

one, many = np.eye(D_A, D_SAE), np.zeros(D_SAE)
weights: dict[str, Any] = {"W_enc": one, "W_dec": one.T + 0.1, "b_dec": np.zeros(D_A)}
gated = suture.SAE(architecture="gated", b_gate=many, b_mag=many, r_mag=many, **weights)
no_k = suture.SAE(architecture="batchtopk", b_enc=many, threshold=1.0, **weights)

# -- Training ----------------------------------------------------------------------------------
for target, given in (
    ("Trainer", lambda **settings: Trainer(**{"sae": sae()} | settings)),
    ("train", lambda **settings: suture.train(**{"sae": sae(), "acts": A} | settings)),
):
    row(target, lambda _, g=given: g(sae=None), TypeError, "sae", "NoneType", "expected suture.SAE")
    row(target, lambda _, g=given: g(betas=0.9), TypeError, "betas", "0.9", "expected two numbers")
    row(target, lambda _, g=given: g(betas=(0.9, 1.0)), ValueError, "betas[1]", "1.0", "expected")
    row(target, lambda _, g=given: g(betas=(0, 0.9)), ValueError, "betas[0]", "0.0", "expected")
    bad_numbers(target, "batch_size", lambda v, g=given: g(batch_size=v), 0, -1, 2**31, "8", None)
    bad_numbers(target, "lr", lambda v, g=given: g(lr=v), 0.0, -1.0, float("nan"), "x", None)
    for name, values in (
        ("lr_end", (-1.0, float("nan"), 1e7, "x", None)),
        ("lr_warm_up_steps", (-1, 2**53, None)),
        ("max_grad_norm", (0.0, -1.0, float("nan"), 1e-30, "x")),
        ("total_steps", (0, -1, 2**53, "8")),
    ):
        bad_numbers(target, name, lambda v, g=given, n=name: g(**{n: v}), *values)
    row(
        target,
        lambda _, g=given: g(lr_scheduler="step"),
        ValueError,
        "lr_scheduler",
        "'step'",
        "expected one of 'constant'",
    )
    row(
        target,
        lambda _, g=given: g(lr_scheduler=1),
        TypeError,
        "lr_scheduler",
        "1",
        "expected one of",
    )
    for name, expected in (
        ("decoder_norm", "'unit', 'unit_unprojected', 'free'"),
        ("b_dec_init", "'keep', 'zero', 'mean', 'geometric_median'"),
        ("normalize_activations", "'none', 'expected_average_only_in'"),
    ):
        row(
            target,
            lambda _, g=given, n=name: g(**{n: "one"}),
            ValueError,
            name,
            "'one'",
            f"expected one of {expected}",
        )
    row(
        target,
        lambda _, g=given: g(lr_scheduler="linear", lr_warm_up_steps=5, total_steps=5),
        ValueError,
        "total_steps",
        "5",
        "expected more than lr_warm_up_steps = 5",
    )
    row(
        target,
        lambda _, g=given: g(learning_rate=1e-3),
        TypeError,
        "learning_rate",
        "expected batch_size, lr",
    )
    bad_numbers(target, "epsilon", lambda v, g=given: g(epsilon=v), 0.0, -1.0, float("inf"), None)
    bad_numbers(target, "seed", lambda v, g=given: g(seed=v), -1, 2**64, None)

    row(
        target,
        lambda _, g=given: g(sae=gated),
        suture.UnsupportedError,
        "gated",
    )
    row(
        target,
        lambda _, g=given: g(sae=no_k),
        ValueError,
        "k",
        "expected one with the mean number",
    )
    for name, values in (
        ("l0_coefficient", (0.0, -1.0, float("nan"), "x", None)),
        ("l1_coefficient", (0.0, -1.0, float("inf"), "x", None)),
        ("bandwidth", (0.0, -1.0, "x", None)),
        ("sparsity_warm_up_steps", (-1, 2**53, None)),
        ("aux_loss_coefficient", (0.0, -1.0, float("nan"), "x")),
        ("aux_k", (0, -1, 2**53, "8")),
        ("dead_feature_window", (0, -1, 2**53, None)),
    ):
        bad_numbers(target, name, lambda v, g=given, n=name: g(**{n: v}), *values)
    for name in ("l0_coefficient", "l1_coefficient", "bandwidth", "sparsity_warm_up_steps"):
        row(
            target,
            lambda _, g=given, n=name: g(**{n: 2}),
            ValueError,
            name,
            "topk",
            "expected it for",
        )
    row(
        target,
        lambda _, g=given: g(aux_k=3),
        ValueError,
        "aux_k",
        "3",
        "expected both or neither",
    )
    for name in ("aux_loss_coefficient", "l0_coefficient"):
        row(
            target,
            lambda _, g=given, n=name: g(
                **{"sae": suture.SAE.init(D_A, D_SAE, architecture="relu"), n: 1.0}
            ),
            ValueError,
            name,
            "relu",
            "expected it for",
        )
for target, given in (
    ("Trainer.run", lambda acts=A, **settings: trainer().run(acts, **settings)),
    ("train", lambda acts=A, **settings: suture.train(sae(), acts, **settings)),
):
    bad_activations(target, "acts", A, "d_in", given)
    row(
        target,
        lambda _, g=given: g(iter([A[:7]])),
        ValueError,
        "acts",
        "rows",
        "expected at least batch_size",
    )
    row(
        target,
        lambda _, g=given: g(np.asfortranarray(A)),
        ValueError,
        "acts",
        "(80, 4)",
        "expected",
    )
    bad_numbers(target, "tokens", lambda v, g=given: g(tokens=v), 0, -1, 2**63, "8")
    bad_numbers(target, "log_every", lambda v, g=given: g(log_every=v), 0, -1, None)
    row(target, lambda _, g=given: g(callback=3), TypeError, "callback", "3", "expected a function")
    row(target, lambda _, g=given: g(progress="x"), TypeError, "progress", "'x'", "expected")
for method in ("step", "gradients", "step_grad"):
    target = f"Trainer.{method}"

    def on_rows(x: Any, method: str = method) -> object:
        return getattr(trainer(), method)(x)

    row(target, lambda _, g=on_rows: g(A[:0]), ValueError, "x", "0", "expected")
    row(target, lambda _, g=on_rows: g(A[0]), ValueError, "x", "(4,)", "expected (N, d)")
    row(target, lambda _, g=on_rows: g(A[:, :3]), ValueError, "x", "(80, 3)", "expected (…, 4)")
    row(target, lambda _, g=on_rows: g(A.astype(int)), TypeError, "x", "int64", "expected float32")
    row(target, lambda _, g=on_rows: g(None), TypeError, "x", "NoneType", "expected an array")
    row(
        target,
        lambda _, g=on_rows: g(with_value(A, np.nan)),
        ValueError,
        "x[41, 2]",
        "nan",
        "expected finite",
    )

SIZE = 2 * D_A * D_SAE + D_SAE + D_A
FLAT = np.zeros(SIZE, np.float32)


def applied(flat: Any = FLAT, tokens: Any = 8, **settings: Any) -> object:
    return trainer().apply(flat, tokens=tokens, **settings)


target = "Trainer.apply"
row(
    target, lambda _: applied(FLAT[1:]), ValueError, "flat", f"({SIZE - 1},)", f"expected ({SIZE},)"
)
row(target, lambda _: applied(FLAT.astype(float)), TypeError, "flat", "float64", "expected float32")
row(target, lambda _: applied(None), TypeError, "flat", "object", "expected float32")
bad = FLAT.copy()
bad[7] = np.nan
row(target, lambda _: applied(bad), ValueError, "flat[7]", "nan", "expected finite")
bad_numbers(target, "tokens", lambda v: applied(tokens=v), 0, -1, 2**49, "8", None)
counts = np.zeros(D_SAE, np.int64)
row(target, lambda _: applied(firings=counts[1:]), ValueError, "firings", f"expected ({D_SAE},)")
row(
    target,
    lambda _: applied(firings=counts.astype(float)),
    TypeError,
    "firings",
    "float64",
    "int64",
)
row(target, lambda _: applied(firings=counts - 1), ValueError, "firings[0]", "-1", "at least 0")

# -- Runs --------------------------------------------------------------------------------------
row("train", lambda _: suture.train([], A), ValueError, "sae", "empty list", "expected at least")
row(
    "train",
    lambda _: suture.train([sae(), 3], A),
    TypeError,
    "sae[1]",
    "int",
    "expected suture.SAE",
)
row(
    "train",
    lambda _: suture.train([sae(), suture.SAE.init(5, 10, k=2)], A),
    ValueError,
    "sae[1]",
    "5",
    "expected 4",
)
bad_numbers(
    "train", "checkpoint_every", lambda v: suture.train(sae(), A, checkpoint_every=v), 0, "x"
)
bad_numbers(
    "train",
    "explained_variance",
    lambda v: suture.train(sae(), A, explained_variance=v),
    0.0,
    1.5,
    float("nan"),
    "x",
)
row(
    "train",
    lambda _: suture.train(sae(), A, checkpoint=3),
    TypeError,
    "checkpoint",
    "3",
    "expected",
)
row(
    "train",
    lambda folder: suture.train(sae(), A, checkpoint=folder.parent),
    FileExistsError,
    "checkpoint",
    "has files in it",
    "expected a new folder",
)


def resumed(folder: Path, **settings: Any) -> object:
    suture.train(sae(), A, batch_size=8, tokens=16, checkpoint=folder / "run", progress=False)
    return suture.resume(folder / "run", **{"acts": A, "progress": False} | settings)


row("resume", lambda _: suture.resume(3, A), TypeError, "folder", "3", "expected a path")
row("resume", lambda f: suture.resume(f, A), FileNotFoundError, "folder", "expected one that train")
row("resume", lambda f: resumed(f, acts=A[1:]), ValueError, "acts", "79 rows", "expected the 80")
row(
    "resume", lambda f: resumed(f, acts=A + 1), ValueError, "values", "80 rows", "expected the same"
)
row("resume", lambda f: resumed(f, tokens=0), ValueError, "tokens", "0", "expected 1 to")
row("resume", lambda f: resumed(f, lr=0.5), ValueError, "lr", "0.5", "expected 0.0001")
row("resume", lambda f: resumed(f, lx=0.5), TypeError, "lx", "no option", "expected batch_size")
row("resume", lambda f: resumed(f, callback=3), TypeError, "callback", "3", "expected a function")

# -- a pull towards another model's codes --------------------------------------------------------
pulled = Trainer(sae(), pull=0.5, batch_size=8)
like = (sae(), A)
for target, give in (
    ("Trainer", lambda v: Trainer(sae(), pull=v)),
    ("train", lambda v: suture.train(sae(), A, like=like, pull=v)),
):
    bad_numbers(target, "pull", give, 0.0, -1.0, float("nan"), 1e7, "x")
for target, with_like in (
    ("Trainer.run", lambda v, **more: pulled.run(**{"acts": A, "like": v} | more)),
    (
        "train",
        lambda v, **more: suture.train(
            sae(), **{"acts": A, "like": v, "pull": 0.5, "batch_size": 8} | more
        ),
    ),
):
    row(target, lambda _, w=with_like: w(None), TypeError, "like", "None", "pull is 0.5")
    row(target, lambda _, w=with_like: w(sae()), TypeError, "like", "expected (suture.SAE")
    row(target, lambda _, w=with_like: w((A, sae())), TypeError, "like", "expected (suture.SAE")
    row(
        target,
        lambda _, w=with_like: w((sae(), A[:-1])),
        ValueError,
        "like",
        f"{len(A) - 1} rows",
        f"{len(A)} as acts",
    )
    row(
        target,
        lambda _, w=with_like: w((sae(), with_value(A, np.nan)), rows=suture.Rows.all()),
        ValueError,
        "like[41, 2]",
        "nan",
    )
    row(target, lambda _, w=with_like: w(like, acts=iter([A])), TypeError, "acts", "iterator")
row("train", lambda _: suture.train(sae(), A, like=like), TypeError, "like", "given", "pull")
row("Trainer.run", lambda _: trainer().run(A, like=like), TypeError, "like", "given", "pull")
codes_of_a = sae().encode(A)
for method in ("step", "gradients", "step_grad"):
    step = getattr(pulled, method)
    target = f"Trainer.{method}"
    row(target, lambda _, s=step: s(A), TypeError, "like", "None", "pull is 0.5")
    row(target, lambda _, s=step: s(A, like=A), TypeError, "like", "ndarray", "SparseCodes")
    row(target, lambda _, s=step: s(A[:8], like=codes_of_a), ValueError, f"{len(A)} rows", "8")
    wider = suture.SparseCodes([[0]], [[1.0]], d_sae=D_SAE + 1)
    row(target, lambda _, s=step, w=wider: s(A[:1], like=w), ValueError, "like", f"{D_SAE + 1}")
    given = getattr(trainer(), method)
    row(target, lambda _, g=given: g(A, like=codes_of_a), TypeError, "like", "given", "pull")
wide = suture.SAE.init(A.shape[1], D_SAE + 1, k=2)
row("train", lambda _: suture.train(sae(), A, like=(wide, A), pull=1.0), ValueError, "like",
    f"d_sae = {D_SAE + 1}", f"{D_SAE}")  # fmt: skip
