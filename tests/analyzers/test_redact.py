"""How the redactor replaces, what it holds back, and that hostile input costs little. What it finds is in
test_redact_corpus.py."""

from __future__ import annotations

import base64
import json
import random
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libagenttracer.analyzers import Redactor
from libagenttracer.analyzers.redact.names import classify, looks_random, secret_header
from libagenttracer.analyzers.redact.scrub import Scrubber
from libagenttracer.analyzers.redact.streams import HELD_MAX, StreamWindow
from libagenttracer.events import (
    Event,
    LlmCall,
    SseEvent,
    SseItem,
    SseStream,
    SslData,
    StreamData,
    StreamEnd,
    UnknownEvent,
    WebSocketMessage,
    from_json,
    to_json,
)

from .build import exec_, open_, run
from .test_redact_corpus import HEAD, WHO, anthropic, llm, openai, request, response, split, sse, websocket

TOKEN = "gh" + "p_" + "a1B2c3" * 6
OTHER = "gh" + "p_" + "z9Y8x7" * 6
MARK = re.compile(r"\[redacted:([a-z_]+):([0-9a-f]{8})\]")


def marks(*events: Event) -> list[tuple[str, str]]:
    return MARK.findall(b"".join(to_json(event) for event in events).decode())


def redact(*events: Event, key: bytes = b"key", **options: Any) -> list[Any]:
    return run(Redactor(key, **options), events)


def test_one_secret_has_one_fingerprint_everywhere() -> None:
    basic = base64.b64encode(f"bob:{TOKEN}".encode()).decode()
    events = [
        request(headers=[("authorization", f"Bearer {TOKEN}"), ("Cookie", f"a={TOKEN}")]),
        request(headers=[("Authorization", f"Basic {basic}"), ("x-api-key", TOKEN)]),
        request(target=f"/x?key={TOKEN.replace('_', '%5F')}", body=f"password={TOKEN}".encode()),
        request(body=json.dumps({"a": json.dumps({"token": TOKEN})}).replace("_", "\\u005f").encode()),
        exec_(1, 5, "curl", "-u", f"bob:{TOKEN}", f"--token={TOKEN}"),
        llm(messages=[{"parts": [{"content": f"My token is {TOKEN}."}]}]),
        *sse(anthropic(split(random.Random(1), f"It is {TOKEN} here", 3))),
    ]
    found = marks(*redact(*events))
    assert len(found) >= 12
    assert len({fingerprint for _, fingerprint in found}) == 1


def test_fingerprints_depend_on_the_secret_and_the_key() -> None:
    def fingerprint(token: str, key: bytes | None) -> str:
        return marks(*run(Redactor(key), [request(body=token.encode())]))[0][1]

    assert fingerprint(TOKEN, b"key") == fingerprint(TOKEN, b"key")
    assert fingerprint(TOKEN, b"key") != fingerprint(OTHER, b"key")
    assert fingerprint(TOKEN, b"key") != fingerprint(TOKEN, b"kez")
    assert fingerprint(TOKEN, None) != fingerprint(TOKEN, None)


@pytest.mark.parametrize("key", [b"", b"x" * 65])
def test_keys_of_a_wrong_length(key: bytes) -> None:
    with pytest.raises(ValueError, match="1 to 64 bytes"):
        Redactor(key)


@pytest.mark.parametrize("wrong", [{"patience_ns": 0}, {"max_streams": 0}])
def test_limits_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="positive"):
        Redactor(b"key", **wrong)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"password": "x y", "n": 1.50}', '{"password": "<password>", "n": 1.50}'),
        ('{"password":12345,"a":null}', '{"password":"<password>","a":null}'),
        ('{"a":"{\\"pwd\\":7}"}', '{"a":"{\\"pwd\\":\\"<password>\\"}"}'),
        ('{"password":"a","password":"b"}', '{"password":"<password>","password":"<password>"}'),
        ('{"password": "abc', '{"password": "<password>'),
        ('{"secret":"a\\"b\\\\"}', '{"secret":"<secret>"}'),
        ("user=bob&password=a+b%20c&x=1", "user=bob&password=<password>&x=1"),
        ("DB_PASSWORD=hunter2\nNEXT=1", "DB_PASSWORD=<password>\nNEXT=1"),
        ("https://bob:pa:ss@host/x", "https://bob:<password>@host/x"),
        ("Authorization: Token abcdefgh1\r\nHost: x", "Authorization: Token <token>\r\nHost: x"),
        ("'password': 'p', 'user': 'u'", "'password': '<password>', 'user': 'u'"),
    ],
)
def test_all_else_stays_as_it_was(before: str, after: str) -> None:
    (shown,) = redact(request(body=before.encode()))
    assert MARK.sub(lambda found: f"<{found[1]}>", shown.body.decode()) == after
    assert Scrubber(b"key").text(before) == shown.body.decode()


@pytest.mark.parametrize(
    "text",
    [
        '{"max_tokens": 4096, "usage": {"input_tokens": 12, "token_count": 3}, "tokenizer": "cl100k"}',
        '{"token": " Hello", "logprob": -0.5, "eos_token": "<|endoftext|>", "next_page_token": "p2x9"}',
        '{"properties": {"password": {"type": "string", "description": "The password"}}}',
        '{"api_key": "${API_KEY}", "token": "<your token>", "password": null, "secret": ""}',
        "def login(token: str, password: str = None, api_key=os.environ['API_KEY1']):",
        "token = get_token(request.headers1)\nself.api_key = settings.api_key\nkey = keys[0]",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709\nsha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0==",
        "risk-assessment-methodology-2024-final-version and sk-estimator-doc-link-2",
        "http://localhost:4873/@scope/package and git@github.com:user/repo.git",
        "max_tokens=4096&model=gpt",
        "The password is a secret; a token: it opens a key.",
        'if token == "abcdefgh1234": pass',
    ],
)
def test_what_is_no_secret(text: str) -> None:
    event = request(body=text.encode())
    assert redact(event) == [event]
    call = llm(messages=[{"content": text}])
    assert redact(call) == [call]


def test_names() -> None:
    certain = [
        "password",
        "dbPassword",
        "user_passwd",
        "client_secret",
        "apiKey",
        "OPENAI_API_KEY",
        "access_token",
    ]
    harmless = [
        "max_tokens",
        "maxTokens",
        "tokens",
        "token_type",
        "public_key",
        "keyboard",
        "bypass",
        "author",
    ]
    assert all((found := classify(name)) and found.certain for name in certain)
    assert not any(classify(name) for name in harmless)
    assert all(map(secret_header, ["X-Session-Token", "Ocp-Apim-Subscription-Key"]))
    assert not any(
        map(secret_header, ["sec-websocket-key", "anthropic-ratelimit-input-tokens-limit", "author"])
    )
    assert not any(map(looks_random, ["HTTPSConnectionPool", "get_value", "a.b.c", "short1", "user.name2"]))


def test_headers_keep_what_is_no_secret() -> None:
    headers = [
        ("Authorization", "Bearer abc"),
        ("Cookie", "theme=dark; sid=abc"),
        ("Set-Cookie", "sid=abc; Path=/; Max-Age=3; Secure"),
        ("Host", "example.com"),
        ("X-RateLimit-Remaining-Tokens", "5"),
    ]
    (shown,) = redact(request(headers=headers))
    plain = [(name, MARK.sub("*", value)) for name, value in shown.headers]
    assert plain == [
        ("Authorization", "Bearer *"),
        ("Cookie", "theme=*; sid=*"),
        ("Set-Cookie", "sid=*; Path=/; Max-Age=3; Secure"),
        *headers[3:],
    ]


def test_an_event_without_secrets_is_the_same_object() -> None:
    events = [request(body=b'{"a": 1}'), llm(messages=[{"a": "b"}]), exec_(1, 5, "ls", "-l"), open_(1)]
    assert all(new is old for new, old in zip(redact(*events), events, strict=True))


def test_strings_that_are_no_utf8_keep_their_bytes() -> None:
    (shown,) = redact(exec_(1, 5, "x", f"--password=\udcff{TOKEN}", f"\udcfe {TOKEN}"))
    assert marks(shown)
    assert "\udcfe" in shown.args[2]
    assert TOKEN.encode() not in to_json(shown)


def test_events_of_unknown_types_are_redacted_too() -> None:
    line = {
        "id": "1",
        "timestamp": 0,
        "timestamp_ns": 1,
        "source": "x",
        "event_type": "new",
        "data": {"password": "abc"},
    }
    event = from_json(json.dumps({**line, "data": {"password": "abc"}}))
    assert isinstance(event, UnknownEvent)
    (shown,) = redact(event)
    assert [kind for kind, _ in marks(shown)] == ["password"]


def test_raw_bytes_pass_only_if_asked_for() -> None:
    stream = StreamData(**HEAD, **WHO, direction="read", offset=0, payload=TOKEN.encode())
    own: dict[str, Any] = {"tid": 1, "ppid": 1, "uid": 1, "direction": "read", "data_len": 1, "offset": 0}
    rest: dict[str, Any] = {"function": "SSL_read", "latency_ns": 1, "library": "", "payload": TOKEN.encode()}
    ssl = SslData(**HEAD, **WHO, **own, **rest)
    assert redact(stream, ssl) == []
    assert redact(stream, ssl, raw=True) == [stream, ssl]


def test_a_binary_event_stream_is_left_out() -> None:
    (shown,) = redact(response(b"\x00" * 9, "application/vnd.amazon.eventstream"))
    assert shown.body == b"[left out: an event stream of 9 bytes]"


def test_what_is_nested_too_deeply_is_left_out() -> None:
    value: Any = TOKEN
    for _ in range(400):
        value = [{"a": value}]
    (shown,) = redact(llm(messages=value))
    assert TOKEN.encode() not in to_json(shown)


def test_around_an_image() -> None:
    """What is long and in base64 is passed over, but not what stands at its ends, or a name's value."""
    image = base64.b64encode(random.Random(2).randbytes(3000)).decode()
    (shown,) = redact(request(body=f"{TOKEN} {image}{image} {OTHER}".encode()))
    assert MARK.sub("*", shown.body.decode()) == f"* {image}{image} *"
    (shown,) = redact(request(body=json.dumps({"data": image, "password": image, "n": TOKEN}).encode()))
    assert MARK.sub("*", shown.body.decode()) == json.dumps({"data": image, "password": "*", "n": "*"})


# ---- streams


def texts(events: list[Event]) -> str:
    return "".join(
        json.loads(event.data)["choices"][0]["delta"].get("content", "")
        for event in events
        if isinstance(event, SseEvent) and event.data != "[DONE]"
    )


def test_events_keep_their_order_and_number() -> None:
    events = sse(openai(["Hel", "lo ", "gh", "p_", *[TOKEN[4 + n : 5 + n] for n in range(36)], " end"]))
    shown = redact(*events)
    assert [event.index for event in shown[:-1]] == [*range(len(events) - 1)]
    assert MARK.sub("*", texts(shown)) == "Hello * end"
    assert [item.data for item in shown[-1].events] == [event.data for event in shown[:-1]]


def test_the_stream_alone_gives_the_same() -> None:
    events = sse(openai(["a ", TOKEN[:10], TOKEN[10:], " z"]))
    assert redact(events[-1])[-1] == redact(*events)[-1]


def test_an_event_is_held_back_until_its_word_ends() -> None:
    analyzer = Redactor(b"key")
    first, second, third, *_ = sse(openai(["One", " two", " three"]))
    assert [*analyzer.feed(first)] == []
    assert [*analyzer.feed(second)] == [first]
    assert [*analyzer.tick(10**9)] == []
    assert [*analyzer.tick(20 * 10**9)] == [second]
    assert [*analyzer.feed(third)] == []
    assert [*analyzer.flush()] == [third]
    assert [*analyzer.flush()] == []


def test_a_pause_gives_nothing_away() -> None:
    """What was released at a pause lacks the beginning; what follows lacks the rest."""
    analyzer = Redactor(b"key")
    *events, _ = sse(openai(["see ", TOKEN[:15], TOKEN[15:30], TOKEN[30:] + " and", " on"]))
    shown: list[Any] = []
    for event in events:
        shown += analyzer.feed(event)
        shown += analyzer.tick(60 * 10**9)
    shown += analyzer.flush()
    assert MARK.sub("*", texts(shown)) == "see * and on"


def test_the_end_of_a_connection_releases() -> None:
    analyzer = Redactor(b"key")
    message = websocket('{"delta":"word"}')
    assert [*analyzer.feed(message)] == []
    end = StreamEnd(**HEAD, **WHO, cause="end")
    assert [*analyzer.feed(end)] == [message, end]


def test_whole_messages_are_not_held_back() -> None:
    analyzer = Redactor(b"key")
    for data in ('{"jsonrpc":"2.0","result":{"content":[{"text":"word"}]}}', '{"status":"ok"}', "[DONE]"):
        event = websocket(data)
        assert [*analyzer.feed(event)] == [event]


def test_streams_are_bounded_in_number() -> None:
    analyzer = Redactor(b"key", max_streams=2)
    events = [
        SseEvent(
            **{**HEAD, "id": str(n)},
            **WHO,
            response_id=str(n),
            request_id=None,
            index=0,
            event="x",
            data="word",
        )
        for n in range(4)
    ]
    assert [[*analyzer.feed(event)] for event in events] == [[], [], events[:1], events[1:2]]
    assert len(analyzer._streams) == 2
    assert [*analyzer.flush()] == events[2:]


@pytest.mark.parametrize("text", ["a", "sk-", "key=", '"', "-----BEGIN PRIVATE KEY-----\n", "password: '"])
def test_what_is_held_back_is_bounded(text: str) -> None:
    window = StreamWindow(Scrubber(b"key"))
    held = 0
    for n in range(HELD_MAX + 300):
        held += 1 - len(window.add(n, text if n < 5 else "a"))
        assert held <= HELD_MAX
    held -= len(window.end())
    assert held == 0


# ---- whatever comes

WORDS = st.sampled_from(
    [
        *(
            "password",
            "token",
            "=",
            ": ",
            '"',
            "'",
            "\\",
            '\\"',
            "{",
            "}",
            "[",
            "]",
            ",",
            " ",
            "\n",
            "&",
            "?",
            "--",
        ),
        *(
            "Authorization",
            "Bearer ",
            "Basic ",
            "Cookie: ",
            "a=b; ",
            "://",
            "@",
            ":",
            "sk-",
            "eyJ",
            "%41",
            "%",
            "\\u0041",
        ),
        *(
            TOKEN,
            "abc123def456",
            "-----BEGIN PRIVATE KEY-----",
            "-----END PRIVATE KEY-----",
            "AK" + "IA",
            "x" * 30,
        ),
        *(
            "\udcff",
            "é",
            "\x00",
            "[redacted:token:00000000]",
            "[redacted:",
            "api_key",
            "-u ",
            "curl ",
            "key",
            "value",
        ),
    ]
)
TEXTS = st.lists(WORDS, max_size=14).map("".join) | st.text(max_size=40)
JSON = st.recursive(
    TEXTS | st.none() | st.integers() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(TEXTS)
def test_twice_is_as_once(text: str) -> None:
    scrubber = Scrubber(b"key")
    once = scrubber.text(text)
    assert scrubber.text(once) == once


@given(TEXTS)
def test_no_token_is_left(text: str) -> None:
    assert f" {TOKEN} " not in Scrubber(b"key").text(f"{text} {TOKEN} {text}")


@given(JSON, st.binary(max_size=60), st.lists(st.tuples(TEXTS, TEXTS), max_size=3), TEXTS)
def test_nothing_raises(value: Any, data: bytes, headers: list[tuple[str, str]], text: str) -> None:
    events: list[Event] = [
        request(headers=headers, body=data, target=text),
        request(body=text.encode(errors="surrogatepass")),
        llm(messages=[value], tool_calls=[{"arguments": value}]),
        exec_(1, 5, text, *(name for name, _ in headers)),
        WebSocketMessage(*("1", 1, "ssl", 7, "a", "", "c", "read", "text", text, "h", None, None, data, 1)),
    ]
    assert len(redact(*events)) == len(events)


@given(st.lists(TEXTS, max_size=12))
def test_any_stream_keeps_its_events(data: list[str]) -> None:
    common: dict[str, Any] = {**HEAD, **WHO, "response_id": "r", "request_id": None}
    events = [SseEvent(**common, index=n, event="x", data=text) for n, text in enumerate(data)]
    stream = SseStream(
        **common, events=[SseItem(n, "x", text) for n, text in enumerate(data)], last_byte_ns=1
    )
    shown = redact(*events, stream)
    assert [event.index for event in shown[:-1]] == [*range(len(data))]
    assert [item.data for item in shown[-1].events] == [event.data for event in shown[:-1]]


HOSTILE = {
    "words": "token" * 4,
    "names": "password_",
    "pairs": "key=",
    "quotes": 'password":"',
    "escapes": 'password\\":\\"\\\\',
    "backslashes": "\\",
    "urls": "://a:b",
    "percent": "%41",
    "json escapes": "\\u0041",
    "begins": "-----BEGIN PRIVATE KEY-----!",
    "runs": "a_",
    "prefixes": "sk-ant-",
    "jwt": "eyJ.",
    "jwt parts": "eyJaaaaaaaaaaaaaaaaaaaa.",
    "bearer": "bearer ",
    "login": "curl -u a:",
    "cookies": "cookie: a=b;",
    "numbers": "12345678:",
    "aws": "AK" + "IA" + "B" * 16 + " ",
    "lists": 'tokens":["',
    "spaces": " ",
    "one letter": "a",
    "name and value": 'key","value":"',
    "form": 'name="password"\n\n',
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_the_time_is_linear(kind: str) -> None:
    """Four times the length takes less than ten times as long, or is quick in any case."""

    def seconds(length: int) -> float:
        data = (HOSTILE[kind] * (length // len(HOSTILE[kind]) + 1))[:length].encode()
        scrubber = Scrubber(b"key")
        begin = time.perf_counter()
        scrubber.data(data)
        return time.perf_counter() - begin

    short, long = min(seconds(10_000) for _ in range(2)), min(seconds(40_000) for _ in range(2))
    assert long < max(10 * short, 0.1), (short, long)


def test_a_call_of_a_model_is_redacted_in_all_its_fields() -> None:
    secret = {"content": TOKEN}
    call: LlmCall = llm(
        **{"system_instructions": [secret], "messages": [secret], "output_messages": [secret]},
        **{
            "tool_definitions": [secret],
            "tool_calls": [secret],
            "stop_sequences": [TOKEN],
            "error_message": TOKEN,
        },
        **{
            "rate_limit": {"x-api-key": TOKEN},
            "conversation_id": TOKEN,
            "error_type": TOKEN,
            "request_model": TOKEN,
        },
    )
    (shown,) = redact(call)
    assert len(marks(shown)) == 11
    assert TOKEN.encode() not in to_json(shown)
