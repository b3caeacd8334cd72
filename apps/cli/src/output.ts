/** How a command prints: a table for people, JSON for programs. */
export type OutputFormat = 'table' | 'json';

export const isOutputFormat = (text: string): text is OutputFormat => text === 'table' || text === 'json';

const cell = (value: unknown): string =>
  value === null || value === undefined
    ? '–'
    : typeof value === 'object'
      ? JSON.stringify(value)
      : String(value as string | number | boolean);

export const printRows = (format: OutputFormat, rows: readonly Readonly<Record<string, unknown>>[]): void => {
  if (format === 'json') {
    console.log(JSON.stringify(rows, null, 2));
    return;
  }
  if (rows.length === 0) {
    console.log('(none)');
    return;
  }
  const names = Object.keys(rows[0]);
  const texts = rows.map((row) => names.map((name) => cell(row[name])));
  const widths = names.map((name, i) => Math.max(name.length, ...texts.map((text) => text[i].length)));
  const line = (fields: readonly string[]): string =>
    fields
      .map((field, i) => field.padEnd(widths[i]))
      .join('  ')
      .trimEnd();
  console.log(line(names));
  for (const text of texts) console.log(line(text));
};

export const printObject = (format: OutputFormat, value: Readonly<Record<string, unknown>>): void => {
  if (format === 'json') {
    console.log(JSON.stringify(value, null, 2));
    return;
  }
  const width = Math.max(...Object.keys(value).map((name) => name.length));
  for (const [name, field] of Object.entries(value)) console.log(`${name.padEnd(width)}  ${cell(field)}`);
};
