"""The pages of cards in a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page; when the test ends, none has said anything on its console or asked for a file but itself."""
    said: list[str] = []
    contexts = []

    def open_page(path: Path, link: str = "", width: int = 1280, scheme: str = "light") -> Any:
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("request", lambda request: said.append(request.url) if "index.html" not in request.url else None)
        page.goto(f"{path.as_uri()}{link}")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [line for line in said if not line.startswith("data:")] == []
