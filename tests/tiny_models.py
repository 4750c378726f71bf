"""Tiny random Hugging Face models of the kinds that people bring, made in a moment."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

TEXTS = [
    "The parcel arrives on Tuesday, in two days.",
    "You can return the lamp within thirty days and get the money back.",
    "Đơn hàng của bạn sẽ đến vào thứ Ba. Cảm ơn bạn!",
    "Xin chào, tôi có thể giúp gì cho bạn?",
    "Smile 😀 and thank you 🎉, שלום עולם, مرحبا",
    "How do I track my order? Ask the help desk, it answers quickly.",
]
HEADS = ("overall", "accuracy", "helpfulness", "clarity", "safety")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "<|{{ message['role'] }}|>{{ message['content'] }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def llama(home: Path, *, hidden: int = 64, layers: int = 2, vocab: int = 600, chat_template: bool = True) -> Path:
    """A random LlamaForCausalLM with a byte-level BPE tokenizer in the directory `home`."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    size = _byte_tokenizer(home, vocab, CHAT_TEMPLATE if chat_template else None)
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=hidden,
        intermediate_size=hidden * 2,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(home)
    return home


def bert(home: Path, *, labels: int = 1, hidden: int = 64, layers: int = 2) -> Path:
    """A random BertForSequenceClassification with a WordPiece tokenizer in the directory `home`."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(HEADS))} if labels == len(HEADS) else {"num_labels": labels}
    config = BertConfig(vocab_size=_wordpiece(home), **names, **_encoder(hidden, layers, 512))
    _spread(BertForSequenceClassification(config)).save_pretrained(home)
    return home


def roberta(home: Path, *, labels: int = 2, hidden: int = 64, layers: int = 2) -> Path:
    """A random RobertaForSequenceClassification with a byte-level BPE tokenizer in the directory `home`."""
    import torch
    from transformers import RobertaConfig, RobertaForSequenceClassification

    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=_roberta_tokenizer(home),
        num_labels=labels,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        type_vocab_size=1,
        **_encoder(hidden, layers, 514),
    )
    _spread(RobertaForSequenceClassification(config)).save_pretrained(home)
    return home


def _encoder(hidden: int, layers: int, positions: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "intermediate_size": hidden * 2,
        "max_position_embeddings": positions,
    }


def _spread(model: Any) -> Any:
    """Larger weights: the usual initial ones score every text alike, and any order would pass for parity."""
    import torch

    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() == 2 and "embeddings" not in name:
                weight.mul_(5)
    return model


def _byte_tokenizer(home: Path, vocab: int, template: str | None) -> int:
    from transformers import PreTrainedTokenizerFast

    tokenizer = _byte_bpe(["<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"], vocab)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template=template,
    )
    fast.save_pretrained(home)
    return len(fast)


def _roberta_tokenizer(home: Path) -> int:
    from tokenizers.processors import RobertaProcessing
    from transformers import PreTrainedTokenizerFast

    tokenizer = _byte_bpe(["<s>", "<pad>", "</s>", "<unk>", "<mask>"], 500)
    tokenizer.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    )
    fast.save_pretrained(home)
    return len(fast)


def _wordpiece(home: Path) -> int:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from tokenizers.processors import BertProcessing
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer.train_from_iterator(TEXTS, trainers.WordPieceTrainer(special_tokens=special, vocab_size=400))
    tokenizer.post_processor = BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    special_names = dict(zip(names, special, strict=True))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **special_names)
    fast.save_pretrained(home)
    return len(fast)


def _byte_bpe(special: Sequence[str], vocab: int) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=list(special), vocab_size=vocab, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer
