# SPDX-License-Identifier: Apache-2.0
"""ablation_effects against streams edited and finished by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from test_models_loss import finish, stream_of  # noqa: E402

import suture  # noqa: E402
from suture.models import ablation_effects, tiny_pair  # noqa: E402
from suture.models.steering import steer  # noqa: E402

A, B, TOKENIZER = tiny_pair()
OTHER_A, OTHER_B, _ = tiny_pair(seed=4)
TEXTS = ["a first text", "2nd", "a third one, longer", "and one more of them"]
SAE_A, SAE_B = suture.SAE.init(16, 48, k=4, seed=1), suture.SAE.init(24, 48, k=5, seed=2)
LATENTS = [5, 9, 20]


def compared(**more: Any) -> suture.models.AblationEffects:
    given: dict[str, Any] = {
        "model_a": A, "layer_a": 1, "sae_a": SAE_A, "model_b": B, "layer_b": 2, "sae_b": SAE_B,
        "token_ids_or_texts": TEXTS, "tokenizer": TOKENIZER, "latents": LATENTS,
    } | more  # fmt: skip
    return ablation_effects(
        *(given.pop(name) for name in ("model_a", "layer_a", "sae_a", "model_b", "layer_b")),
        given.pop("sae_b"), given.pop("token_ids_or_texts"), given.pop("tokenizer"),
        progress=False, **given,
    )  # fmt: skip


def frequent(sae: suture.SAE = SAE_A, model: Any = A, layer: int = 1) -> list[int]:
    """Latents by how often they fire on the texts, the most frequent first."""
    counts = np.zeros(sae.d_sae, int)
    for text in TEXTS:
        ids = torch.tensor([[0, *TOKENIZER(text)["input_ids"]]])
        rows = stream_of(model, layer, ids)[0, 1:].numpy()
        counts += (sae.encode(rows).to_dense() > 0).sum(0)
    return np.argsort(-counts, kind="stable").tolist()


LATENTS = frequent()[:5]


def by_hand(model: Any, layer: int, sae: suture.SAE, latent: int, where: list) -> list[np.ndarray]:
    """Changes of all log-probabilities, about their mean, at (text, position) of each firing."""
    found = []
    for number, position in where:
        ids = torch.tensor([[0, *TOKENIZER(TEXTS[number])["input_ids"]]])
        stream = stream_of(model, layer, ids)
        active = sae.encode(stream[0].numpy()).to_dense()[position, latent]
        edited = stream.clone()
        edited[0, position] -= active * torch.tensor(np.array(sae.W_dec[latent]))
        with torch.no_grad():
            before, after = (
                finish(model, layer, x)[0, position].double().log_softmax(0).numpy()
                for x in (stream, edited)
            )
        change = after - before
        found.append(change - change.mean())
    return found


def firings(latent: int) -> list[tuple[int, int]]:
    found = []
    for number, text in enumerate(TEXTS):
        ids = torch.tensor([[0, *TOKENIZER(text)["input_ids"]]])
        active = SAE_A.encode(stream_of(A, 1, ids)[0].numpy()).to_dense()[:, latent] > 0
        found += [(number, int(at)) for at in np.flatnonzero(active) if at > 0]
    return found


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_effects_are_those_of_edited_streams(batch_size: int) -> None:
    partners = np.full(48, -1)
    # Partners that do fire in B.
    partners[LATENTS] = frequent(SAE_B, B, 2)[:5]
    found = compared(latents=LATENTS, latents_b=partners, positions=1000, batch_size=batch_size)
    np.testing.assert_array_equal(found.latents, LATENTS)
    np.testing.assert_array_equal(found.latents_b, partners[LATENTS])
    changes = {}
    for number, latent in enumerate(LATENTS):
        where = firings(latent)
        in_a = np.concatenate(by_hand(A, 1, SAE_A, latent, where))
        in_b = np.concatenate(by_hand(B, 2, SAE_B, partners[latent], where))
        changes[latent] = in_a, in_b
        assert found.positions[number] == len(where)
        # Differences of float32 logits near 1e-1, whose rounding is 1e-7.
        assert found.effect_a[number] == pytest.approx(np.sqrt((in_a**2).mean()), rel=1e-4)
        assert found.effect_b[number] == pytest.approx(np.sqrt((in_b**2).mean()), rel=1e-4)
        expected = in_a @ in_b / np.sqrt((in_a @ in_a) * (in_b @ in_b))
        assert found.correlation[number] == pytest.approx(expected, abs=1e-4)
    assert (found.effect_b > 0).sum() >= 3
    # Each latent's control is the partner of the next more frequent one; the most frequent's, of
    # the rarest. LATENTS are in order of frequency.
    for number, latent in enumerate(LATENTS):
        in_a, in_b = changes[latent][0], changes[LATENTS[number - 1]][1]
        size = min(len(in_a), len(in_b))
        in_a, in_b = in_a[:size], in_b[:size]
        expected = in_a @ in_b / np.sqrt((in_a @ in_a) * (in_b @ in_b))
        assert found.control[number] == pytest.approx(expected, abs=1e-4)


def test_a_against_itself_is_1() -> None:
    found = compared(model_b=A, layer_b=1, sae_b=SAE_A, latents=10, min_count=3)
    np.testing.assert_allclose(found.correlation, 1, rtol=1e-12)
    np.testing.assert_array_equal(found.effect_a, found.effect_b)
    assert (found.effect_a > 0).all()
    assert np.abs(found.control).max() < 0.999
    summary = found.summary()
    assert (summary.latents, summary.silent) == (10, 0)
    assert summary.correlation.median == pytest.approx(1)
    assert summary.strength == suture.Quartiles(1.0, 1.0, 1.0)


def with_decoder(sae: suture.SAE, latent: int, row: Any) -> suture.SAE:
    W_dec = np.array(sae.W_dec)
    W_dec[latent] = row
    return suture.SAE(W_enc=sae.W_enc, b_enc=sae.b_enc, W_dec=W_dec, b_dec=sae.b_dec, k=sae.k)


def test_a_latent_whose_decoder_row_is_zero_has_no_effect() -> None:
    first, second = LATENTS[:2]
    mute = with_decoder(SAE_A, first, 0)
    found = compared(model_b=A, layer_b=1, sae_b=mute, latents=[first, second])
    assert found.effect_b[0] == 0
    assert np.isnan(found.correlation[0])
    assert found.correlation[1] == pytest.approx(1)
    summary = found.summary()
    assert summary.silent == 1
    # It counts as 0.
    assert summary.correlation.median == pytest.approx(0.5)


def test_the_effect_is_that_of_the_decoder_row() -> None:
    latent = LATENTS[0]
    opposite = with_decoder(SAE_A, latent, -1e-3 * np.array(SAE_A.W_dec[latent]))
    small = with_decoder(SAE_A, latent, 1e-3 * np.array(SAE_A.W_dec[latent]))
    found = compared(model_a=A, sae_a=small, model_b=A, layer_b=1, sae_b=opposite, latents=[latent])
    # Small enough that effects are linear; float32 logits round at 1e-3 of them.
    assert found.correlation[0] == pytest.approx(-1, abs=0.02)
    assert found.effect_b[0] == pytest.approx(found.effect_a[0], rel=0.02)


def test_partners_may_be_missing_and_of_another_width() -> None:
    wide = suture.SAE.init(24, 60, k=5, seed=2)
    partners = np.full(48, -1)
    partners[LATENTS[0]] = 59
    found = compared(sae_b=wide, latents_b=partners, latents=LATENTS[:2])
    np.testing.assert_array_equal(found.latents_b, [59, -1])
    assert found.effect_b[1] == 0
    assert np.isnan(found.correlation[1])
    with pytest.raises(ValueError, match=r"sae_b: d_sae = 60, expected 48 .* latents_b"):
        compared(sae_b=wide)


def test_latents_are_drawn_and_positions_spread() -> None:
    found = compared(latents=6, min_count=4, positions=2)
    assert (np.diff(found.latents) > 0).all()
    assert set(found.positions) == {2}
    assert len(found.latents) == 6
    again = compared(latents=6, min_count=4, positions=2)
    np.testing.assert_array_equal(again.latents, found.latents)
    np.testing.assert_array_equal(again.correlation, found.correlation)
    assert not np.array_equal(compared(latents=6, min_count=4, seed=1).latents, found.latents)
    everything = compared(latents=48, min_count=4)
    assert 6 < len(everything.latents) < 48


def test_skipped_positions_are_left_alone() -> None:
    found = compared(latents=[LATENTS[0]], positions=1000, skip_positions=3)
    assert found.positions[0] == sum(at >= 3 for _, at in firings(LATENTS[0]))


@pytest.mark.parametrize(
    ("more", "error", "words"),
    [
        ({"sae_a": 3}, TypeError, "sae_a: int, expected a suture.SAE"),
        ({"sae_b": SAE_A}, ValueError, "sae_b: d_in = 16, expected 24"),
        ({"layer_a": 9}, ValueError, "layer_a: 9, expected 0 to 3"),
        ({"layer_b": True}, TypeError, "layer_b: True"),
        ({"latents": 0}, ValueError, "latents: 0, expected at least 1"),
        ({"latents": []}, ValueError, "latents: empty"),
        ({"latents": [48]}, ValueError, r"latents\[0\]: 48, expected 0 to 47"),
        ({"latents": [-1]}, ValueError, r"latents\[0\]: -1, expected 0 to 47"),
        ({"latents": [0.5]}, TypeError, "latents has dtype float64"),
        ({"latents": 3, "min_count": 10_000}, ValueError, "min_count: 10000, expected at most"),
        ({"latents_b": [1, 2]}, ValueError, "latents_b: 2 elements, expected 48"),
        ({"latents_b": np.full(48, 48)}, ValueError, r"latents_b\[0\]: 48, expected -1 to 47"),
        ({"positions": 0}, ValueError, "positions: 0, expected at least 1"),
        ({"min_count": 0}, ValueError, "min_count: 0, expected at least 1"),
        ({"seed": -1}, ValueError, "seed: -1, expected at least 0"),
        ({"batch_size": 0}, ValueError, "batch_size: 0, expected at least 1"),
        ({"token_ids_or_texts": []}, ValueError, "token_ids_or_texts: empty"),
        ({"tokenizer": None}, ValueError, "tokenizer: None, expected a tokenizer"),
    ],
)
def test_bad_arguments_are_named(more: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        compared(**more)


def test_a_latent_that_never_fires_is_refused() -> None:
    never = frequent()[-1]
    with pytest.raises(ValueError, match=rf"latents\[0\]: {never}, which never fires"):
        compared(latents=[never])


def test_models_of_unlike_vocabularies_are_refused() -> None:
    other = type(TOKENIZER)(tokenizer_object=TOKENIZER.backend_tokenizer, bos_token="<bos>")
    other.add_tokens(["first"])
    with pytest.raises(ValueError, match=r"tokenizer_b: 260 tokens, .* over one vocabulary"):
        compared(tokenizer_b=other)
    compared(tokenizer_b=tiny_pair()[2])
    with pytest.raises(ValueError, match=r"model_a: a vocabulary of 259 tokens, expected at least"):
        compared(tokenizer=other)
    config = type(B.config)(**{**B.config.to_dict(), "vocab_size": 300})
    larger = type(B)(config).eval()
    ids = [[0, *TOKENIZER(text)["input_ids"]] for text in TEXTS]
    with pytest.raises(ValueError, match=r"model_b: a vocabulary of 300 tokens, expected 259"):
        compared(model_b=larger, token_ids_or_texts=ids, tokenizer=None)
    # Rows that no token has, as checkpoints pad theirs: the tokenizer tells what is compared.
    compared(model_b=larger)
    same = compared(token_ids_or_texts=ids, tokenizer=None)
    np.testing.assert_array_equal(same.correlation, compared().correlation)


def test_models_are_left_as_they_were() -> None:
    def hooks() -> list[int]:
        return [len(m._forward_pre_hooks) + len(m._forward_hooks) for m in B.modules()]

    before = hooks()
    B.train()
    try:
        compared(latents=2, min_count=3)
        assert B.training
        assert hooks() == before
    finally:
        B.eval()


def test_a_sae_of_another_layer_is_warned_of() -> None:
    sae = suture.SAE.init(16, 48, k=4, seed=1)
    sae.metadata |= suture.Site("pythia-70m", 2).metadata
    with pytest.warns(suture.SutureWarning, match="ablation_effects: sae_a says that it is of"):
        compared(sae_a=sae)


def test_other_hooks_act_as_they_would() -> None:
    """A model that is steered is compared as it is steered."""
    vector = suture.SteeringVector(np.eye(16, dtype=np.float32)[3], z_mean=5.0)
    with steer(A, vector, 1, "clamp"):
        steered = compared(model_b=A, layer_b=1, sae_b=SAE_A, latents=4, min_count=2)
    np.testing.assert_allclose(steered.correlation, 1, rtol=1e-12)
