"""Logs: one JSON object a line, with what helps and without what must not be there."""

import json
import logging

from tandem_engine.worker.logs import JsonFormatter


def line(**record: object) -> dict:
    made = logging.makeLogRecord({"msg": "text", "levelname": "INFO", "name": "n"} | record)
    text = JsonFormatter(worker="decode-0").format(made)
    assert "\n" not in text
    return json.loads(text)


def test_a_line_has_time_level_message_and_the_fields_that_came_with_it():
    logged = line(msg="call %s", args=("failed",), response_id="r1", created=0.25, msecs=250.0)
    assert logged["time"] == "1970-01-01T00:00:00.250Z"
    assert (logged["level"], logged["message"], logged["worker"]) == ("info", "call failed", "decode-0")
    assert logged["response_id"] == "r1"


def test_an_exception_is_one_line_with_its_stack():
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        logged = line(exc_info=(type(error), error, error.__traceback__))
    assert logged["exception"].endswith("ValueError: two\nlines")
    assert "test_an_exception_is_one_line_with_its_stack" in logged["exception"]


def test_long_texts_are_cut_and_say_their_end():
    assert len(line(msg="x" * 10_000)["message"]) < 5_000
    try:
        raise ValueError("x" * 10_000)
    except ValueError as error:
        text = line(exc_info=(type(error), error, error.__traceback__))["exception"]
    assert text.startswith("Traceback")
    assert len(text) < 5_000


def test_what_json_does_not_know_is_written_as_text():
    assert line(ports={1})["ports"] == "{1}"


async def test_neither_bodies_nor_leases_are_logged(running, engine, caplog):
    caplog.set_level(logging.DEBUG)
    async with running("prefill", engine=engine) as worker, worker.session() as router:
        await router.submit(1, b"a secret prompt", response_id="leasebits")
        lease = (await router.end_of(1)).end.kv.lease
        await router.submit(2, b"a secret prompt", api=77, response_id="r2")
        await router.end_of(2)
    text = "\n".join(JsonFormatter().format(record) for record in caplog.records)
    assert "r2" in text
    assert "secret" not in text
    assert lease.decode() not in text
