"""A model file of a few hundred kB whose weights are a table: each byte names the next.

One-hot embeddings, attention and feed-forward of zero, and an output matrix that is the
table of transitions: greedy decoding follows it. The template ends a prompt with one
control character when a tool is to be called and another when an answer is wanted; the
server's grammar forces the rest of the call.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

try:
    import gguf
    import numpy as np
except ModuleNotFoundError:  # the tests say so and are skipped
    gguf = np = None

ANSWER = "It works."
"""No character twice: each is followed by one other."""
ENDLESS = "forever"
"""As the last message, what is answered until someone stops it."""
CONTEXT_TOKENS = 32_768
_CALL, _SPEAK, _BABBLE = "\x01", "\x02", "\x03"
_WORDS = ("<tool_call>", "</tool_call>")
_HEADS, _FORWARD = 5, 32
_SPECIAL = ("<unk>", "<s>", "</s>")
_SURE = 12.0
_LIKING = {
    "</s>": 8.0,
    "</tool_call>": 7.0,
    "}": 6.0,
    '"': 5.0,
    "0": 2.0,
    "1": 1.0,
    " ": -6.0,
    "\n": -6.0,
    "\t": -6.0,
}
"""Where a grammar leaves a choice, the model would rather end."""

TEMPLATE = (
    "{%- if tools %}{{- '<|im_start|>system\\n# Tools\\n<tools>' }}"
    "{%- for tool in tools %}{{- '\\n' }}{{- tool | tojson }}{%- endfor %}"
    "{{- '\\n</tools>\\nFor each call return <tool_call>\\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\\n</tool_call>'
    "<|im_end|>\\n' }}{%- endif %}"
    "{%- for message in messages %}"
    "{%- if message.role == 'tool' %}"
    "{{- '<|im_start|>user\\n<tool_response>\\n' + message.content }}"
    "{{- '\\n</tool_response><|im_end|>\\n' }}"
    "{%- elif message.role == 'assistant' %}"
    "{{- '<|im_start|>assistant\\n' + (message.content or '') }}"
    "{%- if message.tool_calls %}{%- for call in message.tool_calls %}"
    '{{- \'\\n<tool_call>\\n{"name": "\' + call.function.name + \'", "arguments": \' }}'
    "{{- call.function.arguments | tojson }}{{- '}\\n</tool_call>' }}"
    "{%- endfor %}{%- endif %}{{- '<|im_end|>\\n' }}"
    "{%- else %}"
    "{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{%- endif %}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}"
    "{%- if messages[-1].content == '" + ENDLESS + "' %}{{- '" + _BABBLE + "' }}"
    "{%- elif tools and messages[-1].role != 'tool' %}{{- '" + _CALL + "' }}"
    "{%- else %}{{- '" + _SPEAK + "' }}{%- endif %}{%- endif %}"
)


def write_model(path: Path) -> None:
    """Write the model file."""
    tokens = [*_SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *_WORDS]
    kinds = [2, 3, 3, *[6] * 256, *[4] * len(_WORDS)]
    size = -(-len(tokens) // 64) * 64
    tokens += [f"<unused{n}>" for n in range(size - len(tokens))]
    kinds += [5] * (size - len(kinds))
    place = {text: number for number, text in enumerate(tokens)}
    place |= {chr(byte): place[f"<0x{byte:02X}>"] for byte in range(256)}
    writer = gguf.GGUFWriter(path, "llama")
    _describe(writer, size)
    _add_vocabulary(writer, tokens, kinds)
    _add_weights(writer, size, _transitions(size, place))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _describe(writer: gguf.GGUFWriter, size: int) -> None:
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(size)
    writer.add_block_count(1)
    writer.add_feed_forward_length(_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_rope_dimension_count(size // _HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _add_vocabulary(
    writer: gguf.GGUFWriter, tokens: list[str], kinds: list[int]
) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_space_prefix(False)  # with it, every grammar is refused
    writer.add_chat_template(TEMPLATE)


def _transitions(size: int, place: dict[str, int]) -> np.ndarray:
    """Row: the next token; column: the present one."""
    table = np.zeros((size, size), dtype=np.float32)
    for text, liking in _LIKING.items():
        table[place[text], :] = liking
    script = [_SPEAK, *ANSWER, "</s>"]
    for now, following in pairwise(script):
        table[place[following], place[now]] = _SURE
    pairs = [(_CALL, "<tool_call>"), ("<tool_call>", "\n")]
    pairs += [(_BABBLE, "a"), ("a", "b"), ("b", "a")]
    for now, following in pairs:
        table[place[following], place[now]] = _SURE
    return table / np.float32(np.sqrt(size))  # what the norm makes of a one-hot vector


def _add_weights(writer: gguf.GGUFWriter, size: int, table: np.ndarray) -> None:
    one, zero = np.ones, np.zeros
    writer.add_tensor("token_embd.weight", np.eye(size, dtype=np.float32))
    writer.add_tensor("output.weight", table)
    writer.add_tensor("output_norm.weight", one(size, dtype=np.float32))
    for name in ("attn_norm", "ffn_norm"):
        writer.add_tensor(f"blk.0.{name}.weight", one(size, dtype=np.float32))
    for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
        writer.add_tensor(f"blk.0.{name}.weight", zero((size, size), dtype=np.float32))
    for name, shape in (
        ("ffn_gate", (32, size)),
        ("ffn_up", (32, size)),
        ("ffn_down", (size, 32)),
    ):
        writer.add_tensor(f"blk.0.{name}.weight", zero(shape, dtype=np.float32))
