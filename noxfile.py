"""The tests on every Python, what the environment is made of, and what is known against it.

pip install nox
nox -s tests-3.13 -- tests/serving        # one Python; arguments go to pytest
nox -s sbom                               # sbom.json, a CycloneDX list of every package
nox -s audit                              # known vulnerabilities, where PyPI answers
"""

import nox

PYTHONS = ["3.10", "3.11", "3.12", "3.13"]

nox.options.sessions = ["tests"]
nox.options.error_on_missing_interpreters = False


@nox.session(python=PYTHONS, venv_backend="uv|virtualenv")
def tests(session: nox.Session) -> None:
    """Runs the tests that `scripts/test` runs."""
    session.install("--constraint", "constraints.txt", "--editable", ".[test]")
    chosen = session.posargs or ["-m", "not network and not long and not exhaustive", "-n", "2"]
    session.run("python", "-m", "pytest", *chosen)


@nox.session
def sbom(session: nox.Session) -> None:
    """Writes a software bill of materials of what `constraints.txt` fixes."""
    session.install("cyclonedx-bom>=7,<8")
    session.run(
        "cyclonedx-py", "requirements", "constraints.txt", "--of", "JSON", "-o", "sbom.json"
    )


@nox.session
def audit(session: nox.Session) -> None:
    """Fails on a package with a known vulnerability, or of which nothing can be learned."""
    session.install("pip-audit>=2.10,<3")
    session.run("pip-audit", "--strict", "-r", "constraints.txt", "--no-deps", "--disable-pip")
