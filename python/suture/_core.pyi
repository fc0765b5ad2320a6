# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable
from typing import Any, final

import numpy as np
import numpy.typing as npt

_Report = Callable[[int, int], object] | None
# Model, layer and stream.
_Site = tuple[str | None, int | None, str]
_Float64 = npt.NDArray[np.float64]
_Int64 = npt.NDArray[np.int64]

version: str

class SutureError(Exception): ...
class FormatError(SutureError, ValueError): ...
class NumericalError(SutureError, ArithmeticError): ...
class UnsupportedError(SutureError, NotImplementedError): ...
class InternalError(SutureError, RuntimeError): ...

def set_threads(count: int, /) -> None: ...
def cpu_info() -> dict[str, Any]: ...

@final
class Rows:
    def __new__(
        cls, array: Any, name: str, vector: bool = False, writable: bool = False
    ) -> Rows: ...
    @property
    def rows(self) -> int: ...
    @property
    def cols(self) -> int: ...
    @property
    def direct(self) -> bool: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def address(self) -> int: ...
    @property
    def dtype(self) -> str: ...
    def block(self, start: int, stop: int, /) -> Rows: ...
    def take(self, rows: _Int64, /) -> Rows: ...
    def pieces(self) -> list[Rows] | None: ...

@final
class View:
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class Moments:
    def update(self, h_a: Rows, h_b: Rows, progress: _Report, /) -> None: ...
    def update_pairs(
        self, h_a: Rows, h_b: Rows, rows_a: _Int64, rows_b: _Int64, progress: _Report, /
    ) -> None: ...
    def merge(self, other: Moments, /) -> None: ...
    def set_norm_bounds(
        self, norm_bound_a: float, norm_bound_b: float, estimated: bool, /
    ) -> None: ...
    def norms(self) -> dict[str, Any]: ...
    def info(self) -> tuple[int, int, int]: ...
    def read_into(
        self,
        mean_a: _Float64 | None,
        mean_b: _Float64 | None,
        cov_aa: _Float64 | None,
        cov_ab: _Float64 | None,
        cov_bb: _Float64 | None,
        /,
    ) -> None: ...
    def serialize(self) -> bytes: ...
    def svcca(self, variance_kept: float, /) -> tuple[float, int, int]: ...
    def whiten(self, variance_kept: float, /) -> tuple[Stitch, Stitch]: ...

def align(ends_a: _Int64, ends_b: _Int64, rows_a: _Int64, rows_b: _Int64, /) -> int: ...
def row_norms(h: Rows, norms: _Float64, progress: _Report, /) -> None: ...
def norm_sample(rows: int, indices: _Int64 | None, /) -> int: ...
def norm_bound(shards: tuple[Rows, ...], multiple: float, /) -> float: ...
def moments_create(d_a: int, d_b: int, /) -> Moments: ...
def moments_deserialize(data: bytes | bytearray | memoryview, /) -> Moments: ...

@final
class Stitch:
    def info(self) -> tuple[int, int]: ...
    def weight(self, name: str, /) -> View: ...
    def apply(self, direction: str, h: Rows, out: Rows, progress: _Report, /) -> None: ...
    def objective(self, moments: Moments, alpha: float, /) -> dict[str, Any]: ...
    def metadata(self) -> str: ...
    def set_metadata(self, json: str, /) -> None: ...
    def save(self, path: str, /) -> None: ...
    def transfer_sae(self, sae: SAE, direction: str, site: _Site | None, /) -> SAE: ...
    def transfer_steering(
        self,
        vector: Steering,
        direction: str,
        site: _Site | None,
        rows: tuple[Rows, ...] | None,
        progress: _Report,
        /,
    ) -> Steering: ...
    def transfer_probe(self, probe: Probe, direction: str, site: _Site | None, /) -> Probe: ...

def svcca_white(white_a: Rows, white_b: Rows, /) -> tuple[float, int, int]: ...
def stitch_fit(
    moments: Moments,
    alpha: float,
    tolerance: float,
    max_iterations: int,
    ridge: float | None,
    method: str,
    objective: str,
    progress: _Report,
    /,
) -> tuple[Stitch, dict[str, Any]]: ...
def site_parse(name: str, n_layers: int, /) -> _Site: ...
def site_read(json: str, /) -> _Site: ...
def site_name(site: _Site, /) -> str: ...
def site_matches(site: _Site, other: _Site, /) -> bool: ...
def stitch_create(P_up: Rows, b_up: Rows, P_down: Rows, b_down: Rows, /) -> Stitch: ...
def stitch_load(path: str, /) -> Stitch: ...

@final
class Steering:
    def info(self) -> tuple[int, float]: ...
    def vector(self) -> View: ...
    def mean(self) -> View | None: ...
    def apply(
        self, mode: str, strength: float, h: Rows, out: Rows, progress: _Report, /
    ) -> None: ...
    def metadata(self) -> str: ...
    def set_metadata(self, json: str, /) -> None: ...
    def save(self, path: str, /) -> None: ...

def steering_fit(
    positive: tuple[Rows, ...], negative: tuple[Rows, ...], progress: _Report, /
) -> Steering: ...
def steering_create(vector: Rows, z_mean: float, mean: Rows | None, /) -> Steering: ...
def steering_load(path: str, /) -> Steering: ...

@final
class SAE:
    def info(self) -> dict[str, Any]: ...
    def weight(self, name: str, /) -> View: ...
    def fold(self) -> SAE: ...
    def metadata(self) -> str: ...
    def set_metadata(self, json: str, /) -> None: ...
    def save(self, folder: str, /) -> None: ...
    def encode(self, x: Rows, progress: _Report, /) -> Codes: ...
    def decode(self, codes: Codes, out: Rows, progress: _Report, /) -> None: ...
    def reconstruct(self, x: Rows, out: Rows, progress: _Report, /) -> None: ...
    def refit_decoder(
        self,
        shards: list[Rows],
        ridge: float,
        tolerance: float,
        tokens: int,
        max_iterations: int,
        tied_rounds: int,
        progress: _Report,
        /,
    ) -> tuple[SAE, dict[str, Any]]: ...
    def evidence_into(self, d_sae: int, /, *arrays: npt.NDArray[Any]) -> tuple[int, int] | None: ...
    def set_evidence(
        self, rows: int, held_out_rows: int, d_sae: int, /, *arrays: npt.NDArray[Any]
    ) -> None: ...
    def select(
        self, latents: npt.NDArray[Any], shards: list[Rows], progress: _Report, /
    ) -> SAE: ...

def sae_create(
    architecture: str,
    k: int,
    apply_b_dec_to_input: bool,
    rescale_by_decoder_norm: bool,
    normalization: str,
    scale: float,
    W_enc: Rows,
    b_enc: Rows | None,
    W_dec: Rows | None,
    b_dec: Rows | None,
    threshold: Rows | None,
    b_gate: Rows | None,
    b_mag: Rows | None,
    r_mag: Rows | None,
    /,
) -> SAE: ...
def sae_init(
    d_in: int,
    d_sae: int,
    architecture: str,
    k: int,
    apply_b_dec_to_input: bool,
    rescale_by_decoder_norm: bool,
    seed: int,
    /,
) -> SAE: ...
def sae_load(folder: str, /) -> SAE: ...

@final
class Codes:
    def arrays(self) -> tuple[int, View, View, View]: ...

def codes_create(
    d_sae: int,
    rows: int,
    width: int,
    indices: npt.NDArray[np.int32],
    values: npt.NDArray[np.float32],
    /,
) -> Codes: ...

@final
class Evaluation:
    def set_norm_bound(self, norm_bound: float, /) -> None: ...
    def update(self, x: Rows, progress: _Report, /) -> None: ...
    def report(self) -> dict[str, Any]: ...
    def features_into(
        self,
        d_sae: int,
        frequency: npt.NDArray[np.float64] | None,
        maximum: npt.NDArray[np.float32] | None,
        /,
    ) -> None: ...

def evaluation_create(sae: SAE, /) -> Evaluation: ...

@final
class Trainer:
    def step(self, x: Rows, like: Codes | None, progress: _Report, /) -> dict[str, Any]: ...
    def check_data(self, shards: list[Rows], /) -> None: ...
    def save(self, folder: str, /) -> None: ...
    def description(self) -> str: ...
    def gradients_into(
        self,
        x: Rows,
        like: Codes | None,
        gradients: npt.NDArray[np.float32],
        count: int,
        firings: npt.NDArray[np.int64],
        d_sae: int,
        progress: _Report,
        /,
    ) -> dict[str, Any]: ...
    def apply(
        self,
        gradients: npt.NDArray[np.float32],
        tokens: int,
        firings: npt.NDArray[np.int64] | None,
        progress: _Report,
        /,
    ) -> dict[str, Any]: ...
    def sae(self) -> SAE: ...

def trainer_load(folder: str, /) -> Trainer: ...
def trainers_run(
    trainers: list[Trainer],
    shards: list[Rows],
    like: SAE | None,
    like_shards: list[Rows],
    tokens: int,
    taking: bool,
    progress: _Report,
    /,
) -> list[dict[str, Any]]: ...
def trainer_create(
    sae: SAE,
    /,
    *,
    batch_size: int = 0,
    lr: float = 0,
    lr_scheduler: str | None = None,
    lr_warm_up_steps: int = 0,
    lr_end: float = 0,
    total_steps: int = 0,
    beta1: float = 0,
    beta2: float = 0,
    epsilon: float = 0,
    max_grad_norm: float = 0,
    decoder_norm: str | None = None,
    b_dec_init: str | None = None,
    normalize_activations: str | None = None,
    l0_coefficient: float = 0,
    l1_coefficient: float = 0,
    bandwidth: float = 0,
    sparsity_warm_up_steps: int = 0,
    aux_loss_coefficient: float = 0,
    aux_k: int = 0,
    dead_feature_window: int = 0,
    seed: int = 0,
    pull: float = 0,
) -> Trainer: ...

@final
class Fidelity:
    def update(self, codes_a: Codes, codes_b: Codes, progress: _Report, /) -> None: ...
    def merge(self, other: Fidelity, /) -> None: ...
    def read_into(
        self,
        d_sae: int,
        correlation: _Float64 | None,
        standard_error: _Float64 | None,
        control: _Float64 | None,
        active_a: npt.NDArray[np.uint64] | None,
        active_b: npt.NDArray[np.uint64] | None,
        active_both: npt.NDArray[np.uint64] | None,
        /,
    ) -> None: ...
    def summarize(self, min_count: int, /) -> dict[str, Any]: ...

def fidelity_create(d_sae: int, /) -> Fidelity: ...

@final
class Matches:
    def update(self, codes_a: Codes, codes_b: Codes, /) -> None: ...
    def find(
        self,
        d_sae_a: int,
        d_sae_b: int,
        min_count: int,
        match: npt.NDArray[np.int64],
        correlation: _Float64,
        chosen: _Float64,
        control: _Float64,
        active: npt.NDArray[np.uint64],
        match_b: npt.NDArray[np.int64],
        progress: _Report,
        /,
    ) -> dict[str, Any]: ...

def matches_create(d_sae_a: int, d_sae_b: int, /) -> Matches: ...

@final
class Carry:
    def update(self, rows_a: Rows, rows_b: Rows, progress: _Report, /) -> None: ...
    def finish(
        self,
        d_sae: int,
        site: _Site | None,
        firings: npt.NDArray[np.uint64],
        r_squared: _Float64,
        progress: _Report,
        /,
    ) -> tuple[SAE, Fidelity, dict[str, Any]]: ...

def carry_create(
    sae: SAE, d_b: int, ridge: float, sample: int, rounds: int, skip_decoder: bool, /
) -> Carry: ...
def carry_probe(
    moments: Moments,
    probe: Probe,
    outputs: int,
    ridge: float,
    site: _Site | None,
    r_squared: _Float64,
    progress: _Report,
    /,
) -> tuple[Probe, float]: ...
def carry_held_out(first: int, count: int, /) -> bytes: ...

@final
class Attribution:
    def update(
        self,
        codes_a: Codes,
        codes_b: Codes,
        next_tokens: npt.NDArray[np.int64],
        progress: _Report,
        /,
    ) -> None: ...
    def merge(self, other: Attribution, /) -> None: ...
    def read_into(
        self,
        d_sae: int,
        correlation: _Float64 | None,
        active_a: npt.NDArray[np.uint64] | None,
        active_b: npt.NDArray[np.uint64] | None,
        /,
    ) -> int: ...

def attribution_create(
    W_dec_a: Rows, W_U_a: Rows, W_dec_b: Rows, W_U_b: Rows, /
) -> Attribution: ...

@final
class Structural:
    def update(
        self, codes: Codes, lengths: npt.NDArray[np.int64], variants: int, progress: _Report, /
    ) -> None: ...
    def read_into(
        self,
        d_sae: int,
        score: _Float64 | None,
        in_all: npt.NDArray[np.uint64] | None,
        in_any: npt.NDArray[np.uint64] | None,
        /,
    ) -> int: ...

def structural_create(d_sae: int, /) -> Structural: ...

@final
class FeatureStatistics:
    def update(self, codes: Codes, progress: _Report, /) -> None: ...
    def read_into(
        self,
        d_sae: int,
        frequency: _Float64 | None,
        mean: _Float64 | None,
        maximum: npt.NDArray[np.float32] | None,
        /,
    ) -> int: ...
    def examples_into(
        self,
        d_sae: int,
        top: int,
        rows: npt.NDArray[np.int64] | None,
        values: npt.NDArray[np.float32] | None,
        /,
    ) -> None: ...

def statistics_create(d_sae: int, top: int, /) -> FeatureStatistics: ...
def logit_weights(
    W_dec: Rows,
    W_U: Rows,
    count: int,
    progress: _Report,
    up_tokens: npt.NDArray[np.int32],
    up_values: npt.NDArray[np.float32],
    down_tokens: npt.NDArray[np.int32],
    down_values: npt.NDArray[np.float32],
    /,
) -> None: ...
def null_space_fraction(
    W_dec: Rows,
    W_U: Rows,
    share: float,
    progress: _Report,
    fraction: _Float64 | None,
    singular_values: _Float64 | None,
    /,
) -> None: ...

_CSR = tuple[int, _Int64, npt.NDArray[np.int32], npt.NDArray[Any], str]
_Samples = Rows | Codes | _CSR

@final
class Probe:
    def info(self) -> tuple[int, int]: ...
    def weight(self, name: str, /) -> View: ...
    def logits(self, x: _Samples, out: Rows, progress: _Report, /) -> None: ...
    def classes(self) -> str: ...
    def metadata(self) -> str: ...
    def set_metadata(self, json: str, /) -> None: ...
    def save(self, path: str, /) -> None: ...

def probe_fit(
    x: _Samples,
    labels: npt.NDArray[np.int32],
    classes: int,
    weights: _Float64 | None,
    features: _Int64 | None,
    sizes: _Int64 | None,
    C: float,
    tolerance: float,
    max_iterations: int,
    standardize: bool,
    balanced: bool,
    progress: _Report,
    /,
) -> list[tuple[Probe, dict[str, Any]]]: ...
def probe_create(weights: Rows, bias: Rows, classes: str | None, /) -> Probe: ...
def probe_load(path: str, /) -> Probe: ...
def features_select(
    x: _Samples,
    labels: npt.NDArray[np.int32],
    classes: int,
    k: int,
    out: _Int64,
    progress: _Report,
    /,
) -> None: ...
def pool(
    shards: tuple[Rows, ...], sample: _Int64, samples: int, out: Rows, progress: _Report, /
) -> None: ...
def codes_pool(codes: Codes, sample: _Int64, samples: int, progress: _Report, /) -> Codes: ...
