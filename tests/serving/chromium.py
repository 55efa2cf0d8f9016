"""Headless Chromium, driven over its debugging pipe without further packages."""

import contextlib
import json
import os
import shutil
import subprocess
import time


def find():
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Page:
    def __init__(self, write, read):
        self._write, self._read, self._number = write, read, 0
        self.problems = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        attached = self.send("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "DOM", "Log"):
            self.send(f"{domain}.enable")

    _session = None

    def send(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._write.write(json.dumps(message).encode() + b"\0")
        self._write.flush()
        while True:
            answer = json.loads(b"".join(iter(lambda: self._read.read(1), b"\0")))
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.problems.append(answer["params"])

    def value(self, expression):
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"].get("value")

    def wait(self, expression, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.value(expression):
                return
            time.sleep(0.1)
        raise AssertionError(f"{expression} stayed {self.value(expression)!r}")

    def choose_file(self, selector, path):
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        node = self.send("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.send("DOM.setFileInputFiles", nodeId=node, files=[str(path)])


@contextlib.contextmanager
def open_page(folder):
    to_browser, write = os.pipe()
    read, from_browser = os.pipe()
    # The browser reads descriptor 3 and writes descriptor 4.
    script = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
    command = [find(), "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"]
    command += ["--no-first-run", "--disable-background-networking", f"--user-data-dir={folder}"]
    process = subprocess.Popen(
        ["bash", "-c", script, *command],
        pass_fds=(to_browser, from_browser),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(to_browser)
    os.close(from_browser)
    with os.fdopen(write, "wb") as writer, os.fdopen(read, "rb") as reader:
        try:
            yield Page(writer, reader)
        finally:
            process.terminate()
            process.wait(20)
