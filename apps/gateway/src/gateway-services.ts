import type { CommandLog } from '#command-log';
import { parseJson } from '#platform';
import type { ViewQuery } from '#views';
import { DEFAULT_LIMITS, SYSTEM_TIME, type GatewayLimits, type GatewayTime } from './gateway-options.js';
import { GatewayProducer } from './gateway-producer.js';
import { OpenStreams } from './open-streams.js';
import { ReadPath } from './read-path.js';
import type { JsonCheck } from './record-json.js';
import { RecordReader } from './record-reader.js';
import { TailStream, type TailReader, type TailRequest } from './tail-stream.js';
import { TopicDirectory } from './topic-directory.js';
import { WatchStream, type WatchReader, type WatchRequest } from './watch-stream.js';
import { WritePath, type RecordProducer } from './write-path.js';

export interface GatewayParts {
  readonly log: CommandLog;
  readonly views: ViewQuery;
  readonly limits?: Partial<GatewayLimits>;
  readonly time?: GatewayTime;
}

/**
 * What a gateway does, apart from any protocol: all of it over two ports, the command log and the views, and over a clock that
 * is given, so that it runs in simulation as it does in production.
 */
export class GatewayServices {
  readonly log: CommandLog;
  readonly views: ViewQuery;
  readonly limits: GatewayLimits;
  readonly time: GatewayTime;
  readonly topics: TopicDirectory;
  readonly writes: WritePath;
  readonly reads: ReadPath;
  readonly records: RecordReader;
  readonly streams: OpenStreams;
  private readonly producer: RecordProducer;

  constructor({ log, views, limits, time }: GatewayParts) {
    this.log = log;
    this.views = views;
    this.limits = { ...DEFAULT_LIMITS, ...limits };
    this.time = time ?? SYSTEM_TIME;
    this.topics = new TopicDirectory(log, () => views.projections());
    this.producer = new GatewayProducer(log, this.limits, this.time);
    const parts = { log, views, producer: this.producer, topics: this.topics, limits: this.limits, time: this.time };
    this.writes = new WritePath(parts);
    this.reads = new ReadPath(parts);
    this.records = new RecordReader(parts);
    this.streams = new OpenStreams(this.limits.streamsMax);
  }

  tail(request: TailRequest, reader: TailReader): TailStream {
    return new TailStream(this, request, reader);
  }

  watch(request: WatchRequest, reader: WatchReader): WatchStream {
    return new WatchStream(this, request, reader);
  }

  /** Whether stored bytes that call themselves JSON may stand in an answer as JSON. */
  readonly isJson: JsonCheck = (text) => {
    try {
      parseJson(text, { depthMax: this.limits.jsonDepthMax });
      return true;
    } catch {
      return false;
    }
  };

  /** Ends the streams; what is in flight is left to finish. */
  async close(): Promise<void> {
    this.streams.close();
    this.topics.close();
    await this.producer.close();
  }
}
