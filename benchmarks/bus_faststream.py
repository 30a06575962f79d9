"""FastStream's side of `bus.py`: `python bus_faststream.py publish|consume URL COUNT`, in an environment of its own."""

import asyncio
import json
import sys
import time

from faststream.redis import RedisBroker, StreamSub

TEXT = "a message of some length, as people write them to a bot: " + "x" * 60


def message(number: int) -> dict[str, object]:
    """The same as ours."""
    data = {"n": number, "chat_id": 123_456_789, "text": TEXT, "at": time.time()}
    return {"id": f"1-{number}", "type": "shop.paid", "version": 1, "occurred_at": time.time(),
            "correlation_id": "0123456789abcdef", "data": data}  # fmt: skip


async def publish(url: str, count: int) -> float:
    """One after the other, as its documentation shows."""
    async with RedisBroker(url) as broker:
        began = time.perf_counter()
        for number in range(count):
            await broker.publish(message(number), stream="peer:faststream")
        return count / (time.perf_counter() - began)


async def consume(url: str, count: int) -> float:
    """A subscriber of a stream with a consumer group, acknowledging as it does by default."""
    broker = RedisBroker(url)
    done = asyncio.Event()
    seen = 0

    @broker.subscriber(stream=StreamSub("peer:faststream", group="bench", consumer="one", last_id=">", max_records=100))
    async def handle(body: dict) -> None:  # type: ignore[type-arg]
        nonlocal seen
        seen += 1
        if seen == count:
            done.set()

    began = time.perf_counter()
    await broker.start()
    await done.wait()
    taken = time.perf_counter() - began
    await broker.stop()
    return count / taken


if __name__ == "__main__":
    job, address, number = sys.argv[1:]
    print(json.dumps({"rate": asyncio.run({"publish": publish, "consume": consume}[job](address, int(number)))}))
