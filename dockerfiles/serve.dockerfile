# Serves a packed folder by ONNX Runtime, without PyTorch. From the folder above:
#   docker build -f dockerfiles/serve.dockerfile -t vit_mnist_serve .
#   docker run --rm --read-only --tmpfs /tmp -p 127.0.0.1:8000:8000 -v "$PWD/packed:/packed:ro" vit_mnist_serve
FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/venv && python -m pip install --no-cache-dir uv==0.13.9
COPY settings.ini setup.py pyproject.toml README.md LICENSE MANIFEST.in ./
# what serving needs stands in settings.ini; PostgreSQL's driver is for the log of requests
RUN sed -nE '/^(serve|postgres)_requirements = /{s/[^=]*= //; s/ /\n/g; p}' settings.ini > requirements.txt \
    && uv pip install --no-cache --python /opt/venv/bin/python -r requirements.txt
# of scipy only what reads photographs; no tests, headers or tools
WORKDIR /opt/venv/lib/python3.13/site-packages
RUN find . -type d -name tests -prune -exec rm -rf {} + \
    && find . \( -name '*.pyi' -o -name '*.h' -o -name '*.pxd' -o -name '*.a' \) -delete \
    && for part in stats optimize sparse spatial io signal interpolate integrate cluster odr datasets differentiate; do rm -rf scipy/$part; done \
    && for part in transformers tools quantization datasets; do rm -rf onnxruntime/$part; done
WORKDIR /src
COPY vit_mnist vit_mnist
RUN rm -rf vit_mnist/mnist vit_mnist/pretrained && uv pip install --no-cache --python /opt/venv/bin/python --no-deps . \
    && /opt/venv/bin/python -m pip uninstall --yes pip

FROM python:3.13-slim
COPY --from=build /opt/venv /opt/venv
RUN useradd --uid 1000 --create-home student
ENV PATH=/opt/venv/bin:$PATH VIT_MNIST_SERVE_HOST=0.0.0.0 VIT_MNIST_HOME=/tmp/vit_mnist PYTHONDONTWRITEBYTECODE=1
USER 1000
WORKDIR /
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health', timeout=2)"]
CMD ["vit_mnist_serve", "/packed"]
