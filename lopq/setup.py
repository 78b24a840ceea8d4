"""Build in a temporary folder, so that no build files stay here; see pyproject.toml."""

import atexit
import shutil
import tempfile

from setuptools import setup  # type: ignore[import-untyped]

scratch = tempfile.mkdtemp()
atexit.register(shutil.rmtree, scratch, ignore_errors=True)
setup(
    script_name="setup.py",  # its name keeps this file out of the package
    options={"build": {"build_base": scratch}, "egg_info": {"egg_base": scratch}},
)
