# SPDX-License-Identifier: Apache-2.0
"""Every kind of input gives what NumPy gives, and is not copied where it need not be."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kinds import COPIED, DIRECT, exact, files, strided

import suture
from suture import _core, _inputs


def mean_of(acts: Any, rng_rows: np.ndarray) -> suture.Moments:
    return suture.Moments(acts, np.arange(len(rng_rows), dtype=np.float32)[:, None])


@pytest.mark.parametrize("kind", [*DIRECT, *COPIED])
def test_every_kind_of_array(kind: str, rng: np.random.Generator, tmp_path: Path) -> None:
    x = exact(rng)
    moments = mean_of((DIRECT | COPIED)[kind](x, tmp_path), x)
    assert moments.tokens == len(x)
    np.testing.assert_allclose(moments.mean_a, x.mean(0, dtype=np.float64), rtol=0, atol=1e-14)
    # The order of the rows matters here.
    y = np.arange(len(x), dtype=np.float64)
    z = x.astype(np.float64)
    expected = (z - z.mean(0)).T @ (y - y.mean()) / len(x)
    np.testing.assert_allclose(moments.cov_ab[:, 0], expected, rtol=1e-12, atol=1e-12)


def test_inputs_in_parts(rng: np.random.Generator, tmp_path: Path) -> None:
    x = exact(rng)
    expected = mean_of(x, x)
    for kind, acts in files(x, tmp_path).items():
        moments = mean_of(acts, x)
        assert moments.tokens == len(x), kind
        np.testing.assert_allclose(moments.cov_ab, expected.cov_ab, rtol=1e-12, err_msg=kind)


def test_parts_of_different_sizes_pair_up(rng: np.random.Generator) -> None:
    x, y = exact(rng), exact(rng)
    whole = suture.Moments(x, y)
    parts = suture.Moments(
        (x[i : i + 5] for i in range(0, len(x), 5)), [y[:7], y[7:7], y[7:20], y[20:]]
    )
    np.testing.assert_allclose(parts.cov_ab, whole.cov_ab, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("kind", list(DIRECT))
def test_no_copy(kind: str, rng: np.random.Generator, tmp_path: Path) -> None:
    made = DIRECT[kind](exact(rng), tmp_path)
    rows = _inputs.rows(made, "x")
    assert rows.direct
    if isinstance(made, torch.Tensor):
        assert rows.address == made.data_ptr()
    elif isinstance(made, np.ndarray):
        assert rows.address == made.__array_interface__["data"][0]
    block = rows.block(3, 7)
    assert (block.rows, block.cols) == (4, rows.cols)
    assert rows.block(0, rows.rows).address == rows.address


@pytest.mark.parametrize("kind", list(COPIED))
def test_blocks_of_other_views_are_copies(
    kind: str, rng: np.random.Generator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = exact(rng)
    made = COPIED[kind](x, tmp_path)
    rows = _inputs.rows(made, "x")
    if kind == "repeated by stride 0":
        assert rows.direct
        return
    assert not rows.direct
    # Blocks of a few rows: the input is never copied whole.
    monkeypatch.setattr(_inputs, "BLOCK_BYTES", 5 * 8 * rows.cols)
    sizes = [block.rows for _, block in _inputs.Stream(made, "x").blocks()]
    assert sizes == [5, 5, 5, 5, 4]
    np.testing.assert_allclose(mean_of(made, x).cov_ab, mean_of(x, x).cov_ab, rtol=1e-12)


def test_pieces_share_memory(rng: np.random.Generator) -> None:
    x = exact(rng).reshape(4, 6, 6)
    pieces = _inputs.rows(x[:, 1:], "x").pieces()
    assert pieces is not None
    assert [piece.rows for piece in pieces] == [5, 5, 5, 5]
    assert [piece.address for piece in pieces] == [x[i, 1:].ctypes.data for i in range(4)]
    assert _inputs.rows(np.asfortranarray(x[0]), "x").pieces() is None
    backwards = _inputs.rows(x[0, ::-1], "x").pieces()
    assert backwards is not None
    assert [piece.address for piece in backwards] == [x[0, i].ctypes.data for i in range(5, -1, -1)]


def test_rows_keep_the_array_and_let_it_go(rng: np.random.Generator) -> None:
    for make in (lambda x: x, torch.from_numpy):
        array = make(exact(rng))
        alive = weakref.ref(array)
        rows = _core.Rows(array, "x")
        part = rows.block(1, 3)
        if isinstance(array, torch.Tensor):
            # A DLPack tensor holds the storage, which the tensor object only looks at.
            del array, rows
            part.block(0, 1)
            continue
        del array, rows
        gc.collect()
        assert alive() is not None
        del part
        gc.collect()
        assert alive() is None


def test_dlpack_releases_its_tensor() -> None:
    class Tracked(np.ndarray):
        pass

    class Producer:
        def __init__(self, array: np.ndarray) -> None:
            self._array = array

        def __dlpack__(self, **keywords: object) -> Any:
            return self._array.__dlpack__(**keywords)

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    array = np.zeros((3, 2)).view(Tracked)
    alive = weakref.ref(array)
    rows = _core.Rows(Producer(array), "x")
    del array
    gc.collect()
    assert alive() is not None
    del rows
    gc.collect()
    assert alive() is None
    wrong = np.zeros((3, 2), np.int32).view(Tracked)
    alive = weakref.ref(wrong)
    with pytest.raises(TypeError, match="x has dtype int32"):
        _core.Rows(Producer(wrong), "x")
    del wrong
    gc.collect()
    assert alive() is None


def test_output_must_be_writable() -> None:
    out = np.zeros((2, 2), np.float32)
    assert _core.Rows(out, "out", writable=True).address == out.ctypes.data
    out.flags.writeable = False
    with pytest.raises((ValueError, BufferError)):
        _core.Rows(out, "out", writable=True)


BAD_ARRAYS = {
    "int32": (np.zeros((2, 2), np.int32), TypeError, "x has dtype int32, expected float32"),
    "int64": (np.zeros((2, 2), np.int64), TypeError, "x has dtype int64"),
    "bool": (np.zeros((2, 2), bool), TypeError, "x has dtype bool"),
    "complex": (np.zeros((2, 2), complex), TypeError, "x has dtype complex128"),
    "big-endian": (np.zeros((2, 2), ">f4"), TypeError, "x has dtype big-endian float32"),
    "big-endian half": (np.zeros((2, 2), ">f2"), TypeError, "x has dtype big-endian float16"),
    "long double": (np.zeros((2, 2), np.longdouble), TypeError, "x has dtype long double"),
    "objects": (np.zeros((2, 2), object), TypeError, "x has dtype object"),
    "records": (np.zeros((2, 2), "f4,f4"), TypeError, "x has dtype with buffer format"),
    "voids": (np.zeros((2, 2), "V4"), TypeError, "x has dtype with buffer format '4x'"),
    "torch int": (torch.zeros((2, 2), dtype=torch.int32), TypeError, "x has dtype int32"),
    "torch bool": (torch.zeros((2, 2), dtype=torch.bool), TypeError, "x has dtype bool8"),
    "torch complex": (torch.zeros((2, 2), dtype=torch.cfloat), TypeError, "x has dtype complex64"),
    "one axis": (np.zeros(3), ValueError, r"x has shape \(3,\), expected \(N, d\)"),
    "no axis": (np.zeros(()), ValueError, r"x has shape \(\), expected \(N, d\)"),
    "no columns": (np.zeros((3, 0)), ValueError, r"x has shape \(3, 0\), expected"),
    "nine axes": (np.zeros((1,) * 9), ValueError, "x has 9 dimensions"),
    "torch one axis": (torch.zeros(3), ValueError, r"x has shape \(3,\)"),
    "nothing": (None, TypeError, "x is a NoneType, expected an array"),
    "number": (3.0, TypeError, "x is a float, expected an array"),
    "numbers": ([[1.0]], TypeError, "x is a list, expected an array"),
}


@pytest.mark.parametrize("kind", list(BAD_ARRAYS))
def test_bad_arrays(kind: str) -> None:
    array, error, message = BAD_ARRAYS[kind]
    with pytest.raises(error, match=message):
        _inputs.rows(array, "x")


def test_other_devices_are_refused() -> None:
    class Elsewhere:
        def __dlpack__(self, **keywords: object) -> Any:
            raise AssertionError("memory of another device must not be exported")

        def __dlpack_device__(self) -> tuple[int, int]:
            return (2, 0)

    with pytest.raises(
        TypeError, match=r"x is on a device of DLPack type 2 \(CUDA\), expected CPU"
    ):
        _core.Rows(Elsewhere(), "x")


def test_capsules_are_used_once() -> None:
    capsule = np.zeros((2, 2)).__dlpack__()

    class Same:
        def __dlpack__(self, **keywords: object) -> Any:
            return capsule

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    _core.Rows(Same(), "x")
    with pytest.raises(TypeError, match="no unused DLPack capsule"):
        _core.Rows(Same(), "x")


def test_errors_of_a_producer_come_through() -> None:
    class Failing:
        def __dlpack__(self, **keywords: object) -> Any:
            raise RuntimeError("no")

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    with pytest.raises(RuntimeError, match="no"):
        _core.Rows(Failing(), "x")


def test_next_major_version_of_dlpack() -> None:
    import ctypes

    released: list[int] = []
    deleter_type = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

    @deleter_type
    def deleter(address: int) -> None:
        released.append(address)

    # Of an unknown version only major, minor, context and deleter may be looked at.
    class Managed(ctypes.Structure):
        _fields_ = [
            ("major", ctypes.c_uint32),
            ("minor", ctypes.c_uint32),
            ("context", ctypes.c_void_p),
            ("deleter", deleter_type),
        ]

    managed = Managed(2, 3, None, deleter)
    new_capsule = ctypes.pythonapi.PyCapsule_New
    new_capsule.restype = ctypes.py_object
    new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    name = ctypes.create_string_buffer(b"dltensor_versioned")

    class Future:
        def __dlpack__(self, **keywords: object) -> Any:
            return new_capsule(ctypes.addressof(managed), name, None)

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    with pytest.raises(BufferError, match=r"x is exported as DLPack 2\.3, expected version 1"):
        _core.Rows(Future(), "x")
    assert released == [ctypes.addressof(managed)]


def test_names_and_rows_in_messages(rng: np.random.Generator) -> None:
    x = exact(rng)
    bad = x.copy()
    bad[17, 2] = np.nan
    with pytest.raises(ValueError, match=r"acts_a\[17, 2\] is nan, expected finite"):
        suture.Moments([bad[:10], bad[10:]], x)
    with pytest.raises(ValueError, match=r"acts_b\[17, 2\] is nan, expected finite"):
        suture.Moments(x, bad)
    with pytest.raises(ValueError, match=r"acts_b has 23 rows, expected 24 as acts_a"):
        suture.Moments(x, x[1:])
    with pytest.raises(ValueError, match=r"acts_b has 23 rows, expected 24 as acts_a"):
        suture.Moments((part for part in [x]), [x[1:3], x[3:]])
    with pytest.raises(ValueError, match=r"acts_a\[1\] has shape \(24, 5\), expected \(…, 6\)"):
        suture.Moments([x, x[:, :5]], x)


def test_strided_helper_is_strided(rng: np.random.Generator) -> None:
    assert not strided(exact(rng)).flags.c_contiguous


def test_codes_from_unsigned_indices_and_torch():
    codes = suture.SparseCodes(np.array([[1]], np.uint8), np.array([[2.0]]), d_sae=3)
    assert codes.indices.tolist() == [[1]]
    torch = pytest.importorskip("torch")
    values = torch.tensor([[2.0]], dtype=torch.bfloat16, requires_grad=True)
    assert suture.SparseCodes(torch.tensor([[1]]), values, d_sae=3).values.tolist() == [[2.0]]


def test_what_an_exporter_refuses_names_the_argument():
    torch = pytest.importorskip("torch")
    sae = suture.SAE.init(4, 16, k=3)
    for array in (torch.zeros(2, 4).to_sparse(), torch.zeros(2, 4, device="meta")):
        with pytest.raises(TypeError, match=r"^x is a Tensor that cannot be read here"):
            sae.encode(array)
    with pytest.raises(TypeError, match=r"^x is a masked array, expected one without"):
        sae.encode(np.ma.masked_array(np.ones((2, 4)), mask=False))


def test_an_array_is_exported_once():
    torch = pytest.importorskip("torch")
    tensor = torch.ones(2, 4)

    class Once:
        exports = 0

        def __dlpack_device__(self):
            return tensor.__dlpack_device__()

        def __dlpack__(self, **keywords):
            self.exports += 1
            return tensor.__dlpack__()

    once = Once()
    suture.SAE.init(4, 16, k=3).encode(once)
    assert once.exports == 1
