# Image with the locked packages, the command kd, and a project in /project.
# docs/how-to/container.md explains its use; container.def builds the same for Apptainer.
FROM python:3.11-slim-bookworm

# OpenCV loads the two libraries; the download scripts call curl and unzip.
# hadolint ignore=DL3008 # packages of a Debian release keep their versions
RUN apt-get update \
    && apt-get install --yes --no-install-recommends curl git libgl1 libglib2.0-0 unzip \
    && rm -rf /var/lib/apt/lists/*

# The packages change seldom, so their layer precedes that of the code. The wheels of torch have
# CUDA 13.0, which needs an NVIDIA driver of release 580 or newer; without a GPU they use the CPU.
WORKDIR /opt/kd-detection
COPY requirements.lock ./
RUN python -m pip install --no-cache-dir --no-deps --requirement requirements.lock

COPY . ./
RUN python -m pip install --no-cache-dir --no-deps --no-build-isolation \
    ./workflow/plugins/snakemake-executor-plugin-submitit .

# Any user may run the image (docker run --user), so the home folder of user kd is open to all.
RUN useradd --create-home --uid 1000 kd \
    && kd init /project \
    && chmod 1777 /home/kd \
    && chown --recursive 1000 /project
ARG COMMIT=unknown
ENV KD_COMMIT=$COMMIT HOME=/home/kd
USER 1000
WORKDIR /project
CMD ["kd", "--help"]
