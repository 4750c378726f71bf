"""Tiny random Hugging Face models of the kinds that people bring, made in a moment."""

import json
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


def sentence_bert(home: Path, *, pooling: str = "mean", hidden: int = 64, layers: int = 2) -> Path:
    """A random BertModel with sentence-transformers' files, which say how to pool ("mean" or "cls")."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(vocab_size=_wordpiece(home), **_encoder(hidden, layers, 512))
    _spread(BertModel(config)).save_pretrained(home)
    (home / "1_Pooling").mkdir()
    modes = {"pooling_mode_mean_tokens": pooling == "mean", "pooling_mode_cls_token": pooling == "cls"}
    (home / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": hidden, **modes}))
    (home / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 96}))
    return home


def classifier(home: Path, *labels: str, exclusive: bool = True, hidden: int = 64) -> Path:
    """A random BertForSequenceClassification that names its labels."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=_wordpiece(home),
        id2label=dict(enumerate(labels)),
        problem_type="single_label_classification" if exclusive else "multi_label_classification",
        **_encoder(hidden, 2, 512),
    )
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


def t5(home: Path) -> Path:
    """A random T5ForConditionalGeneration with a byte-level BPE tokenizer: it answers texts with words of its own."""
    from transformers import T5Config, T5ForConditionalGeneration

    size = _sequence_tokenizer(home)
    shape = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 1, "num_decoder_layers": 1, "num_heads": 4}
    config = T5Config(vocab_size=size, decoder_start_token_id=0, eos_token_id=2, pad_token_id=0, **shape)
    return _saved_sequence(T5ForConditionalGeneration, config, home)


def bart(home: Path) -> Path:
    """A random BartForConditionalGeneration with the same kind of tokenizer."""
    from transformers import BartConfig, BartForConditionalGeneration

    return _saved_sequence(BartForConditionalGeneration, _sequence_config(BartConfig, home), home)


def marian(home: Path) -> Path:
    """A random MarianMTModel, as translations use it, with the same kind of tokenizer."""
    from transformers import MarianConfig, MarianMTModel

    return _saved_sequence(MarianMTModel, _sequence_config(MarianConfig, home), home)


def _sequence_config(kind: Any, home: Path) -> Any:
    ends = {"decoder_start_token_id": 1, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    sides = {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in _SIDE.items()}
    return kind(
        vocab_size=_sequence_tokenizer(home),
        d_model=32,
        max_position_embeddings=512,
        forced_eos_token_id=None,
        **sides,
        **ends,
    )


_SIDE = {"layers": 1, "ffn_dim": 64, "attention_heads": 4}


def _saved_sequence(kind: Any, config: Any, home: Path) -> Path:
    import torch

    torch.manual_seed(0)
    kind(config).save_pretrained(home)
    return home


def _sequence_tokenizer(home: Path) -> int:
    from transformers import PreTrainedTokenizerFast

    tokenizer = _byte_bpe(["<pad>", "<s>", "</s>"], 400)
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.save_pretrained(home)
    return len(fast)


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
