"""What pyproject.toml cannot say: two folders at the top of the repository are packages of the wheel."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=["octo_pipeline*"]),
        "octo_pipeline.dbt_project",
        "octo_pipeline.allocator_configs",
    ],
    package_dir={
        "octo_pipeline.dbt_project": "dbt_project",
        "octo_pipeline.allocator_configs": "allocator_configs",
    },
    package_data={
        "octo_pipeline": [
            "py.typed",
            "*/sql/*.j2",
            "vendors/**/sql/*.j2",
            "console/static/*",
            "api/*.j2",
            "console/templates/*.j2",
            "services/*.j2",
            "outputs/**/*.csv",
            "outputs/**/*.j2",
            "outputs/*.typ",
            "assets/*.j2",
            "vendors/*/templates/*",
        ],
        # dbt writes into the same folder, so its parts are named.
        "octo_pipeline.dbt_project": ["*.yml", "macros/**/*", "models/**/*"],
        "octo_pipeline.allocator_configs": ["**/*"],
    },
)
