# One image for every process of the service; the command says which. Runs as nobody in particular, with a root that it cannot write.
FROM python:3.11.14-slim-bookworm AS build
ARG EXTRAS=postgresql
WORKDIR /src
COPY constraints.txt ./
RUN python -m venv /opt/trajsvc && /opt/trajsvc/bin/pip install --no-cache-dir torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu
COPY . .
RUN /opt/trajsvc/bin/pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]"

FROM python:3.11.14-slim-bookworm
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin trajsvc && install -d -o trajsvc -g trajsvc /store /data
COPY --from=build /opt/trajsvc /opt/trajsvc
ENV PATH=/opt/trajsvc/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 MPLCONFIGDIR=/tmp/matplotlib TRAJSVC_KERNEL_CACHE=/tmp/kernels HF_HOME=/tmp/hf
USER trajsvc
VOLUME ["/store"]
EXPOSE 8000
ENTRYPOINT ["trajsvc"]
CMD ["serve"]
