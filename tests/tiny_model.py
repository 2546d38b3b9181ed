"""A tiny language model of random weights, for every test that needs a real one: the same to the byte each time.

It is written from the file formats (safetensors, tokenizer.json, config.json) with numpy and tokenizers alone,
so that it takes a second, needs no torch, and does not change with a library's order of drawing random numbers.
The weights are wide (standard deviation 0.2), so that every token of a prompt moves the logits: a wrong KV cache shows.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

Arch = Literal["qwen3", "llama"]

VOCAB, HIDDEN, INTERMEDIATE, LAYERS, HEADS, KV_HEADS, HEAD_DIM = 512, 128, 256, 4, 4, 2, 64
MAX_POSITIONS = 4096
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# Added, but not special: parsers of tool calls and of reasoning look for them in the text.
MARKERS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")

# Enough text to fill the vocabulary: every id that the model can draw is a token.
CORPUS = (
    "the quick brown fox jumps over the lazy dog while the five boxing wizards jump quickly past a sphinx of quartz",
    "hello world, how are you today? I am fine, thank you; what is the capital of France, and where does it rain?",
    '{"name": "get_weather", "arguments": {"city": "Paris", "unit": "celsius"}} [true, false, null, 12, 34.5]',
    "system user assistant tool: You are a helpful assistant. Answer each question briefly, and say so when unsure.",
    "def prefill(prompt: str) -> Cache:\n    return model.forward(tokenizer.encode(prompt), cache=Cache())\n",
    "a prompt's keys and values are computed once by prefill workers; decode workers take them over to generate tokens",
)

# The convention of Qwen and Hermes: tools in the system turn, calls in <tool_call>, results in <tool_response>.
CHAT_TEMPLATE = """\
{%- if tools %}
{{- '<|im_start|>system\\n' }}
{%- if messages[0]['role'] == 'system' %}{{- messages[0]['content'] + '\\n\\n' }}{%- endif %}
{{- 'Tools, one JSON a line:\\n' }}
{%- for tool in tools %}{{- tool | tojson + '\\n' }}{%- endfor %}
{{- 'Call one with <tool_call>{"name": ..., "arguments": ...}</tool_call><|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message['role'] == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message['content'] + '\\n</tool_response><|im_end|>\\n' }}
{%- elif not (tools and loop.first and message['role'] == 'system') %}
{{- '<|im_start|>' + message['role'] + '\\n' + (message['content'] or '') }}
{%- for call in message.get('tool_calls') or [] %}
{%- set function = call.get('function', call) %}
{{- '<tool_call>\\n{"name": "' + function['name'] + '", "arguments": ' }}
{{- function['arguments'] if function['arguments'] is string else function['arguments'] | tojson }}
{{- '}\\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""


def make_tiny_model(to: Path, arch: Arch = "qwen3", seed: int = 0) -> Path:
    """Write a model folder as the Hub has it (bfloat16, about 1.8 MB) and return `to`. Files there are replaced.

    4 layers, 4 heads over 2 KV heads of 64, a vocabulary of 512: a KV cache of 4 x 2 x 2 x 64 values a token.
    """
    to.mkdir(parents=True, exist_ok=True)
    write_json(to / "config.json", config(arch))
    write_json(to / "generation_config.json", {"bos_token_id": None, "eos_token_id": 2, "pad_token_id": 0})
    write_tokenizer(to)
    write_weights(to / "model.safetensors", shapes(arch), seed)
    return to


def write_weights(path: Path, of: Mapping[str, tuple[int, ...]], seed: int) -> None:
    """Random ones, drawn in the order of the names."""
    rng = np.random.default_rng(seed)
    write_safetensors(path, {name: draw(rng, shape) for name, shape in of.items()})


def config(arch: Arch) -> dict[str, object]:
    """Of config.json."""
    return {
        "architectures": ["Qwen3ForCausalLM" if arch == "qwen3" else "LlamaForCausalLM"],
        "model_type": arch,
        "vocab_size": VOCAB,
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": MAX_POSITIONS,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "attention_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "dtype": "bfloat16",
    }


def shapes(arch: Arch) -> dict[str, tuple[int, ...]]:
    """Every tensor of the checkpoint by its name in transformers; weights are [out, in]."""
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCAB, HIDDEN)}
    for n in range(LAYERS):
        layer = f"model.layers.{n}"
        shapes |= {
            f"{layer}.input_layernorm.weight": (HIDDEN,),
            f"{layer}.self_attn.q_proj.weight": (HEADS * HEAD_DIM, HIDDEN),
            f"{layer}.self_attn.k_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            f"{layer}.self_attn.v_proj.weight": (KV_HEADS * HEAD_DIM, HIDDEN),
            f"{layer}.self_attn.o_proj.weight": (HIDDEN, HEADS * HEAD_DIM),
            f"{layer}.post_attention_layernorm.weight": (HIDDEN,),
            f"{layer}.mlp.gate_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{layer}.mlp.up_proj.weight": (INTERMEDIATE, HIDDEN),
            f"{layer}.mlp.down_proj.weight": (HIDDEN, INTERMEDIATE),
        }
        if arch == "qwen3":
            shapes |= {f"{layer}.self_attn.{part}_norm.weight": (HEAD_DIM,) for part in ("q", "k")}
    return shapes | {"model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCAB, HIDDEN)}


def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Norms are one, all else is normal. bfloat16, which numpy does not have, is the upper half of float32."""
    values = np.ones(shape, np.float32) if len(shape) == 1 else rng.standard_normal(shape, np.float32) * np.float32(0.2)
    return (values.view(np.uint32) >> 16).astype("<u2")


def write_safetensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """The format: the header's length as 8 bytes, a JSON header, the tensors' bytes."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(t.tobytes() for t in tensors.values()))


def write_tokenizer(to: Path, markers: Sequence[str] = MARKERS) -> None:
    """As many markers as MARKERS, in their place."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=VOCAB - len(markers),
            special_tokens=list(SPECIAL),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    tokenizer.add_tokens([AddedToken(marker, normalized=False) for marker in markers])
    assert tokenizer.get_vocab_size() == VOCAB, tokenizer.get_vocab_size()
    tokenizer.save(str(to / "tokenizer.json"))
    write_json(
        to / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "model_max_length": MAX_POSITIONS,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def main(argv: list[str]) -> None:
    """Write one to a folder, for use outside of tests."""
    parser = argparse.ArgumentParser(description="Write a tiny language model of random weights.")
    parser.add_argument("to", type=Path)
    parser.add_argument("--arch", choices=["qwen3", "llama"], default="qwen3")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    print(make_tiny_model(args.to, args.arch, args.seed))


if __name__ == "__main__":
    main(sys.argv[1:])
