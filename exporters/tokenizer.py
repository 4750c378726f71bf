"""A checkpoint's tokenizer as the two files of a release: tokenizer.json and tokenizer_config.json."""

import json
from pathlib import Path
from typing import Any, Final

from exporters.errors import ExportError, explained
from exporters.source import Checkpoint

SPECIAL: Final = ("bos_token", "eos_token", "unk_token", "pad_token", "cls_token", "sep_token", "mask_token")
FILES: Final = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
PLAIN_TEMPLATE: Final = (
    "{{ bos_token }}{% for message in messages %}{{ message['role'] | capitalize }}: {{ message['content'] }}\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""For base models, which have no chat template: `User: ...` and `Assistant: ...` lines."""
PLAIN_STOP: Final = ("\nUser:",)
"""Where the answer of a base model ends: it would go on with the user's next turn."""


def load_fast(checkpoint: Checkpoint) -> Any:
    """The checkpoint's fast tokenizer, converted from a slow one when that is possible. Raises ExportError."""
    from transformers import AutoTokenizer

    # Without files transformers makes up a tokenizer that knows no word.
    if not any(found for pattern in FILES for found in checkpoint.path.glob(pattern)):
        raise ExportError(f"{checkpoint.name} has no tokenizer: save the tokenizer into the model's directory.")
    with explained(f"{checkpoint.name} has no usable tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(checkpoint.path, use_fast=True)
    if not getattr(tokenizer, "is_fast", False):
        raise ExportError(
            f"{checkpoint.name} has a slow tokenizer that can't be made a tokenizer.json: use a model that ships one."
        )
    return tokenizer


def save(tokenizer: Any, directory: Path, chat_template: str | None = None) -> None:
    """Writes both files into `directory`; truncation and padding are left to the serializer."""
    directory.mkdir(parents=True, exist_ok=True)
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.save(str(directory / "tokenizer.json"))
    config = {name: str(token) for name in SPECIAL if (token := getattr(tokenizer, name, None)) is not None}
    if chat_template is not None:
        config["chat_template"] = chat_template
    _write_json(directory / "tokenizer_config.json", config)


def save_verbatim(tokenizer: Any, directory: Path, template: str) -> None:
    """The tokenizer of an engine that tokenises rendered prompts itself: of a text it makes that text's tokens alone.

    Templates write what begins a text, and most families' tokenizers would put it there once more. The class is the
    plain one, which takes tokenizer.json as it is: a family's own builds its rule for special tokens anew.
    """
    save(tokenizer, directory, template)
    rules = directory / "tokenizer.json"
    _write_json(rules, {**json.loads(rules.read_bytes()), "post_processor": None})
    config = directory / "tokenizer_config.json"
    plain = {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": False, "add_eos_token": False}
    _write_json(config, {**json.loads(config.read_bytes()), **plain, "clean_up_tokenization_spaces": False})


def _write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def chat_template(tokenizer: Any) -> str:
    """The tokenizer's chat template, or the plain one of base models."""
    found = getattr(tokenizer, "chat_template", None)
    if isinstance(found, dict):
        found = found.get("default") or next(iter(found.values()), None)
    if found:
        return str(found)
    return PLAIN_TEMPLATE if tokenizer.bos_token else PLAIN_TEMPLATE.removeprefix("{{ bos_token }}")


def shows_functions(tokenizer: Any) -> bool:
    """Whether the tokenizer's chat template shows the model the functions that it may call: it was trained to, then."""
    if not getattr(tokenizer, "chat_template", None):
        return False
    name, empty = "probe_of_functions", {"type": "object", "properties": {}}
    probe = {"type": "function", "function": {"name": name, "description": "None.", "parameters": empty}}
    message = {"role": "user", "content": "Hello"}
    try:
        return name in tokenizer.apply_chat_template([message], tools=[probe], tokenize=False)
    except Exception:  # a template may stumble over functions in any way
        return False
