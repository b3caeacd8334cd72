# One image for all four apps; the command says which:
#   docker run tideline dist/apps/gateway/src/main.js --log-nodes log-1:7410
# Options come as flags or as TIDELINE_* variables; see docs/operations.md.

FROM node:20-bookworm-slim AS build
# For better-sqlite3, where no binary for the platform can be fetched.
RUN apt-get update \
 && apt-get install -y --no-install-recommends python3 make g++ \
 && rm -rf /var/lib/apt/lists/*
ENV npm_config_nodedir=/usr/local
WORKDIR /app
COPY package.json package-lock.json ./
RUN npm ci
COPY tsconfig.json nest-cli.json .swcrc ./
COPY libs libs
COPY apps apps
RUN npm run build && npm prune --omit=dev

FROM node:20-bookworm-slim
# libuv reads the size of its pool when the process starts: an option would come too late. It writes that many partitions at once.
ENV NODE_ENV=production \
    UV_THREADPOOL_SIZE=16 \
    TIDELINE_DATA_DIR=/var/lib/tideline \
    TIDELINE_LOG_FORMAT=json
WORKDIR /app
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules node_modules
COPY --from=build /app/dist dist
COPY apps/cli/bin apps/cli/bin
COPY LICENSE ./
RUN install -d -o node -g node /var/lib/tideline
USER node
VOLUME /var/lib/tideline
EXPOSE 7400 7401 7402 7403 7404 7410 7411 7420
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --retries=3 \
  CMD ["node", "-e", "const e=process.env;fetch(`http://127.0.0.1:${e.TIDELINE_HTTP_PORT||e.TIDELINE_BASE_PORT||7400}/livez`).then(r=>process.exit(r.ok?0:1),()=>process.exit(1))"]
ENTRYPOINT ["node", "--enable-source-maps", "--max-semi-space-size=64", "--initial-old-space-size=256"]
CMD ["dist/apps/standalone/src/main.js"]
