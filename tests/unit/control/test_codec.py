"""Messages as lines: there and back, and what becomes of bytes that are none."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qfilter.control import codec
from qfilter.control.codec import decode_answer, decode_request, encode_answer, encode_request
from qfilter.control.messages import Answer, Change, Changed, ChangeSet, GetElements, Reload, Request
from qfilter.errors import ControlError
from tests.unit.control.values import ANSWERS, REQUESTS


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: each.kind)
def test_a_request_there_and_back(request_: Request) -> None:
    line = encode_request(request_)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert line.isascii()
    assert decode_request(line) == request_


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda each: each.kind)
def test_an_answer_there_and_back(answer: Answer) -> None:
    line = encode_answer(answer)
    assert line.count(b"\n") == 1
    assert decode_answer(line) == answer


def test_every_kind_of_message_is_tried() -> None:
    assert {type(each) for each in REQUESTS} == set(Request.__args__)
    assert {type(each) for each in ANSWERS} == set(Answer.__args__)


def test_the_form_is_what_other_programs_may_rely_on() -> None:
    assert encode_request(Reload(path="/p")) == b'{"version":1,"message":{"path":"/p","kind":"reload"}}\n'
    assert encode_answer(Changed(count=2)) == (
        b'{"version":1,"message":{"count":2,"refused":0,"absent":[],"kind":"changed"}}\n'
    )


SET = {"kind": "change-set", "set": "s", "change": "add"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"", "request: b'': invalid JSON: EOF"),
        (b"\xff\n", "request: b'\\xff\\n': invalid JSON: expected value"),
        (b"[" * 100_000, "recursion limit exceeded"),
        (b"[]", "request: []: input should be an object"),
        (b"{}", "request: version: {}: field required"),
        (b'{"version": 2, "message": {"kind": "reload"}}', "request: version: 2: input should be 1"),
        (b'{"version": 1, "message": {"kind": "stop"}}', "request: message: {'kind': 'stop'}: input tag 'stop' found"),
        (b'{"version": 1, "message": {"kind": "changed", "count": 1}}', "input tag 'changed'"),
        (
            b'{"version": 1, "message": {"kind": "reload", "path": 5}}',
            "message.reload.path: 5: input should be a valid",
        ),
        (
            b'{"version": 1, "message": {"kind": "reload", "paht": "/p"}}',
            "message.reload.paht: '/p': unexpected keyword",
        ),
        (json.dumps({"version": 1, "message": SET | {"timeout": 0}}).encode(), "timeout: 0: input should be greater"),
        (json.dumps({"version": 1, "message": SET | {"timeout": 1e9}}).encode(), "timeout: 1000000000.0: input should"),
        (
            b'{"version": 1, "message": {"kind": "change-set", "set": "s", "change": "add", "timeout": NaN}}',
            "timeout: nan",
        ),
        (
            json.dumps({"version": 1, "message": SET | {"change": "burn"}}).encode(),
            "change: 'burn': input should be 'add'",
        ),
        (json.dumps({"version": 1, "message": SET | {"elements": "ab"}}).encode(), "elements: 'ab': input should be a"),
        (b"x" * (codec.MAX_REQUEST + 1), f"request of {codec.MAX_REQUEST + 1} bytes: expected at most 1048576"),
    ],
)
def test_what_is_no_request(line: bytes, said: str) -> None:
    with pytest.raises(ControlError) as caught:
        decode_request(line)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_request_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(ControlError, match=r"request of \d+ bytes: expected at most 1048576"):
        encode_request(GetElements(set="x" * codec.MAX_REQUEST))


def test_an_answer_that_is_too_long_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_ANSWER", 10)
    with pytest.raises(ControlError, match=r"answer of \d+ bytes: expected at most 10"):
        encode_answer(Changed(count=1))
    with pytest.raises(ControlError, match=r"answer of 11 bytes: expected at most 10"):
        decode_answer(b"x" * 11)


@given(st.binary(max_size=200))
@example(b'{"version":1,"message":{"kind":"reload","path":"\\udcff"}}')
def test_no_bytes_raise_anything_else(line: bytes) -> None:
    for decode in (decode_request, decode_answer):
        with suppress(ControlError):
            decode(line)


@given(st.data())
def test_no_change_of_a_message_raises_anything_else(data: st.DataObject) -> None:
    line = bytearray(data.draw(st.sampled_from([*map(encode_request, REQUESTS), *map(encode_answer, ANSWERS)])))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(line) - 1))
        line[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        line += b" " * (not line)
    for decode in (decode_request, decode_answer):
        with suppress(ControlError):
            decode(bytes(line))


@given(st.text(), st.lists(st.text()))
def test_whatever_text_an_operator_types_is_one_line(name: str, elements: list[str]) -> None:
    request = ChangeSet(set=name, change=Change.ADD, elements=tuple(elements))
    line = encode_request(request)
    assert (line.count(b"\n"), line.isascii()) == (1, True)
    assert decode_request(line) == request
