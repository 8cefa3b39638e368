"""The filesystem broker: messages appear whole, and events without a reader do not pile up."""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import processes
from workers import configuration
from workers.queue import app, broker

if TYPE_CHECKING:
    from celery import Celery

    from models.settings.load import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    file = tmp_path / configuration.FILE
    file.write_text(f'[broker]\nurl = "{processes.FILES}"\n')
    loaded = configuration.load(file)
    broker.prepare(loaded)
    return loaded


@pytest.fixture
def celery(settings: Settings) -> Celery:
    return app.create_app(settings)


@pytest.fixture
def messages(tmp_path: Path) -> Path:
    return tmp_path / "var" / "broker" / "messages"


def start_flower(celery: Celery) -> None:
    """A Flower that begins to read events and then dies."""
    with celery.connection_for_read() as link, link.channel() as channel:
        celery.events.Receiver(channel).get_consumers(lambda **_: None, channel)
        queue = celery.events.Receiver(channel).queue(channel)
        queue.declare()


def send_event(celery: Celery) -> None:
    """Send an event, as a worker does."""
    with celery.connection_for_write() as link, celery.events.Dispatcher(link) as dispatcher:
        dispatcher.send("worker-heartbeat")


def age(messages: Path, seconds: float) -> None:
    for file in messages.iterdir():
        os.utime(file, (time.time() - seconds,) * 2)


def test_events_leave_no_file_while_no_flower_has_ever_run(celery: Celery, messages: Path) -> None:
    send_event(celery)
    assert [] == list(messages.iterdir())


def test_a_dead_flowers_queue_is_deleted_with_its_files_and_gets_no_more(
    celery: Celery, settings: Settings, messages: Path
) -> None:
    start_flower(celery)
    send_event(celery)
    assert 1 == len(list(messages.iterdir()))
    age(messages, 120)
    assert 1 == broker.purge_abandoned(celery, settings)
    send_event(celery)
    assert [] == list(messages.iterdir())


def test_a_flower_that_reads_and_wake_ups_that_wait_are_left_alone(
    celery: Celery, settings: Settings, messages: Path
) -> None:
    start_flower(celery)
    celery.send_task("erpmirror.sync", args=["shop"], queue="sync")
    age(messages, 7 * 86400)
    send_event(celery)  # a new file: as if its reader had just read
    for file in messages.glob("*.sync.msg"):
        os.utime(file, (0, 0))
    before = sorted(messages.iterdir())
    fresh = [file for file in before if "celeryev" in file.name]
    for file in fresh:
        os.utime(file)
    assert 0 == broker.purge_abandoned(celery, settings)
    assert before == sorted(messages.iterdir())


@pytest.mark.redis
def test_redis_needs_no_cleaning(tmp_path: Path) -> None:
    with processes.own_redis() as address:
        file = tmp_path / configuration.FILE
        file.write_text(f'[broker]\nurl = "{address}"\n')
        settings = configuration.load(file)
        assert 0 == broker.purge_abandoned(app.create_app(settings), settings)


def test_a_message_is_there_whole_or_not_at_all(settings: Settings) -> None:
    folder = Path(broker.transport_options(settings)["data_folder_in"])
    with app.create_app(settings).connection_for_write() as writer:
        channel = writer.default_channel
        sender = threading.Thread(target=lambda: [channel._put("sync", "x" * 1_000_000) for _ in range(30)])
        sender.start()
        taken = 0
        while sender.is_alive():
            for message in folder.glob("*.sync.msg"):
                json.loads(message.read_text())
                message.unlink()
                taken += 1
        sender.join()
    assert 30 == taken + len(list(folder.glob("*.sync.msg")))
    assert taken


def test_a_message_sent_while_a_worker_waits_is_delivered(settings: Settings) -> None:
    waiting = app.create_app(settings)
    received: list[object] = []
    with waiting.connection_for_read() as link, link.channel() as channel:
        consumer = waiting.amqp.TaskConsumer(channel, queues=[waiting.amqp.queues[app.SYNC]])
        consumer.register_callback(lambda body, _: received.append(body))
        consumer.register_callback(lambda _, message: message.ack())
        with consumer:
            with pytest.raises(TimeoutError):
                link.drain_events(timeout=0.1)
            sending = threading.Timer(0.2, waiting.send_task, ["no.such.task"], {"queue": app.SYNC})
            sending.start()
            link.drain_events(timeout=15)
            sending.join()
    assert 1 == len(received)
