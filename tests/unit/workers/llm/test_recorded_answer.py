"""No answer is kept that holds a key, in whichever form the endpoint repeats it."""

from __future__ import annotations

import html
import itertools
import json
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from time import process_time
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.llm.completion_parser import CompletionAccumulator
from workers.llm.event_stream import DONE, EventStream
from workers.llm.recorded_answer import MayHoldSecret, kept_body, kept_text
from workers.llm.secret_text import Secrets

KEY = 'sk-pl/an"ted+can&ary='


def all_escaped(text: str) -> str:
    return "".join(f"\\u{ord(char):04X}" for char in text)


def in_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def in_url(text: str) -> str:
    escapes = re.compile("%[0-9A-F]{2}")
    return escapes.sub(lambda found: found[0].lower(), quote(text, safe=""))


def login(text: str) -> str:
    return b64encode(f"user:{text}".encode()).decode()


FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "escaped for JSON": in_json,
    "with slashes escaped": lambda text: in_json(text).replace("/", "\\/"),
    "as code units": all_escaped,
    "as an URL": quote,
    "as a part of an URL": in_url,
    "as HTML": html.escape,
    "as HTML by number": lambda text: "".join(f"&#x{ord(char):x};" for char in text),
    "as a login": login,
    "as a login in an URL": lambda text: quote(login(text), safe=""),
    "in base64 of URLs": lambda text: urlsafe_b64encode(f"k={text}".encode()).decode(),
    "in hex": lambda text: text.encode().hex(),
}


def document(text: str) -> str:
    message = {"role": "assistant", "content": f"it is {text}!"}
    return json.dumps({"choices": [{"index": 0, "message": message}]})


def stream(pieces: Sequence[str], *, arguments: bool = False) -> str:
    """Text, or the arguments of the second of two calls that alternate."""
    deltas: list[dict[str, object]] = []
    for piece in pieces:
        if not arguments:
            deltas.append({"content": piece})
            continue
        for index, part in enumerate(("x", piece)):
            call = {"index": index, "function": {"arguments": part}}
            deltas.append({"tool_calls": [call]})
    events = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    lines = [*map(json.dumps, events), "[DONE]"]
    return "".join(f"data: {line}\n\n" for line in lines)


def texts_of(kept: str) -> str:
    """Return all that a reader finds in an answer, its deltas joined."""
    if kept.startswith("{"):
        return json.dumps(json.loads(kept), ensure_ascii=False) + kept
    events = EventStream()
    contents, arguments = [], {0: "", 1: ""}
    for value in (*events.feed(kept.encode()), *events.end()):
        if value is DONE:
            continue
        delta = value["choices"][0]["delta"]
        contents.append(delta.get("content", ""))
        for call in delta.get("tool_calls", ()):
            arguments[call["index"]] += call["function"]["arguments"]
    return "\n".join(("".join(contents), *arguments.values(), kept))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("nested", [False, True])
def test_a_key_is_taken_out_in_every_form(form: str, nested: bool):
    shown = FORMS[form](KEY)
    text = json.dumps({"said": shown}) if nested else shown
    secrets = Secrets([KEY])
    for body in (document(text), stream(text), stream([text], arguments=True)):
        kept = kept_body(body.encode(), secrets)
        assert "[secret]" in kept
        assert shown not in texts_of(kept)
        assert in_json(shown) not in texts_of(kept)


def test_a_key_in_pieces_leaves_the_text_around_it():
    pieces = ["the key ", "is s", *KEY[1:-1], "= and", " no more"]
    kept = kept_body(stream(pieces).encode(), Secrets([KEY]))
    events, answer = EventStream(), CompletionAccumulator()
    for value in events.feed(kept.encode()):
        if value is not DONE:
            answer.feed(value)
    text = answer.completion(ended=True).message.content
    assert text == "the key is [secret] and no more"


def in_parts(*pieces: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": piece} for piece in pieces]


def test_a_key_in_the_parts_of_one_content_is_taken_out():
    for holder in ("message", "delta"):
        choice = {"index": 0, holder: {"content": in_parts("k " + KEY[:9], KEY[9:])}}
        text = json.dumps({"choices": [choice]})
        body = text if holder == "message" else f"data: {text}\n\n"
        kept = kept_body(body.encode(), Secrets([KEY]))
        assert "k [secret]" in kept
        assert in_json(KEY[9:]) not in kept


def test_a_key_that_a_reader_joins_of_two_places_is_not_kept():
    whole = {"message": {"content": KEY[9:]}}
    parts = {"delta": {"content": in_parts(KEY[9:])}}
    for last in (whole, parts):
        event = json.dumps({"choices": [{"index": 0, **last}]})
        body = stream([KEY[:9]]).removesuffix("data: [DONE]\n\n")
        with pytest.raises(MayHoldSecret):
            kept_body(f"{body}data: {event}\n\n".encode(), Secrets([KEY]))


@pytest.mark.parametrize(
    "body",
    [
        document("nothing"),
        ": a comment\r\n\r\n" + stream(["hel", "lo"]).replace("\n", "\r\n"),
        "<html>no</html>",
        "",
        "data: {nope\n\n",
        '{"choices": [',
    ],
)
def test_an_answer_without_a_key_is_kept_as_it_came(body: str):
    assert kept_body(body.encode(), Secrets([KEY])) == body


@pytest.mark.parametrize(
    "body",
    [
        KEY.encode("utf-16"),
        json.dumps({"a": KEY}).encode("utf-16-le"),
        b"\xff" + KEY.encode(),
        b'{"a": "' + KEY[:8].encode(),
        f"<p>{KEY[:9]}</p><p>{KEY[9:]}</p>".encode(),
        f'data: {{"content": "{KEY[:9]}\n\ndata: {{"content": "\n\n'.encode(),
        f'data: {{"content": "{KEY[:9]}", "content": "{KEY[9:]}"}}\n\n'.encode(),
        json.dumps({"error": all_escaped(all_escaped(in_json(KEY)))}).encode(),
        b"[" * 100_000 + KEY[:9].encode(),
    ],
)
def test_what_may_hide_a_key_is_not_kept(body: bytes):
    with pytest.raises(MayHoldSecret):
        kept_body(body, Secrets([KEY]))


def test_a_header_is_kept_without_a_key_or_not_at_all():
    secrets = Secrets([KEY])
    assert kept_text(f"text/html; k={quote(KEY)}", secrets) == "text/html; k=[secret]"
    with pytest.raises(MayHoldSecret):
        kept_text(all_escaped(all_escaped(in_json(KEY))), secrets)


KEYS = st.text(alphabet=st.characters(codec="ascii", categories=("L", "N", "P", "S")))


@settings(max_examples=150, deadline=None)
@given(
    key=KEYS.filter(lambda key: len(key) > 7 and len(set(key)) > 5),
    forms=st.lists(st.sampled_from([*FORMS.values()]), min_size=1, max_size=3),
    cuts=st.lists(st.integers(0, 400), max_size=8),
    arguments=st.booleans(),
)
def test_no_form_of_a_form_of_a_key_in_any_pieces_is_kept(
    key: str,
    forms: list[Callable[[str], str]],
    cuts: list[int],
    arguments: bool,
):
    steps = [key]
    for form in forms:
        steps.append(form(steps[-1]))
    text = f"a {steps[-1]} b"
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[a:b] for a, b in itertools.pairwise(places)]
    for body in (document(text), stream(pieces, arguments=arguments), text):
        try:
            kept = kept_body(body.encode(), Secrets([key]))
        except MayHoldSecret:
            continue
        left = texts_of(kept) if body is not text else kept
        assert not any(step in left for step in steps)


def test_no_text_takes_long_to_search():
    secrets = Secrets([KEY, "\\" * 9 + "key"])
    began = process_time()
    for text in ("\\", "A", "%25", "&amp;", "s", "\\u005c", "data: {", '"'):
        try:
            kept_body((text * 20_000).encode(), secrets)
        except MayHoldSecret:
            continue
    assert process_time() - began < 20
