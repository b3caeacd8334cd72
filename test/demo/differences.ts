export const say = (text: string): void => console.log(text);

const SHOWN = 5;

/** What a demo compares, line by line, and how much of it was not as it should be. */
export class Differences {
  count = 0;

  report(what: string, problems: readonly string[]): void {
    this.count += problems.length;
    say(`${problems.length === 0 ? 'ok  ' : 'FAIL'} ${what}`);
    for (const problem of problems.slice(0, SHOWN)) say(`       ${problem}`);
    if (problems.length > SHOWN) say(`       … and ${problems.length - SHOWN} more`);
  }
}
