# SPDX-License-Identifier: Apache-2.0
"""Rows for sites, and for where a transfer is told that something comes from."""

from __future__ import annotations

from typing import Any

import numpy as np
from bad_input_table import bad_numbers, row, sae, stitch

from suture import Probe, Site, SteeringVector

target = "Site"
for bad, error in ((3, TypeError), (b"x", TypeError), ("", ValueError), ("a\0b", ValueError)):
    row(target, lambda _, v=bad: Site(v), error, "model", "expected")
    row(target, lambda _, v=bad: Site(None, 3, v), error, "stream", "expected")
row(target, lambda _: Site("\ud800"), ValueError, "model", "expected a name")
row(target, lambda _: Site(None, 3, None), TypeError, "stream", "None", "expected text")  # type: ignore[arg-type]
row(target, lambda _: Site(None, 3, "resid_post"), ValueError, "stream", "resid_post", "expected")
bad_numbers(target, "layer", lambda v: Site(None, v), -1, 10**30, "3")
row(target, lambda _: Site(None, 2.5), TypeError, "layer", "2.5", "expected")
row(target, lambda _: Site(None, True), TypeError, "layer", "True", "expected")

target = "Site.parse"
for name in (
    "",
    "foo",
    "4",
    "blocks.x.hook_resid_pre",
    "blocks.4.hook_foo",
    "layers.9999999",
    "h.4\0",
):
    row(target, lambda _, n=name: Site.parse(n), ValueError, "name", "expected")
row(target, lambda _: Site.parse("foo"), ValueError, '"foo"', "hook_resid_post", "model.layers")
row(target, lambda _: Site.parse(None), TypeError, "name", "None", "expected text")  # type: ignore[arg-type]
row(target, lambda _: Site.parse("layers.3", 5), TypeError, "model", "5", "expected text")  # type: ignore[arg-type]
row(target, lambda _: Site.parse("layers.12", n_layers=12), ValueError, "layers.12", "0 to 12")
bad_numbers(target, "n_layers", lambda v: Site.parse("h.3", n_layers=v), 0, -1, "3")

target = "Site.of"
row(target, lambda _: Site.of(None), TypeError, "source", "NoneType", "expected a SAE")
row(target, lambda _: Site.of("layers.3"), TypeError, "source", "str", "expected a SAE")
row(target, lambda _: Site.of({1: 2}), TypeError, "metadata", "1", "expected strings")
row(target, lambda _: Site.of({"hook_name": "foo"}), ValueError, "hook_name", "foo", "expected")
row(target, lambda _: Site.of({"hook_name": 3}), ValueError, "hook_name", "3", "expected text")
row(
    target, lambda _: Site.of({"hook_name": "layers.3", "hookpoint": "layers.4"}),
    ValueError, "hook_name", "layers.3", "hookpoint", "layers.4", "expected names of one stream",
)  # fmt: skip

row("Site.matches", lambda _: Site("m").matches("m"), TypeError, "other", "str", "expected")  # type: ignore[arg-type]


def carried(thing: Any, site: Any = None, **metadata: Any) -> Any:
    return stitch(model_a="small", layer_a=4, **metadata).transfer(thing, site=site)


target = "Stitch.transfer"
V = np.array([0.0, 1.0, 2.0, 3.0])
THINGS = {
    "sae": lambda metadata: sae(metadata=metadata),
    "probe": lambda metadata: Probe(V, 0.0, metadata=metadata),
    "vector": lambda metadata: SteeringVector(V, 1.0, mean=V, metadata=metadata),
}
for what, make in THINGS.items():
    for hook, parts in {
        "blocks.4.hook_resid_post": ("layer 5", "expected 4", "layer_a"),
        "blocks.4.hook_resid_mid": ("resid_mid of block 4", "expected blocks.4.hook_resid_pre"),
        "blocks.4.hook_mlp_out": ("mlp_out of block 4", "not the residual stream"),
        "blocks.4.hook_attn_out": ("attn_out of block 4", "site"),
        "blocks.4.attn.hook_z": ("attn.hook_z of block 4", "site"),
        "ln_final.hook_normalized": ("final norm", "site"),
        "foo": ("expected a name of the residual stream", "hook_resid_post", "site"),
    }.items():
        row(
            target, lambda _, m=make, h=hook: carried(m({"hook_name": h})),
            ValueError, what, hook, *parts,
        )  # fmt: skip
    row(target, lambda _, m=make: carried(m({}), "layers.4"), ValueError, what, "layer 5 (site)")
    row(target, lambda _, m=make: carried(m({}), Site("other")), ValueError, "other", "small")
row(target, lambda _: carried(sae(), 4), TypeError, "site", "4", "expected a suture.Site")
row(target, lambda _: carried(sae(), "foo"), ValueError, "site", "foo", "expected a name")
row(target, lambda _: carried(sae(), layer_b="foo"), ValueError, "layer_b", "foo", "expected")
row(target, lambda _: carried(sae(), layer_b=-1), ValueError, "layer_b", "-1", "expected 0 to")
row(target, lambda _: carried(sae(), layer_b=1.5), ValueError, "layer_b", "1.5", "expected")
