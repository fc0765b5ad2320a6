# SPDX-License-Identifier: Apache-2.0
"""`suture.Rows`: what it selects, what it is equal to, how it is written."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from suture import Rows
from suture.rows import NORM_BOUND, as_rows, check_vocabulary, special_token_ids


class Token:
    def __init__(self, special: bool):
        self.special = special


class Tokenizer:
    def __init__(self) -> None:
        self.all_special_ids = [0, None, 2]
        self.added_tokens_decoder = {2: Token(True), 7: Token(True), 8: Token(False)}


def test_special_tokens_are_those_of_both_lists() -> None:
    # 7 is a chat marker: marked as special, and not in all_special_ids.
    assert special_token_ids(Tokenizer()) == {0, 2, 7}
    with pytest.raises(TypeError, match="tokenizer: object, expected"):
        special_token_ids(object())


def test_selects_by_every_field_at_once() -> None:
    ids = np.array([0, 5, 6, 7, 9, 0, 5, 6, 9])
    positions = np.array([0, 1, 2, 3, 4, 0, 1, 2, 3])
    generated = np.array([0, 0, 1, 1, 1, 0, 0, 1, 1], bool)
    known = {
        "token_ids": ids,
        "special_ids": {0, 7},
        "positions": positions,
        "texts": np.array([0, 0, 0, 0, 0, 1, 1, 1, 1]),
        "generated": generated,
    }

    def kept(**fields: object) -> list[int]:
        return np.flatnonzero(Rows(**fields).select(9, **known)).tolist()

    assert kept() == [1, 2, 4, 6, 7, 8]
    assert kept(special=True) == list(range(9))
    assert kept(leave_out=[9]) == [1, 2, 6, 7]
    assert kept(skip_positions=2) == [2, 4, 7, 8]
    assert kept(positions="generated") == [2, 4, 7, 8]
    assert kept(positions="last") == [4, 8]
    assert kept(positions="last", leave_out=[9]) == [2, 7]
    assert kept(mask=positions < 2) == [1, 6]
    # Of the rows that are left, and of a text without any, none.
    assert kept(positions="last", mask=np.arange(9) < 2) == [1]
    assert kept(special=True, positions="generated", leave_out=[9], skip_positions=3) == [3]


def test_last_takes_texts_in_any_order() -> None:
    texts = np.array([3, 1, 3, 1, 2])
    assert np.flatnonzero(Rows(positions="last").select(5, texts=texts)).tolist() == [2, 3, 4]


def test_plain_arrays_know_no_tokens_and_need_none() -> None:
    assert Rows().select(3).all()
    assert not Rows().selects
    assert Rows(mask=[True]).selects
    assert Rows(leave_out={1}).selects


def test_masks_of_batches_are_flattened() -> None:
    mask = np.array([[True, False], [False, True]])
    assert Rows(mask=mask).select(4).tolist() == [True, False, False, True]


def test_is_a_value() -> None:
    mask = np.array([True, False])
    one, two = Rows(mask=mask, leave_out=[3, 2]), Rows(mask=[True, False], leave_out=(2, 3, 3))
    assert one == two
    assert hash(one) == hash(two)
    assert one != Rows(mask=[True, True], leave_out=[2, 3])
    assert one != Rows(leave_out=[2, 3])
    assert Rows() != Rows(norm_bound=None)
    assert Rows() != 3
    mask[:] = True
    assert one == two, "a later change of the caller's mask is not seen"
    with pytest.raises(ValueError, match="read-only"):
        one.mask[0] = False  # type: ignore[index]
    with pytest.raises(FrozenInstanceError):
        one.special = True  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(one)) == one
    assert Rows().norm_bound == NORM_BOUND == 5
    assert Rows(skip_positions=2).without_norm_bound() == Rows(skip_positions=2, norm_bound=None)


def test_a_bound_that_was_asked_for_is_not_the_default() -> None:
    five = Rows(norm_bound=5)
    assert five.norm_bound == Rows().norm_bound
    assert five.asked_bound == 5
    assert five != Rows()
    assert hash(five) != hash(Rows())
    assert repr(five) == "Rows(norm_bound=5.0)"
    for rows in (Rows(), Rows(norm_bound=None), Rows(norm_bound=NORM_BOUND), as_rows([True])):
        assert rows.asked_bound is None
        for same in (replace(rows, skip_positions=1), pickle.loads(pickle.dumps(rows))):
            assert same.asked_bound is None
            assert same.norm_bound == rows.norm_bound
    assert replace(five, skip_positions=1).asked_bound == 5
    assert pickle.loads(pickle.dumps(five)) == five
    assert five.without_norm_bound().asked_bound is None


def test_is_written_as_it_would_be_made() -> None:
    assert repr(Rows()) == "Rows()"
    assert repr(Rows.all()) == "Rows(special=True, norm_bound=None)"
    many = Rows(leave_out=range(20), mask=np.eye(3, dtype=bool))
    assert repr(many) == "Rows(leave_out=[0, 1, 2, 3, 4, 5, 6, 7, …], mask=<3 of 9>)"


def test_what_callers_give() -> None:
    rows = Rows(special=True)
    assert as_rows(rows) is rows
    assert as_rows(None) == Rows()
    assert as_rows(np.array([True, False])) == Rows(mask=[True, False])
    for wrong in (3, "all", 0.5, object()):
        with pytest.raises(TypeError, match=r"rows is .*, expected suture.Rows, a boolean mask or"):
            as_rows(wrong)
    with pytest.raises(TypeError, match="rows has dtype int64, expected truth values"):
        as_rows([1, 0])


def test_masks_may_be_tensors() -> None:
    torch = pytest.importorskip("torch")
    assert as_rows(torch.tensor([True, False])) == Rows(mask=[True, False])
    assert Rows(leave_out=torch.tensor([4, 5])) == Rows(leave_out=[4, 5])


def test_ids_outside_the_vocabulary() -> None:
    check_vocabulary(Rows(leave_out=[4]), 5, "model")
    check_vocabulary(Rows(leave_out=[4]), None, "model")
    with pytest.raises(ValueError, match=r"rows.leave_out has 5, expected 0 to 4, the vocabulary"):
        check_vocabulary(Rows(leave_out=[9, 5]), 5, "model")
