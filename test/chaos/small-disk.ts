import { execFileSync } from 'node:child_process';
import { closeSync, mkdirSync, openSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const CHUNK = Buffer.alloc(1024 * 1024, 0x6a);

/** A tmpfs of its own for one node, so that a disk can be filled without hurting anybody else. */
export class SmallDisk {
  private constructor(readonly path: string) {}

  /** null, and why, where this process may not mount. */
  static mount(path: string, bytes: number): SmallDisk | string {
    if (process.platform !== 'linux') return `no tmpfs on ${process.platform}`;
    if (process.getuid?.() !== 0) return 'mounting a tmpfs takes root';
    mkdirSync(path, { recursive: true });
    try {
      execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${bytes},mode=0700`, 'tideline-chaos', path], {
        stdio: 'pipe',
      });
    } catch (error) {
      return `mount: ${(error as { stderr?: Buffer }).stderr?.toString().trim() || String(error)}`;
    }
    return new SmallDisk(path);
  }

  private get junk(): string {
    return join(this.path, 'junk');
  }

  get freeBytes(): number {
    const { bavail, bsize } = statfsSync(this.path);
    return bavail * bsize;
  }

  /** Writes junk until no more than `free` bytes are left. */
  fill(free: number): void {
    const file = openSync(this.junk, 'a');
    try {
      for (let left = this.freeBytes - free; left > 0; left -= CHUNK.length)
        writeSync(file, CHUNK, 0, Math.min(CHUNK.length, left));
    } catch (error) {
      // Others write here, too: full sooner than counted is full.
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    } finally {
      closeSync(file);
    }
  }

  empty(): void {
    rmSync(this.junk, { force: true });
  }

  /** Also while processes that are just ending use it: it goes with them. */
  unmount(): void {
    execFileSync('umount', ['-l', this.path], { stdio: 'pipe' });
  }
}
