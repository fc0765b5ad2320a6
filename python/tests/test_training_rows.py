# SPDX-License-Identifier: Apache-2.0
"""Which rows count in training, refits and pooling: left-out rows might as well not be there."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

import suture
from suture import Rows, SutureWarning

RNG = np.random.default_rng(8)
N, D = 6000, 8
X = RNG.normal(size=(N, D)).astype(np.float32)
X[7::400] *= 100
KEPT = np.ones(N, bool)
KEPT[7::400] = False
ALL = Rows.all()
START = suture.SAE.init(D, 32, k=4)
OPTIONS = {"batch_size": 100, "lr": 1e-2}


def weights(run: suture.TrainRun) -> np.ndarray:
    return np.concatenate([run.sae.W_enc.ravel(), run.sae.W_dec.ravel(), run.sae.b_enc])


def test_training_never_draws_rows_that_do_not_count() -> None:
    expected = suture.train(START, X[KEPT], tokens=9000, rows=ALL, **OPTIONS)
    for acts in (X, [X[:777], X[777:]], X.reshape(60, 100, D)):
        run = suture.train(START, acts, tokens=9000, **OPTIONS)
        np.testing.assert_array_equal(weights(run), weights(expected))
        assert run.rows is not None
        assert (run.rows.rows, run.rows.left_out, run.rows.beyond) == (N - 15, 15, 15)
        assert run.rows.norm_bound == suture.norm_bound(X)
        norms = np.linalg.norm(X.astype(float), axis=1) ** 2
        assert run.rows.share_beyond == pytest.approx(norms[~KEPT].sum() / norms.sum(), rel=1e-9)
    # As many tokens as rows count, by default.
    assert suture.train(START, X, **OPTIONS).history[-1]["tokens"] == 6000
    assert suture.train(START, X, **OPTIONS).trainer.batch_size == 100


def test_masks_in_training() -> None:
    mask = RNG.random(N) < 0.5
    expected = suture.train(START, X[mask & KEPT], tokens=3000, rows=ALL, **OPTIONS)
    dirty = X.copy()
    dirty[~mask] = np.nan
    for rows in (mask, Rows(mask=mask, norm_bound=5)):
        run = suture.train(START, dirty, tokens=3000, rows=rows, **OPTIONS)
        np.testing.assert_array_equal(weights(run), weights(expected))
        assert run.rows is not None
        assert run.rows.left_out == N - (mask & KEPT).sum()
    trainer = suture.Trainer(START, **OPTIONS)
    trainer.run(dirty, 3000, rows=mask)
    np.testing.assert_array_equal(trainer.sae.W_dec, expected.sae.W_dec)


def test_an_iterator_is_bounded_by_its_first_rows() -> None:
    def arrays() -> object:
        return (part for part in np.array_split(X, 7))

    run = suture.train(START, arrays(), **OPTIONS)
    assert run.rows is not None
    first = 5 * np.median(np.linalg.norm(X[:4096].astype(float), axis=1))
    assert run.rows.norm_bound == pytest.approx(first, rel=1e-14)
    assert (run.rows.rows, run.rows.beyond) == (N - 15, 15)
    expected = suture.train(START, iter([X[KEPT]]), rows=ALL, **OPTIONS)
    np.testing.assert_array_equal(weights(run), weights(expected))
    with pytest.raises(TypeError, match=r"rows is .*acts is an iterator"):
        suture.train(START, arrays(), rows=KEPT, **OPTIONS)


def test_row_numbers_in_errors_are_those_of_the_whole_input() -> None:
    bad = X.copy()
    bad[5000, 3] = np.nan
    for acts in (bad, [bad[:100], bad[100:]], iter([bad[:4999], bad[4999:]])):
        with pytest.raises(ValueError, match=r"acts\[5000, 3\] is nan"):
            suture.train(START, acts, tokens=20_000, **OPTIONS)
    # Of those that the core finds, with rows left out before: too large for its float32.
    with pytest.raises(ValueError, match=r"acts\[5000, 3\]"):
        suture.train(START, bad, tokens=20_000, rows=Rows(mask=KEPT, norm_bound=None), **OPTIONS)


def test_checkpoints_keep_the_bound(tmp_path: Path) -> None:
    whole = suture.train(START, X, tokens=4000, **OPTIONS)
    suture.train(START, X, tokens=2000, checkpoint=tmp_path / "run", **OPTIONS)
    settings = json.loads((tmp_path / "run" / "run.json").read_text())
    assert settings["norm_bound"] == suture.norm_bound(X)
    resumed = suture.resume(tmp_path / "run", X, tokens=4000)
    assert isinstance(resumed, suture.TrainRun)
    np.testing.assert_array_equal(weights(resumed), weights(whole))
    # The bound of the run goes on, also where other rows would give another.
    mask = np.arange(N) % 2 == 0
    suture.train(START, X, tokens=1000, rows=mask, checkpoint=tmp_path / "masked", **OPTIONS)
    again = suture.resume(tmp_path / "masked", X, tokens=2000, rows=mask)
    assert isinstance(again, suture.TrainRun)
    assert again.rows is not None
    assert again.rows.norm_bound == suture.norm_bound(X, rows=mask)
    with pytest.raises(ValueError, match="acts has 5985 rows, expected"):
        suture.resume(tmp_path / "masked", X, tokens=3000)
    # A run from before there were bounds has counted all rows.
    old = tmp_path / "old"
    suture.train(START, X[KEPT], tokens=1000, rows=ALL, checkpoint=old, **OPTIONS)
    settings = json.loads((old / "run.json").read_text())
    assert settings.pop("norm_bound") is None
    (old / "run.json").write_text(json.dumps(settings))
    resumed = suture.resume(old, X[KEPT], tokens=1000)
    assert isinstance(resumed, suture.TrainRun)
    assert resumed.rows is not None
    assert resumed.rows.norm_bound == math.inf


def test_few_rows_that_carry_training_are_warned_of() -> None:
    with pytest.warns(SutureWarning, match=r"train: few rows: \d+ of 4096 sampled rows of acts"):
        suture.train(START, X, tokens=100, rows=ALL, **OPTIONS)
    with pytest.warns(SutureWarning, match="refit_decoder: few rows"):
        suture.refit_decoder(START, X, rows=ALL)


def test_all_rows_beyond() -> None:
    # One row in two is 100 times as large; the sample's median lies between them.
    acts = np.ones((8, D), np.float32)
    acts[4:] *= 100
    acts = np.repeat(acts, 2, axis=0)
    assert suture.refit_decoder(START, acts, rows=Rows(norm_bound=0.5))[1].rows.left_out == 8
    with pytest.raises(ValueError, match="acts has 16 rows, none of which counts: 16 are beyond"):
        suture.refit_decoder(START, acts, rows=Rows(norm_bound=0.001))


def test_refits_leave_rows_out() -> None:
    expected, _ = suture.refit_decoder(START, X[KEPT], rows=ALL)
    refitted, report = suture.refit_decoder(START, X)
    np.testing.assert_array_equal(refitted.W_dec, expected.W_dec)
    assert report.rows is not None
    assert report.rows.beyond == 15
    assert report.tokens == N - 15


def test_pooling_leaves_rows_out_where_that_is_said() -> None:
    sample = np.arange(N) // 100
    plain = suture.pool(X, sample)
    np.testing.assert_allclose(plain, X.reshape(60, 100, D).mean(1), atol=1e-4)
    expected = suture.pool(X, sample, mask=KEPT)
    np.testing.assert_array_equal(suture.pool(X, sample, rows=Rows()), expected)
    np.testing.assert_array_equal(
        suture.pool(X, sample, rows=Rows(mask=KEPT, norm_bound=None)), expected
    )
    codes = START.encode(X)
    np.testing.assert_array_equal(
        suture.pool(codes, sample, rows=KEPT).to_dense(),
        suture.pool(codes, sample, mask=KEPT).to_dense(),
    )
    for bound in (2.0, 5.0):
        with pytest.raises(ValueError, match=rf"rows.norm_bound is {bound}, .*X is SparseCodes"):
            suture.pool(codes, sample, rows=Rows(norm_bound=bound))


def test_tokens_choose_rows_of_extracted_activations() -> None:
    tokens = np.arange(N) % 50
    acts = suture.Activations(
        {1: X}, token_ids=tokens, positions=np.arange(N) % 100, sequence=np.arange(N) // 100
    )
    rows = Rows(leave_out=[3, 4], skip_positions=2)
    mask = ~np.isin(tokens, [3, 4]) & (np.arange(N) % 100 >= 2)
    assert suture.Moments(acts, X, rows=rows).tokens == (mask & KEPT).sum()
    assert suture.norm_bound(acts.shards(1), rows=rows) == suture.norm_bound(X, rows=mask)
    last = suture.pool(acts, acts.sequence, rows=Rows(positions="last", norm_bound=None))
    np.testing.assert_array_equal(last, X[99::100])
    run = suture.train(START, acts.shards(1), tokens=1000, rows=rows, **OPTIONS)
    expected = suture.train(START, X[mask & KEPT], tokens=1000, rows=ALL, **OPTIONS)
    np.testing.assert_array_equal(weights(run), weights(expected))
    with pytest.raises(ValueError, match=r"rows.positions is 'generated'.*acts has no generated"):
        suture.train(START, acts, rows=Rows(positions="generated"), **OPTIONS)
