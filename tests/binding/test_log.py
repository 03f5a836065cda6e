"""libbpf's messages: in `logging`, and in the errors that they explain."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

import pytest

from libagenttracer.binding import ObjectSpec
from libagenttracer.errors import ObjectError, VerifierError

pytestmark = pytest.mark.kernel

LOGGER = "libagenttracer.libbpf"


def test_messages_arrive_in_logging(
    bpf_bytes: Callable[[str], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, logger=LOGGER):
        ObjectSpec(bpf_bytes("maps"), name="chatty").load().close()
    texts = [record.getMessage() for record in caplog.records if record.name == LOGGER]
    assert any("loading object 'chatty'" in text for text in texts)
    assert any("on_add" in text for text in texts)
    assert not any(text.endswith("\n") for text in texts)
    assert {record.levelno for record in caplog.records if record.name == LOGGER} <= {
        logging.DEBUG,
        logging.INFO,
        logging.WARNING,
    }


def test_nothing_is_said_that_nobody_asked_for(
    bpf_bytes: Callable[[str], bytes], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.WARNING, logger=LOGGER):
        ObjectSpec(bpf_bytes("maps"), name="quiet").load().close()
        with pytest.raises(ObjectError):
            ObjectSpec(b"no object", name="bad")
    assert caplog.records == []
    assert capfd.readouterr() == ("", ""), "libbpf's own printing goes nowhere"


def test_messages_of_a_failure_are_in_the_error_and_logged_as_debug(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with (
        caplog.at_level(logging.DEBUG, logger=LOGGER),
        pytest.raises(ObjectError) as raised,
    ):
        ObjectSpec(b"no object", name="bad")
    assert "not a proper ELF object" in raised.value.log
    records = [record for record in caplog.records if "not a proper ELF object" in record.getMessage()]
    assert [record.levelno for record in records] == [logging.DEBUG]


def test_each_error_has_its_own_messages_only(bpf_bytes: Callable[[str], bytes]) -> None:
    with pytest.raises(ObjectError) as first:
        ObjectSpec(b"no object", name="first")
    with pytest.raises(ObjectError) as second:
        ObjectSpec(b"no object", name="second")
    assert "second" not in first.value.log
    assert "first" not in second.value.log


def test_threads_do_not_get_each_others_messages(bpf_bytes: Callable[[str], bytes]) -> None:
    rejected = bpf_bytes("rejected")
    logs: dict[str, list[str]] = {"verifier": [], "reader": []}

    def load_rejected() -> None:
        for _ in range(20):
            with pytest.raises(VerifierError) as raised:
                ObjectSpec(rejected, name="rejected").load()
            logs["verifier"].append(raised.value.log)

    def read_garbage() -> None:
        for _ in range(200):
            with pytest.raises(ObjectError) as raised:
                ObjectSpec(b"no object", name="garbage")
            logs["reader"].append(raised.value.log)

    threads = [threading.Thread(target=call) for call in (load_rejected, read_garbage)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(logs["verifier"]) == 20
    assert len(logs["reader"]) == 200
    assert all("map_value_or_null" in log and "garbage" not in log for log in logs["verifier"])
    assert all("garbage" in log and "map_value_or_null" not in log for log in logs["reader"])
