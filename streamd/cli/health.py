"""`streamd health`: asks a running daemon how it is, for container engines and supervisors."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

import typer

from streamd.cli.common import ConfigOption, load_config
from streamd.observe.settings import url_of

_UNHEALTHY = 1  # what Docker's HEALTHCHECK asks for


def command(
    config: ConfigOption = None,
    live: Annotated[
        bool, typer.Option("--live", help="Ask whether it is alive, not whether it does its work now.")
    ] = False,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for its answer.")] = 3.0,
) -> None:
    """Ask the daemon of this machine whether it is ready; exit with 0 if so, with 1 if not.

    Its address is admin.host and admin.port, from the file and the environment that the daemon itself has.
    """
    admin = load_config(config).config.admin
    healthy, sentence = ask(url_of(admin.host, admin.port), live, timeout)
    typer.echo(sentence, err=not healthy)
    raise typer.Exit(0 if healthy else _UNHEALTHY)


def ask(url: str, live: bool, timeout: float) -> tuple[bool, str]:
    """Whether it is ready (or, with `live`, alive), and a sentence that says so.

    Args:
        url: of the admin HTTP, `http://host:port`.
        timeout: seconds.
    """
    probe = Request(f"{url}/{'livez' if live else 'readyz'}")
    try:
        # No proxy: the daemon is on this machine, whatever HTTP_PROXY says.
        with build_opener(ProxyHandler({})).open(probe, timeout=timeout):
            return True, "streamd is alive" if live else "streamd is ready"
    except HTTPError as error:
        with error:
            return False, f"streamd is not {'alive' if live else 'ready'}: {_reasons(error)}"
    except (URLError, OSError) as error:  # OSError: it was cut while it answered
        reason = getattr(error, "reason", error)
        return False, f"streamd does not answer at {url}: {getattr(reason, 'strerror', None) or reason}"


def _reasons(error: HTTPError) -> str:
    """The sentences of the answer's body, or the status line where it has none."""
    try:
        answer: Any = json.loads(error.read())
        reasons = [str(reason) for reason in answer.get("reasons", ())]
        return "; ".join(reasons) or str(answer.get("state") or error)
    except (OSError, ValueError, AttributeError):
        return str(error)
