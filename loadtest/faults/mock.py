"""librdkafka's mock cluster, from the wheel of confluent-kafka: a broker that can be told to be
late and to refuse.
"""

import ctypes
import importlib.util
from pathlib import Path
from typing import Final

_PRODUCE: Final = 0  # the number of a request in Kafka's protocol
_BROKER: Final = 1
_PRODUCER: Final = 0  # the kind of a client
#: What a broker answers that has just lost a partition, or its replicas, or is busy, where a client
#: tries again by itself; in turns with what who sent is told: not authorized, too large, wrong.
_REFUSALS: Final = (29, 6, 10, 19, 87, 7)
#: Answers that are prepared at a time.
_AHEAD: Final = 4


class Mock:
    """One broker, in threads of this process. It forgets what is more than 5 MB a partition."""

    def __init__(self) -> None:
        self.prepared = 0
        self._lib = _library()
        error = ctypes.create_string_buffer(512)
        conf = self._lib.rd_kafka_conf_new()
        self._client = self._lib.rd_kafka_new(_PRODUCER, conf, error, len(error))
        if not self._client:
            raise RuntimeError(error.value.decode())
        self._cluster = self._lib.rd_kafka_mock_cluster_new(self._client, 1)
        self.bootstrap: str = self._lib.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def make_topic(self, name: str, partitions: int, **_: str) -> None:
        """Make a topic."""
        self._lib.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1)

    def refuse(self, one_in: int, milliseconds: int) -> None:
        """See to it that the coming produce requests are answered so late, and every n-th refused;
        to be called again and again, for what has been prepared holds when this has ended too.
        """
        for _ in range(max(0, _AHEAD - self._left())):
            self.prepared += 1
            refused, among = divmod(self.prepared, one_in)
            error = 0 if among else _REFUSALS[refused % len(_REFUSALS)]
            self._lib.rd_kafka_mock_broker_push_request_error_rtts(
                self._cluster, _BROKER, _PRODUCE, ctypes.c_size_t(1), error, milliseconds
            )

    @property
    def given(self) -> int:
        """How many produce requests have been answered so."""
        return self.prepared - self._left()

    def _left(self) -> int:
        count = ctypes.c_size_t()
        self._lib.rd_kafka_mock_broker_error_stack_cnt(
            self._cluster, _BROKER, _PRODUCE, ctypes.byref(count)
        )
        return count.value

    def close(self) -> None:
        """End it."""
        self._lib.rd_kafka_mock_cluster_destroy(self._cluster)
        self._lib.rd_kafka_destroy(self._client)


def _library() -> ctypes.CDLL:
    spec = importlib.util.find_spec("confluent_kafka")
    assert spec is not None
    assert spec.origin is not None
    (path,) = Path(spec.origin).parents[1].glob("confluent_kafka.libs/librdkafka-*")
    lib = ctypes.CDLL(str(path))
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(lib, name).restype = ctypes.c_void_p
    lib.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    pointer = ctypes.c_void_p
    lib.rd_kafka_new.argtypes = [ctypes.c_int, pointer, ctypes.c_char_p, ctypes.c_size_t]
    lib.rd_kafka_mock_cluster_new.argtypes = [pointer, ctypes.c_int]
    lib.rd_kafka_mock_cluster_bootstraps.argtypes = [pointer]
    lib.rd_kafka_mock_topic_create.argtypes = [pointer, ctypes.c_char_p, ctypes.c_int, ctypes.c_int]
    lib.rd_kafka_mock_broker_push_request_error_rtts.argtypes = [
        pointer, ctypes.c_int, ctypes.c_short, ctypes.c_size_t
    ]  # fmt: skip
    lib.rd_kafka_mock_broker_error_stack_cnt.argtypes = [
        pointer, ctypes.c_int, ctypes.c_short, pointer
    ]  # fmt: skip
    lib.rd_kafka_mock_cluster_destroy.argtypes = [pointer]
    lib.rd_kafka_destroy.argtypes = [pointer]
    return lib
