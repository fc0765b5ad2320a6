# SPDX-License-Identifier: Apache-2.0
"""What is known of the latents of a carried SAE, and SAEs of some latents."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import suture

RNG = np.random.default_rng(11)
ACTS = RNG.normal(size=(3000, 8)).astype(np.float32)
OTHER = (ACTS @ RNG.normal(size=(8, 10)) + 0.5 * RNG.normal(size=(3000, 10))).astype(np.float32)


def random_sae(kind: str, normalization: str = "none", **more: Any) -> suture.SAE:
    own: dict[str, dict[str, Any]] = {
        "topk": {"b_enc": 0.1 * RNG.normal(size=40), "k": 4},
        "relu": {"b_enc": RNG.normal(size=40)},
        "batchtopk": {"b_enc": RNG.normal(size=40), "threshold": 0.7},
        "jumprelu": {"b_enc": RNG.normal(size=40), "threshold": RNG.uniform(0, 1, 40)},
        "gated": {name: 0.3 * RNG.normal(size=40) for name in ("b_gate", "b_mag", "r_mag")},
    }
    weights = {"W_enc": RNG.normal(size=(8, 40)), "W_dec": RNG.normal(size=(40, 8))}
    return suture.SAE(
        **{name: array.astype(np.float32) for name, array in weights.items()},
        b_dec=RNG.normal(size=8).astype(np.float32),
        **{k: v.astype(np.float32) if hasattr(v, "astype") else v for k, v in own[kind].items()},
        architecture=kind,  # type: ignore[arg-type]
        normalization=normalization,  # type: ignore[arg-type]
        scale=0.5 if normalization == "fixed_scale" else None,
        **more,
    )


def carried(**more: Any) -> tuple[suture.SAE, suture.CarryReport]:
    return suture.carry(suture.SAE.init(8, 40, k=4), ACTS, OTHER, progress=False, **more)


def known(sae: suture.SAE) -> suture.LatentEvidence:
    assert sae.evidence is not None
    return sae.evidence


def same(one: suture.LatentEvidence, other: suture.LatentEvidence) -> None:
    assert (one.rows, one.held_out_rows) == (other.rows, other.held_out_rows)
    for name in ("source_latent", "firings", "r_squared", "correlation", "active_a", "active_b"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    np.testing.assert_array_equal(one.active_both, other.active_both)


def test_it_is_what_the_report_says() -> None:
    sae, report = carried()
    evidence = known(sae)
    np.testing.assert_array_equal(evidence.correlation, report.fidelity.correlation)
    np.testing.assert_array_equal(evidence.r_squared, report.r_squared)
    np.testing.assert_array_equal(evidence.firings, report.firings)
    np.testing.assert_array_equal(evidence.active_both, report.fidelity.active_both)
    np.testing.assert_allclose(evidence.f1, report.fidelity.f1)
    np.testing.assert_array_equal(evidence.source_latent, np.arange(40))
    assert (evidence.rows, evidence.held_out_rows) == (report.rows, report.held_out_rows)
    assert "40 latents" in repr(evidence)
    with pytest.raises(ValueError, match="read-only"):
        evidence.correlation[0] = 1


def test_it_stays_while_the_encoder_does(tmp_path: Path) -> None:
    sae, _ = carried()
    sae.save(tmp_path / "sae")
    refitted, _ = suture.refit_decoder(sae, OTHER, progress=False)
    for other in (
        suture.SAE.load(tmp_path / "sae"),
        pickle.loads(pickle.dumps(sae)),
        sae.fold(),
        refitted,
        suture.carry(
            suture.SAE.init(8, 40, k=4), ACTS, OTHER, refit=False, progress=False
        )[0],
    ):  # fmt: skip
        same(known(sae), known(other))


def test_it_goes_where_latents_change(tmp_path: Path) -> None:
    sae, _ = carried()
    tied, _ = suture.refit_decoder(sae, OTHER, tied_rounds=1, progress=False)
    assert tied.evidence is None
    run = suture.train(sae, OTHER, tokens=256, batch_size=64, progress=False)
    assert run.sae.evidence is None
    assert suture.SAE.init(8, 40, k=4).evidence is None
    assert suture.Stitch.fit(ACTS, OTHER, progress=False).transfer(
        suture.SAE.init(8, 40, k=4)
    ).evidence is None  # fmt: skip


def test_another_sae_in_the_folder_does_not_inherit_it(tmp_path: Path) -> None:
    sae, _ = carried()
    sae.save(tmp_path / "sae")
    suture.SAE.init(10, 40, k=4).save(tmp_path / "sae")
    assert suture.SAE.load(tmp_path / "sae").evidence is None


def test_files_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    sae, _ = carried()
    folder = tmp_path / "sae"
    sae.save(folder)
    assert json.loads((folder / "cfg.json").read_text())["suture"]["latent_evidence"]
    path = folder / "latent_evidence.safetensors"
    good = load_file(path)
    metadata = {"suture_format": "latent_evidence/1", "rows": "3000", "held_out_rows": "3000"}
    for change, words in (
        ({"firings": good["firings"] + 3000}, r"firings\[0\] is 3\d+, expected 0 to 3000"),
        ({"source_latent": good["source_latent"] - 1}, r"source_latent\[0\] is -1"),
        ({"correlation": good["correlation"] + 2}, "correlation"),
        ({"correlation": good["correlation"][:-1]}, "correlation"),
        ({"active_a": good["active_a"].astype(np.int32)}, "active_a"),
    ):
        save_file(good | change, path, metadata)
        with pytest.raises(suture.FormatError, match=words):
            suture.SAE.load(folder)
    path.unlink()
    with pytest.raises(OSError, match="latent_evidence"):
        suture.SAE.load(folder)


@pytest.mark.parametrize("kind", ["batchtopk", "jumprelu", "relu", "gated"])
@pytest.mark.parametrize("normalization", ["none", "layer_norm", "fixed_scale"])
def test_latents_that_do_not_know_of_one_another_stay(kind: str, normalization: str) -> None:
    sae = random_sae(kind, normalization, apply_b_dec_to_input=True)
    chosen = [7, 3, 39, 0]
    part = sae.select(chosen)
    assert part.d_sae == 4
    np.testing.assert_array_equal(
        part.encode(ACTS).to_dense(), sae.encode(ACTS).to_dense()[:, chosen]
    )
    mask = np.zeros(40, np.bool_)
    mask[chosen] = True
    np.testing.assert_array_equal(sae.select(mask).W_dec, sae.W_dec[sorted(chosen)])


@pytest.mark.parametrize("normalization", ["none", "layer_norm", "fixed_scale"])
@pytest.mark.parametrize("rescale", [False, True])
def test_topk_gets_thresholds_that_are_order_statistics(normalization: str, rescale: bool) -> None:
    sae = random_sae("topk", normalization, rescale_by_decoder_norm=rescale)
    chosen = np.array([7, 3, 39, 0, 20])
    part = sae.select(chosen, ACTS, rows=suture.Rows.all())
    assert part.architecture == "jumprelu"
    codes, before = part.encode(ACTS).to_dense(), sae.fold().encode(ACTS).to_dense()[:, chosen]
    np.testing.assert_array_equal((codes > 0).sum(0), (before > 0).sum(0))
    folded = sae.fold()
    inputs = ACTS.astype(np.float64)
    if normalization == "layer_norm":
        inputs = inputs - inputs.mean(1, keepdims=True)
        inputs /= inputs.std(1, ddof=1, keepdims=True) + 1e-5
    scores = np.maximum(inputs @ folded.W_enc[:, chosen] + folded.b_enc[chosen], 0)
    for place in range(len(chosen)):
        ordered = np.sort(scores[:, place])[::-1]
        count = int((before[:, place] > 0).sum())
        expected = max(0.0, (ordered[count - 1] + ordered[count]) / 2)
        # The core's scores are float32, and layer_norm's have rounded twice.
        np.testing.assert_allclose(part.threshold[place], expected, rtol=1e-4)
    # Where both fire they agree.
    both = (codes > 0) & (before > 0)
    np.testing.assert_allclose(codes[both], before[both], rtol=1e-5)


def test_all_latents_of_topk_stay_topk() -> None:
    sae = suture.SAE.init(8, 40, k=4)
    order = RNG.permutation(40)
    turned = sae.select(order)
    assert turned.k == 4
    np.testing.assert_array_equal(
        turned.encode(ACTS).to_dense(), sae.encode(ACTS).to_dense()[:, order]
    )


def test_a_latent_that_never_fires_needs_more_than_ever_was() -> None:
    sae = suture.SAE.init(8, 40, k=1)
    b_enc = np.array(sae.b_enc)
    b_enc[3] = -2.0
    quiet = suture.SAE(W_enc=sae.W_enc, b_enc=b_enc, W_dec=sae.W_dec, b_dec=sae.b_dec, k=1)
    assert not quiet.encode(ACTS).to_dense()[:, 3].any()
    assert (ACTS @ sae.W_enc[:, 3] - 2 > 0).any()
    part = quiet.select([3, 5], ACTS, rows=suture.Rows.all())
    assert not part.encode(ACTS).to_dense()[:, 0].any()


def test_evidence_comes_along() -> None:
    sae, _ = carried()
    evidence = known(sae)
    trusted = np.flatnonzero(evidence.correlation > np.nanmedian(evidence.correlation))
    part = sae.select(trusted, OTHER)
    np.testing.assert_array_equal(known(part).source_latent, trusted)
    np.testing.assert_array_equal(known(part).correlation, evidence.correlation[trusted])
    again = part.select([1, 0])
    np.testing.assert_array_equal(known(again).source_latent, trusted[[1, 0]])


def test_many_shards_and_threads_give_the_same(tmp_path: Path) -> None:
    sae = suture.SAE.init(8, 40, k=4)
    whole = sae.select([1, 2, 3], ACTS)
    np.save(tmp_path / "a.npy", ACTS[:1234])
    np.save(tmp_path / "b.npy", ACTS[1234:])
    shards = sae.select([1, 2, 3], [tmp_path / "a.npy", tmp_path / "b.npy"])
    np.testing.assert_array_equal(whole.threshold, shards.threshold)
    before = suture.cpu_info().threads
    try:
        for threads in (1, 8):
            suture.set_threads(threads)
            np.testing.assert_array_equal(whole.threshold, sae.select([1, 2, 3], ACTS).threshold)
    finally:
        suture.set_threads(before)
