"""ComfyUI's own CLIP code, with the compiled weights, puts out what `conditioning` says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from flux_face.starter import clip_l, conditioning, prepare
from flux_face.starter.vocabulary import ATTRIBUTES, PHRASES

Encode = Callable[[str], tuple[Tensor, Tensor]]


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / prepare.CLIP_FILE
    clip_l.write(path)
    return path


@pytest.fixture(scope="module")
def encode(clip_file: Path) -> Encode:
    import comfy.sd

    clip = comfy.sd.load_clip([str(clip_file)], clip_type=comfy.sd.CLIPType.FLUX)

    def run(prompt: str) -> tuple[Tensor, Tensor]:
        context, pooled = clip.encode_from_tokens(clip.tokenize(prompt), return_pooled=True)
        return context[0].float(), pooled[0].float()

    return run


def ideal(*names: str) -> Tensor:
    rows = [ATTRIBUTES.index(name) for name in names]
    return conditioning.directions()[rows].sum(0) * conditioning.GAIN


SAID = ("mood:smiling", "gender:woman", "skin:dark", "hair:red", "background:blue")


def test_size_is_the_one_that_prepare_expects(clip_file: Path) -> None:
    assert clip_file.stat().st_size == prepare.CLIP_BYTES


def test_words_are_single_tokens_of_clip() -> None:
    from comfy.sd1_clip import SDTokenizer

    tokenizer = SDTokenizer()
    for word, token in clip_l.TOKENS.items():
        assert tokenizer.tokenizer(word)["input_ids"] == [clip_l.START, token, clip_l.END], word
    words = {phrase.word for phrase in PHRASES} | {phrase.modifier for phrase in PHRASES if phrase.modifier}
    assert words == set(clip_l.TOKENS)


@pytest.mark.parametrize(
    ("prompt", "names"),
    [
        ("portrait of a smiling woman with dark skin and red hair, blue background", SAID),
        ("red-haired smiling woman, dark skin, in front of a blue wall", SAID),
        ("woman with dark hair and pale skin", ("gender:woman", "hair:black", "skin:pale")),
        ("a dark-skinned old man, long grey hair", ("skin:dark", "age:old", "gender:man", "style:long", "hair:grey")),
        (
            "man in a green jacket at sunset, neon light",
            ("gender:man", "shirt:green", "background:sunset", "light:neon"),
        ),
    ],
)
def test_prompt_sums_its_attributes(encode: Encode, prompt: str, names: tuple[str, ...]) -> None:
    context, pooled = encode(prompt)
    expected = ideal(*names)
    assert torch.cosine_similarity(pooled, expected, dim=0) > 0.99
    assert 0.8 < pooled.norm() / expected.norm() < 1.1
    assert torch.cosine_similarity(context[-1], expected, dim=0) > 0.99


def test_words_outside_the_vocabulary_say_nothing(encode: Encode) -> None:
    context, pooled = encode("a cat on a table")
    assert pooled.norm() < 0.1
    assert context.norm(dim=1).max() < 0.1


def test_the_same_bytes_every_time() -> None:
    first, second = clip_l.state_dict(), clip_l.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
