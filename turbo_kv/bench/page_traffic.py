"""What a page asks for and is sent, from the browser's own network log.

Knows a page's address and nothing of what is on it.
"""

from typing import Any

from playwright.sync_api import Page

QUEUE = "/gradio_api/queue/"
"""Below this path travel a visitor's clicks and what they change."""


class Traffic:
    """Counts from its making on; made before the page is opened."""

    def __init__(self, page: Page, url: str) -> None:
        self._url = url
        self._addresses: dict[str, str] = {}
        self._received = 0
        self.outside: list[str] = []
        log = page.context.new_cdp_session(page)
        log.send("Network.enable")
        log.on("Network.requestWillBeSent", self._asked)
        log.on("Network.dataReceived", self._came)

    def taken(self) -> int:
        """Bytes of events since this was asked last; they are not compressed on their way."""
        received, self._received = self._received, 0
        return received

    def _asked(self, event: dict[str, Any]) -> None:
        address = event["request"]["url"]
        self._addresses[event["requestId"]] = address
        if not address.startswith((self._url, "data:", "blob:")):
            self.outside.append(address)

    def _came(self, event: dict[str, Any]) -> None:
        if QUEUE in self._addresses.get(event["requestId"], ""):
            self._received += event["dataLength"]
