"""Imports pkg_resources like the real setup.py of d50d76d: setuptools 82 and newer fail on it."""

from pathlib import Path

import pkg_resources
from setuptools import find_packages, setup

requirements = Path(__file__).with_name("requirements.txt").read_text()

setup(
    name="clip",
    version="1.0",
    packages=find_packages(),
    include_package_data=True,
    install_requires=[str(each) for each in pkg_resources.parse_requirements(requirements)],
)
