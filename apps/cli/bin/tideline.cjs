#!/usr/bin/env -S node --enable-source-maps --max-semi-space-size=64 --initial-old-space-size=256
// CommonJS on purpose: libuv reads UV_THREADPOOL_SIZE when its pool is first used, and loading an ES module uses the pool.
// More than libuv's 4, so that several partitions can be written at once; far more than cores makes each write wake a cold thread.
process.env.UV_THREADPOOL_SIZE ??= String(Math.max(8, 2 * require('node:os').availableParallelism()));
import('../../../dist/apps/cli/src/main.js')
  .then(({ main }) => main(process.argv))
  .catch((error) => {
    const missing = error && error.code === 'ERR_MODULE_NOT_FOUND' && String(error.message).includes('dist');
    process.stderr.write(
      missing ? 'tideline: not built yet; run `npm run build`\n' : `tideline: ${error.stack ?? error}\n`,
    );
    process.exitCode = 1;
  });
