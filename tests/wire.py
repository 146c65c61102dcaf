"""A connection without a socket: a transport that a test writes to and reads from."""

import asyncio
from typing import Any, Final

ADDRESS: Final = "192.0.2.7"


class Wire(asyncio.Transport):
    """Between a protocol and the test. What the protocol wrote is `told`."""

    def __init__(self, protocol: Any, address: str = ADDRESS) -> None:
        super().__init__({"peername": (address, 40_000), "sockname": ("192.0.2.1", 80)})
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self.told = bytearray()
        self.ended = False  # for the peer: nothing more is written
        self._closing = False
        self._paused = False
        self._waiting = b""
        protocol.connection_made(self)

    def feed(self, data: bytes) -> None:
        """Send to the protocol, as soon as it reads."""
        self._waiting += data
        self._go_on()

    def _go_on(self) -> None:
        if self._waiting and not self._paused and not self._closing:
            data, self._waiting = self._waiting, b""
            self._protocol.data_received(data)

    def feed_eof(self) -> None:
        """End the peer's side."""
        if not self._closing and not self._protocol.eof_received():
            self.close()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.ended:
            self.told += data

    def write_eof(self) -> None:
        self.ended = True

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        if not self._closing:
            self._closing = self.ended = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    abort = close

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        self._paused = True

    def resume_reading(self) -> None:
        self._paused = False
        self._loop.call_soon(self._go_on)

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def get_protocol(self) -> Any:
        return self._protocol

    def get_write_buffer_size(self) -> int:
        return 0

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return 0, 1 << 16

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass
