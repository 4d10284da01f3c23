"""The tokenizer of an original InternVL2 checkpoint, without running its code."""

import json
from pathlib import Path
from typing import Any

from sentencepiece import SentencePieceProcessor
from tokenizers import AddedToken, Tokenizer, decoders, normalizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast, Qwen2Tokenizer
from transformers.convert_slow_tokenizer import generate_merges

from fcotvl.core.errors import CheckpointError
from fcotvl.core.prompts import SPECIAL_TOKENS, TURN_END

SPACE = "▁"


def read_tokenizer(folder: Path, chat_template: str) -> PreTrainedTokenizerFast:
    """Read the tokenizer in ``folder``: SentencePiece of InternLM2, or byte-level BPE of Qwen2.

    Raises:
        CheckpointError: its files are missing or of another kind.
    """
    if (folder / "tokenizer.model").exists():
        tokenizer = _internlm2(folder)
    elif (folder / "vocab.json").exists():
        tokenizer = Qwen2Tokenizer.from_pretrained(folder)
    else:
        raise CheckpointError(f"{folder} has neither tokenizer.model nor vocab.json; download it again")
    known = tokenizer.get_vocab()
    if missing := [token for token in SPECIAL_TOKENS if token not in known]:
        raise CheckpointError(f"the tokenizer in {folder} lacks {', '.join(missing)}")
    tokenizer.eos_token = TURN_END
    tokenizer.chat_template = chat_template
    tokenizer.padding_side = "left"
    return tokenizer


def _internlm2(folder: Path) -> PreTrainedTokenizerFast:
    pieces = SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    if pieces.normalize("ﬁ ①") != f"ﬁ{SPACE}①":
        raise CheckpointError(f"{folder / 'tokenizer.model'} rewrites characters; InternLM2's does not")
    names = [pieces.id_to_piece(i) for i in range(pieces.get_piece_size())]
    added = _added_tokens(folder)
    for number, content in added.items():
        if number < len(names):
            names[number] = content  # an unused piece that the chat model reuses
    scores = {
        name: pieces.get_score(i)
        for i, name in enumerate(names)
        if not (pieces.is_control(i) or pieces.is_unknown(i) or pieces.is_byte(i) or i in added)
    }
    vocab = {name: i for i, name in enumerate(names)}
    core = Tokenizer(
        BPE(vocab, generate_merges(vocab, scores), unk_token=names[pieces.unk_id()], fuse_unk=True, byte_fallback=True)
    )
    core.normalizer = normalizers.Replace(" ", SPACE)
    core.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    core.add_special_tokens(
        [
            AddedToken(content, normalized=False, special=True)
            for _, content in sorted({**_control(pieces, names), **added}.items())
        ]
    )
    for number, content in added.items():
        if core.token_to_id(content) != number:
            found = core.token_to_id(content)
            raise CheckpointError(f"{folder}: {content} became token {found}; expected {number}")
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        # InternLM2's own code drops spaces before punctuation whenever it decodes: "Smith , John" is read as
        # "Smith, John". transformers does so for BPE only where it is told twice.
        clean_up_tokenization_spaces=True,
        clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output=True,
        bos_token=names[pieces.bos_id()],
        unk_token=names[pieces.unk_id()],
        pad_token=names[pieces.eos_id()],
    )


def _control(pieces: SentencePieceProcessor, names: list[str]) -> dict[int, str]:
    """Control tokens (beginning and end of text) and the unknown token, by id."""
    return {i: names[i] for i in range(len(names)) if pieces.is_control(i) or pieces.is_unknown(i)}


def _added_tokens(folder: Path) -> dict[int, str]:
    """Tokens added to the SentencePiece model or put in place of its unused pieces, by id."""
    added: dict[int, str] = {}
    settings = folder / "tokenizer_config.json"
    if settings.exists():
        listed: dict[str, Any] = _json(settings).get("added_tokens_decoder", {})
        added.update({int(number): token["content"] for number, token in listed.items()})
    if (folder / "added_tokens.json").exists():
        added.update({number: token for token, number in _json(folder / "added_tokens.json").items()})
    return dict(sorted(added.items()))


def _json(path: Path) -> dict[str, Any]:
    try:
        read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is not JSON: {error}; download it again") from error
    return read
