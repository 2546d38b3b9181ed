"""The layout of an engine's KV cache, as ranks find it and as handles name it.

vLLM gives a connector one view of each layer, `[blocks, heads, tokens of a block, content]`, however the memory is
laid out. Content is the K and V of one head and token. Staged bytes are copies of such views, so the order is "HND".
"""

from dataclasses import dataclass
from typing import Any, Final

import torch
from tandem_proto.tandem.v1 import kv_pb2
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig

ORDER: Final = "HND"


@dataclass(frozen=True, slots=True)
class RankCache:
    """One rank's KV cache: the layers' views, each `[blocks x parts, heads, block_size / parts, content]`."""

    layers: tuple[torch.Tensor, ...]
    block_size: int
    """Tokens of a block, as the scheduler counts."""
    parts: int
    """Blocks of the attention kernel in one block of the scheduler."""
    heads: int
    head_dim: int

    @property
    def dtype(self) -> torch.dtype:
        return self.layers[0].dtype

    @property
    def device(self) -> torch.device:
        return self.layers[0].device

    @property
    def head_bytes(self) -> int:
        """Of one head in one block of one layer."""
        return int(self.block_size * self.layers[0].shape[3] * self.dtype.itemsize)

    def describe(self) -> dict[str, Any]:
        """What crosses to the front end."""
        return {
            "dtype": str(self.dtype).removeprefix("torch."),
            "layers": len(self.layers),
            "heads": self.heads,
            "head_dim": self.head_dim,
            "block_size": self.block_size,
            "block_bytes": len(self.layers) * self.heads * self.head_bytes,
        }


def rank_cache(kv_caches: dict[str, torch.Tensor], config: KVCacheConfig) -> RankCache:
    """Accepts what blocks of tokens can be copied out of and into.

    Raises:
        ValueError: the model's attention is not plain full attention over one kind of block; the text says so.
    """
    kinds = sorted({type(group.kv_cache_spec).__name__ for group in config.kv_cache_groups})
    if kinds != [FullAttentionSpec.__name__] or len(config.kv_cache_groups) != 1:
        raise ValueError(
            f"KV transfer does not support this model's KV cache ({', '.join(kinds) or 'none'}): it takes full "
            "attention with keys and values for each head. Serve the model without `prefill`"
        )
    spec = config.kv_cache_groups[0].kv_cache_spec
    layers: dict[int, torch.Tensor] = {}  # layers that share a cache are one
    for name, view in kv_caches.items():
        parts, rest = divmod(view.shape[0], config.num_blocks) if view.dim() == 4 else (0, 1)
        fits = parts > 0 and not rest and view.shape[1] == spec.num_kv_heads
        if not fits or view.shape[2] * parts != spec.block_size:
            raise ValueError(f"KV transfer does not support the KV cache of {name}: shape {tuple(view.shape)}")
        layers.setdefault(view.data_ptr(), view)
    if not layers:
        raise ValueError("the model has no KV cache to transfer")
    views = tuple(layers.values())
    if len({(view.shape, view.dtype) for view in views}) != 1:
        raise ValueError("KV transfer does not support layers of different shapes. Serve the model without `prefill`")
    return RankCache(views, spec.block_size, views[0].shape[0] // config.num_blocks, spec.num_kv_heads, spec.head_size)


async def of_engine(engine: Any, transferring: bool) -> kv_pb2.KvLayout:
    """The layout over all ranks: asked of them where KV is transferred, else as the model's configuration has it.

    Raises:
        ValueError: see `rank_cache`.
    """
    model, cache, parallel = (
        engine.vllm_config.model_config,
        engine.vllm_config.cache_config,
        engine.vllm_config.parallel_config,
    )
    layout = kv_pb2.KvLayout(
        engine="vllm",
        kv_heads=model.get_total_num_kv_heads(),
        order=ORDER,
        tensor_parallel=parallel.tensor_parallel_size,
    )
    if transferring:
        ranks = await engine.collective_rpc("tandem_layout")
        if refused := ranks[0].get("refused"):
            raise ValueError(refused)
        layout.dtype = ranks[0]["dtype"]
        layout.layers = ranks[0]["layers"]
        layout.head_dim = ranks[0]["head_dim"]
        layout.block_size = ranks[0]["block_size"]
        layout.block_bytes = sum(rank["block_bytes"] for rank in ranks)
    else:
        layout.dtype = str(model.dtype).removeprefix("torch.") if cache.cache_dtype == "auto" else cache.cache_dtype
        layout.layers = model.get_num_layers(parallel)
        layout.head_dim = model.get_head_size()
        layout.block_size = cache.block_size
    return layout
