import {
  ByteWriter,
  TidelineError,
  VIEW_DEFAULTS,
  asGroupId,
  asNodeId,
  asOffset,
  asPartitionId,
  asTerm,
  assert,
  hashKey,
  partitionOf,
  toTidelineError,
  type Clock,
  type NodeId,
} from '#kernel';
import type { ConnectionHandler, Listener, Responder, StreamProducer, Transport } from '#net';
import {
  gatewayServiceV1,
  writeFound,
  writeNotAnswered,
  type ClusterDescriptionMessage,
  type GatewayGetManyRequest,
  type GatewayGetRequest,
  type GatewayScanRequest,
  type RequestCall,
} from '#wire';
import { FakePartition } from './fake-partition.js';

const CHUNK_BYTES = 16 * 1024;

/** A few gateways over partitions they share, so that a client can be tested without a cluster. Leaders and faults by hand. */
export class FakeGatewayCluster {
  readonly gateways: readonly FakeGateway[];
  readonly topics = new Map<string, readonly FakePartition[]>();

  constructor(
    readonly options: {
      readonly clock: Clock;
      readonly transportOf: (machine: string) => Transport;
      readonly nodes?: number;
      readonly topics: Readonly<Record<string, number>>;
    },
  ) {
    let group = 0;
    for (const [name, partitions] of Object.entries(options.topics)) {
      const list = Array.from({ length: partitions }, () => new FakePartition(asGroupId(++group), options.clock));
      this.topics.set(name, list);
    }
    this.gateways = Array.from({ length: options.nodes ?? 3 }, (_, i) => new FakeGateway(asNodeId(i + 1), this));
  }

  async start(): Promise<string[]> {
    for (const gateway of this.gateways) await gateway.start();
    return this.gateways.map((gateway) => gateway.address);
  }

  async stop(): Promise<void> {
    for (const gateway of this.gateways) await gateway.stop();
  }

  partition(topic: string, partition = 0): FakePartition {
    const found = this.topics.get(topic)?.[partition];
    if (found === undefined) {
      throw new TidelineError(
        this.topics.has(topic) ? 'unknown-partition' : 'unknown-topic',
        `no ${topic}/${partition}`,
      );
    }
    return found;
  }

  elect(leader: NodeId): void {
    for (const partitions of this.topics.values()) {
      for (const partition of partitions) {
        partition.leader = leader;
        partition.term = asTerm(partition.term + 1);
      }
    }
  }

  describe(node: NodeId): ClusterDescriptionMessage {
    const replicas = this.gateways.map((gateway) => gateway.id);
    return {
      clusterId: 'fake',
      node,
      nodes: this.gateways.map((gateway) => ({
        id: gateway.id,
        addresses: { native: gateway.address },
        region: '',
        alive: gateway.isUp,
      })),
      topics: [...this.topics].map(([name, partitions]) => ({
        name,
        partitions: partitions.map(({ group, leader, term, lastOffset, logStartOffset }, i) => ({
          partition: asPartitionId(i),
          group,
          leader,
          term,
          replicas,
          learners: [],
          commitOffset: lastOffset,
          logStartOffset,
        })),
        replication: replicas.length,
        retention: { ms: null, bytes: null },
        view: { kind: 'map', ...VIEW_DEFAULTS },
      })),
    };
  }
}

export class FakeGateway implements ConnectionHandler {
  address = '';
  /** Appends asked of this gateway, and other requests by method. */
  readonly asked = new Map<number, number>();
  /** Appends that take effect and whose connection breaks before the answer. */
  answersToLose = 0;
  /** What the next appends are answered, without effect. */
  refusals: TidelineError[] = [];
  /** Keys that are not answered together with others. */
  readonly answeredAlone = new Set<string>();
  openStreams = 0;
  bytesSent = 0;
  private listener: Listener | null = null;

  constructor(
    readonly id: NodeId,
    private readonly cluster: FakeGatewayCluster,
  ) {}

  get isUp(): boolean {
    return this.listener !== null;
  }

  get appends(): number {
    return this.asked.get(gatewayServiceV1.append.method) ?? 0;
  }

  async start(): Promise<void> {
    if (this.listener) return;
    const port = this.address === '' ? 0 : Number(this.address.split(':')[1]);
    const hello = { nodeId: this.id, clusterId: 'fake', service: 'gateway', software: 'fake', addresses: {} };
    const transport = this.cluster.options.transportOf(`node-${this.id}`);
    this.listener = await transport.listen({ host: '127.0.0.1', port }, hello, this);
    this.address = this.listener.address;
  }

  async stop(): Promise<void> {
    const { listener } = this;
    this.listener = null;
    await listener?.close();
  }

  request(method: number, payload: Buffer, responder: Responder, connection: { close(): void }): void {
    this.asked.set(method, (this.asked.get(method) ?? 0) + 1);
    const service = gatewayServiceV1;
    switch (method) {
      case service.describe.method:
        return answer(service.describe, payload, responder, () => this.cluster.describe(this.id));
      case service.append.method:
        return answer(service.append, payload, responder, ({ topic, partition: index, acks, batch }) => {
          const refusal = this.refusals.shift();
          if (refusal) throw refusal;
          const partition = this.cluster.partition(topic, index);
          const receipt = partition.append(Buffer.from(batch));
          if (this.answersToLose > 0) {
            this.answersToLose--;
            connection.close();
          }
          const results = [];
          if (acks === 'applied') {
            for (let at = receipt.firstOffset; at <= receipt.lastOffset; at++) results.push(partition.results.get(at)!);
          }
          return { ...receipt, results };
        });
      case service.fetch.method:
        return answer(service.fetch, payload, responder, ({ topic, partition: index, from, maxBytes }) => {
          const partition = this.cluster.partition(topic, index);
          const { lastOffset: commitOffset, logStartOffset } = partition;
          return { ...partition.read(from, maxBytes), commitOffset, logStartOffset };
        });
      case service.barrier.method:
        return answer(service.barrier, payload, responder, ({ topic, partition: index }) => {
          const { lastOffset: offset, term, leader: node } = this.cluster.partition(topic, index);
          return { offset, time: this.now(), term, node };
        });
      case service.openSession.method:
        return answer(service.openSession, payload, responder, ({ topic, partition }) =>
          this.cluster.partition(topic, partition).openSession(),
        );
      case service.offsetAtTime.method:
        return answer(service.offsetAtTime, payload, responder, ({ topic, partition: index }) =>
          asOffset(this.cluster.partition(topic, index).lastOffset + 1),
        );
      case service.get.method:
        return answer(service.get, payload, responder, (request) => this.get(request));
      case service.getMany.method:
        return answer(service.getMany, payload, responder, (request) => this.getMany(request));
      case service.scan.method:
        return answer(service.scan, payload, responder, (request) => this.scan(request));
      default:
        return responder.fail(new TidelineError('unsupported-version', `no method ${method}`));
    }
  }

  stream(method: number, payload: Buffer, producer: StreamProducer): void {
    const { tail, watch } = gatewayServiceV1;
    this.openStreams++;
    if (method === tail.method) this.serveTail(payload, producer);
    else {
      assert(method === watch.method, 'the service has two streams');
      this.serveWatch(payload, producer);
    }
  }

  post(): void {
    // The service has no one-way messages.
  }

  private now() {
    return this.cluster.partition([...this.cluster.topics.keys()][0]).wallTime();
  }

  private get({ view, key, partition: given, minOffset }: GatewayGetRequest) {
    const partitions = this.cluster.topics.get(view);
    if (!partitions) throw new TidelineError('unknown-view', `no view ${view}`);
    const partition = given ?? partitionOf(hashKey(key), partitions.length);
    const log = partitions[partition];
    if (log.lastOffset < minOffset) throw new TidelineError('not-ready', 'not there yet');
    const entry = log.entries.get(key.toString('latin1')) ?? null;
    return { partition, entry, position: { offset: log.lastOffset, logTime: this.now() } };
  }

  /** Keys that it is told not to answer with others it does not answer, nor any when the partitions are others than the asker thinks. */
  private getMany({ keys, partitions, bytesMax, ...request }: GatewayGetManyRequest) {
    const writer = new ByteWriter();
    for (const key of keys) {
      const read = this.get({ ...request, key });
      const isAnswered =
        partitions === this.cluster.topics.get(request.view)!.length &&
        writer.position < bytesMax &&
        !this.answeredAlone.has(key.toString());
      if (isAnswered) writeFound(writer, read.entry);
      else writeNotAnswered(writer);
    }
    return { found: writer.finish(), position: { offset: asOffset(1), logTime: this.now() } };
  }

  private scan({ view, prefix, after, limit, values }: GatewayScanRequest) {
    const partitions = this.cluster.topics.get(view);
    if (!partitions) throw new TidelineError('unknown-view', `no view ${view}`);
    const found = partitions
      .flatMap((partition) => [...partition.entries.values()])
      .filter(({ key }) => key.subarray(0, prefix.length).equals(prefix) && (!after || key.compare(after) > 0))
      .sort((a, b) => a.key.compare(b.key));
    const entries = found.slice(0, limit).map((entry) => (values ? entry : { ...entry, value: Buffer.alloc(0) }));
    return { entries, more: found.length > limit, positions: [] };
  }

  private serveTail(payload: Buffer, producer: StreamProducer): void {
    const { tail } = gatewayServiceV1;
    try {
      const { topic, partition: index, from } = tail.decodeRequest(payload);
      const partition = this.cluster.partition(topic, index);
      let position = from;
      let ended = false;
      const pump = (): void => {
        if (ended) return;
        try {
          while (producer.credit > 0 && position <= partition.lastOffset) {
            const { batches, nextOffset } = partition.read(position, CHUNK_BYTES);
            position = nextOffset;
            this.bytesSent += batches.length;
            producer.item(tail.encodeItem({ batches, nextOffset, commitOffset: partition.lastOffset }));
          }
        } catch (thrown) {
          ended = true;
          producer.end(toTidelineError(thrown));
        }
      };
      const forget = partition.onAppend(pump);
      producer.onCredit(pump);
      producer.onCancel(() => {
        ended = true;
        this.openStreams--;
        forget();
      });
      pump();
    } catch (thrown) {
      producer.end(toTidelineError(thrown));
    }
  }

  private serveWatch(payload: Buffer, producer: StreamProducer): void {
    const { watch } = gatewayServiceV1;
    const { view } = watch.decodeRequest(payload);
    const partitions = this.cluster.topics.get(view);
    if (!partitions) return producer.end(new TidelineError('unknown-view', `no view ${view}`));
    partitions.forEach((log, partition) => {
      const puts = [...log.entries.values()].map((entry) => ({ type: 'put', partition, entry }) as const);
      producer.item(watch.encodeItem([...puts, { type: 'live', partition, offset: log.lastOffset }]));
    });
  }
}

const answer = <Request, Response, Input>(
  call: RequestCall<Request, Response, Input>,
  payload: Buffer,
  responder: Responder,
  run: (request: Request) => Input,
): void => {
  try {
    responder.ok(call.encodeResponse(run(call.decodeRequest(payload))));
  } catch (thrown) {
    responder.fail(toTidelineError(thrown));
  }
};
