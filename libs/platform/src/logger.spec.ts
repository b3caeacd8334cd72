import { describe, expect, test } from '@jest/globals';
import { TidelineLogger, type LoggerOptions } from './logger.js';

const make = (options: Partial<LoggerOptions> & { isTTY?: boolean } = {}) => {
  const lines: string[] = [];
  const sink = { isTTY: options.isTTY, write: (line: string) => lines.push(line) };
  return { lines, logger: new TidelineLogger({ logLevel: 'info', logFormat: 'auto', sink, ...options }) };
};

describe('the log', () => {
  test('is one JSON object a line when nobody watches', () => {
    const { lines, logger } = make({ fields: { node: '1' } });
    logger.log('opened', { group: 3 }, 'replica');
    expect(JSON.parse(lines[0])).toEqual({
      level: 'info',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
      node: '1',
      context: 'replica',
      group: 3,
      msg: 'opened',
    });
    expect(lines[0].endsWith('}\n')).toBe(true);
  });

  test('is one short line on a terminal', () => {
    const { lines, logger } = make({ isTTY: true });
    logger.warn('slow disk', { ms: 40, path: 'a b' }, 'storage');
    // eslint-disable-next-line no-control-regex
    expect(lines[0].replace(/\u001b\[\d+m/g, '')).toMatch(
      /^\d\d:\d\d:\d\d\.\d{3} WARN  storage: slow disk ms=40 path=a b\n$/,
    );
    expect(make({ isTTY: true, logFormat: 'json' }).logger.log('x')).toBeUndefined();
  });

  test('keeps the stack of an error, given as an error or in the way Nest gives it', () => {
    const { lines, logger } = make();
    const error = new Error('boom');
    logger.error(error);
    logger.error('failed', error.stack, 'http');
    logger.error('failed', error.stack);
    expect(JSON.parse(lines[0])).toMatchObject({ msg: 'boom', err: { stack: error.stack } });
    expect(JSON.parse(lines[1])).toMatchObject({ msg: 'failed', context: 'http', stack: error.stack });
    expect(JSON.parse(lines[2])).toMatchObject({ msg: 'failed', stack: error.stack });
    const pretty = make({ logFormat: 'pretty' });
    pretty.logger.error('failed', error.stack, 'http');
    expect(pretty.lines[0]).toMatch(/ERROR http: failed\n    Error: boom\n        at /);
  });

  test('leaves out what is below its level, and secrets', () => {
    const { lines, logger } = make({ logLevel: 'warn' });
    logger.log('no');
    logger.debug('no');
    logger.verbose('no');
    logger.fatal({ catalogUrl: 'postgres://u:pw@h/d' });
    expect(lines).toHaveLength(1);
    expect(lines[0]).not.toContain('pw');
  });
});
