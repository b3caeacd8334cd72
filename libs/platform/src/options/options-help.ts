import { OPTION_NAMES, OPTION_TABLE, type AppName, type OptionName, type OptionSpec } from './option-table.js';
import { envOf, flagOf, yamlKeyOf } from './options.js';

const LEFT_COLUMN_MAX = 30;

/** What the option is when nobody says, in words. */
export function fallbackText(name: OptionName): string {
  const spec: OptionSpec<unknown> = OPTION_TABLE[name];
  if (spec.fallbackText !== undefined) return spec.fallbackText;
  return spec.kind.format(spec.fallback);
}

/** The text of `--help`: the options an app uses, in groups. */
export function optionsHelp(app: AppName, usage: string): string {
  const lines = [
    `usage: ${usage}`,
    '',
    'Each option may also be set in the environment (--base-port: TIDELINE_BASE_PORT) or in tideline.yaml',
    '(basePort: 7400). A flag wins over the environment, the environment over the file.',
    '',
    ...row('--config FILE', 'file of options', ['default: tideline.yaml, if there is one']),
  ];
  let title = '';
  for (const name of OPTION_NAMES) {
    const spec: OptionSpec<unknown> = OPTION_TABLE[name];
    if (!spec.apps.includes(app)) continue;
    if (spec.group !== title) {
      title = spec.group;
      lines.push('', title);
    }
    const notes = [`default: ${fallbackText(name)}`];
    if (spec.kind.placeholder !== '') notes.push(spec.kind.allowed);
    lines.push(...row(`${flagOf(name)} ${spec.kind.placeholder}`.trimEnd(), spec.text, notes));
  }
  return `${lines.join('\n')}\n`;
}

function row(left: string, text: string, notes: readonly string[]): string[] {
  const indent = ' '.repeat(LEFT_COLUMN_MAX + 2);
  const first =
    left.length <= LEFT_COLUMN_MAX - 2 ? [`  ${left.padEnd(LEFT_COLUMN_MAX)}${text}`] : [`  ${left}`, indent + text];
  return [...first, `${indent}(${notes.join('; ')})`];
}

/** The same as a Markdown table for docs/operations.md; a test keeps the two equal. */
export function optionsMarkdown(): string {
  const lines: string[] = [];
  let title = '';
  for (const name of OPTION_NAMES) {
    const spec: OptionSpec<unknown> = OPTION_TABLE[name];
    if (spec.group !== title) {
      if (title !== '') lines.push('');
      title = spec.group;
      lines.push(`### ${title}`, '', '| flag | environment | tideline.yaml | default | allowed | what it is |');
      lines.push('|---|---|---|---|---|---|');
    }
    const cells = [
      `\`${flagOf(name)}\``,
      `\`${envOf(name)}\``,
      `\`${yamlKeyOf(name)}\``,
      fallbackText(name),
      spec.kind.allowed,
      spec.text + (spec.apps.length === 4 ? '' : ` (${spec.apps.join(', ')})`),
    ];
    lines.push(`| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`);
  }
  return `${lines.join('\n')}\n`;
}
