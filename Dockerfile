# Tensorpress as a container image. Build: docker build -t tensorpress .   Run: docs/operations.md.
# The build stage has npm; the image itself has Node, the production packages of one architecture, and the Vulkan drivers of
# Debian 13: lavapipe (software), AMD and Intel. NVIDIA's driver is put in by the NVIDIA container toolkit.
# scripts/check-image.ts runs these very lines in a Debian 13 root file system: keep to the instructions that it knows.

ARG NODE_IMAGE=node:24.21.0-trixie-slim
ARG RUNTIME_IMAGE=debian:trixie-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /src
# The post-install of onnxruntime-node would download CUDA libraries, which nothing here uses.
ENV ONNXRUNTIME_NODE_INSTALL=skip
COPY package.json package-lock.json ./
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY . .
RUN npm run build \
 && find dist -name '*.d.ts' -delete \
 && npm prune --omit=dev --ignore-scripts --no-audit --no-fund \
 && node scripts/image/keep-platform.mjs node_modules

FROM ${RUNTIME_IMAGE}
# Debian removes a version from its mirrors when a fix replaces it, so pinned versions would break the build.
# libx11-6 and libxext6 are for NVIDIA's Vulkan driver, which links them even without a display.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libstdc++6 libvulkan1 libx11-6 libxext6 mesa-vulkan-drivers \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/apt /var/log/dpkg.log \
 && install --directory --owner=10001 --group=10001 --mode=0700 /data /var/cache/tensorpress
COPY --from=build /usr/local/bin/node /usr/local/bin/node
COPY --from=build /usr/local/LICENSE /usr/local/share/doc/node/LICENSE
WORKDIR /app
COPY --from=build /src/node_modules node_modules
COPY --from=build /src/package.json /src/LICENSE ./
COPY --from=build /src/scripts/setup.mjs /src/scripts/vulkan.mjs /src/scripts/health-check.mjs scripts/
COPY --from=build /src/bin bin
COPY --from=build /src/shaders shaders
COPY --from=build /src/dist dist

LABEL org.opencontainers.image.title="Tensorpress" \
      org.opencontainers.image.description="Model compression server on WebGPU compute shaders" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.1.0"

# HOME is where Node's compile cache and a GPU driver's own cache go; compiled shaders of Mesa lie in /data/shader-cache.
# No VK_DRIVER_FILES: the loader then takes every driver, those that a GPU runtime puts in included, and the server prefers
# a GPU to lavapipe. "graphics" makes the NVIDIA toolkit bring Vulkan; without that toolkit the variables mean nothing.
ENV NODE_ENV=production \
    MALLOC_ARENA_MAX=1 \
    HOME=/var/cache/tensorpress \
    TENSORPRESS_SETUP=skip \
    TENSORPRESS_HOST=0.0.0.0 \
    TENSORPRESS_PORT=8080 \
    TENSORPRESS_DATA_DIR=/data \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics
VOLUME ["/data", "/var/cache/tensorpress"]
EXPOSE 8080
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["node", "/app/scripts/health-check.mjs"]
ENTRYPOINT ["/app/bin/tensorpress"]
CMD ["serve"]
