"""The Makefile's virtual environment, with stand-ins for the programs that fill it."""

import subprocess
from pathlib import Path

from core.paths import PROJECT

_HALF_MADE = """#!/bin/sh
exit 1
"""
_WHOLE = """#!/bin/sh
echo "$0 $*" >> calls
"""
_SYSTEM = f"""#!/bin/sh
echo "system $*" >> calls
test "$2" = venv || exit 0
for name in python uv lyceum; do cat > .venv/bin/$name <<'END'
{_WHOLE}END
chmod +x .venv/bin/$name; done
"""


def _program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_a_half_made_virtual_environment_is_made_again_and_a_whole_one_kept(tmp_path: Path) -> None:
    for lock in ("bootstrap", "dev"):
        _program(tmp_path / f"deploy/requirements/{lock}.txt", lock)
    _program(tmp_path / ".venv/bin/python", _HALF_MADE)
    python = _program(tmp_path / "system/python", _SYSTEM)
    make = ["make", "-f", str(PROJECT / "Makefile"), "down", f"PYTHON={python}"]

    subprocess.run(make, cwd=tmp_path, check=True)
    first = (tmp_path / "calls").read_text().splitlines()
    assert first[1] == "system -m venv --clear .venv"
    assert first[-1] == ".venv/bin/lyceum down"

    (tmp_path / "deploy/requirements/dev.txt").write_text("another lock")
    subprocess.run(make, cwd=tmp_path, check=True)
    second = (tmp_path / "calls").read_text().splitlines()[len(first) :]
    assert [call for call in second if call.startswith("system -m venv")] == []
    assert second[-1] == ".venv/bin/lyceum down"
