"""A headless Chromium that opens a page from the disk, and tells what it did."""

import importlib.util
import json
import shutil
from contextlib import contextmanager

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def what_is_missing():
    """What a test with a browser lacks on this machine; None if nothing."""
    if not any(map(shutil.which, _BROWSERS)):
        return f"no browser found, looked for {', '.join(_BROWSERS)}"
    if not shutil.which("chromedriver"):
        return "no chromedriver found (Debian: chromium-driver)"
    if importlib.util.find_spec("selenium") is None:
        return "selenium is not installed"
    return None


@contextmanager
def browser():
    """A browser, closed at the end."""
    from selenium import webdriver  # noqa: PLC0415 -- without a browser it need not be there

    options = webdriver.ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, _BROWSERS)))
    # Whoever runs tests in a container is root there, and /dev/shm is small.
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    try:
        yield Browser(driver)
    finally:
        driver.quit()


class Browser:
    """Opens pages, presses keys, and asks what is to be seen."""

    def __init__(self, driver):
        self.driver = driver

    def open(self, path, *, width=1200, dark=False, media="screen", script=True, anchor=""):
        """Open a page anew."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._do("Emulation.setScriptExecutionDisabled", value=not script)
        self._do("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self._do(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        self.driver.get("about:blank")
        self.driver.get_log("performance")
        self.driver.get_log("browser")
        self.driver.get(path.resolve().as_uri() + anchor)

    def run(self, script, *arguments):
        """What a function body returns in the page."""
        return self.driver.execute_script(script, *arguments)

    def click(self, selector):
        self.driver.find_element("css selector", selector).click()

    def press(self, *keys):
        """Press keys, wherever the focus is."""
        from selenium.webdriver import ActionChains  # noqa: PLC0415

        ActionChains(self.driver).send_keys(*keys).perform()

    def shown(self):
        """Names of the classes whose images are to be seen."""
        return self.run(
            "return [...document.querySelectorAll('[data-panel]')]"
            ".filter(panel => panel.getClientRects().length)"
            ".map(panel => panel.querySelector('h3').textContent)"
        )

    def status(self):
        return self.run("return document.querySelector('[data-status]').textContent")

    def console(self):
        """What the browser complains of."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requested(self):
        """Addresses that it asked for since the page was opened, but for what is in the page."""
        events = [json.loads(entry["message"])["message"] for entry in self._log()]
        urls = [
            event["params"]["request"]["url"]
            for event in events
            if event["method"] == "Network.requestWillBeSent"
        ]
        return [url for url in urls if not url.startswith("data:")]

    def _log(self):
        return self.driver.get_log("performance")

    def _do(self, command, **parameters):
        return self.driver.execute_cdp_cmd(command, parameters)
