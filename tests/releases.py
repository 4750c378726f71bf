"""Release directories whose weights are a few bytes: enough for all that never computes."""

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from triton_models import manifest
from triton_models.manifest import Release

SPECIAL = {
    "bert": {"unk": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"},
    "roberta": {"unk": "<unk>", "pad_token": "<pad>", "cls_token": "<s>", "sep_token": "</s>"},
}
WORDS = [*"abcdefghij", "lamp", "parcel", "when", "where", "yes", "no", "chào", "bạn"]


def word_tokenizer(format_name: str) -> Tokenizer:
    """A tokenizer that knows WORDS, one id each, and the special tokens of the format."""
    special = SPECIAL[format_name]
    tokenizer = Tokenizer(models.WordLevel(unk_token=special["unk"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.WordLevelTrainer(special_tokens=list(special.values()))
    tokenizer.train_from_iterator([WORDS], trainer)
    return tokenizer


def reward_directory(path: Path, format_name: str = "bert", **changes: Any) -> Path:
    """A reward release in the directory `path`, named by it."""
    spec = {"format": format_name, "max_length": 16, "token_type_ids": format_name == "bert"}
    fields = {"kind": "reward", "serializer": spec, "outputs": ("score", "logit"), "threshold": 0.6, **changes}
    (path / "1").mkdir(parents=True)
    (path / "1" / "model.onnx").write_bytes(b"weights")
    return _written(path, format_name, fields)


def policy_directory(path: Path) -> Path:
    """A policy release in the directory `path`, named by it."""
    spec = {"max_input_tokens": 96, "max_context": 128, "chat_template": True, "seeded": False}
    (path / "1" / "ct2").mkdir(parents=True)
    (path / "1" / "ct2" / "model.bin").write_bytes(b"weights")
    return _written(path, "roberta", {"kind": "policy", "serializer": spec, "outputs": ("text_output",)})


def _written(path: Path, format_name: str, fields: dict[str, Any]) -> Path:
    (path / "tokenizer").mkdir()
    word_tokenizer(format_name).save(str(path / "tokenizer" / "tokenizer.json"))
    (path / "tokenizer" / "tokenizer_config.json").write_text("{}")
    common = {"base_model": "tiny", "architecture": "bert", "created_at": "2026-01-01T00:00:00Z", "code_version": "1"}
    manifest.write(path, Release(id=path.name, **{**common, **fields}))
    return path
