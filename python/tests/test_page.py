"""The page of a server in a real browser: everything on it is clicked, beside a live site, and names made to harm stay names.

It needs Chromium (Debian: ``chromium``); where there is none the tests say that they are left out. ``ZEOLITE_SHOTS=DIRECTORY`` keeps pictures.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import evolving
import pytest
from evolving import live
from serving import PROGRAM, Server

playwright = pytest.importorskip("playwright.sync_api")
expect = playwright.expect

CHROMIUM = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="left out: no Chromium on this machine (Debian: apt-get install chromium)")

SHOTS = os.environ.get("ZEOLITE_SHOTS")
DOCS = 2000
HOSTILE = "<img src=x onerror=\"window.harmed=1\">'\";</script>"
#: A job that goes slowly enough to be looked at, wherever the disk stands.
RUN = "from zeolite import evolve; from migrations import lower; evolve.run({uri!r}, 'titles', lower, rate_max=50, disk_pause_percent=0, disk_stop_percent=0)"


class Shown(Server):
    """A server with its page."""

    def __init__(self, directory: Path, *settings: str):
        super().__init__(directory, "metrics.listen=127.0.0.1:0", *settings)
        assert self.process.stdout is not None
        found = re.search(r"(https?://\S+)/metrics", self.process.stdout.readline())
        assert found is not None
        self.page = found.group(1)

    def run(self, *arguments: str) -> str:
        command = [PROGRAM, "--server", self.address, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Shown]:
    server = Shown(tmp_path)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as running:
        # As root, as in a container, Chromium has no sandbox of its own.
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser: Any, url: str, **options: Any) -> Any:
    """A page that must not complain, and must ask nobody else."""
    context = browser.new_context(**{"viewport": {"width": 1120, "height": 800}, **options})
    page = context.new_page()
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda line: line.type == "error" and page.complaints.append(line.text))
    page.on("request", lambda asked: asked.url.startswith(url) or page.complaints.append(asked.url))
    page.goto(url)
    return page


def is_clean(page: Any, *known: str) -> None:
    others = [told for told in page.complaints if not any(part in told for part in known)]
    assert others == []
    assert page.evaluate("window.harmed") is None
    page.context.close()


def shot(page: Any, name: str) -> None:
    if SHOTS:
        page.screenshot(path=f"{SHOTS}/{name}.png")


def confirm(page: Any, reason: str = "") -> None:
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    if reason:
        dialog.get_by_label("Why").fill(reason)
    dialog.locator("#dialog-yes").click()
    expect(dialog).to_be_hidden()


def seeded(server: Shown) -> None:
    seed = evolving.process("-c", f"import cms; cms.seed({server.address!r}, {DOCS})", release=1)
    assert seed.wait(60) == 0


REPLICATION = {"seat": "primary", "connected": True, "sync": 0, "followers": [], "problem": None, "primary": ""}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, None),
        ({"sync": 1, "followers": [{"id": "f", "connected": True}]}, None),
        ({"sync": 1, "followers": [{"id": "f", "connected": False}]}, "Commits wait for 1 followers, and 0 are there"),
        ({"seat": "follower", "primary": "db1:7878"}, None),
        ({"seat": "follower", "primary": "db1:7878", "connected": False}, "It does not hear its primary db1:7878"),
        ({"seat": "follower", "problem": "it was packed away"}, "It does not follow: it was packed away"),
        ({"seat": "fenced", "primary": "db2:7878", "problem": "its disk has not taken that"}, "Another server took its place: its disk"),
    ],
)
def test_a_server_among_copies_is_red_where_check_is_critical(served: Shown, browser: Any, changed: dict[str, Any], said: str | None) -> None:
    status = json.loads(served.run("--json", "status"))
    page = opened(browser, served.page)
    told = {**status, "free_bytes": 50, "disk_bytes": 100, "replication": {**REPLICATION, **changed}}
    found = page.evaluate("async (status) => (await import('/page/health.js')).reasons(status)", told)
    bad = [reason["text"] for reason in found if reason["level"] == "bad"]
    assert (bad == []) if said is None else (len(bad) == 1 and said in bad[0]), found
    is_clean(page)


def test_a_live_site_with_an_evolve_is_shown_and_steered(served: Shown, browser: Any) -> None:
    seeded(served)
    served.run("evolve", "plan", HOSTILE, "--class", "cms.Doc")
    page = opened(browser, served.page)
    expect(page.get_by_role("status")).to_have_text(re.compile("All is well|Look at"))
    with live(served.address):
        worker = evolving.process("-c", RUN.format(uri=f"zeolite://{served.address}/"))
        try:
            steers(page)
        finally:
            worker.kill()
            worker.wait()
    expect(page.get_by_text("Nobody is connected.")).to_be_visible(timeout=15000)
    modes(page, served)
    expect(page.locator(".job .name", has_text=HOSTILE)).to_be_visible()
    is_clean(page)


def steers(page: Any) -> None:
    job = page.locator(".job", has_text="titles")
    expect(job.locator(".chip")).to_have_text(re.compile("running|throttled"), timeout=20000)
    expect(job.get_by_role("progressbar")).to_be_visible()
    expect(job).to_contain_text(re.compile("of [12],[0-9]+ objects"))
    commits = page.locator(".plot", has_text="Commits a second").locator(".value b")
    expect(commits).not_to_have_text("0", timeout=10000)
    expect(job).to_contain_text("left", timeout=20000)
    shot(page, "page")
    job.get_by_role("button", name="Pause").click()
    confirm(page, "lunch")
    expect(job.locator(".chip")).to_have_text("paused", timeout=10000)
    expect(job).to_contain_text("lunch")
    job.get_by_role("button", name="Resume").click()
    expect(job.locator(".chip")).to_have_text(re.compile("running|throttled"), timeout=20000)
    job.get_by_role("button", name="Cancel").click()
    confirm(page, "enough")
    expect(job.locator(".chip")).to_have_text("cancelled", timeout=10000)
    expect(job).to_contain_text("enough")


def modes(page: Any, served: Shown) -> None:
    page.get_by_text("Switch the mode").click()
    page.get_by_label("read-only").check()
    page.get_by_label("Banner, for the users of the site").fill(HOSTILE)
    page.get_by_label("How long").select_option("for 10 minutes")
    page.get_by_role("button", name="Switch", exact=True).click()
    confirm(page)
    expect(page.locator("#mode-now")).to_contain_text("read-only", timeout=10000)
    expect(page.locator("#banner")).to_contain_text(HOSTILE)
    assert "read-only" in served.run("mode")
    served.run("mode", "normal")
    expect(page.locator("#banner")).to_be_hidden(timeout=10000)


def test_a_session_is_cut(served: Shown, browser: Any) -> None:
    seeded(served)
    page = opened(browser, served.page)
    with evolving.opened(served.address):
        row = page.get_by_role("row", name="the test")
        expect(row).to_have_count(1, timeout=15000)
        button = row.get_by_role("button", name=re.compile("Cut session"))
        name = button.get_attribute("aria-label")
        button.click()
        confirm(page)
        expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0, timeout=10000)
        # Its client comes again by itself.
        expect(row).to_have_count(1, timeout=15000)
    is_clean(page)


def user(directory: Path, name: str, role: str) -> str:
    command = [PROGRAM, "user", "--file", str(directory / "users.toml"), "add", name, "--role", role]
    token = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    found = re.search(r"zlt_\w+", token)
    assert found is not None
    return found.group(0)


def log_in(page: Any, token: str) -> None:
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Log in").click()


def test_users_log_in_see_what_their_role_may_and_lose_the_page_with_their_token(tmp_path: Path, browser: Any) -> None:
    reader, operator = user(tmp_path, "reader", "read"), user(tmp_path, "operator", "admin")
    served = Shown(tmp_path, f"auth.users_file={tmp_path / 'users.toml'}")
    try:
        page = opened(browser, served.page)
        expect(page.get_by_role("heading", name="Log in")).to_be_visible()
        log_in(page, reader[:-1] + ("0" if reader[-1] != "0" else "1"))
        expect(page.get_by_role("alert")).to_contain_text("the token is not valid")
        log_in(page, reader)
        expect(page.locator("#user")).to_have_text("reader, read")
        expect(page.get_by_text("The role admin sees who they are.")).to_be_visible(timeout=10000)
        expect(page.get_by_text("Switch the mode")).to_have_count(0)
        assert page.evaluate("document.cookie") == ""
        page.get_by_role("button", name="Log out").click()
        log_in(page, operator)
        expect(page.locator("#user")).to_have_text("operator, admin")
        expect(page.get_by_text("Switch the mode")).to_be_visible(timeout=10000)
        shot(page, "login")
        subprocess.run([PROGRAM, "user", "--file", str(tmp_path / "users.toml"), "remove", "operator"], check=True, capture_output=True)
        expect(page.get_by_role("heading", name="Log in")).to_be_visible(timeout=15000)
        # What the browser says of refused requests is no complaint of the page.
        is_clean(page, "401")
    finally:
        served.stop()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_read_on_a_phone_with_a_keyboard_and_enough_contrast(served: Shown, browser: Any, scheme: str) -> None:
    page = opened(browser, served.page, viewport={"width": 360, "height": 740}, color_scheme=scheme, reduced_motion="reduce")
    expect(page.locator("#runs")).to_contain_text("session", timeout=10000)
    shot(page, f"phone-{scheme}")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing is wider than the phone"
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.get_by_text("Switch the mode").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.type") == "radio"
    assert page.evaluate(CONTRAST) == [], "text and ground of each colour: 4.5 to 1"
    is_clean(page)


#: The contrast of each text that is shown against what lies behind it (WCAG 2, 1.4.3); what is under 4.5 comes back.
CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (colour) => {
    const [r, g, b] = rgb(colour).map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (!/, 0\\)$/.test(colour) && colour !== "transparent") return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const found = [];
  for (const node of document.querySelectorAll("body *")) {
    const hasText = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!hasText || !node.checkVisibility() || node.closest("script, noscript, .skip")) continue;
    const [one, other] = [light(getComputedStyle(node).color), light(ground(node))].sort((a, b) => b - a);
    const ratio = (one + 0.05) / (other + 0.05);
    if (ratio < 4.5) found.push(`${node.tagName} ${node.className} ${ratio.toFixed(2)} ${node.textContent.slice(0, 30)}`);
  }
  return found;
}"""
