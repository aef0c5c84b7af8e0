"""A language model that says nothing sensible, as small as llama.cpp takes it: 100 kB of GGUF.

Written here by hand (the format is a header, a table and arrays), with weights from a fixed
seed: asked greedily it says the same every time. Its vocabulary is the 256 bytes and some
words; only the words have weights in the output, so that it speaks words as long as nothing
(a grammar, for a tool call or for JSON) makes it spell.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable
from itertools import accumulate
from typing import TypeAlias

WIDTH, HIDDEN, HEADS, CONTEXT_TOKENS = 32, 64, 2, 65_536
CALL, CALL_TOKEN, END_TOKEN = "<tool_call>\n", 3, 2
"""What a tool call begins with is a token of its own, so that a bias can make it likely."""
WORDS = [f"▁{first}{second}" for first in "bdfgklmnprst" for second in ("a", "e", "i", "o", "u")]
TEMPLATE = """\
{%- if tools %}<tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.content %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
"""In the manner of Hermes and Qwen, from which llama.cpp reads how tools are called."""
Value: TypeAlias = str | bool | int | float | list[str] | list[int] | list[float]
_ALIGNMENT = 32
_NORMAL, _UNKNOWN, _CONTROL, _OURS, _BYTE = 1, 2, 3, 4, 6


def tiny_model(seed: int = 0) -> bytes:
    """The file. Its vectors have `WIDTH` numbers."""
    special, spelled = ["<unk>", "<s>", "</s>", CALL], [f"<0x{byte:02X}>" for byte in range(256)]
    tokens = special + spelled + WORDS
    kinds = [_UNKNOWN, _CONTROL, _CONTROL, _OURS, *[_BYTE] * 256, *[_NORMAL] * len(WORDS)]
    return _file(
        {
            "general.architecture": "llama",
            "general.name": "tiny",
            "llama.context_length": CONTEXT_TOKENS,
            "llama.embedding_length": WIDTH,
            "llama.block_count": 1,
            "llama.feed_forward_length": HIDDEN,
            "llama.attention.head_count": HEADS,
            "llama.rope.dimension_count": WIDTH // HEADS,
            "llama.attention.layer_norm_rms_epsilon": 1e-5,
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": tokens,
            "tokenizer.ggml.scores": [0.0] * len(tokens),
            "tokenizer.ggml.token_type": kinds,
            "tokenizer.ggml.bos_token_id": 1,
            "tokenizer.ggml.eos_token_id": END_TOKEN,
            "tokenizer.ggml.unknown_token_id": 0,
            "tokenizer.ggml.add_space_prefix": False,  # a grammar would stumble over it
            "tokenizer.chat_template": TEMPLATE,
        },
        _tensors(random.Random(seed), len(tokens)),
    )


def _tensors(chance: random.Random, vocabulary: int) -> dict[str, tuple[list[int], list[float]]]:
    def drawn(*shape: int) -> tuple[list[int], list[float]]:
        count = shape[0] * (shape[1] if len(shape) > 1 else 1)
        return list(shape), [chance.gauss(0, 0.3) for _ in range(count)]

    ones: tuple[list[int], list[float]] = ([WIDTH], [1.0] * WIDTH)
    silent = [0.0] * WIDTH * (vocabulary - len(WORDS))
    _, loud = drawn(WIDTH, len(WORDS))
    return {
        "token_embd.weight": drawn(WIDTH, vocabulary),
        "output_norm.weight": ones,
        "output.weight": ([WIDTH, vocabulary], silent + loud),
        "blk.0.attn_norm.weight": ones,
        "blk.0.attn_q.weight": drawn(WIDTH, WIDTH),
        "blk.0.attn_k.weight": drawn(WIDTH, WIDTH),
        "blk.0.attn_v.weight": drawn(WIDTH, WIDTH),
        "blk.0.attn_output.weight": drawn(WIDTH, WIDTH),
        "blk.0.ffn_norm.weight": ones,
        "blk.0.ffn_gate.weight": drawn(WIDTH, HIDDEN),
        "blk.0.ffn_up.weight": drawn(WIDTH, HIDDEN),
        "blk.0.ffn_down.weight": drawn(HIDDEN, WIDTH),
    }


def _file(facts: dict[str, Value], tensors: dict[str, tuple[list[int], list[float]]]) -> bytes:
    arrays = [_padded(struct.pack(f"<{len(each)}f", *each)) for _, each in tensors.values()]
    offsets = accumulate(map(len, arrays), initial=0)
    table = b"".join(
        _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, offset)
        for (name, (shape, _)), offset in zip(tensors.items(), offsets, strict=False)
    )
    told = b"".join(_text(name) + _value(value) for name, value in facts.items())
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(facts))
    return _padded(head + told + table) + b"".join(arrays)


def _value(value: Value) -> bytes:
    match value:
        case str():
            return struct.pack("<I", 8) + _text(value)
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
    return struct.pack("<I", 9) + _array(value)


def _array(items: Iterable[str] | Iterable[int] | Iterable[float]) -> bytes:
    found = list(items)
    kind, one = {str: (8, ""), int: (5, "i"), float: (6, "f")}[type(found[0])]
    head = struct.pack("<IQ", kind, len(found))
    if one:
        return head + struct.pack(f"<{len(found)}{one}", *found)
    return head + b"".join(_text(str(each)) for each in found)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % _ALIGNMENT)
