"""Builders of the smallest models, tokenizers and splits that behave like real ones."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compress.batch import Encoded, Examples, Splits
from compress.bench import measure
from compress.text_model import TextModel, masked_mean

COLOURS = ("red", "blue", "dark green", "crème", "schwarz")
THINGS = ("running shoes", "usb-c charger", "coffee machine", "kettle", "trail shoe", "naïve art print")
DETAILS = ("size 42", "65 w", "1.7 l", "for kids", "with gift box!", "model x-200")
SYLLABLES = ("ka", "lo", "mi", "ren", "so", "tu", "vex", "wy", "zor", "pel")


def brand(number: int) -> str:
    """One of 1,000 invented names."""
    return "".join(SYLLABLES[number // 10**place % 10] for place in range(3))


CORPUS = tuple(
    f"{colour} {thing} {brand(37 * number)} {detail}"
    for number, (colour, thing, detail) in enumerate(product(COLOURS, THINGS, DETAILS))
)
"""180 product titles."""


def one_thread() -> Iterator[None]:
    """Torch on one thread for a while: quicker for small things, sums in one order, and a fork is safe."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def quick_bench() -> Iterator[None]:
    """A bench that hardly warms up, for tests that quote no times: on a busy machine it takes as long as it may."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "WARM_SECONDS", 0.1)
        yield


class ToyModel(TextModel):
    """Token embeddings, dropout, their mean, batch normalisation, a linear layer; all that a loop can get wrong."""

    def __init__(self, *, vocabulary: int = 40, width: int = 6, classes: int = 3, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers, self.width, self.input_names = 1, width, ("input_ids", "attention_mask")
        self.embedding = nn.Embedding(vocabulary, width)
        self.dropout = nn.Dropout(0.3)
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, classes)

    def forward(self, *inputs: Tensor, hidden: Sequence[int] = ()) -> Any:
        ids, mask = inputs
        pooled = masked_mean(self.dropout(self.embedding(ids)), mask)
        logits = self.head(self.norm(pooled))
        return (logits, pooled.unsqueeze(1)) if hidden else logits

    def head_parameters(self) -> list[nn.Parameter]:
        return list(self.head.parameters())


def toy_encoded(rows: int, *, vocabulary: int = 40, longest: int = 12, seed: int = 0) -> Encoded:
    """Random token rows of 2 to `longest` tokens; 0 is padding."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(2, longest + 1, rows)
    ids = [generator.integers(1, vocabulary, length).astype(np.int32) for length in lengths]
    return Encoded(ids=ids, type_ids=[np.zeros_like(row) for row in ids], lengths=lengths, pad_id=0)


def wordpiece_json(size: int = 400, corpus: Sequence[str] = CORPUS) -> str:
    """A lower-casing WordPiece tokenizer with a BERT template, trained on a corpus."""
    from compress.students.vocabulary import train

    return train(corpus, size, None).tokenizer_json


def byte_bpe(size: int = 600, corpus: Sequence[str] = CORPUS) -> Any:
    """A byte-level BPE tokenizer as GPT-2 has it: no template, one special token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus, trainer)
    return tokenizer


def unigram_json(size: int = 300, corpus: Sequence[str] = CORPUS) -> str:
    """A Unigram tokenizer as XLM-RoBERTa has it: <s> a </s></s> b </s>."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=size, special_tokens=specials, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", tokenizer.token_to_id("<s>")), ("</s>", tokenizer.token_to_id("</s>"))],
    )
    return str(tokenizer.to_str())


def bert_folder(folder: Path, labels: Sequence[str] = ("a", "b", "c"), **changes: Any) -> Path:
    """A BERT classifier with random weights and a WordPiece tokenizer, as save_pretrained writes it.

    Weights are larger than BERT starts with, so that answers differ visibly.
    """
    from tokenizers import Tokenizer
    from transformers import BertConfig, BertForSequenceClassification

    text = wordpiece_json()
    sizes: dict[str, Any] = {
        "vocab_size": Tokenizer.from_str(text).get_vocab_size(),
        "hidden_size": 32,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 40,
        "initializer_range": 0.2,
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
    }
    torch.manual_seed(1)
    model = BertForSequenceClassification(BertConfig(**(sizes | changes)))
    nn.init.normal_(model.classifier.bias)
    model.save_pretrained(folder, safe_serialization=True)
    _wrap(text, folder, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]")
    return folder


def gpt2_folder(folder: Path, labels: Sequence[str] = ("a", "b", "c"), *, pad: bool = True) -> Path:
    """A GPT-2 classifier with random weights and a byte-level BPE tokenizer; `pad`: whether it has an end token."""
    from transformers import GPT2Config, GPT2ForSequenceClassification

    tokenizer = byte_bpe()
    torch.manual_seed(2)
    config = GPT2Config(
        vocab_size=tokenizer.get_vocab_size(),
        n_embd=32,
        n_layer=4,
        n_head=4,
        n_positions=40,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    GPT2ForSequenceClassification(config).save_pretrained(folder, safe_serialization=True)
    named = {"eos_token": "<|endoftext|>"} if pad else {}
    _wrap(tokenizer.to_str(), folder, model_input_names=["input_ids", "attention_mask"], **named)
    return folder


def llama_folder(folder: Path, labels: Sequence[str] = ("a", "b", "c")) -> Path:
    """A Llama classifier, which takes no type ids, with a tokenizer that was saved as giving them."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    tokenizer = byte_bpe()
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=40,
        initializer_range=0.2,
        pad_token_id=0,
        eos_token_id=0,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )
    LlamaForSequenceClassification(config).save_pretrained(folder, safe_serialization=True)
    _wrap(tokenizer.to_str(), folder, eos_token="<|endoftext|>")
    return folder


def _wrap(tokenizer_json: str, folder: Path, **named: Any) -> None:
    """Save a tokenizer the way a model's folder has it."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(tokenizer_json), **named).save_pretrained(folder)


def edit_json(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def examples(rows: int, *, pairs: bool = False, classes: int = 3, seed: int = 0, prefix: str = "") -> Examples:
    """Product titles whose label is the colour; with `pairs` a second title, and whether both are the same colour."""
    generator = np.random.default_rng(seed)
    first, second = generator.integers(0, len(CORPUS), (2, rows))
    per_colour = len(CORPUS) // len(COLOURS)
    labels = (first // per_colour) % classes
    if pairs:
        labels = (first // per_colour == second // per_colour).astype(np.int64)
    return Examples(
        ids=[f"{prefix}{i}" for i in range(rows)],
        texts=[CORPUS[i] for i in first],
        pairs=[CORPUS[i] for i in second] if pairs else None,
        labels=labels.astype(np.int64),
    )


def splits(*, pairs: bool = False, rows: int = 96, unlabeled: int = 0) -> Splits:
    """Train, validation and test of `examples`."""
    extra = examples(unlabeled, pairs=pairs, seed=4, prefix="u") if unlabeled else None
    return Splits(
        train=examples(rows, pairs=pairs, seed=1, prefix="a"),
        validation=examples(rows // 2, pairs=pairs, seed=2, prefix="v"),
        test=examples(rows // 2, pairs=pairs, seed=3, prefix="t"),
        unlabeled=extra,
        labels=("0", "1") if pairs else ("a", "b", "c"),
        fingerprint="tiny",
    )
