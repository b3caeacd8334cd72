import { open, rename, rm } from 'node:fs/promises';
import { ViewExportReader } from '#client';
import type { Command } from 'commander';
import { startProgress, type Progress } from '../progress.js';
import { askRest } from '../rest.js';

/** `tideline export VIEW FILE`: checked as it comes, and there only when it is whole. */
export const registerExportCommand = (program: Command): void => {
  program
    .command('export')
    .description('write all entries of a view to one file, of a snapshot that is taken now')
    .argument('<view>')
    .argument('<file>')
    .action(async (view: string, file: string, _options: unknown, command: Command) => {
      const path = `/v1/views/${encodeURIComponent(view)}/export`;
      const response = await askRest(command, 'GET', path, { untilBody: true });
      const temporary = `${file}.part`;
      const out = await open(temporary, 'w');
      const reader = new ViewExportReader();
      let progress: Progress | null = null;
      try {
        for await (const piece of response.body ?? []) {
          reader.push(piece as Uint8Array);
          await out.writeFile(piece as Uint8Array);
          if (reader.head) progress ??= startProgress('exporting', reader.head.entries);
          progress?.update(reader.entries);
        }
        reader.finish();
        await out.sync();
        await out.close();
        await rename(temporary, file);
      } catch (error) {
        await out.close().catch(() => undefined);
        await rm(temporary, { force: true });
        throw error;
      }
      progress?.finish();
      console.log(`${reader.entries} entries of ${view} written to ${file}`);
    });
};
