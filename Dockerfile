# lg-bench as an image: docker build -t lg-bench .   then   docker run --gpus all -v "$PWD/results:/results" lg-bench
#
# torch comes as the package index of the building host gives it: the CUDA build on an ordinary x86-64 host.
ARG BASE=python:3.11-slim-bookworm

# The dependencies alone, so that an edit of the tools' settings in pyproject.toml installs nothing again.
FROM ${BASE} AS requirements
COPY pyproject.toml /
RUN python3 -c "import tomllib; print(*tomllib.load(open('/pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
      > /requirements.txt

FROM ${BASE}
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONUNBUFFERED=1
RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
WORKDIR /app

# From what changes rarely to what changes daily, so that an edit of the code installs nothing again.
COPY constraints.txt ./
RUN pip install --quiet -c constraints.txt torch
COPY --from=requirements /requirements.txt ./
RUN pip install --quiet -c constraints.txt -r requirements.txt hatchling editables
RUN useradd --uid 1000 lgbench && mkdir -m 1777 /results
COPY LICENSE README.md pyproject.toml ./
COPY scripts/docker-entrypoint.sh /usr/local/bin/
COPY models ./models
COPY specs ./specs
COPY harness ./harness
RUN pip install --quiet --no-deps --no-build-isolation -e . && python -m compileall -q harness
# The engine's compiled code, made once; any user may add to it what a processor of another kind asks for.
RUN NUMBA_CACHE_DIR=/opt/numba python -c "from harness.verifier.api import warm_up; warm_up()" \
 && chmod -R a+rwX /opt/numba

# The verifier as a VNN-COMP tool: what `lgbench run --tool docker:lg-bench` calls.
COPY vnncomp_scripts /vnncomp_scripts
LABEL lgbench.scripts=/vnncomp_scripts

# Any user id may run the image (docker run --user): caches go to /tmp, results to a folder that everyone may write, and
# libraries that ask for the user's name find one although the id has none.
ENV HOME=/tmp USER=lgbench LOGNAME=lgbench MPLCONFIGDIR=/tmp/matplotlib NUMBA_CACHE_DIR=/opt/numba \
    OMP_WAIT_POLICY=PASSIVE GOMP_SPINCOUNT=0
USER lgbench
VOLUME /results
# The default run folder is results/<name> under the working folder, which makes it lie in the volume.
WORKDIR /
ENTRYPOINT ["/usr/local/bin/docker-entrypoint.sh"]
