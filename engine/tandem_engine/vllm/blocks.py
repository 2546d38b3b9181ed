"""Blocks of a paged KV cache to host memory and back, on a CPU as on a GPU.

On a GPU blocks are gathered on the stream that computed them, which is what frees them at once; the way over the bus
runs on a stream of its own, into page-locked memory.
"""

from collections.abc import Sequence

import torch

from tandem_engine.vllm.layouts import RankCache


class BlockCopier:
    """Copies blocks of one rank's cache. Used from several threads."""

    def __init__(self, cache: RankCache) -> None:
        self._cache = cache
        self._cuda = cache.device.type == "cuda"

    def buffers(self, blocks: int, heads: int) -> list[torch.Tensor]:
        """Host memory for each layer: uint8 `[blocks, heads, head_bytes]`."""
        shape = (blocks, heads, self._cache.head_bytes)
        return [torch.empty(shape, dtype=torch.uint8, pin_memory=self._cuda) for _ in self._cache.layers]

    def take(self, block_ids: Sequence[int]) -> list[torch.Tensor]:
        """The blocks of every layer in host memory, in place when it returns."""
        hosts = self.buffers(len(block_ids), self._cache.heads)
        index = self._index(block_ids)
        if not self._cuda:
            for view, host in zip(self._cache.layers, hosts, strict=True):
                host.copy_(self._gather(view, index).view(torch.uint8).view(host.shape))
            return hosts
        side = torch.cuda.Stream(self._cache.device)
        for view, host in zip(self._cache.layers, hosts, strict=True):
            gathered = self._gather(view, index)
            side.wait_stream(torch.cuda.current_stream(self._cache.device))
            with torch.cuda.stream(side):
                host.copy_(gathered.view(torch.uint8).view(host.shape), non_blocking=True)
            gathered.record_stream(side)
        side.synchronize()
        return hosts

    def so_far(self) -> torch.cuda.Event | None:
        """What the GPU has been told to do until now, by the calling thread, the one that computes; none on a CPU.

        A block that is free for the scheduler may yet be written to, by a step that was under way as its request ended.
        """
        return torch.cuda.current_stream(self._cache.device).record_event() if self._cuda else None

    def put(
        self,
        block_ids: Sequence[int],
        heads: range,
        hosts: Sequence[torch.Tensor],
        after: torch.cuda.Event | None = None,
    ) -> None:
        """Writes a run of heads of blocks, in place when it returns. After `after` they are the caller's alone."""
        if not self._cuda:
            self._scatter(block_ids, heads, hosts)
            return
        torch.cuda.set_device(self._cache.device)  # of this thread
        side = torch.cuda.Stream(self._cache.device)
        with torch.cuda.stream(side):
            if after is not None:
                side.wait_event(after)
            self._scatter(block_ids, heads, hosts)
        side.synchronize()

    def _scatter(self, block_ids: Sequence[int], heads: range, hosts: Sequence[torch.Tensor]) -> None:
        index = self._index(block_ids)
        parts, size = self._cache.parts, self._cache.block_size
        for view, host in zip(self._cache.layers, hosts, strict=True):
            source = host.to(view.device, non_blocking=True).view(view.dtype)
            # A block's tokens are those of its parts, one after the other.
            source = source.view(len(block_ids), len(heads), parts, size // parts, -1).transpose(1, 2)
            view[index.flatten(), heads.start : heads.stop] = source.flatten(0, 1)

    def _gather(self, view: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        return view[index].transpose(1, 2).contiguous()

    def _index(self, block_ids: Sequence[int]) -> torch.Tensor:
        """`[blocks, parts]`: rows of the views."""
        first = torch.tensor(block_ids, dtype=torch.int64, device=self._cache.device) * self._cache.parts
        return first[:, None] + torch.arange(self._cache.parts, device=self._cache.device)
