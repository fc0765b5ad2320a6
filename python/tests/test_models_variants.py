# SPDX-License-Identifier: Apache-2.0
"""ModelVariants: prompts, parsing, checks, retries, fallback; what the model writes is given."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import suture  # noqa: E402
from suture.models import ModelVariants, tiny_pair  # noqa: E402
from suture.models.variants import parsed  # noqa: E402
from suture.variants import ContentWordSwapper  # noqa: E402

KEPT = ["the", "and", "a", "is"]
TEXT = "Open the file and read a line."
SWAP = ContentWordSwapper(["kernel socket buffer mutex thread pipe daemon queue"], KEPT)
TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


class Written:
    """A tiny model that writes what it is told to, and notes what it was asked."""

    def __init__(self, *rounds: list[str], template: str | None = TEMPLATE) -> None:
        self.model, _, self.tokenizer = tiny_pair()
        self.model.config.max_position_embeddings = 2048  # of what is never run
        self.tokenizer.chat_template = template
        self.rounds = list(rounds)
        self.asked: list[dict[str, Any]] = []
        self.model.generate = self.generate

    def generate(self, input_ids: Any, attention_mask: Any, **more: Any) -> Any:
        assert not self.model.training
        assert not torch.is_grad_enabled()
        self.asked.append({"prompt": self.tokenizer.decode(input_ids[0]), **more})
        answers = self.rounds.pop(0)
        assert len(answers) == more["num_return_sequences"]
        ends = [self.tokenizer(a)["input_ids"] + [1] for a in answers]
        width = max(map(len, ends))
        rows = [input_ids[0].tolist() + e + [2] * (width - len(e)) for e in ends]
        return torch.tensor(rows)

    def maker(self, **more: Any) -> ModelVariants:
        return ModelVariants(self.model, self.tokenizer, KEPT, **more)


def test_chat_template_and_parsing() -> None:
    written = Written(
        [
            "Close the door and paint a wall.",
            '"Shut the shop and sell a car."',
            "1. Eat the egg and \
sip a tea.",
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = written.maker()(TEXT, k=3)
    assert found == [
        "Close the door and paint a wall.",
        "Shut the shop and sell a car.",
        "Eat the egg and sip a tea.",
    ]
    (asked,) = written.asked
    assert asked["prompt"].startswith("<user>Rewrite the text below.")
    assert asked["prompt"].endswith(f"Text: {TEXT}<assistant>")
    assert asked["do_sample"]
    assert asked["pad_token_id"] == 2
    assert asked["max_new_tokens"] >= 2 * len(TEXT)


def test_without_a_template_the_prompt_is_plain() -> None:
    written = Written(["Close the door and paint a wall."], template=None)
    maker = written.maker(instruction="Change: {text}", temperature=0.5)
    assert maker(TEXT, k=1) == ["Close the door and paint a wall."]
    assert written.asked[0]["prompt"] == f"Change: {TEXT}\n\nRewritten text: "
    assert written.asked[0]["temperature"] == 0.5


def test_what_fails_is_asked_for_again() -> None:
    written = Written(
        [TEXT, "Close a door and paint the wall.", "Close the door and paint a wall."],
        ["Close the door and paint a wall.", "Close the door, and paint a wall."],
        ["Open the file and read a book.", "Shut the shop and sell a car."],
        ["Lick the cone and hum a tune."],
    )
    found = written.maker()(TEXT, k=3)
    assert found == [
        "Close the door and paint a wall.",
        "Shut the shop and sell a car.",
        "Lick the cone and hum a tune.",
    ]
    assert [asked["num_return_sequences"] for asked in written.asked] == [3, 2, 2, 1]


def test_falls_back_with_a_warning() -> None:
    good = "Close the door and paint a wall."
    written = Written(["no", "never", good], ["no", "none"])
    with pytest.warns(
        suture.SutureWarning,
        match=r"made 1 of 3 variants of 'Open the .*' that keep .*, in 2 attempts; 2 are from",
    ):
        found = written.maker(attempts=2, fallback=SWAP)(TEXT, k=3)
    assert found == [good, *SWAP(TEXT, k=3)[:2]]
    with pytest.warns(suture.SutureWarning, match="made 0 of 1 .* there is no fallback"):
        assert Written(["no"]).maker(attempts=1)(TEXT, k=1) == []


def test_without_content_words_the_model_is_not_asked() -> None:
    written = Written()
    assert written.maker()("and the 12?", k=3) == []
    assert written.asked == []


@pytest.mark.parametrize(
    ("variant", "accepted"),
    [
        ("Close the door and paint a wall.", True),
        ("CLOSE the door and paint a wall.", True),
        ("Close the  door and\npaint a wall.", True),
        ("Close the door and paint a wall", False),
        ("Close the door and paint wall.", False),
        ("Close the big door and paint a wall.", False),
        ("Close a door and paint the wall.", False),
        ("Close the door or paint a wall.", False),
        ("Open the door and paint a wall.", True),  # three of four
        ("Open the file and paint a wall.", False),
        (TEXT, False),
        ("", False),
    ],
)
def test_checks(variant: str, accepted: bool) -> None:
    assert Written().maker().accepts(TEXT, variant) is accepted


def test_the_share_that_must_be_replaced() -> None:
    assert Written().maker(replaced=0.25).accepts(TEXT, "Open the file and read a book.")
    assert not Written().maker(replaced=0.0).accepts(TEXT, TEXT)
    assert not Written().maker(replaced=1.0).accepts(TEXT, "Open the door and paint a wall.")


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("  A b.\n", "A b."),
        ('"A b."', "A b."),
        ("\u201cA b.\u201d", "A b."),
        ('"A" and "b"', '"A" and "b"'),
        ("Sure! Here it is:\n\nA b.", "A b."),
        ("Here is the rewritten text:\nA b.", "A b."),
        ("Rewritten text: A b.", "A b."),
        ("```text\nA b.\nC\n```", "A b.\nC"),
        ("2) A b.", "A b."),
        ("Here be dragons.", "Here be dragons."),
        ("", ""),
    ],
)
def test_parsing(answer: str, expected: str) -> None:
    assert parsed(answer) == expected


def test_a_real_generate_is_deterministic_and_changes_nothing() -> None:
    model, _, tokenizer = tiny_pair()
    model.train()
    seen: list[Any] = []
    real = model.generate

    def watched(*args: Any, **more: Any) -> Any:
        output = real(*args, **more)
        seen.append(output)
        return output

    model.generate = watched
    for template in (None, TEMPLATE):
        tokenizer.chat_template = template
        for seed in (0, 0, 1):
            state = torch.random.get_rng_state()
            maker = ModelVariants(
                model, tokenizer, KEPT, instruction="{text}", fallback=SWAP, attempts=1, seed=seed
            )
            with pytest.warns(suture.SutureWarning, match="made 0 of 2"):
                assert maker("Read a", k=2) == SWAP("Read a", k=2)
            assert torch.equal(state, torch.random.get_rng_state())
        first, again, other = seen[-3:]
        assert torch.equal(first, again)
        assert not torch.equal(first, other) if first.shape == other.shape else True
    assert all(module.training for module in model.modules())


NEOX, _, TOKENIZER = tiny_pair()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"model": "gpt"}, TypeError, "model: str, expected a transformers model"),
        ({"model": NEOX.base_model}, TypeError, "model: GPTNeoXModel cannot generate, expected"),
        ({"tokenizer": None}, TypeError, "tokenizer: NoneType, expected a transformers tokenizer"),
        ({"function_words": 5}, TypeError, "function_words is a int, expected"),
        ({"instruction": "rewrite"}, ValueError, "instruction: 'rewrite', expected a text with {t"),
        ({"instruction": 5}, ValueError, "instruction: 5, expected a text"),
        ({"fallback": "swap"}, TypeError, "fallback: str, expected a variant maker or None"),
        ({"attempts": 0}, ValueError, "attempts is 0, expected at least 1"),
        ({"temperature": 0.0}, ValueError, "temperature is 0.0, expected a finite number above 0"),
        ({"replaced": 1.5}, ValueError, "replaced is 1.5, expected a finite number at least 0 and"),
        ({"seed": 0.5}, TypeError, "seed is 0.5, expected a whole number"),
    ],
)
def test_bad_input(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"model": NEOX, "tokenizer": TOKENIZER, "function_words": KEPT} | changes
    with pytest.raises(error, match=message):
        ModelVariants(**arguments)


def test_bad_text_and_k() -> None:
    with pytest.raises(ValueError, match=r"text has too many tokens: .* expected less than 64"):
        ModelVariants(NEOX, TOKENIZER, KEPT)(TEXT)
    with pytest.raises(TypeError, match="text is a int, expected a text"):
        Written().maker()(5)
    with pytest.raises(ValueError, match="k is 0, expected at least 1"):
        Written().maker()(TEXT, k=0)
