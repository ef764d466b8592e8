"""``costmodel explore``: the interactive page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from costmodel.render import note

__all__ = ["explore"]


def explore(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8050,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine see it only if named.")
    ] = "127.0.0.1",
    model: Annotated[
        list[Path] | None, typer.Option(help="Folder, config.json or spec file to offer too; repeatable.")
    ] = None,
    hardware: Annotated[list[Path] | None, typer.Option(help="Profile of a device to offer too; repeatable.")] = None,
    engine: Annotated[list[Path] | None, typer.Option(help="Profile of an engine to offer too; repeatable.")] = None,
    traces: Annotated[Path | None, typer.Option(help="Recorded answers (JSON Lines) for the policies.")] = None,
    browser: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Serve a page that answers by moving sliders: latency, break-even, roofline, devices, policies.

    It listens on this machine only, and asks no other machine for anything. Ctrl-C stops it.

    Example: costmodel explore --port 8050 --traces traces.jsonl
    """
    from costmodel.explore.app import LOOPBACK, make_app, server_of
    from costmodel.explore.catalogue import Catalogue
    from costmodel.explore.results import Results
    from costmodel.files import read_bytes

    catalogue = Catalogue.with_files(models=model or (), hardware=hardware or (), engines=engine or ())
    results = Results(catalogue)
    token = results.uploads.add(read_bytes(traces), traces.name) if traces else ""
    server = server_of(
        make_app(results, token=token, hosts=LOOPBACK if host in LOOPBACK else None), host=host, port=port
    )
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{server.server_port}/"
    note(f"explore: {address} (Ctrl-C stops)")
    if browser:
        import webbrowser

        webbrowser.open(address)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        note("stopped")
    finally:
        server.server_close()
