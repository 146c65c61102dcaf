"""Everything comes more than once: each record of the topic three times, the whole topic again
because the group's offsets are gone, the journals shipped again, an older copy of the data
directory put in its place, and a clone of it on a second edge.

No count changes by any of it.
"""

import shutil
import time

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    ConsumerGroupTopicPartitions,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient

from loadtest.faults.line import PARTITIONS, Edge, Line
from loadtest.faults.trial import Trial
from loadtest.processes import until
from tests.e2e.line import ask as command

_SHIPPED = "heliograph_shipped_events_total"
#: Records that are read before those sent again are waited for: they are 900 KB each.
_TOGETHER = 100


def run(trial: Trial) -> None:
    """One after the other, under load."""
    events = trial.size("11 events")
    line = trial.line()
    line.fill(events)
    load = line.load()
    until(lambda: line.filled() == events, 600)
    trial.say(f"{events:,} events are counted")
    trial.fault(_records_again(line), "the repetition of records")
    trial.fault(_without_offsets(line), "the deletion of the group's offsets")
    before, live = line.edge.metric(_SHIPPED), load.answered()
    command("reship", "--data", line.edge.data)
    # Beside what the load adds, of which the last second or two may be on its way.
    again = until(
        lambda: (
            line.edge.metric(_SHIPPED) - before - (load.answered() - live) >= events - 2 * load.rate
        ),
        600,
    )
    trial.fault(events > 4 * load.rate, "more to ship again than the load's own")
    trial.say(f"all was shipped again in {again:.1f} s")
    trial.fault(_older_copy(line), "the return of an older directory")
    trial.fault(_clone(line), "the second edge's shipping of the first one's journals")
    line.caught_up(600)
    trial.settle(line, answered=0.5, held=0.0)  # edges were away while copied
    there = line.filled()
    trial.hold(there == events, f"{there} of {events} events that came again are there")


def _records_again(line: Line) -> bool:
    """Send each record of the topic two times more; whether all were read, and Kafka has both."""
    servers = {"bootstrap.servers": line.site.broker.bootstrap}
    consumer = Consumer(servers | {"group.id": "again", "auto.offset.reset": "earliest"})
    places = [TopicPartition(line.topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)]
    consumer.assign(places)
    ends = [consumer.get_watermark_offsets(place, timeout=10)[1] for place in places]
    producer, read, delivered = Producer(servers), 0, list[bool]()
    deadline = time.monotonic() + 300
    while read < sum(ends) and time.monotonic() < deadline:
        record = consumer.poll(0.5)
        if record and not record.error() and record.offset() < ends[record.partition()]:
            for _ in range(2):
                producer.produce(
                    line.topic, record.value(), record.key(), headers=record.headers(),
                    on_delivery=lambda error, _: delivered.append(error is None),
                )  # fmt: skip
            read += 1
            if read % _TOGETHER == 0:
                assert producer.flush(60) == 0
    consumer.close()
    assert producer.flush(60) == 0
    return read == sum(ends) and delivered == [True] * 2 * read


def _without_offsets(line: Line) -> bool:
    """Delete the group while its consumer is away."""
    line.consumer.stop()
    admin = AdminClient({"bootstrap.servers": line.site.broker.bootstrap})
    admin.delete_consumer_groups([line.topic])[line.topic].result(30)
    group = ConsumerGroupTopicPartitions(line.topic)
    left = admin.list_consumer_group_offsets([group])[line.topic].result(30).topic_partitions
    line.consumer.start()
    return not left


def _older_copy(line: Line) -> bool:
    """Put a copy from before back in place of the directory, when what came since is in Kafka."""
    data = line.edge.data
    older = data.with_name("older")
    line.edge.stop()
    shutil.copytree(data, older)
    line.edge.start()
    assert line.loads[0].answers_within(20)
    time.sleep(1)
    line.edge.stop()
    line.caught_up(600)  # behind all that was shipped again
    gone = {path.name for path in data.glob("journal/*/")} - {
        path.name for path in older.glob("journal/*/")
    }
    shutil.rmtree(data)
    older.rename(data)
    line.edge.start()
    return bool(gone)


def _clone(line: Line) -> bool:
    """Start a second edge on a copy whose positions are lost, beside the first."""
    clone = line.edge.data.with_name("clone")
    line.edge.stop()
    shutil.copytree(line.edge.data, clone)
    for position in clone.glob("journal/*/position"):
        position.unlink()
    line.edge.start()
    second: Edge = line.add_edge(clone)
    second.start()
    line.load(second)
    until(lambda: second.metric(_SHIPPED) > line.loads[0].answered() / 2, 300)
    return True
