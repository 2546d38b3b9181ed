"""Tiny models of other kinds, and an adapter, made as `tiny_model` makes its own: other attention, images, LoRA."""

from collections.abc import Sequence
from pathlib import Path

from tests.tiny_model import (
    HEAD_DIM,
    HEADS,
    HIDDEN,
    KV_HEADS,
    LAYERS,
    MARKERS,
    VOCAB,
    config,
    make_tiny_model,
    shapes,
    write_json,
    write_tokenizer,
    write_weights,
)

RANK = 4
WINDOW = 64
IMAGE_MARKERS = ("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>")
IMAGE_SIDE, PATCH, SEEN = 28, 14, 32
"""Pixels of an image and of a patch, and the hidden size of what sees them."""
IMAGE_TOKENS = (IMAGE_SIDE // PATCH) ** 2 + 3
"""Of an image in a prompt: its patches, and what is around them."""

_LATENT, _ROPE, _NOPE, _VALUE = 512, 64, 128, 128
"""As DeepSeek has them: kernels for latent attention know no others."""


def make_tiny_adapter(to: Path, seed: int) -> Path:
    """A LoRA adapter of `tiny_model`'s queries and values, as PEFT saves one."""
    to.mkdir(parents=True, exist_ok=True)
    write_json(
        to / "adapter_config.json",
        {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": "tiny",
            "r": RANK,
            "lora_alpha": 4 * RANK,
            "lora_dropout": 0.0,
            "bias": "none",
            "target_modules": ["q_proj", "v_proj"],
        },
    )
    sizes = {"q_proj": HEADS * HEAD_DIM, "v_proj": KV_HEADS * HEAD_DIM}
    factors: dict[str, tuple[int, ...]] = {}
    for n in range(LAYERS):
        for part, size in sizes.items():
            name = f"base_model.model.model.layers.{n}.self_attn.{part}"
            factors |= {f"{name}.lora_A.weight": (RANK, HIDDEN), f"{name}.lora_B.weight": (size, RANK)}
    write_weights(to / "adapter_model.safetensors", factors, seed)
    return to


def make_tiny_windowed(to: Path, layers: Sequence[str] = ("sliding_attention",) * LAYERS) -> Path:
    """A Llama whose layers of "sliding_attention" see the last 64 tokens alone; others are of "full_attention"."""
    make_tiny_model(to, "llama")
    write_json(to / "config.json", {**config("llama"), "sliding_window": WINDOW, "layer_types": list(layers)})
    return to


def make_tiny_latent(to: Path) -> Path:
    """DeepSeek-V2's latent attention (MLA), without experts."""
    make_tiny_model(to, "llama")
    own: dict[str, object] = {
        "architectures": ["DeepseekV2ForCausalLM"],
        "model_type": "deepseek_v2",
        "num_key_value_heads": HEADS,
        "kv_lora_rank": _LATENT,
        "q_lora_rank": None,
        "qk_rope_head_dim": _ROPE,
        "qk_nope_head_dim": _NOPE,
        "v_head_dim": _VALUE,
        "first_k_dense_replace": LAYERS,
        "n_routed_experts": 1,
        "n_shared_experts": 1,
        "moe_layer_freq": 1,
    }
    write_json(to / "config.json", {**config("llama"), "head_dim": _ROPE, **own})
    weights = {name: shape for name, shape in shapes("llama").items() if "self_attn" not in name}
    for n in range(LAYERS):
        attention = f"model.layers.{n}.self_attn"
        weights |= {
            f"{attention}.q_proj.weight": (HEADS * (_NOPE + _ROPE), HIDDEN),
            f"{attention}.kv_a_proj_with_mqa.weight": (_LATENT + _ROPE, HIDDEN),
            f"{attention}.kv_a_layernorm.weight": (_LATENT,),
            f"{attention}.kv_b_proj.weight": (HEADS * (_NOPE + _VALUE), _LATENT),
            f"{attention}.o_proj.weight": (HIDDEN, HEADS * _VALUE),
        }
    write_weights(to / "model.safetensors", weights, seed=0)
    return to


def make_tiny_vision(to: Path) -> Path:
    """An Idefics3: a vision encoder of one layer before `tiny_model`'s Llama. An image is seven tokens of a prompt.

    vLLM's other models that see want torchvision, which its CPU build can't have (`requirements/overrides.txt`).
    """
    make_tiny_model(to, "llama")
    write_tokenizer(to, (*MARKERS[: -len(IMAGE_MARKERS)], *IMAGE_MARKERS))
    write_json(
        to / "config.json",
        {
            "architectures": ["Idefics3ForConditionalGeneration"],
            "model_type": "idefics3",
            "text_config": config("llama"),
            "vision_config": {
                "model_type": "idefics3_vision",
                "hidden_size": SEEN,
                "intermediate_size": 2 * SEEN,
                "num_hidden_layers": 1,
                "num_attention_heads": 2,
                "image_size": IMAGE_SIDE,
                "patch_size": PATCH,
            },
            "scale_factor": 1,
            "image_token_id": VOCAB - len(IMAGE_MARKERS),
            "tie_word_embeddings": False,
            "pad_token_id": 0,
            "dtype": "bfloat16",
        },
    )
    image = {
        "image_processor_type": "Idefics3ImageProcessor",
        "do_image_splitting": False,
        "size": {"longest_edge": IMAGE_SIDE},
        "max_image_size": {"longest_edge": IMAGE_SIDE},
    }
    write_json(to / "preprocessor_config.json", image)
    write_json(
        to / "processor_config.json",
        {"processor_class": "Idefics3Processor", "image_seq_len": (IMAGE_SIDE // PATCH) ** 2},
    )
    text = shapes("llama")
    weights = {name.replace("model.", "model.text_model.", 1): shape for name, shape in text.items()}
    weights |= {"model.connector.modality_projection.proj.weight": (HIDDEN, SEEN)}
    weights |= {f"model.vision_model.{name}": shape for name, shape in _vision().items()}
    write_weights(to / "model.safetensors", weights, seed=0)
    return to


def _vision() -> dict[str, tuple[int, ...]]:
    """Tensors of the encoder."""
    layer = "encoder.layers.0"
    found: dict[str, tuple[int, ...]] = {
        "embeddings.patch_embedding.weight": (SEEN, 3, PATCH, PATCH),
        "embeddings.patch_embedding.bias": (SEEN,),
        "embeddings.position_embedding.weight": ((IMAGE_SIDE // PATCH) ** 2, SEEN),
        f"{layer}.mlp.fc1.weight": (2 * SEEN, SEEN),
        f"{layer}.mlp.fc1.bias": (2 * SEEN,),
        f"{layer}.mlp.fc2.weight": (SEEN, 2 * SEEN),
        f"{layer}.mlp.fc2.bias": (SEEN,),
    }
    for part in ("q", "k", "v", "out"):
        found[f"{layer}.self_attn.{part}_proj.weight"] = (SEEN, SEEN)
        found[f"{layer}.self_attn.{part}_proj.bias"] = (SEEN,)
    for norm in ("post_layernorm", f"{layer}.layer_norm1", f"{layer}.layer_norm2"):
        found[f"{norm}.weight"] = (SEEN,)
        found[f"{norm}.bias"] = (SEEN,)
    return found
