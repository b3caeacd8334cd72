import type { Client } from '../client.js';
import type { Machine } from '../machine.js';
import { must } from '../violation.js';
import type { World } from '../world.js';

/** Once a majority can talk, clients are served again within this time, and everything has converged within twice that. */
const LIVENESS_MS = 30_000;
/** For what is under way when the clients stop. */
const QUIET_MS = 6000;

/** 27: faults over and with a majority that can talk, every client is served, and all replicas and views come to the same end, in bounded time. */
export class LivenessChecker {
  private readonly usable: readonly Machine[];
  /** A gateway on a node that is no member reads from members it has heard of once: see docs/correctness.md, limits. */
  private readonly everybodyHosts: boolean;

  constructor(private readonly world: World) {
    const { swarm, machines } = world;
    this.usable = machines.filter((machine) => machine.unusable === null);
    this.everybodyHosts = swarm.voters === swarm.nodes && swarm.everyMs.membership === 0;
  }

  check(clients: readonly Client[]): void {
    const { world } = this;
    const count = (client: Client): number => (this.everybodyHosts ? client.served : client.completed);
    const before = clients.map(count);
    this.within(
      () => clients.every((client, i) => count(client) > before[i] + 1),
      () => `not every client is served ${LIVENESS_MS} ms after the last fault`,
    );
    for (const client of clients) client.stop();
    world.run(QUIET_MS);
    this.within(
      () => world.groups.every((id) => this.hasConverged(id)) && (!this.everybodyHosts || this.viewsHaveConverged()),
      () => `no convergence within ${LIVENESS_MS} ms`,
    );
  }

  private within(condition: () => boolean, message: () => string): void {
    must(this.world.runUntil(condition, LIVENESS_MS), 27, () => `${message()}\n${describe(this.world)}`);
  }

  private hasConverged(id: World['groups'][number]): boolean {
    const leader = this.world.leader(id)?.group(id);
    if (leader === undefined) return false;
    const end = leader.lastOffset;
    const { voters, outgoing, learners } = leader.configuration;
    if (leader.readableOffset !== end || outgoing.length > 0) return false;
    const members = [...voters, ...learners];
    return this.usable.every((machine) => !members.includes(machine.id) || machine.group(id)?.readableOffset === end);
  }

  private viewsHaveConverged(): boolean {
    const { world } = this;
    return this.usable.every((machine) =>
      [...world.references.values()].every(
        ({ group, partition }) => machine.viewOffset(partition) === world.record(group).commitMax,
      ),
    );
  }
}

const describe = (world: World): string =>
  world.machines
    .flatMap((machine) => [
      `  node ${machine.id} ${machine.isUp ? 'up' : (machine.unusable ?? 'down')}, views at ${[...world.references.values()].map(({ partition }) => machine.viewOffset(partition)).join(' ')}`,
      ...machine.replicas.map(({ group }) => {
        const status = group.status();
        return `    group ${group.id}: ${status.role} term ${status.term} leader ${status.leader} log ${status.logStartOffset}…${status.lastOffset} durable ${status.durableOffset} commit ${status.commitOffset} voters ${status.configuration.voters.join(' ')} / ${status.configuration.outgoing.join(' ')} / ${status.configuration.learners.join(' ')}${status.damaged ? ' damaged' : ''}`;
      }),
    ])
    .join('\n');
