import type { CaseResult, Side } from './result.js';

/**
 * Results as one SVG: a row for each case, ours above the peer. On the left the figure, on the right the CPU time an operation takes, by process.
 * Bars of a row have a scale of their own, for rows have different units.
 */
const WIDTH = 1180;
const LABEL_WIDTH = 330;
const PANEL_WIDTH = 330;
const PANEL_GAP = 90;
const BAR_HEIGHT = 15;
const ROW_GAP = 14;
const HEAD_HEIGHT = 84;
const FONT = 'font-family="ui-sans-serif, system-ui, sans-serif"';

const OURS = '#1f6feb';
const PEER = '#9aa4b2';
const PROCESSES: readonly { readonly name: string; readonly color: string; readonly of: (side: Side) => number }[] = [
  { name: 'leader', color: '#1f6feb', of: ({ cpuUs }) => cpuUs['leader'] ?? cpuUs['servers'] ?? 0 },
  {
    name: 'followers',
    color: '#79b8ff',
    of: ({ cpuUs }) => (cpuUs['leader'] === undefined ? 0 : (cpuUs['servers'] ?? 0) - cpuUs['leader']),
  },
  { name: 'client', color: '#d29922', of: ({ cpuUs }) => cpuUs['load'] ?? 0 },
];

const escaped = (text: string): string => text.replace(/[&<>"]/g, (char) => `&#${char.charCodeAt(0)};`);

const text = (x: number, y: number, content: string, attributes = ''): string =>
  `<text x="${x}" y="${y}" font-size="12" ${FONT} ${attributes}>${escaped(content)}</text>`;

const bar = (x: number, y: number, width: number, color: string): string =>
  `<rect x="${x.toFixed(1)}" y="${y}" width="${Math.max(0, width).toFixed(1)}" height="${BAR_HEIGHT - 2}" fill="${color}"/>`;

const figure = (value: number): string =>
  value >= 1000 ? Math.round(value).toLocaleString('en-US') : value >= 100 ? value.toFixed(0) : value.toPrecision(2);

const cpuOf = (side: Side): number => PROCESSES.reduce((sum, { of }) => sum + of(side), 0);

const rowOf = (result: CaseResult, top: number): string[] => {
  const sides = [result.details.ours, ...(result.details.peer ? [result.details.peer] : [])];
  const valueMax = Math.max(...sides.map((side) => side.median));
  const cpuMax = Math.max(...sides.map(cpuOf));
  const name = `${result.name}${result.case ? `, ${result.case}` : ''}`;
  const parts = [text(12, top + 11, name, 'font-weight="600"')];
  if (result.ratio !== null)
    parts.push(text(12, top + 11 + BAR_HEIGHT, `${result.ratio.toFixed(2)} × ${result.peerName!}`, 'fill="#57606a"'));
  for (const [i, side] of sides.entries()) {
    const y = top + i * BAR_HEIGHT;
    const width = (PANEL_WIDTH * side.median) / valueMax;
    parts.push(bar(LABEL_WIDTH, y, width, i === 0 ? OURS : PEER));
    parts.push(text(LABEL_WIDTH + width + 6, y + 11, `${figure(side.median)}${i === 0 ? ` ${result.unit}` : ''}`));
    if (cpuMax === 0) continue;
    let x = LABEL_WIDTH + PANEL_WIDTH + PANEL_GAP;
    for (const { color, of } of PROCESSES) {
      const share = (PANEL_WIDTH * 0.8 * of(side)) / cpuMax;
      parts.push(bar(x, y, share, color));
      x += share;
    }
    parts.push(text(x + 6, y + 11, `${figure(cpuOf(side))} µs`));
  }
  return parts;
};

export const chartOf = (results: readonly CaseResult[], about: string): string => {
  const heights = results.map(({ details }) => (details.peer ? 2 : 1) * BAR_HEIGHT + ROW_GAP);
  const height = HEAD_HEIGHT + heights.reduce((sum, each) => sum + each, 0) + 10;
  const cpuLeft = LABEL_WIDTH + PANEL_WIDTH + PANEL_GAP;
  const parts = [
    text(12, 24, about, 'fill="#57606a"'),
    text(LABEL_WIDTH, 50, 'median of the runs', 'font-weight="600"'),
    text(cpuLeft, 50, 'CPU time per operation', 'font-weight="600"'),
    bar(LABEL_WIDTH, 58, 11, OURS),
    text(LABEL_WIDTH + 16, 69, 'Tideline'),
    bar(LABEL_WIDTH + 80, 58, 11, PEER),
    text(LABEL_WIDTH + 96, 69, 'peer'),
    ...PROCESSES.flatMap(({ name, color }, i) => [
      bar(cpuLeft + i * 84, 58, 11, color),
      text(cpuLeft + i * 84 + 16, 69, name),
    ]),
  ];
  let top = HEAD_HEIGHT;
  for (const [i, result] of results.entries()) {
    parts.push(...rowOf(result, top));
    top += heights[i];
  }
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}">`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    ...parts,
    '</svg>',
    '',
  ].join('\n');
};
