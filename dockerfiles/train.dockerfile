# Trains with PyTorch's wheels for processors, without CUDA. From the folder above:
#   docker build -f dockerfiles/train.dockerfile -t vit_mnist_train .
#   docker run --rm -v vit_mnist_data:/data -v vit_mnist_runs:/runs vit_mnist_train
# Other options, or another command, stand after the image's name: ... vit_mnist_train vit_mnist_train --preset best
FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/venv && python -m pip install --no-cache-dir uv==0.13.9
COPY settings.ini setup.py pyproject.toml README.md LICENSE MANIFEST.in ./
COPY vit_mnist vit_mnist
RUN uv pip install --no-cache --python /opt/venv/bin/python --torch-backend cpu ".[tune,postgres]" \
    && /opt/venv/bin/python -m pip uninstall --yes pip

FROM python:3.13-slim
COPY --from=build /opt/venv /opt/venv
RUN useradd --uid 1000 --create-home student && mkdir /data /runs && chown student /data /runs
ENV PATH=/opt/venv/bin:$PATH VIT_MNIST_HOME=/data MPLCONFIGDIR=/tmp/matplotlib
USER 1000
WORKDIR /
VOLUME /data /runs
CMD ["vit_mnist_train", "--preset", "fast", "--tracking", "disabled"]
