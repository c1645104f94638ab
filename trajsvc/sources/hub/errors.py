"""The Hub's answers as errors with hints. No message contains a URL or a token.

The Hub tells causes apart by ``X-Error-Code`` (``RepoNotFound``, ``GatedRepo``, ``RevisionNotFound``, ``EntryNotFound``,
``DisabledRepo``); for a request without access, a private repository looks like one that does not exist.
"""

from __future__ import annotations

from collections.abc import Mapping

from trajsvc.errors import NotFound, Refused, TrajsvcError, TryAgain
from trajsvc.sources.transport.retry import RETRIED


def of_response(status: int, headers: Mapping[str, str], where: str, *, signed_in: bool) -> TrajsvcError:
    """Return the error for an unsuccessful answer; ``where`` is the repository, with its revision and file if known.

    Kinds: ``hub-gated``, ``hub-unauthorized``, ``hub-no-repository``, ``hub-no-revision``, ``hub-no-file``,
    ``hub-disabled``, ``hub-forbidden`` (Refused or NotFound); ``hub-rate-limited``, ``hub-unavailable`` (TryAgain);
    ``hub-refused`` for the rest.
    """
    code = next((value for name, value in headers.items() if name.lower() == "x-error-code"), None)
    if code == "GatedRepo":
        who = "the account of this token has not been granted access" if signed_in else "it asks for an account"
        return Refused(
            "hub-gated", f"{where} is gated: {who}",
            hint="Ask for access on its page on the Hub, then give a token of that account: HF_TOKEN, or `hf auth login`.",
        )  # fmt: skip
    if code == "RevisionNotFound":
        return NotFound(
            "hub-no-revision", f"{where}: there is no such revision", hint="`trajsvc plan` lists those that there are."
        )
    if code == "EntryNotFound":
        return NotFound(
            "hub-no-file", f"{where}: there is no such file", hint="List the repository again: the same command does."
        )
    if code == "DisabledRepo":
        return Refused("hub-disabled", f"{where} was disabled by the Hub", hint="Its owner or the Hub can say why.")
    if status == 401 and signed_in and code != "RepoNotFound":
        return Refused(
            "hub-unauthorized", f"the Hub does not accept the token that was sent for {where}",
            hint="It may have expired: make a new one and set HF_TOKEN, or unset it for public repositories.",
        )  # fmt: skip
    if status in (401, 404):
        seen = "with the token's account" if signed_in else "without an account"
        more = "if it is private, use a token that may read it" if signed_in else "if it is private, set HF_TOKEN"
        return NotFound(
            "hub-no-repository", f"{where} does not exist, or is not seen {seen}", hint=f"Check the spelling; {more}."
        )
    if status == 403:
        return Refused(
            "hub-forbidden", f"the Hub forbids reading {where}", hint="Check the rights of the token (HF_TOKEN)."
        )
    if status == 429:
        return TryAgain(
            "hub-rate-limited", f"the Hub still asks to wait after many tries for {where}",
            hint="Run the same command later; it goes on where it was. A token (HF_TOKEN) has higher limits.",
        )  # fmt: skip
    if status in RETRIED or status >= 500:
        return TryAgain(
            "hub-unavailable", f"the Hub answered {status} again and again for {where}",
            hint="Run the same command later; it goes on where it was.",
        )  # fmt: skip
    return Refused("hub-refused", f"the Hub answered {status} for {where}", hint="Set TRAJSVC_DEBUG=1 to see more.")


def wait_too_long(where: str, asked: float, most: float) -> TryAgain:
    """Return the error for a Hub that asks for a longer wait than a listing may take (``hub-rate-limited``)."""
    return TryAgain(
        "hub-rate-limited", f"the Hub asks to wait {asked:,.0f} s before {where} is listed, and a listing waits {most:,.0f} s at most",
        hint="Run the same command then, or allow it with TRAJSVC_HUB_SECONDS. A token (HF_TOKEN) has higher limits.",
    )  # fmt: skip


def unreachable(where: str, why: str) -> TryAgain:
    """Return the error for a connection that failed, broke or stalled at every attempt (``hub-unreachable``)."""
    return TryAgain(
        "hub-unreachable", f"{where} cannot be read from the Hub: {why}",
        hint="Check the network, HTTPS_PROXY and HF_ENDPOINT; the same command goes on where it was.",
    )  # fmt: skip


def no_connection(where: str) -> TryAgain:
    """Return the error for an endpoint that no connection was ever made to (``hub-unreachable``); its address is not told."""
    return TryAgain(
        "hub-unreachable", f"{where} cannot be read from the Hub: there is no connection to it",
        hint="Check the network. Behind a proxy set HTTPS_PROXY; HF_ENDPOINT names a mirror. Without a network analyse a folder "
        "that holds the checkpoints, such as one of the Hub's cache; HF_HUB_OFFLINE=1 makes no request at all.",
    )  # fmt: skip


def offline(where: str) -> Refused:
    """Return the error for a read while HF_HUB_OFFLINE is set (``hub-offline``): no request is made."""
    return Refused(
        "hub-offline", f"{where} is needed from the Hub, and HF_HUB_OFFLINE is set",
        hint="Unset HF_HUB_OFFLINE, or analyse a folder that holds the checkpoints.",
    )  # fmt: skip


def range_ignored(where: str) -> Refused:
    """Return the error for a server or proxy that answers a request for a part with the whole file (``range-ignored``)."""
    return Refused(
        "range-ignored", f"{where}: a part of the file was asked for and the whole came",
        hint="A proxy in between drops the Range header: go around it (NO_PROXY), or read whole files with --copy.",
    )  # fmt: skip


def changed(where: str, what: str) -> TryAgain:
    """Return the error for a file that is not the one that was listed (``hub-file-changed``)."""
    return TryAgain(
        "hub-file-changed", f"{where} {what}", hint="Run the same command again: it lists the repository anew."
    )


def insecure(where: str) -> Refused:
    """Return the error for a redirect from https to http (``hub-insecure``), which is not followed."""
    return Refused(
        "hub-insecure",
        f"{where}: the Hub leads to an address without encryption",
        hint="Check HF_ENDPOINT and the proxy.",
    )


def encoded(where: str) -> Refused:
    """Return the error for a body that is compressed in transfer though it was asked for uncompressed
    (``hub-encoded``).
    """
    return Refused(
        "hub-encoded", f"{where} came compressed, so that its bytes cannot be told apart",
        hint="A proxy in between changes bodies: go around it (NO_PROXY).",
    )  # fmt: skip
