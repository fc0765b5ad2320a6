# SPDX-License-Identifier: Apache-2.0
"""Sites: which stream of which model, by whatever name people call it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from . import _core
from ._arguments import integer
from ._metadata import to_json

__all__ = ["Site"]

_MOST_LAYERS = 999_999


@dataclass(frozen=True)
class Site:
    """Which stream of which model.

    The residual stream before block l has many names, and all of them are the same site:
    `blocks.4.hook_resid_pre` and `blocks.3.hook_resid_post` of TransformerLens and SAELens, the
    output of transformers' `model.layers.3`, `transformer.h.3` or `gpt_neox.layers.3`, sparsify's
    `layers.3`, `hidden_states.4`. What is written is the first of them.

    Args:
        model: its name, or None where it is not known.
        layer: the block that the residual stream enters, which is the number of blocks it has
            passed: 0 to n_layers. Of another stream, the block it belongs to. None where it is not
            known, or for a stream of no block.
        stream: "resid_pre", or another stream's name: "mlp_out", "attn.hook_z", "final_norm", …

    Raises:
        TypeError, ValueError: naming the argument, its value and what was expected.

    >>> import suture
    >>> suture.Site("gpt2", 4).hook_name
    'blocks.4.hook_resid_pre'
    """

    model: str | None = None
    layer: int | None = None
    stream: str = "resid_pre"

    def __post_init__(self) -> None:
        for name in ("model", "stream"):
            value = getattr(self, name)
            if name != "model" or value is not None:
                _text(name, value)
        if self.layer is not None:
            object.__setattr__(self, "layer", integer("layer", self.layer, 0, _MOST_LAYERS))
        try:
            _core.site_name(self._fields)
        except ValueError as error:
            # The core calls it by its own argument.
            raise ValueError(str(error).removeprefix("site->")) from None

    @classmethod
    def parse(cls, name: str, model: str | None = None, *, n_layers: int | None = None) -> Self:
        """The site that a name means.

        A module's name stands for what it puts out, so `model.layers.3` is the stream before block
        4; with `.input` behind it, for what goes in. Of the folders of published SAEs those are
        read that say which stream they are of: Gemma Scope's `layer_20/width_16k/…` with its
        repository in front, or `resid_post/layer_20_width_16k_l0_big`, Llama Scope's `l15r_8x`,
        dictionary_learning's `resid_post_layer_4`, sparsify's `layers.4`.

        Args:
            name: see above.
            model: the model's name.
            n_layers: the model's number of blocks. With it the last entry of `hidden_states` is
                seen to have passed the final norm, and layers beyond are refused.

        Raises:
            ValueError: nobody can read the name.

        >>> import suture
        >>> suture.Site.parse("blocks.3.hook_resid_post") == suture.Site.parse("transformer.h.3")
        True
        >>> suture.Site.parse("blocks.3.hook_mlp_out")
        Site(model=None, layer=3, stream='mlp_out')
        """
        _text("name", name)
        count = 0 if n_layers is None else integer("n_layers", n_layers, 1, _MOST_LAYERS)
        _, layer, stream = _core.site_parse(name, count)
        return cls(model, layer, stream)

    @classmethod
    def of(cls, source: Any) -> Self:
        """The site that something says it comes from: model_name, and the stream that hook_name,
        hf_hook_name or hookpoint mean. What it does not say is None.

        Args:
            source: a SAE, a probe, a steering vector, or a dict of metadata.

        Raises:
            ValueError: a name that nobody can read, or names that contradict each other.

        >>> import suture
        >>> suture.Site.of({"model_name": "gpt2", "hook_name": "blocks.3.hook_resid_post"})
        Site(model='gpt2', layer=4, stream='resid_pre')
        """
        metadata = source if isinstance(source, Mapping) else getattr(source, "metadata", None)
        if not isinstance(metadata, Mapping):
            raise TypeError(
                f"source is a {type(source).__name__}, expected a SAE, a probe, a steering vector "
                "or a dict of metadata"
            )
        return cls(*_core.site_read(to_json(dict(metadata))))

    @property
    def hook_name(self) -> str | None:
        """`blocks.{layer}.hook_resid_pre`; None of another stream, or where there is no layer."""
        return _core.site_name(self._fields) or None

    @property
    def metadata(self) -> dict[str, str]:
        """model_name and hook_name, as far as they are known: a SAE's metadata, in SAELens' words.

        >>> import suture
        >>> suture.Site("gpt2", 4).metadata
        {'model_name': 'gpt2', 'hook_name': 'blocks.4.hook_resid_pre'}
        """
        known = {"model_name": self.model, "hook_name": self.hook_name}
        return {key: value for key, value in known.items() if value is not None}

    def matches(self, other: Site) -> bool:
        """Whether nothing that is known of both says that they differ.

        `EleutherAI/pythia-70m`, `pythia-70m` and a folder of that name are one model, and so are
        TransformerLens' short names (`gpt2-small` is `openai-community/gpt2`);
        `pythia-70m-deduped` is another.

        >>> import suture
        >>> suture.Site("gpt2-small", 4).matches(suture.Site("openai-community/gpt2", 4))
        True
        >>> suture.Site("pythia-70m").matches(suture.Site("EleutherAI/pythia-70m-deduped"))
        False
        """
        if not isinstance(other, Site):
            raise TypeError(f"other is a {type(other).__name__}, expected a suture.Site")
        return _core.site_matches(self._fields, other._fields)

    @property
    def _fields(self) -> tuple[str | None, int | None, str]:
        return self.model, self.layer, self.stream


def _text(name: str, value: Any) -> None:
    """Refuses what no C string can hold."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}, expected text")
    if not value or "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f"{name} is {value!r}, expected a name")


def named_site(name: str, value: Any, n_layers: int | None = None) -> Site | None:
    """An argument that is a site, the name of one, or None."""
    if value is None or isinstance(value, Site):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}, expected a suture.Site, or the name of a stream")
    try:
        return Site.parse(value, n_layers=n_layers)
    except ValueError as error:
        raise ValueError(f"{name}{str(error).removeprefix('name')}") from None


def residual_layer(name: str, value: Any, least: int = 0, n_layers: int | None = None) -> int:
    """An argument that says a layer: its number, a `Site`, or a name of the residual stream."""
    if not isinstance(value, (str, Site)):
        return integer(name, value, least, n_layers)
    site = named_site(name, value, n_layers)
    if site is None or site.stream != "resid_pre" or site.layer is None:
        raise ValueError(f"{name} is {value!r}, expected a layer of the residual stream")
    return integer(name, site.layer, least, n_layers)


def site_of_activations(acts: Any) -> Site:
    """Model and layer of extracted activations, as far as they are known."""
    known = getattr(acts, "metadata", None)
    layers = tuple(getattr(acts, "layers", ()))
    if not isinstance(known, dict) or len(layers) != 1:
        return Site()
    model = known.get("model") or None
    # A model without a name is noted by its class, which it shares with others.
    if model is not None and re.fullmatch(r"[A-Z]\w*(Model|ForCausalLM|Generation)", model):
        model = None
    return Site(model, layers[0])
