"""One demonstration plant and one browser for all tests of a module.

The browser's driver keeps an event loop for as long as it is there: no other test of its process could run one.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.demo_plant import DemoPlant, hybrid_up

ARTIFACTS = Path(__file__).resolve().parents[1] / "artifacts"
BOOTSTRAP_S = 540.0
"""Three minutes on two idle cores; tests may share theirs."""
ENDED = ("SUCCESS", "FAILURE", "CANCELED")
_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="module")
def starting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoPlant]:
    """What `make run` starts, in an empty home."""
    with hybrid_up(tmp_path_factory.mktemp("demo") / "home") as plant:
        yield plant


@pytest.fixture(scope="module")
def plant(starting: DemoPlant) -> DemoPlant:
    """The same, once its history has been served and nothing is under way."""

    def served() -> bool:
        # The runs first: counting partitions costs the web server more than what it would be waiting for.
        runs = starting.runs()
        if any(status not in ENDED for _, status in runs) or not {"pump_serve", "pump_score"} & {
            job for job, _ in runs
        }:
            return False
        return starting.progress()["pump/maintenance_plan"].complete

    starting.wait_until(served, "the history is served", BOOTSTRAP_S)
    return starting


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("chromium is not installed (Debian package chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(_FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, plant: DemoPlant) -> Iterator[Page]:
    """A page whose relative addresses are the plant's."""
    with browser.new_context(base_url=plant.url, viewport={"width": 1600, "height": 1100}) as context:
        page = context.new_page()
        page.set_default_timeout(60_000)
        yield page


@pytest.fixture
def keep(page: Page) -> Callable[[str], None]:
    """Keeps a screenshot for people to look at, in tests/artifacts."""

    def screenshot(name: str) -> None:
        ARTIFACTS.mkdir(exist_ok=True)
        page.screenshot(path=ARTIFACTS / f"{name}.png", animations="disabled")

    return screenshot
