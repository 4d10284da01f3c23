# The environment of every stage, without the project: the folder that is mounted brings its own code.
#   docker build --tag fcotvl . && docker run --rm --volume "$PWD:/project" fcotvl dvc repro
FROM python:3.11.14-slim-bookworm
RUN apt-get update && apt-get install --yes --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/fcotvl
COPY Makefile pyproject.toml requirements.lock README.md LICENSE ./
COPY fcotvl fcotvl
ARG PIP_EXTRA_INDEX_URL
RUN PIP_NO_CACHE_DIR=1 make .venv/.ready && git config --system --add safe.directory /project
ENV PATH=/opt/fcotvl/.venv/bin:$PATH PYTHONPATH=/project
WORKDIR /project
CMD ["bash"]
