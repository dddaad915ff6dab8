"""What a wheel has beside the packages: folders of the repository's top, inside of those that use them (gt/shared.py)."""

from setuptools import find_packages, setup

FOLDERS = {
    "gt.workflow": "workflow",
    "gt.report_templates": "report_templates",
    "gt_upstream.config": "config",
}

setup(
    packages=[*find_packages(include=["gt", "gt.*", "gt_upstream", "gt_upstream.*"]), *FOLDERS],
    package_dir=FOLDERS,
    package_data={
        "gt": ["templates/**/*", "templates/**/.*", "templates/**/.github/**/*"],
        **{package: ["**/*"] for package in FOLDERS},
    },
    exclude_package_data={"": ["**/__pycache__/*", "*.pyc"]},
)
