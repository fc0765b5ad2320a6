# SPDX-License-Identifier: Apache-2.0
"""llama.cpp from Python, as far as the comparison with it needs: residual streams, control vectors,
greedy text. Arithmetic is float32 throughout: what is stored of keys and values too.

The package llama-cpp-python (MIT, as llama.cpp) is built from source when it is installed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import numpy.typing as npt
from llama_cpp import _ctypes_extensions

Float32 = npt.NDArray[np.float32]

_FLOAT32 = 0  # GGML_TYPE_F32
_NO_FLASH_ATTENTION = 0
#: What llama.cpp calls the output of block k, a control vector added: "l_out-k".
_OUTPUT = "l_out-"


def _library() -> ctypes.CDLL:
    """llama.cpp's own reader of GGUF files and its tensors."""
    folder = Path(llama_cpp.__file__).parent / "lib"
    library = _ctypes_extensions.load_shared_library("ggml-base", folder)
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    for name, result, arguments in (
        ("gguf_init_from_file", pointer, [text, _InitParams]),
        ("gguf_free", None, [pointer]),
        ("gguf_get_n_tensors", ctypes.c_int64, [pointer]),
        ("gguf_get_tensor_name", text, [pointer, ctypes.c_int64]),
        ("ggml_get_tensor", pointer, [pointer, text]),
        ("ggml_get_data_f32", ctypes.POINTER(ctypes.c_float), [pointer]),
        ("ggml_free", None, [pointer]),
        ("ggml_get_name", text, [pointer]),
        ("ggml_nelements", ctypes.c_int64, [pointer]),
        ("ggml_n_dims", ctypes.c_int, [pointer]),
        ("ggml_backend_tensor_get", None, [pointer, pointer, ctypes.c_size_t, ctypes.c_size_t]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class _InitParams(ctypes.Structure):
    _fields_ = [("no_alloc", ctypes.c_bool), ("ctx", ctypes.POINTER(ctypes.c_void_p))]


def read_control_vector(path: Path) -> dict[int, Float32]:
    """The directions of a control vector by llama.cpp's numbers, read by llama.cpp.

    The steps are those of `common_control_vector_load` of llama.cpp, which no library exports.
    """
    library = _library()
    held = ctypes.c_void_p()
    parameters = _InitParams(no_alloc=False, ctx=ctypes.pointer(held))
    file = library.gguf_init_from_file(str(path).encode(), parameters)
    if not file:
        raise ValueError(f"llama.cpp cannot read {path}")
    try:
        found = {}
        for number in range(library.gguf_get_n_tensors(file)):
            name: bytes = library.gguf_get_tensor_name(file, number)
            lead, _, place = name.decode().partition(".")
            tensor = library.ggml_get_tensor(held, name)
            if lead != "direction" or int(place) < 1 or library.ggml_n_dims(tensor) != 1:
                raise ValueError(f"llama.cpp takes no tensor {name.decode()!r} for a direction")
            data = library.ggml_get_data_f32(tensor)
            found[int(place)] = np.ctypeslib.as_array(
                data, (library.ggml_nelements(tensor),)
            ).copy()
        return found
    finally:
        library.gguf_free(file)
        library.ggml_free(held)


def write_float32(source: Path, target: Path) -> Path:
    """A copy of a GGUF model with all weights dequantised: what is left out is the rounding of
    activations that products with quantised weights bring along."""
    reader = gguf.GGUFReader(source)
    architecture = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(target, architecture)
    for field in reader.fields.values():
        # The writer makes these itself; that of the quantisation no longer holds.
        if field.name.startswith("GGUF.") or field.name in (
            "general.architecture",
            "general.quantization_version",
            "general.file_type",
        ):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        values = gguf.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, np.ascontiguousarray(values, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


class Llama:
    """A model that llama.cpp runs.

    Args:
        path: a GGUF file.
        context: tokens of the longest sequence.
        threads: that it computes with.
    """

    def __init__(self, path: Path, *, context: int = 512, threads: int = 2) -> None:
        self._library = _library()
        self._log = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(self._log, ctypes.c_void_p())
        llama_cpp.llama_backend_init()
        self._model = llama_cpp.llama_model_load_from_file(
            str(path).encode(), llama_cpp.llama_model_default_params()
        )
        if not self._model:
            raise ValueError(f"llama.cpp cannot load {path}")
        self.d = int(llama_cpp.llama_model_n_embd(self._model))
        self.blocks = int(llama_cpp.llama_model_n_layer(self._model))
        self._vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self.tokens = int(llama_cpp.llama_vocab_n_tokens(self._vocabulary))
        self._seen: dict[int, Float32] = {}
        # Kept: llama.cpp holds the pointer only.
        self._callback = llama_cpp.llama_cpp.ggml_backend_sched_eval_callback(self._on_tensor)
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = context
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.type_k = parameters.type_v = _FLOAT32
        parameters.flash_attn_type = _NO_FLASH_ATTENTION
        parameters.cb_eval = self._callback
        self._context = llama_cpp.llama_init_from_model(self._model, parameters)
        if not self._context:
            raise ValueError(f"llama.cpp makes no context of {context} tokens for {path}")

    def tokenise(self, text: str) -> list[int]:
        """Token ids, those of special tokens in the text included, nothing put before it."""
        raw = text.encode()
        room = (llama_cpp.llama_token * (len(raw) + 8))()
        count = llama_cpp.llama_tokenize(
            self._vocabulary, raw, len(raw), room, len(room), False, True
        )
        return list(room[:count])

    def steer(self, path: Path | None, strength: float = 1.0) -> None:
        """Adds a control vector from now on, as ``--control-vector-scaled FILE STRENGTH`` does, or
        none."""
        if path is None:
            data, size, last = None, 0, -1
        else:
            directions = read_control_vector(path)
            buffer = np.zeros((self.blocks - 1, self.d), np.float32)
            for number, direction in directions.items():
                buffer[number - 1] = strength * direction
            data = buffer.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            size, last = buffer.size, self.blocks - 1
        if llama_cpp.llama_set_adapter_cvec(self._context, data, size, self.d, 1, last) != 0:
            raise ValueError(f"llama.cpp does not take the control vector {path}")

    def streams(self, ids: Sequence[int]) -> dict[int, Float32]:
        """The output of each block, (tokens, d), a control vector added."""
        self._seen.clear()
        self._forget()
        self._run(ids, all_logits=True)
        return {number: rows.reshape(len(ids), self.d) for number, rows in self._seen.items()}

    def greedy(self, ids: Sequence[int], count: int) -> list[int]:
        """The likeliest next token, again and again; ends after an end of text."""
        self._forget()
        written: list[int] = []
        step = list(ids)
        while len(written) < count:
            logits = self._run(step, all_logits=False)
            step = [int(np.argmax(logits))]
            written += step
            if llama_cpp.llama_vocab_is_eog(self._vocabulary, step[0]):
                break
        return written

    def close(self) -> None:
        """Frees the model."""
        llama_cpp.llama_free(self._context)
        llama_cpp.llama_model_free(self._model)

    def _forget(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        self._position = 0

    def _run(self, ids: Sequence[int], *, all_logits: bool) -> Float32:
        """Logits of the last token."""
        batch = llama_cpp.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for place, token in enumerate(ids):
            batch.token[place] = token
            batch.pos[place] = self._position + place
            batch.n_seq_id[place] = 1
            batch.seq_id[place][0] = 0
            batch.logits[place] = all_logits or place == len(ids) - 1
        result = llama_cpp.llama_decode(self._context, batch)
        llama_cpp.llama_batch_free(batch)
        if result != 0:
            raise ValueError(f"llama.cpp does not run {len(ids)} tokens: {result}")
        self._position += len(ids)
        logits = llama_cpp.llama_get_logits_ith(self._context, -1)
        return np.ctypeslib.as_array(logits, (self.tokens,)).copy()

    def _on_tensor(self, tensor: Any, ask: bool, _: Any) -> bool:
        name = self._library.ggml_get_name(tensor).decode()
        if not name.startswith(_OUTPUT):
            # When asked: not wanted. When told: go on.
            return not ask
        if not ask:
            rows = np.empty(self._library.ggml_nelements(tensor), np.float32)
            self._library.ggml_backend_tensor_get(tensor, rows.ctypes.data, 0, rows.nbytes)
            self._seen[int(name.removeprefix(_OUTPUT))] = rows
        return True
