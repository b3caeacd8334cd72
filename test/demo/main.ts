/**
 * `npm run demo [-- flights|packages] [options]`: real data through real processes, and the proof that what comes out is what went in.
 *
 *     flights    three nodes, 231,083 flights, the leader killed half way (the default)
 *     packages   a projection of this machine's Debian package index: queried, partly archived, snapshotted, killed, restored
 */
const [name = 'flights', ...rest] = process.argv[2]?.startsWith('-')
  ? ['flights', ...process.argv.slice(2)]
  : process.argv.slice(2);

if (name === 'flights') {
  const { runFlights } = await import('./flights.js');
  process.exitCode = await runFlights(rest);
} else if (name === 'packages') {
  const { runPackages } = await import('./packages.js');
  process.exitCode = await runPackages(rest);
} else {
  console.error(`there is no demo ${name}; there are flights and packages`);
  process.exitCode = 2;
}
