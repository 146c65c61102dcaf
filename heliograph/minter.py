"""Minting inside an application.

    with Minter(data="/var/lib/heliograph", public_url="https://px.example.org") as minter:
        minted = minter.mint("spring-2026", "customer-4711")
        html = html.replace("</body>", minted.pixel_html + "</body>")

Needs neither the edge's nor the store's libraries.
"""

import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from collector.mint import Minted, SendRequest, unix_seconds
from heliograph.recorder import Refusal, is_loopback, open_recorder
from heliograph.settings import MintSettings, read

GROUP: Final = 500


class Minter:
    """Turns sends into URLs and records them, in a journal under `data` or by a remote collector.

    What is not given is taken from the environment (HELIOGRAPH_DATA, HELIOGRAPH_PUBLIC_URL, …).
    Threads may share one; a forked child may go on using its parent's.
    """

    def __init__(
        self,
        *,
        data: str | Path | None = None,
        keys: str | Path | None = None,
        public_url: str | None = None,
        remote: str | None = None,
        api_key: str | None = None,
    ) -> None:
        """Raises SettingsError, KeyFileError (no keys there), Failure or UsageError."""
        given = {
            "data": data, "keys": keys, "public_url": public_url, "remote": remote,
            "api_key": api_key,
        }  # fmt: skip
        settings = read(MintSettings, given)
        self._recorder = open_recorder(settings)
        if not settings.remote and is_loopback(self._recorder.url):
            warnings.warn(
                f"{self._recorder.url} is this machine: no reader can fetch these pixels "
                "(public_url, HELIOGRAPH_PUBLIC_URL)",
                stacklevel=2,
            )

    def mint(
        self,
        campaign: str | int,
        recipient: str | int,
        *,
        send: str | int | None = None,
        sent_at: int | float | str | datetime | None = None,
        message_id: str = "",
        segment: str = "",
        no_pixel: bool = False,
        consent: str = "full",
        links: Mapping[str, str] | None = None,
        hash_recipient: bool = False,
        allow_address: bool = False,
    ) -> Minted:
        """The URLs of one mail, recorded and safe on disk.

        `send` tells one sending of a campaign from another (its name by default); `sent_at` is
        a datetime, ISO 8601 (UTC unless it says otherwise) or Unix seconds, at most a year ahead
        (now by default); numbers are taken as their digits; `links` maps names of yours to target
        URLs; `segment` names a part of the recipients for reports, and `no_pixel` records a mail
        without a pixel; `consent` is the most that campaign and recipient allow to be kept (off,
        anonymous, pseudonymous or full). Of it and HELIOGRAPH_CONSENT the lower one is sealed.
        Raises ValueError where something does not fit, Failure where it cannot be recorded,
        RuntimeError after `close`.
        """
        fields = {
            "campaign": campaign, "recipient": recipient, "send": "" if send is None else send,
            "sent_at": sent_at, "message_id": message_id, "segment": segment, "no_pixel": no_pixel,
            "consent": consent, "links": dict(links or {}),
            "hash_recipient": hash_recipient, "allow_address": allow_address,
        }  # fmt: skip
        (answer,) = self._recorder.record([_request(fields)])
        if isinstance(answer, Refusal):
            raise ValueError(answer.reason)
        return answer

    def mint_many(self, requests: Iterable[SendRequest]) -> Iterator[Minted | Refusal]:
        """One answer a request, in order, recorded 500 at a time: for large campaigns.

        Raises ValueError where a field has a wrong type, and as `mint`.
        """
        rest = (_request(msgspec.structs.asdict(request)) for request in requests)
        while group := list(itertools.islice(rest, GROUP)):
            yield from self._recorder.record(group)

    def close(self) -> None:
        """Seal the journal. What was minted stays valid."""
        self._recorder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:  # fmt: skip
        self.close()


def _request(fields: dict[str, Any]) -> SendRequest:
    """A request of what an application holds, such as primary keys; raises ValueError."""
    for name in ("campaign", "recipient", "send", "message_id", "segment"):
        if type(fields[name]) is int:
            fields[name] = str(fields[name])
    if isinstance(fields["sent_at"], datetime):
        fields["sent_at"] = unix_seconds(fields["sent_at"])
    try:
        return msgspec.convert(fields, SendRequest)
    except msgspec.ValidationError as error:
        raise ValueError(str(error).replace("$.", "")) from None
