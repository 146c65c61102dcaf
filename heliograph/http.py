"""The one HTTP client of the commands: the standard library's."""

import http.client
import ssl
from urllib.parse import SplitResult


def connect(url: SplitResult, ports: tuple[int, int], timeout: float) -> http.client.HTTPConnection:
    """A connection to a URL's host, not opened yet; `ports` are the defaults of http and https."""
    host = url.hostname or ""
    if url.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(
            host, url.port or ports[1], timeout=timeout, context=context
        )
    return http.client.HTTPConnection(host, url.port or ports[0], timeout=timeout)
