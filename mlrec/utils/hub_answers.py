"""Whether a web address answers, within a time limit; torch is not needed."""

from __future__ import annotations

import threading
import urllib.error
import urllib.request

SECONDS = 5.0


def answers(address: str, *, refusals: bool = True, seconds: float = SECONDS) -> bool:
    """Whether anything answers there, a refusal counting if `refusals`; never if HF_HUB_OFFLINE is set.

    Asked in a thread: a resolver may hang longer than any socket's time limit.
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
