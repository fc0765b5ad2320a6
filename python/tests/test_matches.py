# SPDX-License-Identifier: Apache-2.0
"""Best matches against NumPy's correlations of dense codes, and on features that are known."""

from __future__ import annotations

import numpy as np
import pytest

import suture

D_A, D_B, WIDTH_A, WIDTH_B, ROWS = 10, 14, 40, 70, 3000
BLOCK = 64


def in_numpy(a: np.ndarray, b: np.ndarray) -> dict[str, np.ndarray]:
    """From dense codes, all pairs of latents at once."""
    judges = np.arange(len(a)) // BLOCK % 2 == 1

    def correlations(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore", divide="ignore"):
            found = np.corrcoef(x.T, y.T)[: x.shape[1], x.shape[1] :]
        return found

    choice = correlations(a[~judges], b[~judges])
    # What never fires together is no candidate: its correlation is below 0 in any case.
    choice[np.isnan(choice) | (choice <= 0)] = -1
    match, match_b = choice.argmax(1), choice.argmax(0)
    chosen = choice.max(1)
    every = np.arange(a.shape[1])
    judged_b = b[judges]
    shifted = np.roll(judged_b, -(len(judged_b) // 2), axis=0)
    return {
        "match": np.where(chosen > 0, match, -1),
        "match_b": np.where(choice.max(0) > 0, match_b, -1),
        "chosen": np.where(chosen > 0, chosen, np.nan),
        "correlation": np.where(
            chosen > 0, correlations(a[judges], judged_b)[every, match], np.nan
        ),
        "control": np.where(chosen > 0, correlations(a[judges], shifted)[every, match], np.nan),
        "both": (a[judges] > 0) & (judged_b[:, match] > 0) & (chosen > 0),
        "fired": a[judges] > 0,
    }


@pytest.fixture(scope="module")
def data() -> dict[str, object]:
    rng = np.random.default_rng(3)
    acts_a = rng.normal(size=(ROWS, D_A)).astype(np.float32)
    acts_b = (acts_a @ rng.normal(size=(D_A, D_B)) + rng.normal(size=(ROWS, D_B))).astype("f4")
    sae_a = suture.SAE.init(D_A, WIDTH_A, k=4, seed=1)
    sae_b = suture.SAE.init(D_B, WIDTH_B, k=3, seed=2)
    # A latent that never fires, and one that fires on a few rows only.
    b_enc = np.array(sae_a.b_enc)
    b_enc[[3, 5]] = -100, -1.6
    sae_a = suture.SAE(W_enc=sae_a.W_enc, b_enc=b_enc, W_dec=sae_a.W_dec, b_dec=sae_a.b_dec, k=4)
    found = suture.best_matches(sae_a, acts_a, sae_b, acts_b)
    dense = {
        side: sae.encode(acts).to_dense().astype(np.float64)
        for side, sae, acts in (("a", sae_a, acts_a), ("b", sae_b, acts_b))
    }
    return {
        "sae_a": sae_a, "sae_b": sae_b, "acts_a": acts_a, "acts_b": acts_b, "found": found, **dense,
    }  # fmt: skip


def test_matches_are_numpys(data: dict) -> None:
    found, expected = data["found"], in_numpy(data["a"], data["b"])
    np.testing.assert_array_equal(found.match, expected["match"])
    np.testing.assert_array_equal(found.match_b, expected["match_b"])
    for name in ("chosen", "correlation", "control"):
        # float64 on both sides, a thousand terms.
        np.testing.assert_allclose(getattr(found, name), expected[name], atol=1e-12)
    np.testing.assert_array_equal(found.active, (data["a"] > 0).sum(0))
    assert found.match[3] == -1
    assert np.isnan(found.correlation[3])
    expected_mutual = [m >= 0 and found.match_b[m] == i for i, m in enumerate(found.match)]
    np.testing.assert_array_equal(found.mutual, expected_mutual)
    assert 0 < found.mutual.sum() < WIDTH_A
    summary = found.summary()
    assert summary.share_active == expected["both"].sum() / expected["fired"].sum()
    judged = found.active >= 10
    assert (summary.rows, summary.judged) == (ROWS, judged.sum())
    assert summary.rare == ((found.active > 0) & ~judged).sum()
    assert summary.mutual == found.mutual[judged].sum()
    for name in ("chosen", "correlation", "control"):
        quartiles = np.quantile(np.nan_to_num(getattr(found, name)[judged]), [0.25, 0.5, 0.75])
        told = getattr(summary, name)
        np.testing.assert_allclose([told.lower, told.median, told.upper], quartiles, atol=1e-12)
    # The half that chose flatters.
    assert summary.chosen.median > summary.correlation.median > 0.1
    assert abs(summary.control.median) < 0.03


def test_min_count_decides_who_is_judged(data: dict) -> None:
    active = data["found"].active
    count = int(np.median(active)) + 1
    args = [data[name] for name in ("sae_a", "acts_a", "sae_b", "acts_b")]
    strict = suture.best_matches(*args, min_count=count)
    judged = active >= count
    assert 0 < judged.sum() < WIDTH_A
    assert strict.summary().judged == judged.sum()
    np.testing.assert_array_equal(strict.match, data["found"].match)
    expected = np.median(np.nan_to_num(strict.correlation[judged]))
    assert strict.summary().correlation.median == pytest.approx(expected)
    assert strict.min_count == count


def test_latents_in_another_order_are_found_exactly(data: dict) -> None:
    sae, acts = suture.SAE.init(D_A, WIDTH_A, k=4, seed=1), data["acts_a"]
    order = np.random.default_rng(5).permutation(WIDTH_A)
    other = suture.SAE(
        W_enc=sae.W_enc[:, order], b_enc=sae.b_enc[order], W_dec=sae.W_dec[order], b_dec=sae.b_dec,
        k=4,
    )  # fmt: skip
    found = suture.best_matches(other, acts, sae, acts)
    np.testing.assert_array_equal(found.match, order)
    np.testing.assert_array_equal(found.correlation, 1.0)
    assert found.mutual.all()
    assert abs(found.summary().control.median) < 0.05


def test_two_seeds_find_a_planted_dictionary_and_each_other() -> None:
    rng = np.random.default_rng(6)
    features = rng.normal(size=(24, 32)) / np.sqrt(32)
    on = rng.random((60_000, 24)) < 0.08
    acts = ((on * rng.uniform(1, 2, on.shape)) @ features).astype(np.float32)
    # BatchTopK, so that rows may have as many features as they were made of.
    saes = [
        suture.train(
            suture.SAE.init(32, 32, architecture="batchtopk", k=2, seed=seed), acts[:50_000],
            tokens=400_000, batch_size=500, lr=3e-3, seed=seed, progress=False,
        ).sae
        for seed in (1, 2)
    ]  # fmt: skip
    held = acts[50_000:]
    summary = suture.best_matches(saes[0], held, saes[1], held).summary()
    assert summary.correlation.median > 0.9
    assert summary.mutual > 0.6 * summary.judged
    # Latent i with latent i tells nothing of two seeds.
    assert suture.fidelity(saes[0], held, saes[1], held).summary().correlation.median < 0.5


def test_rows_that_do_not_belong_together_match_nothing(data: dict) -> None:
    acts_b = np.roll(data["acts_b"], 700, axis=0)
    shifted = suture.best_matches(data["sae_a"], data["acts_a"], data["sae_b"], acts_b)
    summary = shifted.summary()
    assert abs(summary.correlation.median) < 0.03
    assert summary.chosen.median > 0.05  # what judging on the rows that chose would have said
    pairs = (np.arange(ROWS), (np.arange(ROWS) + 700) % ROWS)
    again = suture.best_matches(
        data["sae_a"], data["acts_a"], data["sae_b"], acts_b, pairs=pairs, progress=False
    )
    # `pairs` that wrap around are read block by block; all rows are in one block here.
    np.testing.assert_array_equal(again.match, data["found"].match)
    np.testing.assert_array_equal(again.correlation, data["found"].correlation)


def test_streams_and_threads_give_the_same_bits(data: dict, threads: None) -> None:
    pieces = [slice(0, 1), slice(1, 1100), slice(1100, None)]
    for count in (1, 2, 8):
        suture.set_threads(count)
        again = suture.best_matches(
            data["sae_a"],
            iter([data["acts_a"][piece] for piece in pieces]),
            data["sae_b"],
            iter([data["acts_b"][piece] for piece in pieces]),
        )
        for name in ("match", "match_b", "correlation", "chosen", "control", "active"):
            np.testing.assert_array_equal(getattr(again, name), getattr(data["found"], name))
        assert again.summary() == data["found"].summary()


def test_progress_reaches_the_rows_and_can_stop_the_search() -> None:
    # Large enough that the search reports: the core does so every 30 ms.
    rows = 50_000
    acts = np.random.default_rng(7).normal(size=(rows, 4)).astype(np.float32)
    sae = suture.SAE.init(4, 1024, k=64)
    seen: list[tuple[int, int]] = []
    suture.best_matches(
        sae, acts, sae, acts, progress=lambda done, total: seen.append((done, total))
    )
    assert {total for _, total in seen} == {rows}
    assert seen[-1] == (rows, rows)

    def stop(done: int, total: int) -> None:
        if done == rows:
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        suture.best_matches(sae, acts, sae, acts, progress=stop)


def test_what_it_says_of_itself(data: dict) -> None:
    found = data["found"]
    assert repr(found) == f"BestMatches({ROWS} rows, d_sae_a={WIDTH_A}, d_sae_b={WIDTH_B})"
    assert str(found) == str(found.summary())
    assert f"judged on half of {ROWS} rows" in str(found)
