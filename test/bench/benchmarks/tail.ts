import { connect, consumerOpts, type JetStreamClient, type NatsConnection } from 'nats';
import { TidelineClient } from '#client';
import {
  FULL_SIZE_SECONDS,
  quantile,
  type Benchmark,
  type BenchmarkSettings,
  type Contender,
  type Sample,
} from '../bench.js';
import { leadingNumber } from '../looping.js';
import { startNats } from '../peers/nats.js';
import { measuringCpu } from '../processes.js';
import { startTideline, TIDELINE_DESCRIPTION } from '../tideline-cluster.js';
import { VALUE, fillOneByOne } from '../workload.js';

/**
 * Subscribers that read a topic of 100-byte records from the beginning to the end, and again; each has a connection of its own, all are in the
 * process that measures. `raw`: whole batches as they come; `decoded`: records, as the SDK gives them to users. `live`: they follow a writer.
 */
const RECORDS = 500_000;
const RECORDS_OF_A_SHORT_RUN = 20_000;
/** NATS takes them one by one. */
const RECORDS_OF_NATS = 100_000;
const BATCH = 1000;
/** `live`: batches of so many records, so many of them under way. */
const LIVE_BATCH = 100;
const LIVE_IN_FLIGHT = 4;

/** One subscriber: reads until `stopped`, says how many records came. */
type Reader = (received: (records: number) => void, stopped: Promise<void>) => Promise<void>;

const counting = async (readers: readonly Reader[], seconds: number): Promise<Sample> => {
  let records = 0;
  const stopped = new Promise<void>((resolve) => {
    setTimeout(resolve, seconds * 1000);
  });
  const began = performance.now();
  await Promise.all(readers.map((read) => read((count) => (records += count), stopped)));
  return { value: (records * 1000) / (performance.now() - began), operations: records };
};

const appendAll = async (client: TidelineClient, count: number): Promise<void> => {
  const records = Array.from({ length: BATCH }, () => ({ value: VALUE }));
  await fillOneByOne(count / BATCH, () => client.append('default', records, { partition: 0 }));
};

/** From the earliest record to the end, once. */
const readOnce = (
  client: TidelineClient,
  raw: boolean,
  end: number,
  received: (records: number) => void,
  stopped: Promise<void>,
): Promise<void> =>
  new Promise((resolve, reject) => {
    const over = (): void => {
      subscription.unsubscribe();
      resolve();
    };
    const subscription = raw
      ? client.tailBatches('default', { from: 'earliest', partition: 0 }).subscribe({
          next: ({ batches, nextOffset, release }) => {
            received(recordsIn(batches));
            release();
            if (nextOffset >= end) queueMicrotask(over);
          },
          error: reject,
        })
      : client.tail('default', { from: 'earliest', partition: 0 }).subscribe({
          next: ({ offset }) => {
            received(1);
            if (offset === end - 1) queueMicrotask(over);
          },
          error: reject,
        });
    void stopped.then(over);
  });

/** By the headers alone: what a user of raw batches looks at. */
const recordsIn = (batches: Buffer): number => {
  let records = 0;
  for (let at = 0; at < batches.length; at += batches.readUInt32LE(at)) records += batches.readUInt32LE(at + 24);
  return records;
};

const oursFromTheStart = async ({ directory, seconds }: BenchmarkSettings, which: string): Promise<Contender> => {
  const cluster = await startTideline(directory);
  const clients = await Promise.all(
    Array.from({ length: leadingNumber(which) }, () => TidelineClient.connect({ addresses: [...cluster.addresses] })),
  );
  await appendAll(clients[0], seconds >= FULL_SIZE_SECONDS ? RECORDS : RECORDS_OF_A_SHORT_RUN);
  const end = await clients[0].endOffset('default');
  const raw = which.endsWith('raw');
  const readers = clients.map((client): Reader => async (received, stopped) => {
    let running = true;
    void stopped.then(() => (running = false));
    while (running) await readOnce(client, raw, end, received, stopped);
  });
  return {
    description: `${TIDELINE_DESCRIPTION}, ${raw ? 'batches' : 'records'}`,
    run: (time) => cluster.measured(() => counting(readers, time)),
    stop: async () => {
      await Promise.all(clients.map((client) => client.close()));
      await cluster.stop();
    },
  };
};

/** A writer, and subscribers that follow it. Latency: from the call that appends a record to its delivery, decoded. */
const oursLive = async ({ directory }: BenchmarkSettings, which: string): Promise<Contender> => {
  const cluster = await startTideline(directory);
  const clients = await Promise.all(
    Array.from({ length: leadingNumber(which) + 1 }, () =>
      TidelineClient.connect({ addresses: [...cluster.addresses] }),
    ),
  );
  const [writer, ...subscribers] = clients;
  const live = async (seconds: number): Promise<Sample> => {
    const delays: number[] = [];
    let records = 0;
    const subscriptions = subscribers.map((client) =>
      client.tail('default', { from: 'latest', partition: 0 }).subscribe(({ value }) => {
        records++;
        // One in a batch is enough.
        if (value!.length > VALUE.length) delays.push(performance.now() - value!.readDoubleLE(0));
      }),
    );
    const began = performance.now();
    const until = began + seconds * 1000;
    const write = async (): Promise<void> => {
      while (performance.now() < until) {
        const stamped = Buffer.alloc(VALUE.length + 8);
        stamped.writeDoubleLE(performance.now(), 0);
        const batch = Array.from({ length: LIVE_BATCH }, (_, i) => ({ value: i === 0 ? stamped : VALUE }));
        await writer.append('default', batch, { partition: 0 });
      }
    };
    await Promise.all(Array.from({ length: LIVE_IN_FLIGHT }, write));
    const elapsed = performance.now() - began;
    for (const subscription of subscriptions) subscription.unsubscribe();
    return {
      value: (records * 1000) / elapsed,
      operations: records,
      p50Ms: quantile(delays, 0.5),
      p99Ms: quantile(delays, 0.99),
    };
  };
  return {
    description: `${TIDELINE_DESCRIPTION}, records`,
    run: (seconds) => cluster.measured(() => live(seconds)),
    stop: async () => {
      await Promise.all(clients.map((client) => client.close()));
      await cluster.stop();
    },
  };
};

/** From the first message of the stream to the last, once, by an ordered consumer. */
const readStreamOnce = async (
  stream: JetStreamClient,
  end: number,
  received: (records: number) => void,
  stopped: Promise<void>,
): Promise<void> => {
  const options = consumerOpts().orderedConsumer().deliverAll();
  const { promise, done } = ending();
  options.callback((_error, message) => {
    if (message === null) return;
    received(1);
    if (message.seq >= end) done();
  });
  const subscription = await stream.subscribe('bench.>', options);
  await Promise.race([promise, stopped]);
  subscription.unsubscribe();
};

const ending = (): { promise: Promise<void>; done: () => void } => {
  let done = (): void => undefined;
  const promise = new Promise<void>((resolve) => {
    done = resolve;
  });
  return { promise, done };
};

const natsFromTheStart = async (
  { directory, seconds }: BenchmarkSettings,
  which: string,
): Promise<Contender | null> => {
  if (which.endsWith('live')) return null;
  const nats = await startNats(directory);
  if (!nats) return null;
  const connections: NatsConnection[] = [];
  for (let i = 0; i < leadingNumber(which); i++) connections.push(await connect({ servers: nats.urls }));
  const records = seconds >= FULL_SIZE_SECONDS ? RECORDS_OF_NATS : RECORDS_OF_A_SHORT_RUN;
  const publisher = connections[0].jetstream({ timeout: 10_000 });
  await fillOneByOne(records, (n) => publisher.publish(`bench.${n % 1000}`, VALUE));
  const readers = connections.map((connection): Reader => {
    const stream = connection.jetstream();
    return async (received, stopped) => {
      let running = true;
      void stopped.then(() => (running = false));
      while (running) await readStreamOnce(stream, records, received, stopped);
    };
  });
  return {
    description: 'NATS JetStream R3, ordered consumer',
    run: (time) => measuringCpu(nats.pids, () => counting(readers, time)),
    stop: async () => {
      for (const connection of connections) await connection.close();
      await nats.stop();
    },
  };
};

export const tail: Benchmark = {
  name: 'tail',
  unit: 'records/s',
  higherIsBetter: true,
  summary: 'records of 100 bytes delivered to all subscribers together',
  cases: [
    '1 subscriber, raw',
    '1 subscriber, decoded',
    '10 subscribers, raw',
    '10 subscribers, decoded',
    '100 subscribers, raw',
    '100 subscribers, decoded',
    '10 subscribers, live',
  ],
  peers: ['nats'],
  ours: (settings, which) => (which.endsWith('live') ? oursLive(settings, which) : oursFromTheStart(settings, which)),
  peer: natsFromTheStart,
};
