"""Trains the byte-level BPE tokenizer that both starter models use, each with a configuration of its own.

Byte-level: any UTF-8 text round-trips. Numbers are tokens of up to three digits, grouped from the right as people write
thousands and without the space before them: 860,000 and 860000 share their tokens, and copying a number from the
evidence or comparing two is one step for a model.
"""

import json
import re
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
NUMBERS: Final = r"[0-9]{1,3}(?=(?:[0-9]{3}){0,4}(?![0-9]))"
"""Digits in groups of three from the right; of more than fifteen the first stand alone (bounded work a digit)."""
WORDS: Final = NUMBERS + r"| ?\p{L}[\p{L}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


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
    tokenizer.train_from_iterator((re.sub("[0-9]", " ", text) for text in texts), trainer)
    return with_numbers(tokenizer)


def with_numbers(tokenizer: Tokenizer) -> Tokenizer:
    """A copy in which each text of one to three digits is one token, also 007."""
    raw = json.loads(tokenizer.to_str())
    vocabulary, merges = raw["model"]["vocab"], raw["model"]["merges"]
    pairs = [f"{number:02d}" for number in range(100)]
    triples = [f"{number:03d}" for number in range(1000)]
    for text in (*pairs, *triples):
        vocabulary.setdefault(text, len(vocabulary))
    merges += [[text[0], text[1]] for text in pairs]
    merges += [[text[:cut], text[cut:]] for text in triples for cut in (1, 2)]
    return Tokenizer.from_str(json.dumps(raw))


def numbers(tokenizer: Tokenizer) -> list[int]:
    """The ids of the tokens that are digits alone."""
    return [index for text, index in tokenizer.get_vocab().items() if text.isascii() and text.isdigit()]


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
