"""The torch operators against the onnx package's own node tests."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from flux_face.nodes.face.runtime.onnx_model import parse_model
from flux_face.nodes.face.runtime.torch_ops import OPERATORS
from flux_face.nodes.face.runtime.torch_program import NEWEST_OPSET, Program, UnsupportedGraphError

Array = npt.NDArray[Any]
CPU = torch.device("cpu")

# Node tests that are not run: a pattern for the names, and what the engine must say in refusing them.
REFUSED = {
    r"test_(add|sub|mul|div|mod|equal|greater|greater_equal|less|less_equal|max|min)_uint(16|32|64)(_expanded)?": (
        "of type uint(16|32|64)"
    ),
    r"test_pow_types_float32_uint(32|64)": "of type uint(32|64)",
    r"test_top_k_uint64": "of type uint64",
    r"test_equal_string(_broadcast)?": "of type string",
    r"test_cast(like)?_.*(FLOAT8|e8m0).*": "of type float8",
    r"test_cast(like)?_.*U?INT4.*": "of type u?int4",
    r"test_cast(like)?_.*U?INT2.*": "of type u?int2",
    r"test_cast(like)?_.*FLOAT4E2M1.*": "of type float4",
    r"test_identity_(sequence|opt)": "of type no tensor",
    r"test_batchnorm_(example|epsilon)_training_mode": r"BatchNormalization \(y\) with training_mode=1",
    r"test_training_dropout.*": r"Dropout \(y\) with training_mode",
}

# Operators of which the package has no test, since their results are up to the runtime; they have their own below.
WITHOUT_NODE_TEST = {"RandomNormal", "RandomNormalLike"}

# How far results may differ: relative and absolute.
TOLERANCES = {torch.float16: (2e-3, 1e-3), torch.bfloat16: (2e-2, 8e-3)}
TOLERANCE = (1e-3, 1e-5)


@dataclass(frozen=True)
class Case:
    """One of the package's tests."""

    name: str
    model: bytes
    operators: frozenset[str]
    data: Sequence[tuple[Sequence[Any], Sequence[Any]]]


@pytest.fixture(scope="module")
def cases() -> list[Case]:
    """The node tests of which we claim every operator."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        # The package overflows on purpose.
        warnings.simplefilter("ignore")
        collected = collect_testcases(None)
    result = []
    for item in collected:
        operators = frozenset(node.op_type for node in item.model.graph.node)
        if operators <= OPERATORS.keys() and all(node.domain in ("", "ai.onnx") for node in item.model.graph.node):
            result.append(Case(item.name, item.model.SerializeToString(), operators, item.data_sets))
    return result


def refusal(name: str) -> str | None:
    """What the engine must say of a node test, or None where it must run."""
    return next((words for pattern, words in REFUSED.items() if re.fullmatch(pattern, name)), None)


def as_tensor(value: Any) -> torch.Tensor:
    array = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())


def compare(got: Sequence[torch.Tensor], expected: Sequence[Any]) -> None:
    for ours, theirs in zip(got, map(as_tensor, expected), strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        relative, absolute = TOLERANCES.get(ours.dtype, TOLERANCE)
        torch.testing.assert_close(ours, theirs, rtol=relative, atol=absolute, equal_nan=True)


def run_case(case: Case) -> None:
    program = Program(parse_model(case.model), CPU)
    for inputs, outputs in case.data:
        feeds = {info.name: as_tensor(value) for info, value in zip(program.inputs, inputs, strict=True)}
        with torch.inference_mode():
            compare(program(feeds), outputs)


def failures(cases: Sequence[Case]) -> list[str]:
    problems = []
    for case in cases:
        try:
            run_case(case)
        except Exception as error:
            # All are wanted in one message.
            problems.append(f"{case.name}: {error}")
    return problems


@pytest.mark.parametrize("name", sorted(OPERATORS.keys() - WITHOUT_NODE_TEST))
def test_operator(name: str, cases: list[Case]) -> None:
    mine = [case for case in cases if case.operators == {name} and refusal(case.name) is None]
    if not mine:
        # Size of a few only in larger graphs.
        mine = [case for case in cases if name in case.operators and refusal(case.name) is None]
    assert mine, f"no node test has {name}"
    assert not failures(mine)


def test_graphs_of_several_operators(cases: list[Case]) -> None:
    several = [case for case in cases if len(case.operators) > 1 and refusal(case.name) is None]
    assert len(several) > 200
    assert not failures(several)


def test_what_is_not_run_is_refused_by_name(cases: list[Case]) -> None:
    problems = []
    for case in cases:
        words = refusal(case.name)
        if words is None:
            continue
        try:
            Program(parse_model(case.model), CPU)
            problems.append(f"{case.name} is not refused")
        except UnsupportedGraphError as error:
            if not re.search(words, str(error)):
                problems.append(f"{case.name}: {error}")
    assert not problems


def test_the_table_of_refusals_has_no_stale_entries(cases: list[Case]) -> None:
    names = [case.name for case in cases]
    unused = [pattern for pattern in REFUSED if not any(re.fullmatch(pattern, name) for name in names)]
    assert not unused
    assert OPERATORS.keys() >= WITHOUT_NODE_TEST
    assert not {name for case in cases for name in case.operators} & WITHOUT_NODE_TEST


def test_the_newest_operator_set_is_the_one_that_was_tested() -> None:
    assert onnx.defs.onnx_opset_version() == NEWEST_OPSET


@pytest.mark.parametrize(
    ("kind", "opset", "settings", "words"),
    [
        ("Gather", 13, {"mode": 1}, r"Gather \(y0\) with attribute mode"),
        ("Add", 6, {"broadcast": 1}, r"Add \(y0\) with attribute broadcast"),
        ("BatchNormalization", 8, {"spatial": 0}, r"BatchNormalization \(y0\) with spatial=0"),
        ("Resize", 19, {"mode": "lanczos"}, r"Resize \(y0\) with mode=lanczos"),
        ("Pad", 10, {"mode": "mirror"}, r"Pad \(y0\) with mode=mirror"),
        ("Cast", 13, {"to": TensorProto.UINT32}, r"Cast \(y0\) with element type uint32"),
        ("LpNormalization", 13, {"p": 3}, r"LpNormalization \(y0\) with p=3"),
        ("LayerNormalization", 17, {"stash_type": 16}, r"LayerNormalization \(y0\) with stash_type=16"),
        ("Softmax", 13, {"axis": 1.5}, r"Softmax \(y0\) with attribute axis of kind FLOAT"),
        ("Sigmoid", 13, {"outputs": 2}, r"Sigmoid \(y0\) with 2 outputs"),
        ("Conv", 13, {"ceil_mode": 1}, r"Conv \(y0\) with attribute ceil_mode"),
        ("Split", 18, {"num_outputs": 3}, r"Split \(y0\) with num_outputs=3"),
        ("Conv", NEWEST_OPSET + 1, {}, "operator set"),
    ],
)
def test_settings_that_are_not_implemented_are_refused(
    kind: str, opset: int, settings: dict[str, Any], words: str
) -> None:
    settings = dict(settings)
    outputs = settings.pop("outputs", 1)
    names = [f"y{index}" for index in range(outputs)]
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", *names)]
    graph = helper.make_graph([helper.make_node(kind, ["x"] * 5, names, **settings)], "g", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    with pytest.raises(UnsupportedGraphError, match=words):
        Program(parse_model(model.SerializeToString()), CPU)


def test_random_numbers_are_normal_and_the_same_in_every_run() -> None:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "a", "b", "c")]
    nodes = [
        helper.make_node("RandomNormalLike", ["x"], ["a"], mean=2.0, scale=0.5),
        helper.make_node("RandomNormalLike", ["x"], ["b"]),
        helper.make_node("RandomNormal", [], ["c"], shape=[3, 4], seed=7.0),
    ]
    model = parse_model(helper.make_model(helper.make_graph(nodes, "g", info[:1], info[1:])).SerializeToString())
    feeds = {"x": torch.zeros(2, 50_000)}
    first, again = Program(model, CPU)(feeds), Program(model, CPU)(feeds)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert first[0].mean().item() == pytest.approx(2.0, abs=0.01)
    assert first[0].std().item() == pytest.approx(0.5, abs=0.01)
    correlation = torch.corrcoef(torch.stack([first[0].reshape(-1), first[1].reshape(-1)]))[0, 1]
    assert abs(correlation.item()) < 0.02
    assert first[2].shape == (3, 4)
