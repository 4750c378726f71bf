"""Trains the byte-level BPE tokenizer that both starter models use, each with a configuration of its own.

Byte-level: any UTF-8 text round-trips. Digits stand alone, so that numbers can be copied from evidence.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

PAD, END, SYSTEM, USER, ASSISTANT = "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"
CLS, SEP, MASK = "[CLS]", "[SEP]", "[MASK]"
SPECIAL: Final = (PAD, END, SYSTEM, USER, ASSISTANT, CLS, SEP, MASK)
CHAT_TEMPLATE: Final = (
    "{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] | trim + '<|end|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
WORDS: Final = r" ?\p{L}[\p{L}\p{M}]*| ?\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def train(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """A byte-level BPE of at most `vocab_size` tokens; special tokens come first, pad is 0 and end is 1."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save(tokenizer: Tokenizer, directory: Path, config: dict[str, Any]) -> None:
    """tokenizer.json and tokenizer_config.json, as transformers reads them."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    text = json.dumps(config, indent=2, ensure_ascii=False)
    (directory / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def joining(bpe: Tokenizer) -> Tokenizer:
    """A copy that joins texts as BERT does: [CLS] a [SEP] b [SEP], with types 0 and 1."""
    copy = Tokenizer.from_str(bpe.to_str())
    copy.post_processor = processors.TemplateProcessing(
        single=f"{CLS} $A {SEP}",
        pair=f"{CLS} $A {SEP} $B:1 {SEP}:1",
        special_tokens=[(token, copy.token_to_id(token)) for token in (CLS, SEP)],
    )
    return copy


def policy_config(window: int) -> dict[str, Any]:
    """The policy's tokenizer_config.json: chat template, and `<|end|>` ends every message and the text."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,  # never sent: CTranslate2 wants one to exist
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": window,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }


def reward_config(window: int) -> dict[str, Any]:
    """The reward model's tokenizer_config.json, with BERT's roles."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "cls_token": CLS,
        "sep_token": SEP,
        "pad_token": PAD,
        "mask_token": MASK,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "model_max_length": window,
        "clean_up_tokenization_spaces": False,
    }
