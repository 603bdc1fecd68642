"""Check whether a server responds within a time limit, without importing torch."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request

SECONDS = 5.0


def answers(address: str, *, refusals: bool = True, seconds: float = SECONDS) -> bool:
    """Return whether a server responds at `address`; always False if HF_HUB_OFFLINE is set.

    The request runs in a thread because a DNS resolver may hang longer than the socket timeout.

    Args:
        address: URL with the scheme http or https.
        refusals: Whether an HTTP error counts as a response.
        seconds: Timeout in seconds.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE or not address.startswith(("https://", "http://")):
        return False
    answered = threading.Event()

    def ask() -> None:
        request = urllib.request.Request(address, method="HEAD")  # noqa: S310 - the scheme is checked above
        try:
            urllib.request.urlopen(request, timeout=seconds).close()  # noqa: S310
        except urllib.error.HTTPError:
            if not refusals:
                return
        except (OSError, ValueError):
            return
        answered.set()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answered.is_set()
