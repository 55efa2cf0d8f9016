"""The tests leave nothing behind."""

import os
import subprocess
import sys
from pathlib import Path


def test_no_temporary_file_outlives_the_tests(tmp_path):
    checked = tmp_path / "test_one.py"
    checked.write_text(
        "import tempfile\n"
        "def test_one(tmp_path):\n"
        "    (tmp_path / 'kept').mkdir()\n"
        "    assert tempfile.mkdtemp()\n"
    )
    conftest = Path(__file__).with_name("conftest.py")
    (tmp_path / "conftest.py").write_text(conftest.read_text(encoding="utf-8"))
    (tmp_path / "temporary").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "1", checked],
        cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path / "temporary")},
        capture_output=True,
        text=True,
    )
    assert "1 passed" in done.stdout
    assert list((tmp_path / "temporary").iterdir()) == []
