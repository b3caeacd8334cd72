import type { Checker } from '../observer.js';
import { must } from '../violation.js';

/** 13: a snapshot that is a prefix of the log keeps what follows it. */
export class KeptSuffixChecker implements Checker {
  installs = 0;

  persistBegins: Checker['persistBegins'] = ({ record, shadow }, { install }) => {
    if (install === undefined) return;
    this.installs++;
    const { offset, keepSuffix } = install;
    const isPrefix = shadow.chainAt(offset) === record.committedChainAt(offset);
    must(
      !isPrefix || keepSuffix || shadow.lastOffset === offset,
      13,
      () => `node ${shadow.node} loses offsets ${offset + 1} to ${shadow.lastOffset} to a snapshot that is a prefix`,
    );
  };
}
