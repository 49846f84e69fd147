# syntax=docker/dockerfile:1
# Three stages: compile the sources, install what runs, put both into a small image without compilers or npm caches.
# Node.js 26 is the LTS line since October 2026; Debian 13 is what its images are made of.
ARG NODE_IMAGE=docker.io/library/node:26-trixie-slim

FROM ${NODE_IMAGE} AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# The bundler has a native part, and npm calls that optional: the PostgreSQL servers of the tests come along, into this stage only.
RUN npm ci --ignore-scripts
COPY tsconfig.json tsconfig.build.json ./
COPY tools/bundle.ts ./tools/bundle.ts
COPY src ./src
RUN npm run build

FROM ${NODE_IMAGE} AS packages
WORKDIR /app
COPY package.json package-lock.json .npmrc ./
# No scripts: the only package with one is zstd-napi, which fetches its binary from elsewhere or compiles it. It is optional, and
# this Node.js has a zstd of its own.
RUN npm ci --omit=dev --ignore-scripts

FROM ${NODE_IMAGE}
LABEL org.opencontainers.image.title="Seawall" \
      org.opencontainers.image.description="Streams PostgreSQL's write-ahead log into object storage while it is being written." \
      org.opencontainers.image.licenses="Apache-2.0"
# `seawall import` unpacks WAL of other tools with them.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends bzip2 lz4 xz-utils \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /app
COPY package.json LICENSE ./
COPY --from=packages /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY bin ./bin
RUN ln -s /app/dist/cli/main.js /usr/local/bin/seawall && ln -s /app/bin/seawall-wal-fetch /usr/local/bin/
# Inside a container loopback is nobody's: listen where probes and Prometheus can reach it. It only ever reads.
ENV NODE_ENV=production \
    SEAWALL_LISTEN=0.0.0.0:9848 \
    SEAWALL_LOG_FORMAT=json
EXPOSE 9848
# By number, so that runAsNonRoot can see that it is not root. This is the image's own user "node".
USER 1000:1000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
  CMD ["node", "-e", "const port = (process.env.SEAWALL_LISTEN || ':9848').split(':').pop(); fetch(`http://127.0.0.1:${port}/healthz`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# The exec form: signals reach the process itself.
ENTRYPOINT ["node", "/app/dist/cli/main.js"]
CMD ["receive"]
